"""The durable spool: SQLite in WAL mode, one writing thread, group commit.

A commit holds what `append` was given and, riding along, every settlement since the last one; without new
events settlements are flushed soon. Reading happens on a second connection, in short portions, and
only for sinks that are behind: the newest events are handed out from memory.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import structlog

from zoomrelay.clock import Clock
from zoomrelay.errors import ReplayRefused, SpoolError
from zoomrelay.event import Event
from zoomrelay.spool.base import (
    Choice,
    DeadLetter,
    Item,
    Outcome,
    Quarantined,
    Remembered,
    SinkStart,
    SpoolStats,
    Token,
)
from zoomrelay.spool.eviction import OnShed
from zoomrelay.spool.marked import tally, total_bytes
from zoomrelay.spool.marks import SinkMarks
from zoomrelay.spool.recent import cut
from zoomrelay.spool.segment import MAX_BYTES, MAX_EVENTS, Stretch, storable
from zoomrelay.spool.sqlite_database import SpoolDamaged
from zoomrelay.spool.sqlite_questions import (
    Loaded,
    dead_items,
    dead_letter,
    dead_letters,
    dead_sinks,
    late_to,
    load,
    missing,
    parked_items,
    span,
    stretches,
)
from zoomrelay.spool.sqlite_room import SqliteRoom
from zoomrelay.spool.sqlite_rows import (
    DAMAGE_DEAD,
    DAMAGED,
    DELETE_DEAD,
    INSERT_DEAD,
    REDRIVE_DEAD,
    damaged_row,
    unreadable_row,
)
from zoomrelay.spool.sqlite_store import OnSetAside

log = structlog.get_logger()

FILE_NAME = "spool.sqlite"

_P = ParamSpec("_P")
_T = TypeVar("_T")


class SqliteSpool(SqliteRoom):
    """`path` is the directory; the file in it is `spool.sqlite`. `on_shed(sink, count)` is told of losses.
    `reclaim`: see `Database`."""

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        clock: Clock,
        on_shed: OnShed = lambda _sink, _count: None,
        on_set_aside: OnSetAside = lambda _count: None,
        reclaim: Callable[[], None] = lambda: None,
        retain_seconds: float = 0.0,
    ) -> None:
        super().__init__(
            path / FILE_NAME,
            max_bytes=max_bytes,
            retain_seconds=retain_seconds,
            clock=clock,
            on_shed=on_shed,
            on_set_aside=on_set_aside,
            reclaim=reclaim,
        )
        self._ahead: dict[str, tuple[Token, list[Item]]] = {}

    # --- life ---------------------------------------------------------------------------------------

    async def open(self, sinks: Sequence[SinkStart]) -> None:
        damaged = await self._database.open()
        try:
            loaded = await self._load()
        except SpoolDamaged:
            damaged = True
            await self._database.repair()
            loaded = await self._load()
        parked_lost = self._take(loaded)
        if damaged:
            lost = [
                await self._database.ask(missing, self._marks[sink].low, self._last) + parked
                for sink, parked in parked_lost.items()
            ]
            # Of a sink whose marks were lost nobody knows what it had still to get.
            known = all(sink.name in parked_lost for sink in sinks)
            self._on_set_aside(max(lost, default=None) if known else None)
        # After a loss, a sink without marks may be one whose marks were lost.
        await self.set_sinks([replace(sink, start="oldest") for sink in sinks] if damaged else sinks)

    async def _load(self) -> Loaded:
        return await self._database.write(load, self._clock.wall(), self._clock.elapsed())

    def _take(self, loaded: Loaded) -> dict[str, int]:
        """Begin with this; how many parked events of each sink are gone."""
        self._last, self._dropped_to = loaded.last, loaded.oldest
        self._events, self._content_bytes = loaded.events, loaded.content_bytes
        self._path_ids.update(loaded.path_ids)
        self._paths = {number: path for path, number in loaded.path_ids.items()}
        self._sources.update(loaded.sources)
        self._last_received.update(loaded.last_received)
        self._marks.update(loaded.marks)
        self._dead_letters = loaded.dead_letters
        self._remembered = loaded.remembered
        self._generation = max([known.generation for known in loaded.remembered], default=0)
        lost = {}
        for marks in loaded.marks.values():
            # Parked events may have been lost with a damaged file.
            gone = 0 if marks.given_up else marks.end_missing(self._last)
            lost[marks.name] = gone
            if gone:
                log.error("spool.lost_events", sink=marks.name, count=gone)
        return lost

    async def set_sinks(self, sinks: Sequence[SinkStart]) -> None:
        self._take_sinks(sinks)
        self._ahead.clear()
        self._outbox.sinks.update(self._marks)
        try:
            await self.flush()
        except SpoolError:
            pass  # it was logged, is tried again, and shows in `stats`

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._stop_timer()
        self._stop_looking()
        self._end_replays("the relay stopped")
        while self._tasks:
            await asyncio.wait(set(self._tasks))
        self._age_orphans()
        try:
            await self.flush()
        except SpoolError as error:
            log.warning("spool.close_failed", error=str(error))
        await self._database.close()

    async def append(
        self,
        events: Sequence[Event],
        quarantined: Sequence[Quarantined] = (),
        remembered: Remembered | None = None,
    ) -> None:
        if self._closed:
            raise SpoolError("the spool is closed")
        await self._apart(self._append(events, quarantined, remembered))

    async def _append(
        self, events: Sequence[Event], quarantined: Sequence[Quarantined], remembered: Remembered | None
    ) -> None:
        arrived = tally(events)
        async with self._turn:
            try:
                await self._make_room(total_bytes(arrived) + len(events) * self._EVENT_BYTES)
            except SpoolDamaged as damage:
                await self._repair_in_turn(damage)
            items = [Item(token, event) for token, event in enumerate(events, self._last + 1)]
            try:
                await self._commit(items, quarantined, remembered, arrived)
            except (OverflowError, UnicodeEncodeError):
                items = [Item(item.token, storable(item.event)) for item in items]
                await self._commit(items, quarantined, remembered, arrived)

    def take_remembered(self) -> list[Remembered]:
        taken, self._remembered = self._remembered, []
        return taken

    # --- reading ------------------------------------------------------------------------------------

    async def _next(self, marks: SinkMarks, max_events: int, max_bytes: int) -> list[Item]:
        repairs = self._repairs
        try:
            return await super()._next(marks, max_events, max_bytes)
        except SpoolDamaged as damage:
            await self._apart(self._repair(damage, repairs))
            return []

    async def _read_stream(self, marks: SinkMarks, max_events: int, max_bytes: int) -> list[Item]:
        at, items = self._ahead.pop(marks.name, (-1, []))
        if at != marks.handed:
            items = await self._read_segments(marks, max_events, max_bytes)
        found = cut(items[:max_events], max_bytes)
        if len(found) < len(items):
            self._ahead[marks.name] = found[-1].token, items[len(found) :]
        return found

    async def _read_segments(self, marks: SinkMarks, max_events: int, max_bytes: int) -> list[Item]:
        """Events after `marks.handed`, whole segments of them; what is lost or damaged there has ended."""
        token, last = marks.handed, self._last
        found = await self._database.ask(stretches, token, last, max_events, max_bytes, self._paths)
        items: list[Item] = []
        for stretch in found:
            self._end_lost(marks, token + 1, stretch.first - 1)
            self._end_damaged(marks, stretch)
            items += stretch.items
            token = max(token, stretch.last)
        if not found:
            self._end_lost(marks, token + 1, last)
            token = last
        items = [item for item in items if item.token > marks.handed]
        if any(stretch.holes for stretch in found):
            self._end_holes(marks, items, token)
        if not items:
            marks.handed = max(marks.handed, token)
        return items

    async def _span(self, choice: Choice) -> tuple[Token, Token]:
        if not self._retention.seconds:
            raise ReplayRefused("delivered events are not kept: set spool.retain_seconds")
        return await self._ask(span, choice.since_ms, choice.until_ms, self._last)

    async def _read_held(self, after: Token, end: Token) -> tuple[list[Item], Token, int]:
        found = await self._ask(stretches, after, end, MAX_EVENTS, MAX_BYTES, self._paths)
        if not found:
            return [], end, 0
        damaged = sum(len(stretch.damaged) + (stretch.unreadable is not None) for stretch in found)
        if damaged:
            log.error("spool.damaged_retained_events", count=damaged)
        items = [item for stretch in found for item in stretch.items if after < item.token <= end]
        return items, max(after + 1, found[-1].last), damaged

    async def _read_ahead(self, after: Token, since_ms: int) -> tuple[list[Item], Token]:
        last = self._last
        after = await self._ask(late_to, after, since_ms, last)
        found = await self._ask(stretches, after, last, MAX_EVENTS, MAX_BYTES, self._paths)
        if not found:
            return [], last
        return [item for stretch in found for item in stretch.items], max(after + 1, found[-1].last)

    def _end_lost(self, marks: SinkMarks, start: Token, end: Token) -> None:
        """Numbers that are in no segment and have not ended went with a damaged file."""
        lost = marks.end_range(start, end, Outcome.DEAD)
        if lost:
            log.error("spool.lost_events", sink=marks.name, first=start, last=end, count=lost)
            self._outbox.sinks.add(marks.name)
            self._flush_soon()

    def _end_damaged(self, marks: SinkMarks, stretch: Stretch) -> None:
        wall = self._clock.wall()
        ended = 0
        for item in stretch.damaged:
            if marks.end_range(item.token, item.token, Outcome.DEAD):
                self._outbox.add(INSERT_DEAD, *damaged_row(marks.name, item, wall))
                ended += 1
        if stretch.unreadable is not None:
            ended = marks.end_range(stretch.first, stretch.last, Outcome.DEAD)
            if ended:
                self._outbox.add(INSERT_DEAD, *unreadable_row(marks.name, stretch, ended, wall))
        if ended:
            self._report_damaged(marks, ended)

    def _report_damaged(self, marks: SinkMarks, count: int) -> None:
        log.error("spool.damaged_events", sink=marks.name, count=count)
        self._outbox.dead_changed = True
        self._outbox.sinks.add(marks.name)
        self._flush_soon()

    async def _read_lane(self, marks: SinkMarks, lane: str, limit: int) -> list[Item]:
        async with self._turn:
            return await self._waiting_in(marks, lane, limit)

    async def _waiting_in(self, marks: SinkMarks, lane: str, limit: int) -> list[Item]:
        """The first events that wait in a lane of which none is with the reader: those in the file, less
        what has left since, and those on their way there. The turn is ours and no commit is under way,
        so this holds until the next suspension."""
        name = marks.name, lane
        leaving = len(self._outbox.leaving.get(name, ()))
        stored, damaged = await self._database.ask(parked_items, *name, limit + leaving, self._paths)
        if lane not in marks.lanes.by_name:
            return []
        gone = self._outbox.leaving.get(name, set())
        self._bury_damaged(marks, lane, [item for item in damaged if item.token not in gone])
        waiting = {item.token: item for item in stored} | self._outbox.joining.get(name, {})
        tokens = sorted(waiting.keys() - gone)[:limit]
        if not tokens and lane in marks.lanes.by_name:
            self._end_lost_lane(marks, lane)
        return [waiting[token] for token in tokens]

    def _end_lost_lane(self, marks: SinkMarks, lane: str) -> None:
        lost, changes = marks.end_lost_lane(lane)
        log.error("spool.lost_events", sink=marks.name, lane=lane, count=lost)
        self._store(marks, changes)

    def _bury_damaged(self, marks: SinkMarks, lane: str, damaged: Sequence[Item]) -> None:
        if not damaged:
            return
        size_bytes = sum(len(item.event.content) for item in damaged)
        changes = marks.end_parked(lane, [item.token for item in damaged], size_bytes, Outcome.DEAD)
        self._store(marks, changes)
        for item in damaged:
            self._outbox.add(INSERT_DEAD, *damaged_row(marks.name, item, self._clock.wall()))
        self._report_damaged(marks, len(damaged))

    async def _read_dead(self, numbers: Sequence[int]) -> list[Item]:
        items, damaged = await self._database.ask(dead_items, numbers)
        self._note_damaged_dead(damaged)
        return items

    def _note_damaged_dead(self, numbers: Sequence[int]) -> None:
        """They say so from now on, and stay for whoever wants to look at them."""
        if numbers:
            log.error("spool.damaged_dead_letters", numbers=numbers[:10], count=len(numbers))
            for number in numbers:
                self._outbox.add(DAMAGE_DEAD, DAMAGED, number)
            self._flush_soon()

    # --- figures and dead letters -------------------------------------------------------------------

    def stats(self) -> SpoolStats:
        counts = self._sink_counts()
        for sink, count in counts.items():
            count.dead_letters = self._dead_letters.get(sink, 0)
        return SpoolStats(
            events=self._events,
            bytes=self._held_bytes(),
            max_bytes=self._max_bytes,
            wal_bytes=self._database.wal_bytes(),
            retained_events=self._retention.events,
            retained_bytes=self._retention.bytes,
            busy_seconds=self._database.busy_seconds(),
            writable=not self._trouble,
            trouble=self._trouble,
            sinks=counts,
            sources=self._source_counts(),
            paths=self._path_counts(),
        )

    async def _ask(
        self,
        question: Callable[Concatenate[sqlite3.Connection, _P], _T],
        *arguments: _P.args,
        **keywords: _P.kwargs,
    ) -> _T:
        """Ask the file; where it turns out damaged, repair it first. Not for holders of the turn."""
        repairs = self._repairs
        try:
            return await self._database.ask(question, *arguments, **keywords)
        except SpoolDamaged as damage:
            await self._apart(self._repair(damage, repairs))
            return await self._database.ask(question, *arguments, **keywords)

    async def dead_letters(
        self, *, sink: str | None = None, limit: int = 1000, before: int | None = None
    ) -> list[DeadLetter]:
        await self.flush()
        return await self._ask(dead_letters, sink, limit, before)

    async def dead_letter(self, number: int) -> DeadLetter | None:
        await self.flush()
        return await self._ask(dead_letter, number)

    async def redrive(self, numbers: Sequence[int]) -> int:
        await self.flush()
        count = 0
        found = await self._ask(dead_sinks, numbers)
        self._note_damaged_dead([number for number, _, is_event, sound in found if is_event and not sound])
        for number, sink, is_event, sound in found:
            marks = self._live_sink(sink)
            if marks is not None and is_event and sound and number not in marks.redriven:
                marks.redriven.add(number, self._clock.elapsed())
                self._outbox.add(REDRIVE_DEAD, number)
                count += 1
        self._wake_readers()
        await self.flush()
        return count

    async def discard(self, numbers: Sequence[int]) -> int:
        await self.flush()
        known = await self._ask(dead_sinks, numbers)
        for number, sink, _, _ in known:
            if sink in self._marks:
                self._marks[sink].redriven.forget([number])
            self._outbox.add(DELETE_DEAD, number)
        self._outbox.dead_changed = True
        await self.flush()
        return len(known)
