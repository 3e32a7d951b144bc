"""Queues of events that must stay in order among themselves. Pure: the time is passed in.

A lane hands out its head only, or a run from its head into one batch; the next ones follow when these have
ended. A head that failed waits, and with it what stands behind it, while other lanes go on.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal

from zoomrelay.delivery.batching import UNBOUNDED, Batch, Batching, gather
from zoomrelay.errors import SinkError
from zoomrelay.spool.base import Failing, Item, lane_of

Ordering = Literal["key", "strict", "none"]
ONE_BY_ONE = Batching()
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
    """Whether an attempt failed since it was read, other than with others that were refused or replayed."""
    doubted: bool = False
    """Whether any attempt failed since it was read."""
    successes_at_failure: int = 0
    """What the sink had taken when it failed first since it was read."""
    taken: int = 0
    """How many events, from the head on, are in a call that is under way."""
    most: int = UNBOUNDED
    """The largest batch that it may be in, since it was in one that failed."""
    since: float = 0.0
    """When the first event that is not `taken` came, or earlier."""
    failing: Failing | None = None
    """Of its failures when it was alone in a call: those before it was parked by this worker, too."""
    error: SinkError | None = None
    """Why the latest attempt since it was read failed."""
    replayed: bool = False
    """It holds replayed events; live ones have a lane of their own."""
    urgent: bool = False
    """It holds events with a deadline, and goes before others."""
    leads: bool = False
    """It stands for a call of replayed events that is under way."""
    dropped: bool = False
    """A replay that was cancelled; only a call that is under way comes to its end."""
    _healthy_at_try: float = 0.0

    @property
    def head(self) -> Item:
        return self.items[0]

    @property
    def kept(self) -> int:
        """How many events, from the head on, belong together."""
        return max(1, self.taken)

    @property
    def is_known(self) -> bool:
        """Whether this worker has seen it fail: then its next failure says nothing new of the sink."""
        return self.failed or self.failing is not None

    @property
    def was_parked(self) -> bool:
        """Whether the head has been set aside before."""
        return self.items[0].waited_seconds > 0

    def begin(self) -> None:
        """A new head: take over what is known of it."""
        self.attempts = self.items[0].attempts
        self.failing = self.items[0].failing
        self.tried_at = self.error = None
        self.failed = self.doubted = False
        self.most = 1 if self.was_parked else UNBOUNDED

    def try_(self, now: float, healthy_seconds: float) -> None:
        """Note that an attempt begins; `healthy_seconds` is for how long the sink has been healthy."""
        self.attempts += 1
        if self.tried_at is None:
            self.tried_at, self._healthy_at_try = now, healthy_seconds

    def fail(self, successes: int, *, says_nothing: bool = False) -> None:
        """Note that it failed; `successes` is what the sink has taken so far, `says_nothing`: others were in
        the call, and each will be seen by itself."""
        if not self.doubted:
            self.doubted, self.successes_at_failure = True, successes
        self.failed |= not says_nothing

    def fail_alone(self, now: float, successes: int, ill_at: float) -> None:
        """Note that it failed when it was alone in a call; `ill_at` is when the sink failed as a whole at the
        latest. What was before that counts for nothing."""
        known = self.failing
        if known is None or known.since <= ill_at:
            self.failing = Failing(now, 0, successes, struck=False)
        else:
            struck = successes > known.successes
            self.failing = Failing(known.since, known.strikes + struck, successes, struck)

    def waited_seconds_at(self, healthy_seconds: float) -> float:
        """For how long the head has waited while its sink was healthy, earlier readings included."""
        return self.items[0].waited_seconds + healthy_seconds - self._healthy_at_try


class Lanes:
    """All lanes of a sink. `len` is the number of events in them, but for replayed ones: these come last, a
    few at a time, so that live events find room at once."""

    def __init__(
        self,
        ordering: Ordering,
        batching: Batching = ONE_BY_ONE,
        *,
        replays_at_once: int = 1,
        replays_per_call: int = UNBOUNDED,
        is_urgent: Callable[[str], bool] | None = None,
    ) -> None:
        """`replays_at_once` bounds the calls of replayed events, `replays_per_call` the events of each.
        `is_urgent(name of an event)`: it goes before others, those of its key included, but not in strict
        order."""
        self._ordering = ordering
        self._batching = batching
        self._batch_due: float | None = None
        self._replays_at_once = replays_at_once
        self._replays_per_call = replays_per_call
        self._replays_out = 0
        self._ready_replays: deque[Lane] = deque()
        self._lanes: dict[str, Lane] = {}
        self._ready: deque[Lane] = deque()
        self._is_urgent = is_urgent
        self._ready_urgent: deque[Lane] = deque()
        self._waiting: list[tuple[float, int, Lane]] = []
        self._waits = 0
        self._events = 0
        self._newest_next = False

    def __len__(self) -> int:
        return self._events

    @property
    def is_empty(self) -> bool:
        """Nothing is left to serve, replays included."""
        return not self._lanes

    def push(self, items: Iterable[Item], now: float = 0.0) -> None:
        """Add events, in order of arrival."""
        for item in items:
            urgent = self._is_urgent is not None and self._goes_first(item, self._is_urgent)
            name = self._name(item, urgent=urgent)
            lane = self._lanes.get(name)
            if lane is None:
                lane = Lane(name, since=now, replayed=item.event.replayed, urgent=urgent)
                self._lanes[name] = lane
                lane.items.append(item)
                lane.begin()
                self._queue(lane).append(lane)
            else:
                if lane.taken == len(lane.items):
                    lane.since = now
                lane.items.append(item)
            self._events += not lane.replayed

    def _queue(self, lane: Lane) -> deque[Lane]:
        if lane.urgent:
            return self._ready_urgent
        return self._ready_replays if lane.replayed else self._ready

    def _goes_first(self, item: Item, is_urgent: Callable[[str], bool]) -> bool:
        if self._ordering == "strict" or item.redriven or item.event.replayed:
            return False
        return is_urgent(item.event.name)

    def _name(self, item: Item, *, urgent: bool) -> str:
        """Names that are no event's key begin with a control character, which no key of Zoom's does.
        What is redriven comes late anyway: it has a lane of its own and holds up nobody."""
        if item.redriven or self._ordering == "none":
            return f"\x00{item.token}"
        before = "\x00replay " if item.event.replayed else ""
        if self._ordering == "strict":
            return before + STRICT
        return before + (lane_of(item.event.key, urgent=urgent) or f"\x00{item.token}")

    def pop(self, now: float) -> Lane | None:
        """A lane whose head may be tried now. It is the caller's until `done`, `retry` or `take`."""
        self._wake(now)
        ready = self._ready_urgent or self._ready
        if not ready:
            return next(iter(self._hand_out_replays(ONE_BY_ONE, 1)), None)
        lane = ready.popleft()
        lane.taken = 1
        return lane

    def pop_batch(self, now: float, most: int = UNBOUNDED, *, searching: bool = False) -> list[Lane]:
        """The same for the lanes of one batch of at most `most` events, each with `taken` set; none where it
        is better to wait for more. Live and replayed events go in batches of their own. `searching`: for
        one that the sink takes; then every other time the newest that was never tried goes first."""
        if searching:
            self._search()
        if self._batching.events == 1:
            return [] if (lane := self.pop(now)) is None else [lane]
        self._batch_due = None
        self._wake(now)
        if self._ready_urgent or self._ready:
            batch = gather(chain(self._ready_urgent, self._ready), self._batching, most)
            if batch.full or batch.due <= now:
                return self._hand_out(batch)
            self._batch_due = batch.due
        return self._hand_out_replays(self._batching, most)

    def _search(self) -> None:
        self._newest_next = not self._newest_next
        newest = next((lane for lane in reversed(self._ready) if lane.attempts == 0), None)
        if self._newest_next and newest is not None:
            self._ready.remove(newest)
            self._ready.appendleft(newest)

    def _hand_out_replays(self, batching: Batching, most: int) -> list[Lane]:
        """What there is goes at once: a replay brings few at a time, and its next ones when these ended."""
        if not self._ready_replays or self._replays_out >= self._replays_at_once:
            return []
        batch = gather(self._ready_replays, batching, min(most, self._replays_per_call))
        lanes = self._hand_out(batch)
        lanes[0].leads = True
        self._replays_out += 1
        return lanes

    def _hand_out(self, batch: Batch) -> list[Lane]:
        """Take the lanes of a batch, which are the first of their queues."""
        for lane, taken in batch.runs:
            self._queue(lane).popleft()
            lane.taken = taken
        return [lane for lane, _ in batch.runs]

    def _wake(self, now: float) -> None:
        while self._waiting and self._waiting[0][0] <= now:
            lane = heapq.heappop(self._waiting)[2]
            if not lane.dropped:
                self._queue(lane).append(lane)

    def next_due(self) -> float | None:
        """When the next waiting lane may be tried, or the batch that is being filled goes."""
        due = self._waiting[0][0] if self._waiting else None
        if self._batch_due is None or due is None:
            return due if self._batch_due is None else self._batch_due
        return min(due, self._batch_due)

    def done(self, lane: Lane) -> None:
        """What was taken of it has ended."""
        if self._is_over(lane):
            return
        for _ in range(lane.taken):
            lane.items.popleft()
        self._events -= 0 if lane.replayed else lane.taken
        lane.taken = 0
        if lane.items:
            lane.begin()
            self._queue(lane).append(lane)
        else:
            del self._lanes[lane.name]

    def drop_late(
        self, lane: Lane, is_late: Callable[[Item], bool]
    ) -> list[tuple[Item, int, SinkError | None]]:
        """Remove what is late of what was taken of a lane, and the lane from its call where nothing is left.
        Gives these, each with the attempts made on it, and why the latest failed."""
        taken = [lane.items.popleft() for _ in range(lane.taken)]
        late: list[Item] = []
        left: list[Item] = []
        for item in taken:
            (late if is_late(item) else left).append(item)
        lane.items.extendleft(reversed(left))
        lane.taken = len(left)
        self._events -= len(late)
        dropped: list[tuple[Item, int, SinkError | None]] = [(item, item.attempts, None) for item in late]
        if late and late[0] is taken[0]:
            dropped[0] = late[0], lane.attempts, lane.error
            if left:
                lane.begin()
        if not left:
            self.done(lane)
        return dropped

    def retry(self, lane: Lane, at: float) -> None:
        """The head is to be tried again, not before `at`."""
        if self._is_over(lane):
            return
        lane.taken = 0
        self._waits += 1
        heapq.heappush(self._waiting, (at, self._waits, lane))

    def retry_first(self, lanes: Sequence[Lane]) -> None:
        """The heads are to be tried again before all others. So one refused batch is cleared up before the
        next is sent."""
        for lane in reversed(lanes):
            if not self._is_over(lane):
                lane.taken = 0
                self._queue(lane).appendleft(lane)

    def _is_over(self, lane: Lane) -> bool:
        """A call of this lane has come to its end; whether nobody wants to know."""
        self._replays_out -= lane.leads
        lane.leads = False
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
        """Remove what stands behind heads whose first attempt began by that moment, and is not in the same
        call: the names of the lanes, and those events in order. In strict order nothing may step aside, and
        what is replayed or urgent need not: there is little of it at a time."""
        lanes = [lane for lane in self._lanes.values() if len(lane.items) > lane.kept]
        lanes = [lane for lane in lanes if not lane.replayed and not lane.urgent]
        tried = [(lane, lane.tried_at) for lane in lanes]
        stuck = [lane for lane, at in tried if at is not None and at <= tried_by]
        return [self._take_tail(lane) for lane in stuck if lane.name != STRICT]

    def _take_tail(self, lane: Lane) -> tuple[str, list[Item]]:
        kept = [lane.items.popleft() for _ in range(lane.kept)]
        tail = list(lane.items)
        lane.items = deque(kept)
        self._events -= len(tail)
        return lane.name, tail
