"""The spool's file with its two connections: one that writes, one that reads, each in a thread of its own."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import structlog

from zoomrelay.errors import SpoolError, StateDirectoryError
from zoomrelay.spool.sqlite_file import (
    Damaged,
    connect,
    errors_as_ours,
    open_checked,
    refuse_full_disk,
    verify,
)
from zoomrelay.spool.sqlite_salvage import carry_over, finish_rebuild, rebuild, set_aside
from zoomrelay.spool.sqlite_watch import Watch

log = structlog.get_logger()

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Work = Callable[Concatenate[sqlite3.Connection, _P], _T]


class SpoolDamaged(SpoolError):
    """The file is damaged where it was read or written; `Database.repair` helps."""


class Database:
    """Calls raise `SpoolError`, and `SpoolDamaged` where the trouble is the file's content.

    Files that were removed or replaced while they were open are put back before the next write, with all
    that they held.
    """

    def __init__(self, path: Path, reclaim: Callable[[], None]) -> None:
        """`reclaim` makes the directory ours again before a file is put back into it, or raises
        `StateDirectoryError`. It is called in another thread."""
        self.path = path
        self._reclaim = reclaim
        self._watch = Watch(path)
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._writing = ThreadPoolExecutor(1, "spool-writer")
        self._reading = ThreadPoolExecutor(1, "spool-reader")
        self._known = False
        """Whether there was a file."""
        self._closed = False
        self._calls: dict[object, float] = {}
        """When each call that is under way began, by the loop's time, oldest first."""

    async def open(self) -> bool:
        """Open or create the file; a damaged one is set aside, and what is readable of it recovered. Whether
        that was so."""
        try:
            await self._in_thread(self._writing, self._write_connection)
        except SpoolDamaged:
            await self.repair()
            await self._in_thread(self._writing, self._write_connection)
            return True
        return False

    async def repair(self) -> None:
        """Put a new file in the place of a damaged one, with what is readable of it."""
        await self._in_thread(self._reading, self._close_reader)
        await self._in_thread(self._writing, self._rebuild)

    async def write(self, work: _Work[_P, _T], *arguments: _P.args, **keywords: _P.kwargs) -> _T:
        """Call `work` with the writing connection, in its thread."""
        return await self._in_thread(
            self._writing, lambda: self._change(lambda writer: work(writer, *arguments, **keywords))
        )

    async def hold(
        self, size_bytes: int, work: _Work[_P, _T], *arguments: _P.args, **keywords: _P.kwargs
    ) -> _T:
        """The same for new events, this many bytes of them: refused where the disk would have too little
        left to let others go."""

        def hold(writer: sqlite3.Connection) -> _T:
            refuse_full_disk(writer, self.path, size_bytes)
            return work(writer, *arguments, **keywords)

        return await self._in_thread(self._writing, lambda: self._change(hold))

    async def ask(self, question: _Work[_P, _T], *arguments: _P.args, **keywords: _P.kwargs) -> _T:
        """Call `question` with the reading connection, in its thread."""
        return await self._in_thread(
            self._reading, lambda: question(self._read_connection(), *arguments, **keywords)
        )

    def wal_bytes(self) -> int:
        try:
            return self.path.with_name(self.path.name + "-wal").stat().st_size
        except OSError:
            return 0

    def busy_seconds(self) -> float:
        """How long the oldest call that is under way has waited for the file."""
        began = next(iter(self._calls.values()), None)
        return 0.0 if began is None else asyncio.get_running_loop().time() - began

    async def close(self) -> None:
        """May be called twice; never raises for trouble with the disk."""
        if self._closed:
            return
        try:
            await self._in_thread(self._writing, self._put_back_if_moved)
        except SpoolError as error:
            log.warning("spool.close_failed", error=str(error))
        await self._in_thread(self._reading, self._close_reader)
        await self._in_thread(self._writing, self._close_writer)
        self._closed = True
        self._writing.shutdown()
        self._reading.shutdown()

    async def _in_thread(self, executor: ThreadPoolExecutor, work: Callable[[], _T]) -> _T:
        if self._closed:
            raise SpoolError("the spool is closed")
        loop = asyncio.get_running_loop()
        call = object()
        self._calls[call] = loop.time()
        try:
            return await loop.run_in_executor(executor, partial(self._guarded, work))
        finally:
            del self._calls[call]

    def _guarded(self, work: Callable[[], _T]) -> _T:
        try:
            with errors_as_ours(self.path):
                return work()
        except Damaged as damage:
            raise SpoolDamaged(f"the spool {self.path} is damaged: {damage}") from damage
        except StateDirectoryError as error:
            raise SpoolError(str(error)) from error

    # --- in the threads -----------------------------------------------------------------------------

    def _change(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        self._put_back_if_moved()
        writer = self._write_connection()
        if self._watch.shrunk():
            verify(self.path)
        try:
            return work(writer)
        finally:
            self._watch.note()

    def _put_back_if_moved(self) -> None:
        """Where nobody but the open connections can reach our files: make new ones from what these show."""
        if not self._watch.moved():
            return
        self._reclaim()
        events, dead_letters = carry_over(self._write_connection(), self.path)
        aside = set_aside(self.path)
        self._reading.submit(self._close_reader).result()
        self._close_writer()
        finish_rebuild(self.path)
        log.error(
            "spool.put_back",
            file=str(self.path),
            set_aside=aside and str(aside),
            events=events,
            dead_letters=dead_letters,
        )

    def _write_connection(self) -> sqlite3.Connection:
        if self._writer is None:
            self._reclaim()
            finish_rebuild(self.path)
            if self._known and not self.path.exists():  # nobody held it open when it was taken away
                raise Damaged("the file is gone")
            self._writer = open_checked(self.path)
            self._known = True
        return self._writer

    def _read_connection(self) -> sqlite3.Connection:
        if self._reader is None:
            self._reader = connect(self.path, "mode=ro")
        return self._reader

    def _rebuild(self) -> None:
        self._close_writer()
        self._reclaim()
        log.error("spool.damaged", file=str(self.path))
        salvaged = rebuild(self.path)
        log.error(
            "spool.recovered",
            set_aside=str(salvaged.aside),
            events_recovered=salvaged.events,
            dead_letters_recovered=salvaged.dead_letters,
        )

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _close_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
            self._watch.forget()
