"""What the spools of our own have in common: numbering, marks, waking readers. Storage is theirs."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from operator import attrgetter

import msgspec

from zoomrelay.clock import Clock
from zoomrelay.errors import ReplayRefused
from zoomrelay.event import Event
from zoomrelay.spool.base import (
    Choice,
    Item,
    Outcome,
    Remembered,
    Replay,
    Settlement,
    SinkCounts,
    SinkStart,
    SourceCounts,
    Token,
)
from zoomrelay.spool.eviction import Eviction, OnShed
from zoomrelay.spool.marks import Changes, SinkMarks
from zoomrelay.spool.recent import Recent
from zoomrelay.spool.replay import ReplayQueue
from zoomrelay.spool.urgent import UrgentQueue

_LANE_PORTION = 32
"""Parked events of one lane that are handed out at once."""
_AHEAD_EVENTS = 1024
_AHEAD_BYTES = 1024 * 1024
_ORPHANS_EVERY_SECONDS = 60.0
_RECHECK_SECONDS = 60.0
"""A timer of the loop stands still while the machine is suspended; `Clock.elapsed` does not."""


class MarkedSpool(ABC):
    """Base of the sqlite and the memory spool. One reader per sink at a time."""

    def __init__(self, clock: Clock, *, recent_bytes: int, on_shed: OnShed) -> None:
        self._clock = clock
        self._recent = Recent(recent_bytes)
        self._last: Token = 0
        self._thinned_to: Token = 0
        """Up to here, events that no lagging sink wants were taken out when space was short."""
        self._marks: dict[str, SinkMarks] = {}
        self._wake: dict[str, asyncio.Event] = {}
        self._wake_urgent: dict[str, asyncio.Event] = {}
        self._starts: dict[str, SinkStart] = {}
        self._eviction = Eviction(self._marks, self._starts, on_shed)
        self._sources: dict[tuple[str, str], SourceCounts] = {}
        self._last_received: dict[tuple[str, str], int] = {}
        self._orphans_checked = clock.elapsed()

    # --- sinks --------------------------------------------------------------------------------------

    def _take_sinks(self, sinks: Sequence[SinkStart]) -> None:
        """Make the known sinks equal to these; storage writes the marks of all of them afterwards."""
        self._age_orphans()
        for sink in sinks:
            self._welcome(sink)
        names = {sink.name for sink in sinks}
        for name, marks in self._marks.items():
            if name not in names and marks.orphaned_seconds is None:
                marks.orphaned_seconds = 0.0
                marks.end_replay("the sink left the configuration")
                marks.release(self._clock.elapsed())
        self._starts.clear()
        self._starts.update({sink.name: sink for sink in sinks})
        self._thinned_to = 0
        self._wake_readers()

    def _welcome(self, sink: SinkStart) -> None:
        marks = self._marks.get(sink.name)
        if marks is None:
            start = self._oldest() if sink.start == "oldest" else self._last
            marks = self._marks[sink.name] = SinkMarks(sink.name, start)
        if marks.given_up:
            marks.give_up(self._last)
        marks.orphaned_seconds = None
        marks.urgent = UrgentQueue(sink, sink.urgency) if sink.urgency is not None else None
        self._wake.setdefault(sink.name, asyncio.Event())
        self._wake_urgent.setdefault(sink.name, asyncio.Event())

    def _age_orphans(self, *, every_seconds: float = 0.0) -> None:
        """Count running time for orphans; give up the backlog of those whose day is over."""
        now = self._clock.elapsed()
        passed = now - self._orphans_checked
        if passed < every_seconds:
            return
        self._orphans_checked = now
        for marks in self._marks.values():
            if marks.orphaned_seconds is not None and not marks.given_up:
                marks.orphaned_seconds += passed
                if marks.given_up:
                    marks.give_up(self._last)
                self._orphan_aged(marks)

    # --- reading ------------------------------------------------------------------------------------

    async def read(self, sink: str, max_events: int, max_bytes: int) -> list[Item]:
        marks = self._marks[sink]
        marks.asking = max_events
        try:
            return await self._read_due(marks, max_events, max_bytes)
        finally:
            marks.asking = 0
            if marks.urgent is not None and marks.handed < self._last:
                self._wake_urgent[sink].set()

    async def _read_due(self, marks: SinkMarks, max_events: int, max_bytes: int) -> list[Item]:
        wake = self._wake[marks.name]
        while True:
            wake.clear()
            items = await self._next(marks, max_events, max_bytes)
            if items:
                return items
            if marks.handed >= self._last:
                await self._wait(wake, marks)

    async def read_urgent(self, sink: str, max_events: int) -> list[Item]:
        marks, wake = self._marks[sink], self._wake_urgent[sink]
        while True:
            wake.clear()
            items, held_back = marks.hand_out_urgent(self._last, max_events, self._now_ms())
            if held_back:
                self._store(marks, marks.park_behind(held_back))
            if items:
                return items
            if marks.urgent is not None and marks.may_look_ahead(self._last):
                if marks.urgent.found:
                    continue
                if marks.urgent.position < self._last:
                    await self._look_ahead(marks, marks.urgent)
                    continue
            await wake.wait()

    async def _look_ahead(self, marks: SinkMarks, urgent: UrgentQueue) -> None:
        """Look through the next portion of the stream. What cannot be read there waits for its turn."""
        after = urgent.position
        items = self._recent.after(after, _AHEAD_EVENTS, _AHEAD_BYTES)
        position = items[-1].token if items else 0
        if not items:
            items, position = await self._read_ahead(after, urgent.since_ms(self._now_ms()))
        if marks.urgent is urgent:
            urgent.add(items, after, position, self._now_ms())
        await asyncio.sleep(0)  # a long way must not hold up the loop

    def _now_ms(self) -> float:
        return self._clock.wall() * 1000

    async def _next(self, marks: SinkMarks, max_events: int, max_bytes: int) -> list[Item]:
        now = self._clock.elapsed()
        due = marks.lanes.next_due()
        if due is not None and due[0] <= now and marks.may_return(due[1]):
            return await self._next_parked(marks, due[1], min(max_events, _LANE_PORTION))
        numbers = marks.redriven.due(now, max_events)
        if numbers:
            return await self._next_redriven(marks, numbers)
        if marks.handed < self._last:
            return await self._next_new(marks, max_events, max_bytes)
        if marks.replay is not None:
            return await self._next_replayed(marks, marks.replay, max_events)
        return []

    async def _next_parked(self, marks: SinkMarks, name: str, limit: int) -> list[Item]:
        items = await self._read_lane(marks, name, limit)
        lane = marks.lanes.by_name.get(name)
        if lane is None or not lane.ready or not items:
            return []
        marks.lanes.lend(name, items)
        return [lane.with_history(item) for item in items]

    async def _next_redriven(self, marks: SinkMarks, numbers: Sequence[int]) -> list[Item]:
        items = await self._read_dead(numbers)
        found = [item for item in items if -item.token in marks.redriven]
        marks.redriven.lend([-item.token for item in found])
        # Some may be gone: the oldest dead letters make way for new ones.
        marks.redriven.forget(set(numbers) - {-item.token for item in found})
        return [marks.redriven.with_history(item) for item in found]

    async def _next_new(self, marks: SinkMarks, max_events: int, max_bytes: int) -> list[Item]:
        items = self._recent.after(marks.handed, max_events, max_bytes)
        if not items:
            items = await self._read_stream(marks, max_events, max_bytes)
        if not items:
            return []
        going, held_back = marks.hand_out(items)
        if held_back:
            self._store(marks, marks.park_behind(held_back))
        self._recent.drop_to(min((m.handed for m in self._live()), default=self._last))
        return going

    def _end_holes(self, marks: SinkMarks, items: Sequence[Item], end: Token) -> None:
        """Only `items` are left between `marks.handed` and `end`. What was taken out had ended for all
        sinks of that time; for one that came later and began with the oldest it counts as shed."""
        token, shed = marks.handed, 0
        for item in items:
            shed += marks.end_range(token + 1, item.token - 1, Outcome.SHED)
            token = item.token
        shed += marks.end_range(token + 1, end, Outcome.SHED)
        self._eviction.tell(marks, shed)

    async def _wait(self, wake: asyncio.Event, marks: SinkMarks) -> None:
        due = marks.next_due()
        seconds = None if due is None else min(max(0.001, due - self._clock.elapsed()), _RECHECK_SECONDS)
        try:
            async with asyncio.timeout(seconds):
                await wake.wait()
        except TimeoutError:
            pass

    def release(self, sink: str) -> None:
        if sink in self._marks:
            self._marks[sink].release(self._clock.elapsed())

    def settle(self, sink: str, settlement: Settlement) -> None:
        marks = self._marks[sink]
        self._store(marks, marks.settle(settlement, self._clock.elapsed()))
        if marks.lanes.by_name or settlement.parked or marks.replay is not None:
            self._wake[sink].set()
        if marks.urgent is not None:
            self._wake_urgent[sink].set()

    # --- replays ------------------------------------------------------------------------------------

    async def begin_replay(self, sink: str, choice: Choice, events_per_second: float | None = None) -> Replay:
        after, end = await self._span(choice)
        marks = self._live_sink(sink)
        if marks is None:
            raise ReplayRefused(f"there is no sink {sink}")
        if marks.replay is not None:
            raise ReplayRefused(f"a replay to {sink} is under way; only one at a time")
        marks.replay = ReplayQueue(sink, choice, after, end, events_per_second)
        self._wake[sink].set()
        return marks.replay

    def end_replay(self, replay: Replay) -> None:
        marks = self._marks.get(replay.sink)
        if marks is not None and marks.replay is replay:
            marks.end_replay()

    async def retained(self, choice: Choice) -> AsyncIterator[list[Event]]:
        at, end = await self._span(choice)
        while at < end:
            items, at, _ = await self._read_held(at, end)
            yield [item.event for item in items if choice.takes(item.event)]

    async def _next_replayed(self, marks: SinkMarks, replay: ReplayQueue, max_events: int) -> list[Item]:
        now, due = self._clock.elapsed(), replay.due()
        if due is None or due > now:
            return []
        if not replay.needs_more:
            return replay.lend(now, max_events)
        items, position, damaged = await self._read_held(replay.position, replay.end)
        replay.add([item for item in items if marks.has_ended(item.token)], position, damaged)
        return []  # there may be new events by now, and they go first

    def _end_replays(self, error: str) -> None:
        for marks in self._marks.values():
            marks.end_replay(error)

    def _wake_readers(self) -> None:
        for wake in self._wake.values():
            wake.set()
        for wake in self._wake_urgent.values():
            wake.set()

    def _live(self) -> list[SinkMarks]:
        return [marks for marks in self._marks.values() if marks.orphaned_seconds is None]

    def _live_sink(self, name: str) -> SinkMarks | None:
        marks = self._marks.get(name)
        return marks if marks is not None and marks.orphaned_seconds is None else None

    # --- figures ------------------------------------------------------------------------------------

    def _count_received(self, arrived: Arrived) -> None:
        """Count a batch that is held now."""
        for path, run in arrived.items():
            self._source(path).appended += run.count
            self._last_received[path] = run.received_ms  # not the greatest: that clock may have been wrong

    def count_merged(self, merged: Mapping[tuple[str, str], int]) -> None:
        for path, count in merged.items():
            self._source(path).merged += count

    def take_remembered(self) -> list[Remembered]:
        return []

    def _source(self, path: tuple[str, str]) -> SourceCounts:
        return self._sources.setdefault(path, SourceCounts())

    def last_received(self) -> dict[tuple[str, str], int]:
        return dict(self._last_received)

    def _parked_bytes(self) -> int:
        return sum([m.lanes.size_bytes + m.lanes.events * self._EVENT_BYTES for m in self._marks.values()])

    def _sink_counts(self) -> dict[str, SinkCounts]:
        return {name: self._counts_of(marks) for name, marks in self._marks.items()}

    def _counts_of(self, marks: SinkMarks) -> SinkCounts:
        last = marks.low if marks.given_up else self._last
        return replace(
            marks.counts,
            appended=last - marks.start,
            pending=marks.pending(last),
            parked=marks.lanes.events,
            redriving=len(marks.redriven),
            oldest_pending_ms=marks.oldest_pending_ms(),
        )

    def _source_counts(self) -> dict[str, SourceCounts]:
        totals: dict[str, SourceCounts] = {}
        for (source, _), counts in self._sources.items():
            total = totals.setdefault(source, SourceCounts())
            total.appended += counts.appended
            total.merged += counts.merged
            total.quarantined += counts.quarantined
            total.unheld += counts.unheld
        return totals

    def _path_counts(self) -> dict[tuple[str, str], SourceCounts]:
        return {path: replace(counts) for path, counts in self._sources.items()}

    # --- storage ------------------------------------------------------------------------------------

    _EVENT_BYTES: int
    """What an event costs beside its content, for the reckoning of space."""

    @abstractmethod
    async def _span(self, choice: Choice) -> tuple[Token, Token]:
        """Numbers (after, up to) among which everything stands that is held and meant; some more besides.
        Raises `ReplayRefused` where delivered events are not kept."""

    @abstractmethod
    async def _read_held(self, after: Token, end: Token) -> tuple[list[Item], Token, int]:
        """The next portion of what is held in the stream behind `after`, whoever has it: the events up to
        the second number, which is at most `end`, and how many could not be read."""

    @abstractmethod
    async def _read_ahead(self, after: Token, since_ms: int) -> tuple[list[Item], Token]:
        """A portion of what is held in the stream behind `after` and may have been received at `since_ms` or
        later, and the number up to which that was looked through."""

    @abstractmethod
    def _oldest(self) -> Token:
        """The number before the oldest event that is still held."""

    @abstractmethod
    def _orphan_aged(self, marks: SinkMarks) -> None:
        """An orphan grew older, or was given up just now; store that."""

    @abstractmethod
    def _store(self, marks: SinkMarks, changes: Changes) -> None:
        """Store what a settlement changed, soon."""

    @abstractmethod
    async def _read_lane(self, marks: SinkMarks, lane: str, limit: int) -> list[Item]:
        """The first waiting events of a parked lane, in order; none of the lane is with the reader."""

    @abstractmethod
    async def _read_dead(self, numbers: Sequence[int]) -> list[Item]:
        """These dead letters as items with negative tokens."""

    @abstractmethod
    async def _read_stream(self, marks: SinkMarks, max_events: int, max_bytes: int) -> list[Item]:
        """Events after `marks.handed`, from where they are kept. Where there are none, `marks` have moved
        on nevertheless."""


class Run(msgspec.Struct):
    """What one path brought in a batch."""

    count: int = 0
    size_bytes: int = 0
    received_ms: int = 0
    """Of the last of them."""


Arrived = dict[tuple[str, str], Run]
"""By (source, subscription)."""


def tally(events: Sequence[Event]) -> Arrived:
    """Count a batch by path."""
    found: Arrived = {}
    for path, group in groupby(events, _path_of):
        events = list(group)
        run = found.setdefault(path, Run())
        run.count += len(events)
        run.size_bytes += sum([len(event.content) for event in events])
        run.received_ms = events[-1].received_ms
    return found


def total_bytes(arrived: Arrived) -> int:
    """Bytes of content in a batch."""
    return sum([run.size_bytes for run in arrived.values()])


_path_of = attrgetter("source", "subscription")
