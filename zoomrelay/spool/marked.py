"""What the spools of our own have in common: numbering, marks, waking readers. Storage is theirs."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from zoomrelay.clock import Clock
from zoomrelay.spool.base import Item, Settlement, SinkCounts, SinkStart, SourceCounts
from zoomrelay.spool.marks import Changes, SinkMarks

ORPHAN_SECONDS = 24 * 3600.0
"""For how long a sink that left the configuration keeps its backlog, in running time of the relay."""
_LANE_PORTION = 32
"""Parked events of one lane that are handed out at once."""


@dataclass(slots=True)
class Chunk:
    """Events of one commit that are still at hand in memory."""

    items: Sequence[Item]
    size: int


class Recent:
    """The newest events, in memory, so that a sink that keeps up never reads the disk."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._chunks: deque[Chunk] = deque()
        self._size = 0

    def add(self, items: Sequence[Item], size: int) -> None:
        self._chunks.append(Chunk(items, size))
        self._size += size
        while self._size > self._limit_bytes and len(self._chunks) > 1:
            self._size -= self._chunks.popleft().size

    def drop_to(self, token: int) -> None:
        """Forget chunks that every reader has passed."""
        while self._chunks and self._chunks[0].items[-1].token <= token:
            self._size -= self._chunks.popleft().size

    def after(self, token: int, max_events: int, max_bytes: int) -> Sequence[Item]:
        """Events from `token` + 1 on, or nothing if those are not here (any more)."""
        found: list[Item] = []
        size = 0
        for chunk in self._chunks:
            if chunk.items[-1].token <= token:
                continue
            skip = token + 1 - chunk.items[0].token
            if skip < 0:
                break
            if found and (size + chunk.size > max_bytes or len(found) + len(chunk.items) > max_events):
                break
            if not found and not skip and len(chunk.items) <= max_events and chunk.size <= max_bytes:
                found, size = list(chunk.items), chunk.size
            else:
                found += cut(chunk.items[skip:], max_events - len(found), max_bytes - size)
                size += chunk.size
            token = found[-1].token
            if len(found) >= max_events or size >= max_bytes:
                break
        return found


def cut(items: Sequence[Item], max_events: int, max_bytes: int) -> Sequence[Item]:
    """The first of these that fit; at least one."""
    size = 0
    for at, item in enumerate(items[:max_events]):
        size += len(item.event.content)
        if size > max_bytes and at:
            return items[:at]
    return items[:max_events]


class MarkedSpool(ABC):
    """Base of the sqlite and the memory spool."""

    def __init__(self, clock: Clock, recent_bytes: int) -> None:
        self._clock = clock
        self._recent = Recent(recent_bytes)
        self._last = 0
        self._marks: dict[str, SinkMarks] = {}
        self._wake: dict[str, asyncio.Event] = {}
        self._starts: dict[str, SinkStart] = {}
        self._sources: dict[tuple[str, str], SourceCounts] = {}
        self._last_received: dict[tuple[str, str], int] = {}
        self._orphans_checked = clock.elapsed()

    # --- sinks --------------------------------------------------------------------------------------

    async def set_sinks(self, sinks: Sequence[SinkStart]) -> None:
        names = {sink.name for sink in sinks}
        for sink in sinks:
            if sink.name not in self._marks:
                self._marks[sink.name] = SinkMarks(
                    sink.name, self._oldest() if sink.start == "oldest" else self._last
                )
            self._marks[sink.name].orphaned_seconds = None
            self._wake.setdefault(sink.name, asyncio.Event())
        for name, marks in self._marks.items():
            if name not in names and marks.orphaned_seconds is None:
                marks.orphaned_seconds = 0.0
        self._starts = {sink.name: sink for sink in sinks}
        self._sinks_changed()

    def _age_orphans(self) -> None:
        """Count running time for orphans; give up the backlog of those whose day is over."""
        now = self._clock.elapsed()
        passed, self._orphans_checked = now - self._orphans_checked, now
        for marks in [m for m in self._marks.values() if m.orphaned_seconds is not None]:
            marks.orphaned_seconds = (marks.orphaned_seconds or 0.0) + passed
            if marks.orphaned_seconds >= ORPHAN_SECONDS and marks.pending(self._last):
                self._abandon(marks)

    # --- reading ------------------------------------------------------------------------------------

    async def read(self, sink: str, max_events: int, max_bytes: int) -> Sequence[Item]:
        marks, wake = self._marks[sink], self._wake[sink]
        while True:
            wake.clear()
            items = await self._next(marks, max_events, max_bytes)
            if items:
                return items
            if marks.handed >= self._last:
                await self._wait(wake, marks)

    async def _next(self, marks: SinkMarks, max_events: int, max_bytes: int) -> Sequence[Item]:
        now = self._clock.elapsed()
        lane = marks.due_lane(now)
        if lane is not None:
            items = await self._read_lane(marks, lane, min(max_events, _LANE_PORTION))
            if items:
                marks.lend_parked(lane, [item.token for item in items])
                return items
        numbers = marks.due_redriven(now, max_events)
        if numbers:
            items = await self._read_dead(numbers)
            marks.lend_redriven(numbers)
            return items
        return await self._next_new(marks, max_events, max_bytes)

    async def _next_new(self, marks: SinkMarks, max_events: int, max_bytes: int) -> Sequence[Item]:
        if marks.handed >= self._last:
            return []
        items = self._recent.after(marks.handed, max_events, max_bytes)
        if not items:
            items = await self._read_stream(marks, max_events, max_bytes)
        if not items:
            return []
        going, held_back = marks.hand_out(items)
        if held_back:
            self._store(marks, marks.park_behind(held_back))
        self._recent.drop_to(min(m.handed for m in self._live()))
        return going

    async def _wait(self, wake: asyncio.Event, marks: SinkMarks) -> None:
        due = marks.next_due()
        timeout = None if due is None else max(0.0, due - self._clock.elapsed())
        try:
            async with asyncio.timeout(timeout):
                await wake.wait()
        except TimeoutError:
            pass

    def release(self, sink: str) -> None:
        if sink in self._marks:
            self._marks[sink].release()

    def settle(self, sink: str, settlement: Settlement) -> None:
        marks = self._marks[sink]
        self._store(marks, marks.settle(settlement, self._clock.elapsed()))
        if settlement.parked:
            self._wake[sink].set()

    def _wake_readers(self) -> None:
        for wake in self._wake.values():
            wake.set()

    def _live(self) -> list[SinkMarks]:
        return [marks for marks in self._marks.values() if marks.orphaned_seconds is None]

    def _dropable(self) -> int:
        """The newest number that no sink needs any more."""
        return min((marks.low for marks in self._marks.values()), default=self._last)

    # --- figures ------------------------------------------------------------------------------------

    def _count_received(self, items: Sequence[Item]) -> None:
        """Count what was held, per path. Call it with the batch in order."""
        at = 0
        while at < len(items):
            event = items[at].event
            path = event.source, event.subscription
            end = at
            while (
                end < len(items)
                and items[end].event.subscription == path[1]
                and items[end].event.source == path[0]
            ):
                end += 1
            self._source(path).appended += end - at
            self._last_received[path] = items[end - 1].event.received_ms
            at = end

    def _source(self, path: tuple[str, str]) -> SourceCounts:
        return self._sources.setdefault(path, SourceCounts())

    def last_received(self) -> dict[tuple[str, str], int]:
        return dict(self._last_received)

    def _sink_counts(self) -> dict[str, SinkCounts]:
        return {
            name: replace(
                marks.counts,
                appended=self._last - marks.start,
                pending=marks.pending(self._last),
                parked=marks.parked,
            )
            for name, marks in self._marks.items()
        }

    def _source_counts(self) -> dict[str, SourceCounts]:
        totals: dict[str, SourceCounts] = {}
        for (source, _), counts in self._sources.items():
            total = totals.setdefault(source, SourceCounts())
            total.appended += counts.appended
            total.merged += counts.merged
            total.quarantined += counts.quarantined
            total.unheld += counts.unheld
        return totals

    # --- storage ------------------------------------------------------------------------------------

    @abstractmethod
    def _oldest(self) -> int:
        """The number before the oldest event that is still held."""

    @abstractmethod
    def _sinks_changed(self) -> None:
        """Sinks came or went; store that."""

    @abstractmethod
    def _abandon(self, marks: SinkMarks) -> None:
        """An orphan's day is over: end all its pending events as abandoned."""

    @abstractmethod
    def _store(self, marks: SinkMarks, changes: Changes) -> None:
        """Store what a settlement changed, soon."""

    @abstractmethod
    async def _read_lane(self, marks: SinkMarks, lane: str, limit: int) -> Sequence[Item]:
        """The first waiting events of a parked lane, in order."""

    @abstractmethod
    async def _read_dead(self, numbers: Sequence[int]) -> Sequence[Item]:
        """These dead letters as items with negative tokens."""

    @abstractmethod
    async def _read_stream(self, marks: SinkMarks, max_events: int, max_bytes: int) -> Sequence[Item]:
        """Events after `marks.handed`, from where they are kept."""
