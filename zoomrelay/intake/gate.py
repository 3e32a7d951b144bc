"""The bounded waiting room between the sockets and the spool. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from zoomrelay.event import Event
from zoomrelay.spool.base import Quarantined


class Batch:
    """What gathered since the last commit."""

    __slots__ = ("events", "quarantined", "size")

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.quarantined: list[Quarantined] = []
        self.size = 0
        """Bytes of content."""

    def __bool__(self) -> bool:
        return bool(self.events or self.quarantined)

    @property
    def oldest_ms(self) -> int | None:
        """`received_ms` of the oldest in it."""
        firsts = [group[0].received_ms for group in (self.events, self.quarantined) if group]
        return min(firsts, default=None)


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

    def push_quarantined(self, frame: Quarantined) -> None:
        """Let an unreadable frame in."""
        self._gathering.quarantined.append(frame)
        self._gathering.size += len(frame.raw)
        self.events += 1
        self.bytes += len(frame.raw)
        gathering = self._gathering
        if len(gathering.quarantined) >= self._max_events or gathering.size >= self._max_bytes:
            self.full = True

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

    def oldest_ms(self) -> int | None:
        """`received_ms` of the oldest that is not durable."""
        return self._taken.oldest_ms or self._gathering.oldest_ms
