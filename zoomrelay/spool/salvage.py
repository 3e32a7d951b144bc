"""Recover what is readable from a damaged spool file into a new one. The damaged file is only read."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoomrelay.spool.sqlite_file import connect

_TABLES = ("meta", "paths", "sinks", "lanes", "parked", "dead")


@dataclass(slots=True)
class Found:
    """What could be read."""

    events: int = 0
    dead_letters: int = 0


def salvage(new: sqlite3.Connection, damaged: Path) -> Found:
    """Copy every readable row of `damaged`, numbers kept, so that the sinks' marks still hold. Where a
    sink's marks are lost its events come again. Runs of numbers that are gone count as dead when a sink
    gets there. Never raises because of the damaged file."""
    found = Found()
    with contextlib.closing(connect(damaged)) as old, _transaction(new):
        for table in _TABLES:
            _copy(new, table, _rows(old, f"SELECT * FROM {table}"))  # noqa: S608 - names are ours
        _copy(new, "segments", _segments(old))
    (found.events,) = new.execute("SELECT coalesce(sum(events), 0) FROM segments").fetchone()
    (found.dead_letters,) = new.execute("SELECT count(*) FROM dead").fetchone()
    return found


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _copy(new: sqlite3.Connection, table: str, rows: Iterator[tuple[Any, ...]]) -> None:
    for row in rows:
        # A damaged page may give a row of nonsense; one that breaks a rule of the table is left out.
        with contextlib.suppress(sqlite3.IntegrityError, sqlite3.OperationalError):
            new.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)  # noqa: S608


def _rows(old: sqlite3.Connection, query: str, parameters: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Rows up to the first that cannot be read."""
    with contextlib.suppress(sqlite3.Error):
        yield from old.execute(query, parameters)


def _segments(old: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    """From the head until something cannot be read, then from the tail back to there."""
    reached = 0
    for row in _rows(old, "SELECT * FROM segments ORDER BY first"):
        reached = row[1]
        yield row
    yield from _rows(old, "SELECT * FROM segments WHERE first > ? ORDER BY first DESC", (reached,))
