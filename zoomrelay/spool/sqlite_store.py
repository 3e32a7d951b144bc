"""How the sqlite spool writes: one commit at a time, with everything that waits for it.

`turn` is held by whoever commits, makes room, repairs, or needs the file to stand still. So a commit that
failed is put back before the next one is built, and the file never shows a later state before an earlier.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import structlog

from zoomrelay.clock import Clock
from zoomrelay.errors import SpoolError
from zoomrelay.spool.base import Item, Quarantined, Remembered, Token
from zoomrelay.spool.eviction import OnShed, dead_limit_bytes
from zoomrelay.spool.marked import Arrived, MarkedSpool, total_bytes
from zoomrelay.spool.marks import Changes, SinkMarks
from zoomrelay.spool.retention import Retention
from zoomrelay.spool.segment import UNKNOWN_PATH
from zoomrelay.spool.sqlite_database import Database, SpoolDamaged
from zoomrelay.spool.sqlite_file import DiskFull
from zoomrelay.spool.sqlite_outbox import Outbox, Statement
from zoomrelay.spool.sqlite_questions import missing, stream_size
from zoomrelay.spool.sqlite_rows import (
    COUNT_MERGED,
    COUNT_PATH,
    DELETE_DEAD,
    DELETE_LANE,
    DELETE_LANES_OF_SINK,
    DELETE_PARKED,
    DELETE_PARKED_OF_SINK,
    FORGET_IDENTITIES,
    INSERT_DEAD,
    INSERT_IDENTITIES,
    INSERT_PARKED,
    INSERT_PATH,
    RESTORE_PATH,
    UPDATE_DEAD,
    UPSERT_DONE,
    UPSERT_LANE,
    UPSERT_LAST,
    UPSERT_SINK,
    dead_row,
    died_again_row,
    identities_row,
    lane_row,
    parked_row,
    quarantined_row,
    sink_row,
)
from zoomrelay.spool.sqlite_writer import Done, Job, run_job

log = structlog.get_logger()

_FLUSH_SECONDS = 0.05
_RETRY_SECONDS = 1.0
_RECENT_BYTES = 16 * 1024 * 1024
_ORPHANS_EVERY_SECONDS = 60.0
_REPAIRS_EVERY_SECONDS = 60.0
"""A disk that damages every new file must not be filled with files set aside."""

FREE_AT_ONCE = 64
"""Where retained events make way, so that not every commit has to: this part of `max_bytes`."""

OnSetAside = Callable[[int | None], None]
"""A damaged file was replaced: how many pending events could not be recovered, for the sink that lost most
by it; None if nobody knows."""

_T = TypeVar("_T")


class SqliteStore(MarkedSpool):
    """Commits, flushes, repairs; what is held and read is for `SqliteSpool`."""

    _EVENT_BYTES = 150

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        retain_seconds: float,
        clock: Clock,
        on_shed: OnShed,
        on_set_aside: OnSetAside,
        reclaim: Callable[[], None],
    ) -> None:
        super().__init__(clock, recent_bytes=_RECENT_BYTES, on_shed=on_shed)
        self._on_set_aside = on_set_aside
        self._database = Database(path, reclaim)
        self._max_bytes = max_bytes
        self._dead_limit_bytes = dead_limit_bytes(max_bytes)
        self._retention = Retention(retain_seconds, self._EVENT_BYTES)
        self._look_timer: asyncio.TimerHandle | None = None
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._outbox = Outbox()
        self._path_ids: dict[tuple[str, str], int] = {UNKNOWN_PATH: 0}
        self._paths: dict[int, tuple[str, str]] = {}
        self._events = self._content_bytes = 0
        self._dropped_to: Token = 0
        self._dead_letters: Mapping[str, int] = {}
        self._remembered: list[Remembered] = []
        self._generation = 0
        self._flush_timer: asyncio.TimerHandle | None = None
        self._repaired_at = float("-inf")
        self._repairs = 0
        self._trouble = ""
        self._unheld = False
        """The newest events could not be written: that something smaller can be is no recovery."""
        self._closed = False

    def _held_bytes(self) -> int:
        return self._content_bytes + self._events * self._EVENT_BYTES + self._parked_bytes()

    async def _apart(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do this to its end in a task of its own: whoever waits for it may be cancelled, but what was
        written must be put into the books."""
        task = asyncio.get_running_loop().create_task(work, name="spool-commit")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(self._flushed)  # then nobody else hears how it went
            raise

    # --- committing ---------------------------------------------------------------------------------

    async def flush(self) -> None:
        await self._apart(self._flush())

    async def _flush(self) -> None:
        async with self._turn:
            if self._outbox:
                await self._commit()

    def _flush_soon(self, seconds: float = _FLUSH_SECONDS) -> None:
        if self._flush_timer is None and not self._closed:
            self._flush_timer = asyncio.get_running_loop().call_later(seconds, self._flush_now)

    def _flush_now(self) -> None:
        self._flush_timer = None
        task = asyncio.get_running_loop().create_task(self._flush(), name="spool-flush")
        self._tasks.add(task)
        task.add_done_callback(self._flushed)

    def _flushed(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, SpoolError):  # a bug; the rest is tried again
            task.get_loop().call_exception_handler({"message": "spool flush failed", "exception": error})

    def _stop_timer(self) -> None:
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None

    async def _commit(
        self,
        items: Sequence[Item] = (),
        quarantined: Sequence[Quarantined] = (),
        remembered: Remembered | None = None,
        arrived: Arrived | None = None,
    ) -> Done:
        """Write these and everything that waits, in one transaction; the turn is ours. `arrived` is the tally
        of `items`. Raises `SpoolError`, and then all of it but `items` and `quarantined` waits again."""
        arrived = arrived or {}
        self._stop_timer()
        self._age_orphans(every_seconds=_ORPHANS_EVERY_SECONDS)
        self._name_paths(arrived, quarantined)
        taken, self._outbox = self._outbox, Outbox()
        job = self._job(taken, items, quarantined, arrived)
        if remembered is not None and items:
            job.statements = [*job.statements, *self._remembering(remembered)]
        try:
            done = await self._write(job)
        except BaseException as error:
            self._outbox.put_back(taken)
            self._unheld = self._unheld or bool(items or quarantined)
            self._failed(error)
            raise
        if items or quarantined:
            self._unheld = False
        self._written(job, done)
        self._held(items, quarantined, arrived)
        if remembered is not None:
            self._generation = max(self._generation, remembered.generation)
        return done

    def _remembering(self, remembered: Remembered) -> list[Statement]:
        statements: list[Statement] = [(INSERT_IDENTITIES, identities_row(remembered))]
        if remembered.generation > self._generation:
            statements.append((FORGET_IDENTITIES, (remembered.generation - 1,)))
        return statements

    def count_merged(self, merged: Mapping[tuple[str, str], int]) -> None:
        super().count_merged(merged)
        self._name_paths(merged, ())
        for path, count in merged.items():
            self._outbox.add(COUNT_MERGED, count, self._path_ids[path])
        self._flush_soon()

    def _job(
        self, taken: Outbox, items: Sequence[Item], quarantined: Sequence[Quarantined], arrived: Arrived
    ) -> Job:
        statements = list(taken.statements)
        for name in sorted(taken.sinks):  # the same file for the same events
            statements.append((UPSERT_SINK, sink_row(self._marks[name])))
        if taken.totals_lost:
            statements += self._totals()
        statements += self._counted(items, quarantined, arrived)
        done_to = self._eviction.done_to(self._last)
        drop_to = done_to if done_to > self._dropped_to else 0
        if self._retention.seconds and drop_to > self._retention.noted_done:
            statements.append((UPSERT_DONE, (drop_to,)))
        return Job(
            items=items,
            size_bytes=total_bytes(arrived),
            path_ids=self._path_ids,
            statements=statements,
            drop_to=drop_to,
            retain=self._retention.order(self._clock.wall()),
            dead_limit_bytes=self._dead_limit_bytes if taken.dead_changed or quarantined else 0,
        )

    def _totals(self) -> list[Statement]:
        statements: list[Statement] = [(UPSERT_LAST, (self._last,))]
        for number, path in self._paths.items():
            counts = self._source(path)
            figures = counts.appended, counts.merged, counts.quarantined, counts.unheld
            statements.append((RESTORE_PATH, (number, *path, *figures, self._last_received.get(path, 0))))
        return statements

    def _counted(
        self, items: Sequence[Item], quarantined: Sequence[Quarantined], arrived: Arrived
    ) -> list[Statement]:
        statements: list[Statement] = []
        for path, run in arrived.items():
            statements.append((COUNT_PATH, (run.count, 0, run.received_ms, self._path_ids[path])))
        for frame in quarantined:
            path_id = self._path_ids[frame.source, frame.subscription]
            statements.append((INSERT_DEAD, quarantined_row(frame)))
            statements.append((COUNT_PATH, (0, 1, 0, path_id)))
        if items:
            statements.append((UPSERT_LAST, (items[-1].token,)))
        return statements

    async def _write(self, job: Job) -> Done:
        try:
            return await self._run(job)
        except SpoolDamaged as damage:
            await self._repair_in_turn(damage)
            return await self._run(job)

    async def _run(self, job: Job) -> Done:
        if not job.items:
            return await self._database.write(run_job, job)
        while True:
            try:
                return await self._database.hold(job.size_bytes, run_job, job)
            except DiskFull:
                if not await self._let_retained_go(job):
                    raise

    async def _let_retained_go(self, job: Job) -> bool:
        """Make room in the file by what is kept for replay; whether there was any."""
        if not self._retention.events or job.retain is None:
            return False
        self._retention.free(max(job.size_bytes, self._max_bytes // FREE_AT_ONCE))
        retain = self._retention.order(self._clock.wall())
        freeing = Job(drop_to=self._eviction.done_to(self._last), retain=retain)
        done = await self._database.write(run_job, freeing)
        self._written(freeing, done)
        job.retain = self._retention.order(self._clock.wall())
        return done.dropped_events > 0

    def _failed(self, error: BaseException) -> None:
        if not isinstance(error, SpoolError):
            return
        if not self._trouble:
            log.error("spool.write_failed", error=str(error))
        self._trouble = str(error)
        self._outbox.sinks.update(self._marks)  # so that there is something to try again with
        self._flush_soon(_RETRY_SECONDS)

    def _written(self, job: Job, done: Done) -> None:
        if self._trouble and not self._unheld:
            log.info("spool.write_recovered")
            self._trouble = ""
        self._events -= done.dropped_events
        self._content_bytes -= done.dropped_bytes
        if done.dead_letters is not None:
            self._dead_letters = done.dead_letters
        dropped_to = done.dropped_to if done.more_to_drop or done.kept else job.drop_to
        self._dropped_to = max(self._dropped_to, dropped_to)
        self._retention.written(done)
        self._retention.noted_done = max(self._retention.noted_done, job.drop_to)
        self._look_later()
        if done.more_to_drop or self._outbox:
            self._flush_soon()

    # --- what is kept for replay --------------------------------------------------------------------

    def _look_later(self) -> None:
        """Come back when some of what is retained may be too old, even if nothing else is written."""
        if self._retention.events and self._look_timer is None and not self._closed:
            seconds = self._retention.look_every_seconds
            self._look_timer = asyncio.get_running_loop().call_later(seconds, self._look_now)

    def _look_now(self) -> None:
        self._look_timer = None
        self._outbox.sinks.update(self._marks)  # so that there is something to commit
        self._flush_now()

    def _stop_looking(self) -> None:
        if self._look_timer is not None:
            self._look_timer.cancel()
            self._look_timer = None

    def _held(self, items: Sequence[Item], quarantined: Sequence[Quarantined], arrived: Arrived) -> None:
        """A batch is durable: count it and show it to the readers."""
        for frame in quarantined:
            self._source((frame.source, frame.subscription)).quarantined += 1
        if not items:
            return
        size_bytes = total_bytes(arrived)
        self._last = items[-1].token
        self._count_received(arrived)
        self._events += len(items)
        self._content_bytes += size_bytes
        self._recent.add(items, size_bytes + len(items) * self._EVENT_BYTES)
        self._wake_readers()

    def _name_paths(self, arrived: Iterable[tuple[str, str]], quarantined: Sequence[Quarantined]) -> None:
        paths = set(arrived)
        paths.update((frame.source, frame.subscription) for frame in quarantined)
        for path in sorted(paths - self._path_ids.keys()):
            number = max(self._paths, default=0) + 1
            self._path_ids[path] = number
            self._paths[number] = path
            self._outbox.add(INSERT_PATH, number, *path)

    # --- what settlements change --------------------------------------------------------------------

    def _store(self, marks: SinkMarks, changes: Changes) -> None:
        out, sink = self._outbox, marks.name
        out.sinks.add(sink)
        for lane, item in changes.parked:
            out.add(INSERT_PARKED, *parked_row(sink, lane, item, self._path_ids))
            out.joining.setdefault((sink, lane), {})[item.token] = item
        for lane, token in changes.unparked:
            out.add(DELETE_PARKED, sink, lane, token)
            out.leaving.setdefault((sink, lane), set()).add(token)
        for lane in changes.lanes:
            self._store_lane(marks, lane)
        for death in changes.deaths:
            out.add(INSERT_DEAD, *dead_row(sink, death, self._clock.wall()))
        for number in changes.redelivered:
            out.add(DELETE_DEAD, number)
        for death in changes.died_again:
            out.add(UPDATE_DEAD, *died_again_row(death))
        out.dead_changed = out.dead_changed or bool(changes.deaths or changes.redelivered)
        self._flush_soon()

    def _store_lane(self, marks: SinkMarks, name: str) -> None:
        lane = marks.lanes.by_name.get(name)
        if lane is None:
            self._outbox.add(DELETE_LANE, marks.name, name)
        else:
            offset = self._clock.wall() - self._clock.elapsed()
            self._outbox.add(UPSERT_LANE, *lane_row(marks.name, name, lane, offset))

    def _oldest(self) -> Token:
        return self._dropped_to

    def _orphan_aged(self, marks: SinkMarks) -> None:
        self._outbox.sinks.add(marks.name)
        if marks.given_up:
            self._outbox.add(DELETE_PARKED_OF_SINK, marks.name)
            self._outbox.add(DELETE_LANES_OF_SINK, marks.name)

    # --- damage -------------------------------------------------------------------------------------

    async def _repair(self, damage: SpoolDamaged, repairs: int) -> None:
        """Repair the file, unless somebody has done so since `repairs` was read."""
        async with self._turn:
            if self._repairs == repairs:
                await self._repair_in_turn(damage)

    async def _repair_in_turn(self, damage: SpoolDamaged) -> None:
        """Put a new file in the place of the damaged one. What is kept in memory still holds and is written
        anew; events that were lost with the file are missed when a sink gets to them."""
        now = self._clock.elapsed()
        if now - self._repaired_at < _REPAIRS_EVERY_SECONDS:
            raise damage
        self._repaired_at = now
        self._repairs += 1
        await self._database.repair()
        self._retention.forget()
        self._events, self._content_bytes = await self._database.ask(stream_size)
        self._on_set_aside(await self._database.ask(missing, self._eviction.done_to(self._last), self._last))
        self._outbox.totals_lost = self._outbox.dead_changed = True
        self._outbox.sinks.update(self._marks)
        self._flush_soon()
