"""Where one sink stands in the stream of events. Pure; shared by every spool of our own.

Events are numbered in the order in which they were held. For each sink, every number up to `low` has
ended (or is parked, which is kept apart), numbers in `above` have ended out of order, and numbers up to
`handed` were given to its reader. So the state stays small: the reader's window bounds `above`.

A parked lane is a queue of its own, beside the stream: its events are no longer counted in the marks.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from zoomrelay.spool.base import Death, Item, Outcome, Parked, Settlement, SinkCounts, Token
from zoomrelay.spool.ranges import Ranges


@dataclass(slots=True)
class Lane:
    """A parked lane."""

    until: float
    """When its head is due, in terms of `Clock.elapsed`."""
    attempts: int
    waited_seconds: float
    waiting: int = 0
    """Parked events that are not handed out."""
    lent: int = 0
    """Parked events that are handed out and not settled."""
    after: int = 0
    """Numbers up to here are handed out, or gone."""


@dataclass(slots=True)
class Changes:
    """What a settlement means for durable storage, beside the sink's own row."""

    parked: list[tuple[str, Item]] = field(default_factory=list)
    unparked: list[tuple[str, Token]] = field(default_factory=list)
    lanes: set[str] = field(default_factory=set)
    """Lanes whose row changed; gone from `SinkMarks.lanes` if it is to be deleted."""
    deaths: list[Death] = field(default_factory=list)
    redelivered: list[int] = field(default_factory=list)
    died_again: list[Death] = field(default_factory=list)


class SinkMarks:
    """One sink's marks, lanes and counters."""

    def __init__(self, name: str, start: int) -> None:
        self.name = name
        self.start = start
        """The number before the first event that is this sink's."""
        self.low = start
        self.handed = start
        self.above = Ranges()
        self.lanes: dict[str, Lane] = {}
        self.parked = 0
        self.counts = SinkCounts()
        self.orphaned_seconds: float | None = None
        """For how much running time the configuration has not named it; None while it does."""
        self.redriving: dict[int, float] = {}
        """Dead letters to be handed out again, and when, in terms of `Clock.elapsed`."""
        self._lent: dict[Token, str] = {}
        self._lent_redriven: set[int] = set()
        self._due: list[tuple[float, str]] = []

    # --- reading ------------------------------------------------------------------------------------

    def pending(self, last: int) -> int:
        """Events that have not ended, `last` being the newest number."""
        return last - self.low - self.above.count + self.parked

    def hand_out(self, items: Sequence[Item]) -> tuple[Sequence[Item], list[Item]]:
        """Note that these new events (all up to the last of them) leave for the reader. Gives those that
        may go, and those that must wait behind a parked lane; the caller parks them."""
        self.handed = items[-1].token
        if self.above:
            items = [item for item in items if item.token not in self.above]
        if not self.lanes:
            return items, []
        held_back = [item for item in items if self._is_waiting(item.event.key)]
        if not held_back:
            return items, []
        return [item for item in items if not self._is_waiting(item.event.key)], held_back

    def _is_waiting(self, key: str) -> bool:
        lane = self.lanes.get(key)
        return lane is not None and lane.waiting > 0

    def park_behind(self, items: Iterable[Item]) -> Changes:
        """Set aside what `hand_out` held back."""
        changes = Changes()
        for item in items:
            lane = self.lanes[item.event.key]
            self._move_to_lane(item, item.event.key, lane, changes)
        return changes

    def due_lane(self, now: float) -> str | None:
        """A parked lane whose time has come and that has something to hand out."""
        while self._due and self._due[0][0] <= now:
            until, name = self._due[0]
            lane = self.lanes.get(name)
            if lane is not None and lane.until == until and lane.waiting:
                return name
            heapq.heappop(self._due)
        return None

    def next_due(self) -> float | None:
        """When the next lane or redriven dead letter is due."""
        while self._due:
            until, name = self._due[0]
            lane = self.lanes.get(name)
            if lane is not None and lane.until == until and lane.waiting:
                break
            heapq.heappop(self._due)
        redriven = min((at for n, at in self.redriving.items() if n not in self._lent_redriven), default=None)
        parked = self._due[0][0] if self._due else None
        return min((at for at in (redriven, parked) if at is not None), default=None)

    def is_lent(self, token: Token) -> bool:
        """Whether this parked event is with the reader."""
        return token in self._lent

    def lend_parked(self, name: str, tokens: Sequence[Token]) -> None:
        """Note that these events of a lane leave for the reader."""
        lane = self.lanes[name]
        lane.waiting -= len(tokens)
        lane.lent += len(tokens)
        lane.after = tokens[-1]
        self._lent.update(dict.fromkeys(tokens, name))

    def due_redriven(self, now: float, limit: int) -> list[int]:
        """Numbers of dead letters to hand out now."""
        if not self.redriving:
            return []
        return [n for n, at in self.redriving.items() if at <= now and n not in self._lent_redriven][:limit]

    def lend_redriven(self, numbers: Iterable[int]) -> None:
        """Note that these leave for the reader."""
        self._lent_redriven.update(numbers)

    def release(self) -> None:
        """The reader is gone: what it had is handed out again."""
        self.handed = self.low
        self._lent_redriven.clear()
        for name in set(self._lent.values()):
            lane = self.lanes[name]
            lane.waiting += lane.lent
            lane.lent = lane.after = 0
            heapq.heappush(self._due, (lane.until, name))
        self._lent.clear()

    def restore_lane(self, name: str, lane: Lane) -> None:
        """Put back a lane read from storage."""
        self.lanes[name] = lane
        self.parked += lane.waiting
        heapq.heappush(self._due, (lane.until, name))

    # --- settling -----------------------------------------------------------------------------------

    def settle(self, settlement: Settlement, now: float) -> Changes:
        """Apply a settlement; what was not handed out is ignored. `now` is `Clock.elapsed`."""
        changes = Changes()
        if not self._settle_run(settlement):
            self._end(settlement.delivered, Outcome.DELIVERED, changes)
            self._end(settlement.filtered, Outcome.FILTERED, changes)
            self._end(settlement.expired, Outcome.EXPIRED, changes)
        for death in settlement.dead:
            self._die(death, changes)
        for parked in settlement.parked:
            self._park(parked, now + parked.retry_in_seconds, changes)
        self._advance()
        return changes

    def _settle_run(self, settlement: Settlement) -> bool:
        """The usual case in one step: everything from `low` + 1 to some number ended."""
        groups = [g for g in (settlement.delivered, settlement.filtered, settlement.expired) if g]
        if not groups or self.above or self._lent:
            return False
        first = min(group[0] for group in groups)
        last = max(group[-1] for group in groups)
        if first != self.low + 1 or last > self.handed or last - first + 1 != sum(map(len, groups)):
            return False
        self.low = last
        self.counts.delivered += len(settlement.delivered)
        self.counts.filtered += len(settlement.filtered)
        self.counts.expired += len(settlement.expired)
        return True

    def _end(self, tokens: Sequence[Token], outcome: Outcome, changes: Changes) -> None:
        ended = 0
        for token in tokens:
            if token < 0:
                self._end_redriven(-token, changes)
            else:
                ended += self._leave(token, changes)
        setattr(self.counts, outcome.value, getattr(self.counts, outcome.value) + ended)

    def _leave(self, token: Token, changes: Changes) -> bool:
        """Take one event out of the stream or out of its lane; whether it was there."""
        name = self._lent.pop(token, None)
        if name is not None:
            lane = self.lanes[name]
            lane.lent -= 1
            self.parked -= 1
            changes.unparked.append((name, token))
            if lane.waiting == 0 and lane.lent == 0:
                del self.lanes[name]
                changes.lanes.add(name)
            return True
        if not self.low < token <= self.handed:
            return False
        return self.above.add(token, token) > 0

    def _end_redriven(self, number: int, changes: Changes) -> None:
        if number in self._lent_redriven:
            self.forget_redriven([number])
            self.counts.redelivered += 1
            changes.redelivered.append(number)

    def _die(self, death: Death, changes: Changes) -> None:
        token = death.item.token
        if token < 0:
            if -token in self._lent_redriven:
                self.forget_redriven([-token])
                changes.died_again.append(death)
        elif self._leave(token, changes):
            self.counts.dead += 1
            changes.deaths.append(death)

    def _park(self, parked: Parked, until: float, changes: Changes) -> None:
        lane = self.lanes.get(parked.lane)
        for item in parked.items:
            if item.token < 0:
                self._lent_redriven.discard(-item.token)
                self.redriving[-item.token] = until
            elif item.token in self._lent:
                lane = self._take_back(item.token)
            elif self.low < item.token <= self.handed and item.token not in self.above:
                lane = lane or self.lanes.setdefault(parked.lane, Lane(until, 0, 0.0))
                self._move_to_lane(item, parked.lane, lane, changes)
        if lane is not None:
            lane.until, lane.attempts = until, parked.attempts
            lane.waited_seconds = parked.waited_seconds
            lane.after = 0 if lane.lent == 0 else lane.after
            heapq.heappush(self._due, (lane.until, parked.lane))
            changes.lanes.add(parked.lane)

    def _take_back(self, token: Token) -> Lane:
        lane = self.lanes[self._lent.pop(token)]
        lane.lent -= 1
        lane.waiting += 1
        lane.after = min(lane.after, token - 1)
        return lane

    def _move_to_lane(self, item: Item, name: str, lane: Lane, changes: Changes) -> None:
        self.above.add(item.token, item.token)
        lane.waiting += 1
        self.parked += 1
        changes.parked.append((name, item))
        changes.lanes.add(name)
        self._advance()

    def forget_redriven(self, numbers: Iterable[int]) -> None:
        """These dead letters are gone."""
        for number in numbers:
            self.redriving.pop(number, None)
            self._lent_redriven.discard(number)

    def has_ended(self, number: int) -> bool:
        """Whether this number is out of the stream for this sink (ended, or parked)."""
        return number <= self.low or number in self.above

    def end_range(self, start: int, end: int, outcome: Outcome) -> int:
        """End every number from `start` to `end` that has not ended; how many those were."""
        ended = self.above.add(max(start, self.low + 1), end) if end > self.low else 0
        setattr(self.counts, outcome.value, getattr(self.counts, outcome.value) + ended)
        self._advance()
        return ended

    def give_up(self, last: int) -> None:
        """Forget everything up to `last`, parked lanes included; the caller has counted it."""
        self.low = self.handed = last
        self.above = Ranges()
        self.lanes.clear()
        self.parked = 0
        self._lent.clear()
        self._due.clear()

    def _advance(self) -> None:
        end = self.above.take_from(self.low + 1)
        if end is not None:
            self.low = end
            self.handed = max(self.handed, end)
