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
STRICT = "\x00"
"""Name of the only lane where order is strict."""


@dataclass(slots=True, eq=False)
class Lane:
    """One queue; the fields after `items` speak of its head. Times are loop time, in seconds."""

    name: str
    items: deque[Item] = field(default_factory=deque)
    attempts: int = 0
    """Made on the head, those before it was read included."""
    tried_at: float | None = None
    """When the first attempt since it was read began."""
    failed: bool = False
    """Whether an attempt failed since it was read."""
    successes_at_failure: int = 0
    """What the sink had taken when it failed first since it was read."""
    replayed: bool = False
    """It holds replayed events; live ones have a lane of their own."""
    dropped: bool = False
    """A replay that was cancelled; only a call that is under way comes to its end."""
    _healthy_at_try: float = 0.0

    @property
    def head(self) -> Item:
        return self.items[0]

    @property
    def was_parked(self) -> bool:
        """Whether the head has been set aside before."""
        return self.items[0].waited_seconds > 0

    def begin(self) -> None:
        """A new head: take over what is known of it."""
        self.attempts = self.items[0].attempts
        self.tried_at = None
        self.failed = False

    def try_(self, now: float, healthy_seconds: float) -> None:
        """Note that an attempt begins; `healthy_seconds` is for how long the sink has been healthy."""
        self.attempts += 1
        if self.tried_at is None:
            self.tried_at, self._healthy_at_try = now, healthy_seconds

    def fail(self, successes: int) -> None:
        """Note that it failed; `successes` is what the sink has taken so far."""
        if not self.failed:
            self.failed, self.successes_at_failure = True, successes

    def waited_seconds_at(self, healthy_seconds: float) -> float:
        """For how long the head has waited while its sink was healthy, earlier readings included."""
        return self.items[0].waited_seconds + healthy_seconds - self._healthy_at_try


class Lanes:
    """All lanes of a sink. `len` is the number of events in them, but for replayed ones: these come last, a
    few at a time, so that live events find room at once."""

    def __init__(self, ordering: Ordering, *, replays_at_once: int = 1) -> None:
        self._ordering = ordering
        self._replays_at_once = replays_at_once
        self._replays_out = 0
        self._ready_replays: deque[Lane] = deque()
        self._lanes: dict[str, Lane] = {}
        self._ready: deque[Lane] = deque()
        self._waiting: list[tuple[float, int, Lane]] = []
        self._waits = 0
        self._events = 0

    def __len__(self) -> int:
        return self._events

    @property
    def is_empty(self) -> bool:
        """Nothing is left to serve, replays included."""
        return not self._lanes

    def push(self, items: Iterable[Item]) -> None:
        """Add events, in order of arrival."""
        for item in items:
            name = self._name(item)
            lane = self._lanes.get(name)
            if lane is None:
                lane = self._lanes[name] = Lane(name, replayed=item.event.replayed)
                lane.items.append(item)
                lane.begin()
                self._queue(lane).append(lane)
            else:
                lane.items.append(item)
            self._events += not lane.replayed

    def _queue(self, lane: Lane) -> deque[Lane]:
        return self._ready_replays if lane.replayed else self._ready

    def _name(self, item: Item) -> str:
        """Names that are no event's key begin with a control character, which no key of Zoom's does.
        What is redriven comes late anyway: it has a lane of its own and holds up nobody."""
        if item.redriven or self._ordering == "none":
            return f"\x00{item.token}"
        before = "\x00replay " if item.event.replayed else ""
        if self._ordering == "strict":
            return before + STRICT
        return before + (item.event.key or f"\x00{item.token}")

    def pop(self, now: float) -> Lane | None:
        """A lane whose head may be tried now. It is the caller's until `done`, `retry` or `take`."""
        while self._waiting and self._waiting[0][0] <= now:
            lane = heapq.heappop(self._waiting)[2]
            if not lane.dropped:
                self._queue(lane).append(lane)
        if not self._ready and self._ready_replays and self._replays_out < self._replays_at_once:
            self._replays_out += 1
            return self._ready_replays.popleft()
        return self._ready.popleft() if self._ready else None

    def next_due(self) -> float | None:
        """When the next waiting lane may be tried."""
        return self._waiting[0][0] if self._waiting else None

    def done(self, lane: Lane) -> None:
        """The head has ended."""
        if self._is_over(lane):
            return
        lane.items.popleft()
        self._events -= not lane.replayed
        if lane.items:
            lane.begin()
            self._queue(lane).append(lane)
        else:
            del self._lanes[lane.name]

    def retry(self, lane: Lane, at: float) -> None:
        """The head is to be tried again, not before `at`."""
        if self._is_over(lane):
            return
        self._waits += 1
        heapq.heappush(self._waiting, (at, self._waits, lane))

    def _is_over(self, lane: Lane) -> bool:
        """A call of this lane has come to its end; whether nobody wants to know."""
        self._replays_out -= lane.replayed
        return lane.dropped

    def drop_replays(self) -> None:
        """Forget everything that is replayed; calls that are under way come to their end."""
        for lane in [lane for lane in self._lanes.values() if lane.replayed]:
            lane.dropped = True
            del self._lanes[lane.name]
        self._ready_replays.clear()

    def take(self, lane: Lane) -> list[Item]:
        """Remove the lane; its events, head first."""
        del self._lanes[lane.name]
        self._events -= len(lane.items)
        return list(lane.items)

    def take_tails(self, tried_by: float) -> list[tuple[str, list[Item]]]:
        """Remove what stands behind heads whose first attempt began by that moment: the names of the
        lanes, and those events in order. In strict order nothing may step aside."""
        lanes = [lane for lane in self._lanes.values() if len(lane.items) > 1 and not lane.replayed]
        tried = [(lane, lane.tried_at) for lane in lanes]
        stuck = [lane for lane, at in tried if at is not None and at <= tried_by]
        return [self._take_tail(lane) for lane in stuck if lane.name != STRICT]

    def _take_tail(self, lane: Lane) -> tuple[str, list[Item]]:
        head = lane.items.popleft()
        tail = list(lane.items)
        lane.items = deque([head])
        self._events -= len(tail)
        return lane.name, tail
