"""Queues of events that must stay in order among themselves. Pure: the time is passed in.

A lane hands out its head only; the next one follows when the head has ended. A head that failed waits,
and with it what stands behind it, while other lanes go on.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from zoomrelay.spool.base import Item

Ordering = Literal["key", "strict", "none"]


@dataclass(slots=True, eq=False)
class Lane:
    """One queue; the fields after `items` speak of its head."""

    name: str
    items: deque[Item] = field(default_factory=deque)
    attempts: int = 0
    failed_at: float | None = None
    """When the head first failed, since it was read."""
    healthy_at_failure: float = 0.0
    """How long the sink had been healthy by then."""
    successes_at_failure: int = 0
    waited_seconds: float = 0.0
    """How long the head had waited, while its sink was healthy, before it was read."""

    @property
    def head(self) -> Item:
        return self.items[0]

    def begin(self) -> None:
        """A new head: take over what is known of it."""
        self.attempts = self.items[0].attempts
        self.waited_seconds = self.items[0].waited_seconds
        self.failed_at = None


class Lanes:
    """All lanes of a sink. `len` is the number of events in them."""

    def __init__(self, ordering: Ordering) -> None:
        self._ordering = ordering
        self._lanes: dict[str, Lane] = {}
        self._ready: deque[Lane] = deque()
        self._waiting: list[tuple[float, int, Lane]] = []
        self._waits = 0
        self._events = 0

    def __len__(self) -> int:
        return self._events

    def push(self, items: Iterable[Item]) -> None:
        """Add events, in order of arrival."""
        for item in items:
            name = self._name(item)
            lane = self._lanes.get(name)
            if lane is None:
                lane = self._lanes[name] = Lane(name)
                lane.items.append(item)
                lane.begin()
                self._ready.append(lane)
            else:
                lane.items.append(item)
            self._events += 1

    def _name(self, item: Item) -> str:
        """Names that are no event's key begin with a control character; no key does."""
        if self._ordering == "key" and item.event.key:
            return item.event.key
        return "\x00" if self._ordering == "strict" else f"\x00{item.token}"

    def pop(self, now: float) -> Lane | None:
        """A lane whose head may be tried now. It is the caller's until `done`, `retry` or `take`."""
        while self._waiting and self._waiting[0][0] <= now:
            self._ready.append(heapq.heappop(self._waiting)[2])
        return self._ready.popleft() if self._ready else None

    def next_due(self) -> float | None:
        """When the next waiting lane may be tried."""
        return self._waiting[0][0] if self._waiting else None

    def done(self, lane: Lane) -> None:
        """The head has ended."""
        lane.items.popleft()
        self._events -= 1
        if lane.items:
            lane.begin()
            self._ready.append(lane)
        else:
            del self._lanes[lane.name]

    def retry(self, lane: Lane, at: float) -> None:
        """The head is to be tried again, not before `at`."""
        self._waits += 1
        heapq.heappush(self._waiting, (at, self._waits, lane))

    def take(self, lane: Lane) -> list[Item]:
        """Remove the lane; its events, head first."""
        del self._lanes[lane.name]
        self._events -= len(lane.items)
        return list(lane.items)
