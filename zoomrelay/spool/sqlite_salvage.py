"""Recover what is readable of a damaged spool file into a new one.

    spool.sqlite.salvage      a copy of the damaged file to work on; the damaged one is only read
    spool.sqlite.new          the new file while it is filled
    spool.sqlite.recovered    the new file, complete: whatever stands in its place is to make way

The damaged file keeps its name until the new one is complete, so a kill at any moment begins it anew or
finds it done. Afterwards it stays as spool.sqlite.damaged-N for whoever wants to look into it.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoomrelay.durable import sync_directory
from zoomrelay.spool.sqlite_file import (
    COMPANIONS,
    PAGE_BYTES,
    connect,
    make_private,
    open_checked,
)

_SMALL_TABLES = ("meta", "paths", "sinks", "lanes", "identities")
_LARGE_TABLES = {
    "segments": ("first", "segments_sizes"),
    "parked": ("rowid", "parked_order"),
    "dead": ("number", "dead_sizes"),
}
"""Table -> its key, and an index that names all of its rows."""
_ROWS_PER_COMMIT = 64


@dataclass(slots=True)
class Salvaged:
    """What could be read, and where the file is now that stood there (None if there was none)."""

    aside: Path | None
    events: int = 0
    dead_letters: int = 0


def rebuild(path: Path) -> Salvaged:
    """Put a new file in the place of a damaged one, with every readable row, numbers kept, so that the
    sinks' marks still hold. Where a sink's marks are lost its events come again; numbers that are gone
    count as dead when a sink gets there. Nobody may have the file open.

    Raises OSError or `sqlite3.Error` where the disk does not let us (a copy needs as much space again).
    """
    work, fresh = _beside(path, ".salvage"), _beside(path, ".new")
    _remove(work)
    _remove(fresh)
    with contextlib.closing(open_checked(fresh)) as new:
        new.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        _copy_file(path, work, template=fresh)
        events, dead_letters = _salvage(new, work)
    _complete(path)
    return Salvaged(finish_rebuild(path), events, dead_letters)


def carry_over(old: sqlite3.Connection, path: Path) -> tuple[int, int]:
    """Make a new file of what an open connection shows, although its own file may not be there any more;
    the numbers of events and dead letters in it. `finish_rebuild` puts it in place, once the old connections
    are closed: closing them removes a log of that name.

    Raises as `rebuild` does; then nothing has changed.
    """
    fresh = _beside(path, ".new")
    _remove(fresh)
    with contextlib.closing(open_checked(fresh)) as new:
        counts = _copy_rows(new, old)
    _complete(path)
    return counts


def _complete(path: Path) -> None:
    _beside(path, ".new").rename(_beside(path, ".recovered"))
    sync_directory(path.parent)


def finish_rebuild(path: Path) -> Path | None:
    """Give a complete new file its name, if there is one: also where that was not done before a kill.
    Where the file is now that stood there, if one did."""
    fresh, aside = _beside(path, ".recovered"), None
    if fresh.exists():
        aside = set_aside(path)  # its log too: it would be taken for the new one's
        fresh.rename(path)
        sync_directory(path.parent)
    _remove(_beside(path, ".salvage"))
    return aside


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _remove(path: Path) -> None:
    for suffix in COMPANIONS:
        _beside(path, suffix).unlink(missing_ok=True)


def set_aside(path: Path) -> Path | None:
    """Give the files another name; which, or None if there are none."""
    if not any(_beside(path, suffix).exists() for suffix in COMPANIONS):
        return None
    aside = _beside(path, f".damaged-{time.time_ns() // 1_000_000}")
    for suffix in COMPANIONS:
        with contextlib.suppress(FileNotFoundError):
            _beside(path, suffix).rename(_beside(aside, suffix))
    sync_directory(path.parent)
    return aside


# --- the copy to work on ----------------------------------------------------------------------------


def _copy_file(path: Path, work: Path, template: Path) -> None:
    """Copy the file and its log. If its first page, which holds the header and the list of tables, is
    damaged, it gets that of `template`: every spool file begins with the same tables on the same pages."""
    for suffix in ("", "-wal"):
        if _beside(path, suffix).exists():
            make_private(_beside(work, suffix))
            shutil.copyfile(_beside(path, suffix), _beside(work, suffix))
    make_private(work)  # where there was no file
    if not work.stat().st_size or not _lists_our_tables(work):  # an empty file would cost its log at once
        pages = max(1, work.stat().st_size // PAGE_BYTES)
        first = bytearray(template.read_bytes()[:PAGE_BYTES])
        first[28:32] = pages.to_bytes(4, "big")
        with work.open("r+b") as file:
            file.write(first)


def _lists_our_tables(path: Path) -> bool:
    with contextlib.closing(_connect_tolerant(path)) as connection:
        try:
            names = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema")}
        except sqlite3.Error:
            return False
    return names.issuperset((*_SMALL_TABLES, *_LARGE_TABLES))


def _connect_tolerant(path: Path) -> sqlite3.Connection:
    connection = connect(path)
    connection.execute("PRAGMA writable_schema = ON")  # lets a file be read that is shorter than it says
    return connection


# --- the rows ---------------------------------------------------------------------------------------


def _salvage(new: sqlite3.Connection, work: Path) -> tuple[int, int]:
    with contextlib.closing(_connect_tolerant(work)) as old:
        return _copy_rows(new, old)


def _copy_rows(new: sqlite3.Connection, old: sqlite3.Connection) -> tuple[int, int]:
    """The numbers of events and of dead letters in `new` then."""
    for table in _SMALL_TABLES:
        _insert(new, table, _rows(old, f"SELECT * FROM {table}"))  # noqa: S608 - names are ours
    for table, (key, index) in _LARGE_TABLES.items():
        _insert(new, table, _row_by_row(old, table, key, index))
    (events,) = new.execute("SELECT coalesce(sum(events), 0) FROM segments").fetchone()
    (dead_letters,) = new.execute("SELECT count(*) FROM dead").fetchone()
    return events, dead_letters


def _insert(new: sqlite3.Connection, table: str, rows: Iterator[tuple[Any, ...]]) -> None:
    new.execute("BEGIN IMMEDIATE")
    for at, row in enumerate(rows, 1):
        # A damaged page may give a row of nonsense; one that breaks a rule of the table is left out.
        with contextlib.suppress(sqlite3.IntegrityError):
            new.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)  # noqa: S608
        if at % _ROWS_PER_COMMIT == 0:
            new.execute("COMMIT")
            new.execute("BEGIN IMMEDIATE")
    new.execute("COMMIT")


def _rows(old: sqlite3.Connection, query: str, parameters: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Rows up to the first that cannot be read."""
    with contextlib.suppress(sqlite3.Error):
        yield from old.execute(query, parameters)


def _row_by_row(old: sqlite3.Connection, table: str, key: str, index: str) -> Iterator[tuple[Any, ...]]:
    """Every row that can be read by itself. The keys stand in the table and in an index; either may be
    damaged, and either may be read from both ends."""
    keys: set[int] = set()
    for order in ("ASC", "DESC"):
        for source in (f"INDEXED BY {index}", "NOT INDEXED"):
            query = f"SELECT {key} FROM {table} {source} ORDER BY {key} {order}"  # noqa: S608 - words are ours
            keys.update(found for (found,) in _rows(old, query) if type(found) is int)
    for found in sorted(keys):
        yield from _rows(old, f"SELECT * FROM {table} NOT INDEXED WHERE {key} = ?", (found,))  # noqa: S608
