"""The bounded waiting room between the sockets and the spool. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from zoomrelay.event import Event
from zoomrelay.spool.base import Quarantined


class Batch:
    """What gathered since the last commit."""

    __slots__ = ("events", "merged", "quarantined", "remembered", "size")

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.quarantined: list[Quarantined] = []
        self.remembered: list[bytes] = []
        """Identities to be committed with the events."""
        self.merged: Counter[tuple[str, str]] = Counter()
        """(source, subscription) -> copies of events in this batch, or in one before it."""
        self.size = 0
        """Bytes of content."""

    def __bool__(self) -> bool:
        return bool(self.events or self.quarantined or self.merged)

    def frames_of(self, source: str) -> int:
        events = sum([event.source == source for event in self.events])
        return events + sum([frame.source == source for frame in self.quarantined])

    def merged_of(self, source: str) -> int:
        return sum(count for path, count in self.merged.items() if path[0] == source)


class Gate:
    """Counts events and bytes that were received and are not yet durable, and says when to stop reading.

    `full` is advice to the readers: what was read already is always let in, so nothing is ever dropped
    here. The bounds hold for what gathers; one batch of that size may be on its way to the disk meanwhile,
    so that reading and writing go on side by side.
    """

    def __init__(self, max_events: int, max_bytes: int) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._gathering = Batch()
        self._taken = Batch()
        self.events = 0
        self.bytes = 0
        self.full = False

    def push(self, events: Sequence[Event]) -> None:
        """Let events in."""
        gathering = self._gathering
        gathering.events += events
        size = sum([len(event.content) for event in events])
        gathering.size += size
        self.events += len(events)
        self.bytes += size
        if len(gathering.events) >= self._max_events or gathering.size >= self._max_bytes:
            self.full = True

    def push_merged(self, path: tuple[str, str], count: int) -> None:
        """Copies came of events that were let in before: they count once those are durable."""
        self._gathering.merged[path] += count

    def remember(self, digests: Sequence[bytes]) -> None:
        """Identities of events that were let in just now."""
        self._gathering.remembered += digests

    def push_quarantined(self, frame: Quarantined) -> None:
        """Let an unreadable frame in."""
        self._gathering.quarantined.append(frame)
        self._gathering.size += len(frame.raw)
        self.events += 1
        self.bytes += len(frame.raw)
        gathering = self._gathering
        if len(gathering.quarantined) >= self._max_events or gathering.size >= self._max_bytes:
            self.full = True

    @property
    def gathers(self) -> bool:
        """Something has gathered since the last `take`."""
        return bool(self._gathering)

    def take(self) -> Batch:
        """Everything that has gathered; it counts until `done`."""
        self._taken, self._gathering = self._gathering, Batch()
        self.full = False
        return self._taken

    def done(self) -> None:
        """What was taken is durable."""
        taken, self._taken = self._taken, Batch()
        self.events -= len(taken.events) + len(taken.quarantined)
        self.bytes -= taken.size

    def waiting_of(self, source: str) -> tuple[int, int]:
        """(frames of a source that wait, copies included; how many of them are events or unreadable frames
        on their way to the disk)."""
        taken = self._taken.frames_of(source)
        merged = self._taken.merged_of(source) + self._gathering.merged_of(source)
        return taken + self._gathering.frames_of(source) + merged, taken
