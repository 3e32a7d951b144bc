"""The durable spool: SQLite in WAL mode, one writing thread, group commit.

A commit holds what `append` was given and, riding along, every settlement since the last one; without new
events settlements are flushed after 100 ms. Reading happens on a second connection, in short portions, and
only for sinks that are behind: the newest events are handed out from memory.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from zoomrelay.clock import Clock
from zoomrelay.errors import SpoolError
from zoomrelay.event import Event
from zoomrelay.spool.base import (
    DeadLetter,
    Item,
    Outcome,
    Quarantined,
    SinkStart,
    SourceCounts,
    SpoolStats,
)
from zoomrelay.spool.marked import MarkedSpool, cut
from zoomrelay.spool.marks import Changes, Lane, SinkMarks
from zoomrelay.spool.memory import with_history
from zoomrelay.spool.salvage import salvage
from zoomrelay.spool.segment import Segment, decode, encode
from zoomrelay.spool.sqlite_file import connect, open_file
from zoomrelay.spool.sqlite_rows import (
    INSERT_DEAD,
    INSERT_PARKED,
    REWRITE_SEGMENT,
    UPDATE_DEAD,
    UPSERT_LANE,
    damaged_row,
    dead_letter,
    dead_letters,
    dead_row,
    dead_rows,
    dead_sinks,
    dump_sink,
    lane_rows,
    load_sink,
    parked_row,
    quarantined_row,
    segments_after,
)
from zoomrelay.spool.sqlite_writer import Done, Job, run_job

log = structlog.get_logger()

FILE_NAME = "spool.sqlite"
_FLUSH_SECONDS = 0.1
_RECENT_BYTES = 16 * 1024 * 1024
_SEGMENT_OVERHEAD = 150
"""Bytes of index per event, for the reckoning of space."""
_READ_SEGMENTS = 64

_Statement = tuple[str, tuple[object, ...]]
_T = TypeVar("_T")


class SqliteSpool(MarkedSpool):
    """`path` is the directory; the file in it is `spool.sqlite`. `on_shed(sink, count)` is told of losses."""

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        clock: Clock,
        on_shed: Callable[[str, int], None] = lambda _sink, _count: None,
    ) -> None:
        super().__init__(clock, recent_bytes=_RECENT_BYTES)
        self._path = path / FILE_NAME
        self._max_bytes = max_bytes
        self._dead_limit_bytes = max(16 * 1024 * 1024, max_bytes // 10)
        self._on_shed = on_shed
        self._writing = ThreadPoolExecutor(1, "spool-writer")
        self._reading = ThreadPoolExecutor(1, "spool-reader")
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._append_lock = asyncio.Lock()
        self._path_ids: dict[tuple[str, str], int] = {}
        self._statements: list[_Statement] = []
        self._dirty_sinks: set[str] = set()
        self._dead_changed = False
        self._dropped_to = 0
        self._thinned_to = 0
        self._lent_sizes: dict[tuple[str, int], int] = {}
        self._events = self._bytes = 0
        self._dead: dict[str, tuple[int, int]] = {}
        self._flush_timer: asyncio.TimerHandle | None = None
        self._flushing: set[asyncio.Task[Done]] = set()
        self._trouble = ""
        self._closed = False

    # --- life ---------------------------------------------------------------------------------------

    async def open(self, sinks: Sequence[SinkStart]) -> None:
        loop = asyncio.get_running_loop()
        self._writer, aside = await loop.run_in_executor(self._writing, open_file, self._path)
        if aside is not None:
            found = await loop.run_in_executor(self._writing, partial(salvage, self._writer, aside))
            log.error("spool.set_aside", file=str(aside), events_recovered=found.events, cause="damaged")
        await loop.run_in_executor(self._writing, self._load)
        self._reader = await loop.run_in_executor(self._reading, partial(connect, self._path, read_only=True))
        await self.set_sinks(sinks)
        await self.flush()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._writer is not None:
            try:
                await self.flush()
            except SpoolError as error:
                log.warning("spool.close_failed", error=str(error))
            await asyncio.get_running_loop().run_in_executor(self._writing, self._writer.close)
        if self._reader is not None:
            await asyncio.get_running_loop().run_in_executor(self._reading, self._reader.close)
        self._writing.shutdown(wait=True)
        self._reading.shutdown(wait=True)

    def _load(self) -> None:
        """Read everything that is kept in memory. Runs once, in the writing thread."""
        assert self._writer is not None
        ask = self._writer.execute
        row = ask("SELECT value FROM meta WHERE key = 'last'").fetchone()
        (newest,) = ask("SELECT coalesce(max(last), 0) FROM segments").fetchone()
        self._last = max(row[0] if row else 0, newest)
        (oldest,) = ask("SELECT min(first) FROM segments").fetchone()
        self._dropped_to = self._last if oldest is None else oldest - 1
        self._events, self._bytes = ask(
            "SELECT coalesce(sum(events), 0), coalesce(sum(size), 0) FROM segments"
        ).fetchone()
        self._bytes += self._events * _SEGMENT_OVERHEAD
        for number, source, subscription, appended, merged, quarantined, unheld, received in ask(
            "SELECT id, source, subscription, appended, merged, quarantined, unheld, last_received_ms"
            " FROM paths"
        ):
            path = source, subscription
            self._path_ids[path] = number
            self._sources[path] = SourceCounts(appended, merged, quarantined, unheld)
            self._last_received[path] = received
        for name, state in ask("SELECT name, state FROM sinks"):
            self._marks[name] = load_sink(name, json.loads(state))
        self._load_lanes(ask)
        for number, sink in ask("SELECT number, sink FROM dead WHERE redriving"):
            if sink in self._marks:
                self._marks[sink].redriving[number] = self._clock.elapsed()
        rows = ask("SELECT sink, count(*), sum(size) FROM dead GROUP BY sink")
        self._dead = {sink: (count, size) for sink, count, size in rows}

    def _load_lanes(self, ask: Callable[..., sqlite3.Cursor]) -> None:
        now_wall, now = self._clock.wall(), self._clock.elapsed()
        counts = ask("SELECT sink, lane, count(*), sum(length(content)) FROM parked GROUP BY sink, lane")
        waiting = {(sink, lane): (count, size) for sink, lane, count, size in counts}
        lanes = ask("SELECT sink, lane, due, attempts, waited_seconds FROM lanes").fetchall()
        for sink, name, due, attempts, waited in lanes:
            count, size = waiting.get((sink, name), (0, 0))
            if count and sink in self._marks:
                # The wall clock may have been set meanwhile: never wait longer than an hour for that.
                until = now + min(max(due - now_wall, 0.0), 3600.0)
                self._marks[sink].restore_lane(name, Lane(until, attempts, waited, waiting=count))
                self._bytes += size

    # --- writing ------------------------------------------------------------------------------------

    async def append(self, events: Sequence[Event], quarantined: Sequence[Quarantined] = ()) -> None:
        async with self._append_lock:
            size = sum([len(event.content) for event in events]) + len(events) * _SEGMENT_OVERHEAD
            if self._bytes + size > self._max_bytes:
                await self._make_room(size)
            items = [Item(token, event) for token, event in enumerate(events, self._last + 1)]
            self._name_paths(items, quarantined)
            await self._submit(self._job(items, quarantined))

    def _held(self, job: Job, size: int) -> None:
        """A batch is durable: count it and show it to the readers."""
        for frame in job.quarantined:
            self._source((frame.source, frame.subscription)).quarantined += 1
        if job.items:
            self._last = job.items[-1].token
            self._count_received(job.items)
            size += len(job.items) * _SEGMENT_OVERHEAD
            self._events += len(job.items)
            self._bytes += size
            self._recent.add(job.items, size)
            self._wake_readers()

    def _name_paths(self, items: Sequence[Item], quarantined: Sequence[Quarantined]) -> None:
        paths = {(item.event.source, item.event.subscription) for item in items}
        paths.update((frame.source, frame.subscription) for frame in quarantined)
        for path in paths - self._path_ids.keys():
            number = len(self._path_ids) + 1
            self._path_ids[path] = number
            self._statements.append(
                ("INSERT OR IGNORE INTO paths (id, source, subscription) VALUES (?, ?, ?)", (number, *path))
            )

    def _job(self, items: Sequence[Item] = (), quarantined: Sequence[Quarantined] = ()) -> Job:
        """Everything that waits to be written, as one transaction."""
        self._age_orphans()
        statements, self._statements = self._statements, []
        for name in self._dirty_sinks:
            marks = self._marks[name]
            statements.append(
                (
                    "INSERT INTO sinks VALUES (?1, ?2) ON CONFLICT DO UPDATE SET state = ?2",
                    (name, dump_sink(marks)),
                )
            )
        self._dirty_sinks.clear()
        dropable = self._dropable()
        job = Job(
            items=items,
            quarantined=quarantined,
            path_ids=self._path_ids,
            statements=statements,
            drop_to=dropable if dropable > self._dropped_to else 0,
        )
        if items or quarantined:
            job.of_batch = self._batch_statements(items, quarantined)
        if self._dead_changed or quarantined:
            job.dead_limit_bytes = self._dead_limit_bytes
            self._dead_changed = False
        return job

    def _batch_statements(
        self, items: Sequence[Item], quarantined: Sequence[Quarantined]
    ) -> list[_Statement]:
        tally: dict[tuple[str, str], list[int]] = {}
        for item in items:
            event = item.event
            counts = tally.setdefault((event.source, event.subscription), [0, 0, 0])
            counts[0] += 1
            counts[2] = event.received_ms
        statements: list[_Statement] = []
        for frame in quarantined:
            tally.setdefault((frame.source, frame.subscription), [0, 0, frame.received_ms])[1] += 1
            statements.append((INSERT_DEAD, quarantined_row(frame)))
        for path, (appended, put_aside, received_ms) in tally.items():
            statements.append(
                (
                    "UPDATE paths SET appended = appended + ?, quarantined = quarantined + ?,"
                    " last_received_ms = max(last_received_ms, ?) WHERE id = ?",
                    (appended, put_aside, received_ms, self._path_ids[path]),
                )
            )
        if items:
            statements.append(
                (
                    "INSERT INTO meta VALUES ('last', ?1) ON CONFLICT DO UPDATE SET value = ?1",
                    (items[-1].token,),
                )
            )
        return statements

    async def _submit(self, job: Job) -> Done:
        """Run a job in the writing thread; what it carried is kept for the next one if it fails."""
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None
        assert self._writer is not None
        loop = asyncio.get_running_loop()
        try:
            # Shielded: whoever waits may be cancelled, but the books must be kept either way.
            task = loop.create_task(self._run(job), name="spool-commit")
            self._flushing.add(task)
            task.add_done_callback(self._flushing.discard)
            return await asyncio.shield(task)
        except sqlite3.Error as error:
            raise SpoolError(f"cannot write the spool {self._path}: {error}") from error

    async def _run(self, job: Job) -> Done:
        loop = asyncio.get_running_loop()
        assert self._writer is not None
        try:
            done = await loop.run_in_executor(self._writing, run_job, self._writer, job)
        except sqlite3.Error as error:
            self._keep_for_later(job, error)
            raise
        self._trouble = ""
        self._held(job, done.appended_bytes)
        self._events -= done.dropped_events
        self._bytes -= done.dropped_bytes + done.dropped_events * _SEGMENT_OVERHEAD
        if done.dead is not None:
            self._dead = done.dead
        if job.drop_to and not done.more_to_drop:
            self._dropped_to = max(self._dropped_to, job.drop_to)
        if done.more_to_drop or self._is_dirty():
            self._flush_soon()
        return done

    def _keep_for_later(self, job: Job, error: sqlite3.Error) -> None:
        if not self._trouble:
            log.error("spool.write_failed", file=str(self._path), error=str(error))
        self._trouble = str(error)
        # Marks are written as they stand next time; the batch stays with whoever wanted it held.
        self._statements = job.statements + self._statements
        self._dirty_sinks.update(self._marks)
        self._dead_changed = self._dead_changed or job.dead_limit_bytes > 0
        self._flush_soon(seconds=1.0)

    def _is_dirty(self) -> bool:
        return bool(self._statements or self._dirty_sinks or self._dead_changed)

    def _flush_soon(self, seconds: float = _FLUSH_SECONDS) -> None:
        if self._flush_timer is None and not self._closed:
            self._flush_timer = asyncio.get_running_loop().call_later(seconds, self._flush_now)

    def _flush_now(self) -> None:
        self._flush_timer = None
        task = asyncio.get_running_loop().create_task(self._run(self._job()), name="spool-flush")
        self._flushing.add(task)
        task.add_done_callback(self._flushed)

    def _flushed(self, task: asyncio.Task[Done]) -> None:
        self._flushing.discard(task)
        if not task.cancelled() and (error := task.exception()) and not isinstance(error, sqlite3.Error):
            raise error

    async def flush(self) -> None:
        while self._flushing:
            await asyncio.wait(set(self._flushing))
        if self._is_dirty():
            await self._submit(self._job())

    # --- making room --------------------------------------------------------------------------------

    async def _make_room(self, size: int) -> None:
        """Free space for `size` bytes: see the order in `docs/operations.md`."""
        await self.flush()
        while self._bytes + size > self._max_bytes:
            if not (await self._drop_some() or await self._thin_some() or await self._shed_some()):
                return

    async def _drop_some(self) -> bool:
        """Let go of what every sink is done with; whether there was any."""
        if self._dropable() <= self._dropped_to:
            return False
        done = await self._submit(self._job())
        return done.dropped_events > 0

    async def _shed_some(self) -> bool:
        """End the oldest pending events, for the sinks that lag; whether there were any. What is in flight
        just then may still arrive; it counts as shed all the same."""
        segments = await self._ask(segments_after, self._dropable(), self._last, 1, 1)
        if not segments:
            return False
        segment = segments[0]
        for marks in self._marks.values():
            shed = marks.end_range(segment.first, segment.last, Outcome.SHED)
            if shed:
                self._dirty_sinks.add(marks.name)
                self._on_shed(marks.name, shed)
        await self.flush()
        return True

    async def _thin_some(self) -> bool:
        """Take events that no lagging sink wants out of the oldest segments not looked at yet; whether
        there was a segment to look at."""
        self._thinned_to = max(self._thinned_to, self._dropable())
        segments = await self._ask(segments_after, self._thinned_to, self._last, 1, 1)
        if not segments or segments[0].last <= self._thinned_to:
            return False
        segment = segments[0]
        self._thinned_to = segment.last
        items, damaged = decode(segment, self._paths())
        kept = [item for item in items if self._end_unwanted(item)]
        if len(kept) < len(items) and not damaged:
            self._rewrite(segment, kept)
            await self.flush()
        return True

    def _end_unwanted(self, item: Item) -> bool:
        """Settle the event as filtered for lagging sinks that do not want it; whether anybody is left."""
        wanted = False
        for marks in self._marks.values():
            if marks.has_ended(item.token):
                continue
            start = self._starts.get(marks.name)
            if start is None or item.token <= marks.handed or start.wants(item.event.name, item.event.source):
                wanted = True
            else:
                marks.end_range(item.token, item.token, Outcome.FILTERED)
                self._dirty_sinks.add(marks.name)
        return wanted

    def _rewrite(self, segment: Segment, kept: Sequence[Item]) -> None:
        if kept:
            new = encode(kept, self._path_ids, first=segment.first)
            values = (new.events, new.size, new.crc, new.index, new.content, segment.first)
            self._statements.append((REWRITE_SEGMENT, values))
        else:
            new = Segment(0, 0, 0, 0, 0, b"", b"")
            self._statements.append(("DELETE FROM segments WHERE first = ?", (segment.first,)))
        self._events -= segment.events - new.events
        self._bytes -= segment.size - new.size + (segment.events - new.events) * _SEGMENT_OVERHEAD

    # --- storage of marks ---------------------------------------------------------------------------

    def _oldest(self) -> int:
        return self._dropable() if self._marks else self._dropped_to

    def _sinks_changed(self) -> None:
        self._dirty_sinks.update(self._marks)
        self._flush_soon()
        self._wake_readers()

    def _abandon(self, marks: SinkMarks) -> None:
        marks.counts.abandoned += marks.pending(self._last)
        marks.give_up(self._last)
        self._statements.append(("DELETE FROM parked WHERE sink = ?", (marks.name,)))
        self._statements.append(("DELETE FROM lanes WHERE sink = ?", (marks.name,)))
        self._dirty_sinks.add(marks.name)

    def _store(self, marks: SinkMarks, changes: Changes) -> None:
        self._dirty_sinks.add(marks.name)
        add = self._statements.append
        for lane, item in changes.parked:
            add((INSERT_PARKED, parked_row(marks.name, lane, item, self._path_ids)))
            self._bytes += len(item.event.content)
        for lane, token in changes.unparked:
            self._bytes -= self._lent_sizes.pop((marks.name, token), 0)
            add(("DELETE FROM parked WHERE sink = ? AND lane = ? AND seq = ?", (marks.name, lane, token)))
        for lane in changes.lanes:
            add(self._lane_statement(marks, lane))
        for death in changes.deaths:
            add((INSERT_DEAD, dead_row(marks.name, death, self._clock.wall())))
        for number in changes.redelivered:
            add(("DELETE FROM dead WHERE number = ?", (number,)))
        for death in changes.died_again:
            add((UPDATE_DEAD, (death.reason, death.attempts, death.status, death.excerpt, -death.item.token)))
        if changes.deaths or changes.redelivered:
            self._dead_changed = True
        self._flush_soon()

    def _lane_statement(self, marks: SinkMarks, name: str) -> _Statement:
        lane = marks.lanes.get(name)
        if lane is None:
            return "DELETE FROM lanes WHERE sink = ? AND lane = ?", (marks.name, name)
        due = self._clock.wall() + lane.until - self._clock.elapsed()
        return UPSERT_LANE, (marks.name, name, due, lane.attempts, lane.waited_seconds)

    # --- reading ------------------------------------------------------------------------------------

    async def _ask(self, question: Callable[..., _T], *arguments: object) -> _T:
        """Ask the reading connection, in its thread."""
        assert self._reader is not None
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._reading, question, self._reader, *arguments
            )
        except sqlite3.Error as error:
            raise SpoolError(f"cannot read the spool {self._path}: {error}") from error

    def _paths(self) -> dict[int, tuple[str, str]]:
        return {number: path for path, number in self._path_ids.items()}

    async def _read_stream(self, marks: SinkMarks, max_events: int, max_bytes: int) -> Sequence[Item]:
        segments = await self._ask(segments_after, marks.handed, self._last, max_events, max_bytes)
        items: list[Item] = []
        paths = self._paths()
        expected = marks.handed + 1
        for segment in segments:
            self._end_lost(marks, expected, segment.first - 1)
            readable, damaged = decode(segment, paths)
            ended = [token for token in damaged if marks.end_range(token, token, Outcome.DEAD)]
            if ended:
                self._report_damage(marks, segment, ended)
            items += readable
            expected = segment.last + 1
        found = cut([item for item in items if item.token > marks.handed], max_events, max_bytes)
        if not found:
            if not segments:
                self._end_lost(marks, expected, self._last)
                expected = self._last + 1
            marks.handed = max(marks.handed, expected - 1)
        return found

    def _end_lost(self, marks: SinkMarks, start: int, end: int) -> None:
        """Numbers that are in no segment and have not ended went with a damaged file."""
        lost = marks.end_range(start, end, Outcome.DEAD) if start <= end else 0
        if lost:
            log.error("spool.lost_events", sink=marks.name, first=start, last=end, count=lost)
            self._dirty_sinks.add(marks.name)
            self._flush_soon()

    def _report_damage(self, marks: SinkMarks, segment: Segment, damaged: list[int]) -> None:
        log.error(
            "spool.damaged_events", sink=marks.name, first=damaged[0], last=damaged[-1], count=len(damaged)
        )
        self._statements.append((INSERT_DEAD, damaged_row(marks.name, segment, damaged, self._clock.wall())))
        self._dead_changed = True
        self._dirty_sinks.add(marks.name)
        self._flush_soon()

    async def _read_lane(self, marks: SinkMarks, lane: str, limit: int) -> Sequence[Item]:
        await self.flush()
        state = marks.lanes[lane]
        rows = await self._ask(lane_rows, marks.name, lane, state.after, limit)
        paths = self._paths()
        items = [
            Item(seq, Event(digest, *paths[path], name, event_ts, key, received_ms, content))
            for seq, path, digest, name, event_ts, key, received_ms, content in rows
            if not marks.is_lent(seq)
        ]
        self._lent_sizes.update({(marks.name, item.token): len(item.event.content) for item in items})
        return [
            with_history(item, state.attempts, state.waited_seconds, head=at == 0)
            for at, item in enumerate(items)
        ]

    async def _read_dead(self, numbers: Sequence[int]) -> Sequence[Item]:
        rows = await self._ask(dead_rows, numbers)
        return [
            Item(-number, Event(*event), attempts=attempts, redriven=True)
            for number, attempts, *event in rows
        ]

    # --- figures and dead letters -------------------------------------------------------------------

    def stats(self) -> SpoolStats:
        counts = self._sink_counts()
        for sink, count in counts.items():
            count.dead_letters = self._dead.get(sink, (0, 0))[0]
        try:
            wal_bytes = self._path.with_name(FILE_NAME + "-wal").stat().st_size
        except OSError:
            wal_bytes = 0
        return SpoolStats(
            events=self._events,
            bytes=self._bytes,
            max_bytes=self._max_bytes,
            wal_bytes=wal_bytes,
            writable=not self._trouble,
            trouble=self._trouble,
            sinks=counts,
            sources=self._source_counts(),
        )

    async def dead_letters(self, *, sink: str | None = None, limit: int = 1000) -> list[DeadLetter]:
        await self.flush()
        return await self._ask(dead_letters, sink, limit)

    async def dead_letter(self, number: int) -> DeadLetter | None:
        await self.flush()
        return await self._ask(dead_letter, number)

    async def redrive(self, numbers: Sequence[int]) -> int:
        await self.flush()
        known = await self._ask(dead_sinks, numbers)
        count = 0
        for number, sink in known:
            marks = self._marks.get(sink)
            if marks is not None and number not in marks.redriving:
                marks.redriving[number] = self._clock.elapsed()
                self._statements.append(("UPDATE dead SET redriving = 1 WHERE number = ?", (number,)))
                count += 1
        await self.flush()
        self._wake_readers()
        return count

    async def discard(self, numbers: Sequence[int]) -> int:
        await self.flush()
        known = await self._ask(dead_sinks, numbers)
        for number, sink in known:
            if sink in self._marks:
                self._marks[sink].forget_redriven([number])
            self._statements.append(("DELETE FROM dead WHERE number = ?", (number,)))
        self._dead_changed = True
        await self.flush()
        return len(known)
