"""What went wrong beside the sockets, gathered into episodes for the ledger. Pure, but for the clock.

A trouble that comes and goes within seconds, or that happens again and again, is one episode and one
entry: from its first moment to its last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from zoomrelay.clock import Clock
from zoomrelay.intake.gaps import Gap, Trouble

PAUSE_SECONDS = 1.0
"""Shorter pauses are no entries; their time is in the metric."""
_STATE_LINGERS_SECONDS = 5.0
"""After it has passed, a trouble that returns so soon is the same one."""
_QUIET_SECONDS = 300.0
"""The same for what happens event by event."""
_MAX_DETAIL = 200

_DETAILS = {
    Trouble.PAUSED: "too much was not yet durable; nothing is lost, Zoom's side was held back",
    Trouble.SPOOL_UNWRITABLE: "nothing is lost while the relay runs, what comes waits",
    Trouble.SPOOL_SET_ASIDE: "pending events of a damaged spool could not be recovered",
    Trouble.SHED: "max_bytes was reached and this sink lagged most",
    Trouble.SIGNATURE_REFUSED: "kept as dead letters of the source",
}


@dataclass(slots=True)
class _Episode:
    trouble: Trouble
    source: str
    sink: str
    detail: str
    paths: tuple[str, ...]
    from_ms: int
    since: float
    """`Clock.elapsed`, as `last`."""
    last: float
    events: int | None = None
    holders: int = 0
    """How many say that it lasts."""
    told: bool = False

    @property
    def lingers_seconds(self) -> float:
        if self.trouble is Trouble.SPOOL_SET_ASIDE:
            return 0.0
        return _STATE_LINGERS_SECONDS if self.events is None else _QUIET_SECONDS


class Troubles:
    """Told by those who notice; `take` gives what is new to the ledger."""

    def __init__(self, clock: Clock) -> None:
        self.listening: Callable[[], Sequence[str]] = tuple
        """Which paths are listened to just now, as `source/subscription`."""
        self._clock = clock
        self._episodes: dict[tuple[Trouble, str, str], _Episode] = {}

    # --- those who notice ---------------------------------------------------------------------------

    def begin(self, trouble: Trouble, detail: str = "") -> None:
        """It lasts from now on, until `end` was called as often."""
        episode = self._episode(trouble, detail=detail)
        if not episode.paths:
            episode.paths = tuple(self.listening())
        episode.holders += 1

    def end(self, trouble: Trouble) -> None:
        episode = self._episode(trouble)
        episode.holders -= 1
        episode.last = self._clock.elapsed()
        if not episode.holders and not self._is_entry(episode):
            self._forget(episode)

    def add(
        self, trouble: Trouble, events: int, *, source: str = "", sink: str = "", paths: Sequence[str] = ()
    ) -> None:
        """It befell so many events just now."""
        episode = self._episode(trouble, source, sink)
        episode.events = (episode.events or 0) + events
        episode.paths += tuple(path for path in paths if path not in episode.paths)
        episode.last = self._clock.elapsed()

    def set_aside(self, events: int | None) -> None:
        """A damaged spool was; so many pending events of it are gone, None if that is not known."""
        episode = self._episode(Trouble.SPOOL_SET_ASIDE)
        episode.events = None if events is None else (episode.events or 0) + events

    def _episode(self, trouble: Trouble, source: str = "", sink: str = "", *, detail: str = "") -> _Episode:
        key = trouble, source, sink
        if key not in self._episodes:
            words = _DETAILS[trouble] + (f": {detail}" if detail else "")
            now = self._clock.elapsed()
            wall_ms = int(self._clock.wall() * 1000)
            self._episodes[key] = _Episode(trouble, source, sink, words[:_MAX_DETAIL], (), wall_ms, now, now)
        return self._episodes[key]

    # --- the ledger ---------------------------------------------------------------------------------

    def take(self, *, finish: bool = False) -> tuple[list[Gap], list[Gap]]:
        """Those that have begun since the last call, and those that have ended. `finish`: do not wait for
        a return of those that are over."""
        now = self._clock.elapsed()
        opened, ended = [], []
        for episode in list(self._episodes.values()):
            if not episode.told and self._is_entry(episode):
                episode.told = True
                opened.append(self._gap(episode, lasts=True))
            if not episode.holders and (finish or now - episode.last >= episode.lingers_seconds):
                self._forget(episode)
                ended.append(self._gap(episode, lasts=False))
        return opened, ended

    def lasting(self) -> list[Gap]:
        """Those that were told as begun and have not been as ended."""
        return [self._gap(episode, lasts=True) for episode in self._episodes.values() if episode.told]

    def _is_entry(self, episode: _Episode) -> bool:
        if episode.told or episode.trouble is not Trouble.PAUSED:
            return True
        return self._until(episode) - episode.since >= PAUSE_SECONDS

    def _until(self, episode: _Episode) -> float:
        return self._clock.elapsed() if episode.holders else episode.last

    def _gap(self, episode: _Episode, *, lasts: bool) -> Gap:
        seconds = round(self._until(episode) - episode.since, 3)
        ago = self._clock.elapsed() - self._until(episode)
        to_ms = int((self._clock.wall() - ago) * 1000)
        return Gap(
            episode.source,
            "",
            min(episode.from_ms, to_ms - int(seconds * 1000)),
            None if lasts else to_ms,
            seconds,
            str(episode.trouble),
            episode.detail,
            episode.sink,
            episode.paths,
            episode.events,
        )

    def _forget(self, episode: _Episode) -> None:
        del self._episodes[episode.trouble, episode.source, episode.sink]


def cut_short(gap: Gap) -> Gap:
    """An episode that a process left behind: it is known to have lasted so long."""
    return msgspec.structs.replace(gap, to_ms=gap.from_ms + int(gap.seconds * 1000))
