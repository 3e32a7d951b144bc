"""What the sessions of one source talk to: identity, merging, and a watch over its paths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import structlog

from zoomrelay import causes
from zoomrelay.event import WEBHOOK, Event
from zoomrelay.intake.admit import Intake
from zoomrelay.intake.gaps import Trouble
from zoomrelay.intake.identity import Identifier, Unidentifiable
from zoomrelay.intake.merge import EARLIER_PATH
from zoomrelay.intake.twins import GRACE_SECONDS, Twins
from zoomrelay.spool.base import Quarantined, SourceCounts

log = structlog.get_logger()

_OURS = "stopped"
"""The session's word for a socket that we closed, or that made room for a newer one of ours."""


class Frame(Protocol):
    """An event as it came."""

    @property
    def content(self) -> bytes: ...


class Earlier(Protocol):
    """What came together on one subscription (`zoomrelay.takeover.journal.Record`)."""

    @property
    def subscription(self) -> str: ...

    @property
    def received_ms(self) -> int: ...

    @property
    def contents(self) -> Sequence[bytes]: ...

    @property
    def kind(self) -> str:
        """`events`, `unreadable` or `refused`."""
        ...

    @property
    def reason(self) -> str: ...


class PathListener(Protocol):
    """See `zoomrelay.session.ports`."""

    def accepted(self, wall: float) -> None: ...

    def lost(self, cause: str, detail: str, *, clean: bool, heard_until: float) -> None: ...

    def alive(self, heard_until: float) -> None: ...


class SourceIntake:
    """One source: a `FrameConsumer` for its sessions, and for its webhook. Events of several paths are
    merged, and so are those of a webhook alone, which Zoom sends again where it heard no answer; those of a
    subscription that has always been the only one are not looked at for copies."""

    def __init__(
        self, intake: Intake, name: str, subscriptions: Sequence[str], *, quiet_after_seconds: float = 0.0
    ) -> None:
        """`subscriptions`: ids, in the order of the configuration; `WEBHOOK` is one of them."""
        self.name = name
        self.inversions = 0
        """Events that came after one of a later `event_ts`."""
        self.twins: Twins | None = None
        self.paths: dict[str, PathWatch] = {}
        self.quiet_after_seconds = quiet_after_seconds
        self.clock = intake.clock
        self._intake = intake
        self._lag = intake.lag_of(name)
        self._read = Identifier(name).read
        self._received = 0
        self._base: SourceCounts | None = None
        self._newest_ts = 0
        self._merging_until = 0.0
        """`Clock.elapsed`; for a source with a single subscription."""
        for subscription in subscriptions:
            self.add(subscription)

    def add(self, subscription: str) -> PathWatch:
        """One more path. From the second on, or with a webhook, events are merged."""
        taken = sum(path.bit for path in self.paths.values())
        bit = ~taken & (taken + 1)  # the lowest that is free
        self.paths[subscription] = watch = PathWatch(self, subscription, bit)
        if len(self.paths) > 1 or subscription == WEBHOOK:
            self.merge()
        return watch

    def remove(self, subscription: str) -> None:
        """This path's socket has ended for good. What it brought counts on, and merging goes on."""
        watch = self.paths.pop(subscription)
        if self.twins is not None:
            self.twins.forget(watch.bit)

    def measure_anew(self) -> None:
        """What was exported of the source's lag is gone: begin again."""
        self._lag = self._intake.lag_of(self.name)

    def merge(self) -> None:
        """From now on copies may come: look for them."""
        if self.twins is None:
            self.twins = Twins(self._intake.identities.paths)
            for path in self.paths.values():
                if path.accepted_at is not None:
                    self.twins.accepted(path.bit, path.accepted_at)

    def merge_for(self, seconds: float) -> None:
        """Look for copies from now on, though there be a single subscription: another process receives, or
        received, the same."""
        self._merging_until = self.clock.elapsed() + seconds

    def earlier(self, record: Earlier) -> None:
        """Admit what came to another process, or to this one before it could hold anything. It is told to
        nobody who watches over paths; copies of what is held are merged."""
        if record.kind == "refused":
            self._refuse(record.subscription)
        elif record.kind == "events":
            self._merge_earlier(record)
            return
        reason = record.reason or "signature"
        for raw in record.contents:
            self._quarantine(Quarantined(self.name, record.subscription, record.received_ms, raw, reason))

    def _merge_earlier(self, record: Earlier) -> None:
        events = self._received_events(record.contents, record.subscription, record.received_ms)
        self._intake.push_merging(events, (self.name, record.subscription), EARLIER_PATH)

    @property
    def full(self) -> bool:
        return self._intake.full

    async def room(self) -> None:
        await self._intake.room()

    @property
    def blocked(self) -> bool:
        """What is handed over now would not be held soon."""
        return self._intake.full or self._intake.unwritable

    async def held(self) -> None:
        """See `Intake.held`."""
        await self._intake.held()

    def events(self, subscription: str, frames: Sequence[Frame]) -> None:
        """Admit events; what cannot be read is kept as a dead letter of the source."""
        contents = [frame.content for frame in frames]
        events = self._received_events(contents, subscription, self._intake.now_ms())
        path, now = self.paths[subscription], self.clock.elapsed()
        path.brought(now, len(events))
        if self.twins is None:
            if now < self._merging_until:
                events = self._intake.push_merging(events, (self.name, subscription), path.bit)
            else:
                self._intake.push(events)
            self._lag.note(events)
            return
        firsts = self._intake.push_merging(events, (self.name, subscription), path.bit)
        self._lag.note(firsts)
        for event in firsts:
            if not _may_be_late(event):
                self.twins.first(event.digest, event.name, now)
            self._note_order(event.event_ts or 0)

    def _received_events(self, contents: Sequence[bytes], subscription: str, received_ms: int) -> list[Event]:
        """Those in which an event can be read; the others are dead letters of the source."""
        read = self._read
        events = []
        for content in contents:
            try:
                events.append(read(content, subscription, received_ms))
            except Unidentifiable as error:
                self._quarantine(Quarantined(self.name, subscription, received_ms, content, str(error)))
        self._received += len(events)
        return events

    def _note_order(self, event_ts: int) -> None:
        if event_ts >= self._newest_ts:
            self._newest_ts = event_ts
        elif event_ts:
            self.inversions += 1

    def own(self, content: bytes) -> None:
        """Admit an event of the relay's own making about this source: it came on no subscription, and counts
        as received all the same."""
        self._received += 1
        self._intake.push([self._read(content, "", self._intake.now_ms())])

    def refused(self, subscription: str, raw: bytes) -> None:
        """Keep an event whose signature does not fit, as a dead letter."""
        self._refuse(subscription)
        self.unreadable(subscription, raw, "signature")

    def _refuse(self, subscription: str) -> None:
        paths = [f"{self.name}/{subscription}"]
        self._intake.troubles.add(Trouble.SIGNATURE_REFUSED, 1, source=self.name, paths=paths)

    def unreadable(self, subscription: str, raw: bytes, reason: str) -> None:
        """Keep a frame in which no event could be read."""
        self._quarantine(Quarantined(self.name, subscription, self._intake.now_ms(), raw, reason))

    def _quarantine(self, frame: Quarantined) -> None:
        self._received += 1
        self._intake.push_quarantined(frame)

    # --- conservation -------------------------------------------------------------------------------

    def begin_counting(self, counts: SourceCounts) -> None:
        """What the spool has counted until now, by earlier processes. Only the first call counts."""
        self._base = self._base or counts

    def conservation_error(self, counts: SourceCounts) -> int:
        """Frames that were received and are neither counted by the spool nor on their way there; must be 0.
        `counts` is what the spool has counted until now."""
        assert self._base is not None
        counted = _sum(counts) - _sum(self._base)
        waiting, on_their_way = self._intake.waiting_of(self.name)
        error = self._received - waiting - counted
        # Between a commit and our hearing of it, its frames are counted and wait at the same time.
        return 0 if error == -on_their_way else error

    # --- the watch over its paths -------------------------------------------------------------------

    def second(self) -> None:
        """About every second while any path is accepted."""
        if self.twins is None:
            return
        self.twins.judge(self.clock.elapsed())
        if self.twins.begins_to_differ():
            log.warning(
                "source.subscriptions_differ",
                source=self.name,
                merge_ratio=round(self.twins.merge_ratio or 0.0, 3),
                **{
                    f"only_by_{path.subscription}": self.twins.only_by(path.bit)[:5]
                    for path in self.paths.values()
                },
                hint="redundant subscriptions must carry the same events; compare their event types",
            )


class PathWatch:
    """The `PathListener` between a session and the gap ledger: watches whether the path is deaf or quiet."""

    def __init__(self, source: SourceIntake, subscription: str, bit: int) -> None:
        self.subscription = subscription
        self.bit = bit
        self.deaf = False
        """Its twins bring events, it does not."""
        self.received = 0
        """Events that it has brought, copies included."""
        self.quiet = False
        """No event for `quiet_after_seconds`."""
        self.accepted_at: float | None = None
        """`Clock.elapsed`, while it is listened to."""
        self._sockets = 0
        """Accepted ones: two for a moment, where it is made anew."""
        self._heard = 0.0
        """Wall time until which the only socket heard everything."""
        self._proven: float | None = None
        """The same of the older one, since a second was accepted and until one of them has ended. Zoom may
        send on the newer alone, so that what comes says nothing of the older."""
        self._source = source
        self._last_event = 0.0
        self._inner: PathListener | None = None

    def then(self, inner: PathListener | None) -> PathWatch:
        """Tell everything to this one, too; None: to nobody any more."""
        self._inner = inner
        return self

    def brought(self, now: float, events: int) -> None:
        """So many events came."""
        self.received += events
        self._last_event = now

    @property
    def covers(self) -> bool:
        """Whether it brings what its twins bring, as far as is known; asked while it is accepted."""
        differ = self._source.twins is not None and self._source.twins.differ
        return not (self.deaf or differ)

    @property
    def missed(self) -> int:
        """Events that a twin brought and this path did not, since the start."""
        return self._source.twins.missed[self.bit] if self._source.twins else 0

    @property
    def trouble(self) -> str:
        """In words, why nothing is to be expected of it though it is accepted; empty if nothing is known."""
        if self.deaf:
            return f"deaf: other subscriptions bring events that this one does not ({causes.DEAF.cure})"
        if self.quiet:
            return f"quiet: no event for {self._source.quiet_after_seconds:g} s ({causes.QUIET.cure})"
        return ""

    # --- what the session tells ---------------------------------------------------------------------

    def accepted(self, wall: float) -> None:
        self._sockets += 1
        if self._sockets > 1:
            self._proven = self._heard if self._proven is None else self._proven
            return
        self._heard = wall
        now = self._source.clock.elapsed()
        self._last_event = self.accepted_at = now
        if self._source.twins is not None:
            self._source.twins.accepted(self.bit, now)
        if self._inner is not None:
            self._inner.accepted(wall)

    def lost(self, cause: str, detail: str, *, clean: bool, heard_until: float) -> None:
        self._sockets -= 1
        ours = clean and cause == _OURS
        if self._proven is not None and not ours:
            heard_until, clean = min(heard_until, self._proven), False
            self._proven = self._source.clock.wall()  # until then a gap is noted
        if self._sockets <= 1:
            self._proven = None
        if self._sockets and ours:
            return
        if self._sockets:
            self._torn(cause, detail, clean=clean, heard_until=heard_until)
            return
        self.deaf = self.quiet = False
        self.accepted_at = None
        if self._source.twins is not None:
            self._source.twins.lost(self.bit)
        if self._inner is not None:
            self._inner.lost(cause, detail, clean=clean, heard_until=heard_until)

    def _torn(self, cause: str, detail: str, *, clean: bool, heard_until: float) -> None:
        """One of two sockets has ended. If it broke, what was under way on it is missing; and if the other
        side closed it unasked, that may have been before the newer was accepted there."""
        if self._inner is not None:
            self._inner.lost(cause, detail, clean=clean, heard_until=heard_until)
            self._inner.accepted(self._source.clock.wall())

    def alive(self, heard_until: float) -> None:
        self._source.second()
        self._watch()
        if self._proven is not None:
            heard_until = min(heard_until, self._proven)
        self._heard = heard_until
        if self._inner is not None:
            self._inner.alive(heard_until)

    def _watch(self) -> None:
        twins = self._source.twins
        deaf = twins is not None and twins.is_deaf(self.bit)
        silent_seconds = self._source.clock.elapsed() - self._last_event
        quiet = 0 < self._source.quiet_after_seconds <= silent_seconds
        if deaf and not self.deaf:
            self._say("session.deaf", cure=causes.DEAF.cure)
        if quiet and not self.quiet:
            self._say("session.quiet", silent_seconds=round(silent_seconds), cure=causes.QUIET.cure)
        if (self.deaf or self.quiet) and not (deaf or quiet):
            log.info("session.hears_again", source=self._source.name, subscription=self.subscription)
        self.deaf, self.quiet = deaf, quiet

    def _say(self, event: str, **fields: object) -> None:
        log.warning(event, source=self._source.name, subscription=self.subscription, **fields)


def _may_be_late(event: Event) -> bool:
    """Zoom may have tried in vain before: that no socket brings it now says nothing about the sockets."""
    if event.subscription != WEBHOOK:
        return False
    return event.event_ts is None or event.received_ms - event.event_ts > GRACE_SECONDS * 1000


def _sum(counts: SourceCounts) -> int:
    return counts.appended + counts.merged + counts.quarantined + counts.unheld
