"""What one commit does to the spool's file. Runs in the writing thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from zoomrelay.spool.base import Item
from zoomrelay.spool.segment import PathIds, encode, split
from zoomrelay.spool.sqlite_outbox import Statement

_INSERT_SEGMENT = (
    'INSERT INTO segments (first, last, events, size, crc, "index", content) VALUES (?, ?, ?, ?, ?, ?, ?)'
)
_DROP_AT_ONCE = 256


@dataclass(slots=True)
class Job:
    """What one transaction does, in this order."""

    items: Sequence[Item] = ()
    size_bytes: int = 0
    """Of their content."""
    path_ids: PathIds = field(default_factory=dict)
    statements: Sequence[Statement] = ()
    drop_to: int = 0
    """Segments whose last number is at most this are to go, a bounded number of them per job."""
    dead_limit_bytes: int = 0
    """Above 0: dead letters changed; enforce this bound and count what is left."""


@dataclass(slots=True)
class Done:
    """What the transaction did."""

    dropped_events: int = 0
    dropped_bytes: int = 0
    more_to_drop: bool = False
    dead_letters: Mapping[str, int] | None = None
    """Sink -> dead letters kept, where the job asked for it."""


def run_job(connection: sqlite3.Connection, job: Job) -> Done:
    """Do the job, or nothing of it: raises `sqlite3.Error` after a rollback, and what `encode` raises."""
    segments = [encode(run, job.path_ids) for run in split(job.items)] if job.items else []
    done = Done()
    connection.execute("BEGIN IMMEDIATE")
    try:
        for segment in segments:
            connection.execute(_INSERT_SEGMENT, msgspec.structs.astuple(segment))
        for statement, parameters in job.statements:
            connection.execute(statement, parameters)
        if job.drop_to:
            _drop_segments(connection, job.drop_to, done)
        if job.dead_limit_bytes:
            done.dead_letters = _bound_dead_letters(connection, job.dead_limit_bytes)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return done


def _drop_segments(connection: sqlite3.Connection, drop_to: int, done: Done) -> None:
    count, first, size, events = connection.execute(
        "SELECT count(*), max(first), sum(size), sum(events) FROM (SELECT first, size, events"
        " FROM segments WHERE first <= ?1 AND last <= ?1 ORDER BY first LIMIT ?2)",
        (drop_to, _DROP_AT_ONCE),
    ).fetchone()
    if count:
        connection.execute("DELETE FROM segments WHERE first <= ?", (first,))
        done.dropped_events, done.dropped_bytes = events, size
        done.more_to_drop = count == _DROP_AT_ONCE


def _bound_dead_letters(connection: sqlite3.Connection, limit_bytes: int) -> dict[str, int]:
    """Let the oldest dead letters go until the rest fits."""
    kept = connection.execute("SELECT sink, count(*), sum(size) FROM dead GROUP BY sink").fetchall()
    excess = sum(size for _, _, size in kept) - limit_bytes
    counts = {sink: count for sink, count, _ in kept}
    if excess > 0:
        oldest = connection.execute("SELECT number, sink, size FROM dead ORDER BY number")
        for number, sink, _ in _until(oldest, excess):
            connection.execute("DELETE FROM dead WHERE number = ?", (number,))
            counts[sink] -= 1
    return counts


def _until(rows: sqlite3.Cursor, excess: int) -> list[tuple[int, str, int]]:
    taken = []
    for row in rows:
        if excess <= 0:
            break
        taken.append(row)
        excess -= row[2]
    rows.close()
    return taken
