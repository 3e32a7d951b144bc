"""The gap ledger's view of one subscription."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec.structs import replace

from zoomrelay.clock import Clock
from zoomrelay.intake.gaps import Gap
from zoomrelay.intake.rate import Rate
from zoomrelay.intake.stamp import PathStamp

CLEAN_MARGIN_SECONDS = 0.25
"""Before a proper close: the way from there to us."""
UNCLEAN_MARGIN_SECONDS = 1.0
"""Before the last frame of a socket that broke, or of a process that was killed."""
CRASH = "crash"
"""The cause of a gap that a killed process left behind; all others are the session's words."""
REMOVED = "ended when the subscription was removed from the configuration"
"""At the end of such a gap's detail."""
TAKEOVER = "takeover"
"""The session's word for a socket that ended because another relay takes over: whether there is a gap shows
when it is known since when that one listens."""
_MAX_DETAIL = 200


class Book(Protocol):
    """What a path needs of the ledger."""

    clock: Clock

    def held_until_ms(self, heard_ms: int, /) -> int:
        """Given until when everything was heard, until when it is durable."""
        ...

    def received(self, source: str, subscription: str, /) -> int:
        """How many events this path has brought so far."""
        ...

    def twins(self, path: PathLedger, /) -> Sequence[PathLedger]:
        """The other paths of its source, but for those that are known to bring less."""
        ...

    def opened(self, gap: Gap) -> None: ...

    def ended(self, gap: Gap) -> None: ...

    def stamp_soon(self) -> None: ...


class PathLedger:
    """A session's `PathListener`: open gap, or listening, or neither before the first acceptance."""

    def __init__(self, ledger: Book, source: str, subscription: str) -> None:
        self._ledger = ledger
        self.source = source
        self.subscription = subscription
        self.listening = False
        self.held_ms = 0
        """While listening: everything until then is held."""
        self._held_at = 0.0
        """The same moment by `Clock.elapsed`, since somebody may set the wall clock before the next stamp."""
        self.rate = Rate()
        self._noted = (0, 0.0, 0.0)
        """When the rate was noted last: events so far, elapsed time, wall time of what had been heard."""
        self._accepted_at = 0.0
        """`Clock.elapsed`."""
        self._gap_ended_at: float | None = None
        """`Clock.elapsed`; None if there was none before this acceptance."""
        self._open_from_ms: int | None = None
        self._open_since: float | None = None
        self._heard_ms: int | None = None
        """The open gap began with a proper close, and everything was heard until then."""
        self._cause = ""
        self._detail = ""

    # --- what the session tells ---------------------------------------------------------------------

    def accepted(self, wall: float, *, at: float | None = None) -> None:
        """`at`: `Clock.elapsed` of the moment, where that is over; then it may lie before the beginning of
        the open gap, which is none then."""
        self.listening = True
        self._accepted_at = self._ledger.clock.elapsed() if at is None else at
        self.held_ms = int(wall * 1000)
        self._held_at = self._elapsed_at(self.held_ms) if at is None else at
        if self._open_from_ms is not None:
            self._end_gap(self._open_from_ms, at)
            self._open_from_ms = self._heard_ms = None
            self._gap_ended_at = self._accepted_at
        self._noted = self._ledger.received(self.source, self.subscription), self._accepted_at, wall
        self._ledger.stamp_soon()

    def _end_gap(self, from_ms: int, at: float | None) -> None:
        if at is not None and self._was_heard(from_ms, at):
            return
        gap = self._gap(from_ms, self.held_ms, self._accepted_at)
        if gap.cause == TAKEOVER:
            self._ledger.opened(replace(gap, to_ms=None))
        self._ledger.ended(gap)

    def _was_heard(self, from_ms: int, at: float) -> bool:
        """At this moment (`Clock.elapsed`) the socket whose end began the open gap was still listened to."""
        heard_ms = from_ms if self._heard_ms is None else self._heard_ms
        if self._open_since is None:
            return self.held_ms <= heard_ms
        return at <= self._open_since + (heard_ms - from_ms) / 1000

    def lost(self, cause: str, detail: str, *, clean: bool, heard_until: float) -> None:
        self._note_rate(heard_until)
        wall = self._ledger.clock.wall()
        start = heard_until - (CLEAN_MARGIN_SECONDS if clean else UNCLEAN_MARGIN_SECONDS)
        age = wall - start
        if self._gap_ended_at is not None:  # until then that gap lasted
            age = min(age, self._ledger.clock.elapsed() - self._gap_ended_at)
        self.begin(int((wall - age) * 1000), cause, detail, age_seconds=max(0.0, age))
        if clean:
            self._heard_ms = int(heard_until * 1000)
        if cause != TAKEOVER:
            self._announce()
        self._ledger.stamp_soon()

    def alive(self, heard_until: float) -> None:
        self._note_rate(heard_until)
        self.held_ms = self._ledger.held_until_ms(int(heard_until * 1000))
        self._held_at = self._elapsed_at(self.held_ms)

    def _note_rate(self, heard_until: float) -> None:
        """Silence counts when it is over: it may be the beginning of a gap."""
        events, at, heard = self._noted
        if heard_until != heard:
            now, so_far = self._ledger.clock.elapsed(), self._ledger.received(self.source, self.subscription)
            self.rate.note(so_far - events, now - at)
            self._noted = so_far, now, heard_until

    # --- the open gap -------------------------------------------------------------------------------

    def begin(self, from_ms: int, cause: str, detail: str, *, age_seconds: float | None) -> None:
        """Open a gap. `age_seconds` is how long it has lasted; None where only the wall clock could tell."""
        self.listening = False
        self._open_from_ms, self._cause, self._detail = from_ms, str(cause), detail[:_MAX_DETAIL]
        self._open_since = None if age_seconds is None else self._ledger.clock.elapsed() - age_seconds
        self._heard_ms = None

    def surely_heard(self, until_ms: int | None) -> None:
        """The socket whose end began the open gap was heard until then, as a successor will want to know."""
        self._heard_ms = until_ms

    def _announce(self) -> None:
        if gap := self.open_gap():
            self._ledger.opened(gap)

    def removed(self) -> None:
        """Somebody took it out of the configuration."""
        if self._open_from_ms is None:
            return
        self._detail = f"{self._detail}; {REMOVED}" if self._detail else REMOVED
        self._ledger.ended(self._gap(self._open_from_ms, int(self._ledger.clock.wall() * 1000)))
        self._open_from_ms = None

    def open_gap(self) -> Gap | None:
        """The gap that lasts, if there is one."""
        if self._open_from_ms is None:
            return None
        now_ms = int(self._ledger.clock.wall() * 1000)
        return replace(self._gap(self._open_from_ms, now_ms), to_ms=None)

    def _gap(self, from_ms: int, to_ms: int, at: float | None = None) -> Gap:
        seconds = max(0.0, (to_ms - from_ms) / 1000)
        if self._open_since is not None:
            at = self._ledger.clock.elapsed() if at is None else at
            seconds = max(0.0, round(at - self._open_since, 3))
        from_ms = min(from_ms, to_ms - int(seconds * 1000))
        rate = self.rate.per_second
        return Gap(
            self.source,
            self.subscription,
            from_ms,
            to_ms,
            seconds,
            self._cause,
            self._detail,
            estimated_events=None if rate is None else round(rate * seconds, 1),
            covered_by=self._covered_by(),
        )

    def _covered_by(self) -> tuple[str, ...]:
        """The twins that were listening during the whole of the open gap, as far as is known now."""
        since = self._open_since
        if since is None:
            return ()
        return tuple(twin.subscription for twin in self._ledger.twins(self) if twin.listens_since(since))

    def listens_since(self, moment: float) -> bool:
        """`moment`: `Clock.elapsed`."""
        return self.listening and self._accepted_at <= moment

    # --- across a restart ---------------------------------------------------------------------------

    def stamp(self) -> PathStamp:
        """What a crash from now on would leave behind."""
        rate = self.rate.per_second
        rate = None if rate is None else round(rate, 4)
        if self.listening:
            return PathStamp(held_ms=self._wall_ms_at(self._held_at), rate=rate)
        if self._open_from_ms is None:
            return PathStamp(rate=rate)
        from_ms = self._open_from_ms if self._open_since is None else self._wall_ms_at(self._open_since)
        held_ms = self._ledger.held_until_ms(from_ms)
        if held_ms < from_ms:  # the last events before it are not durable yet
            held_ms -= int(UNCLEAN_MARGIN_SECONDS * 1000)
        return PathStamp(
            from_ms=held_ms,
            age_seconds=self._age_seconds(from_ms - held_ms),
            cause=self._cause,
            detail=self._detail,
            rate=rate,
            covered_by=self._covered_by(),
            heard_ms=self._heard_ms if held_ms >= from_ms else None,
        )

    def _age_seconds(self, earlier_ms: int) -> float | None:
        if self._open_since is None:
            return None
        return round(self._ledger.clock.elapsed() - self._open_since + earlier_ms / 1000, 3)

    def _elapsed_at(self, wall_ms: int) -> float:
        clock = self._ledger.clock
        return clock.elapsed() - clock.wall() + wall_ms / 1000

    def _wall_ms_at(self, elapsed: float) -> int:
        """As the wall clock that is now in force names it: a stamp tells how old it is, and so the rest."""
        clock = self._ledger.clock
        return int((clock.wall() - clock.elapsed() + elapsed) * 1000)

    def crashed(self, held_ms: int, detail: str, *, age_seconds: float | None) -> None:
        """The last process had everything until `held_ms`, which was `age_seconds` ago or more."""
        age = None if age_seconds is None else age_seconds + UNCLEAN_MARGIN_SECONDS
        self.begin(held_ms - int(UNCLEAN_MARGIN_SECONDS * 1000), CRASH, detail, age_seconds=age)
        self._announce()
