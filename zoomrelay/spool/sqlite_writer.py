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
    'INSERT INTO segments (first, last, events, size, crc, received_ms, "index", content)'
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_DROP_AT_ONCE = 256


@dataclass(slots=True)
class Retain:
    """Of the segments that may go, oldest first, these go: what is older, and what makes room. The first that
    is to stay keeps those behind it."""

    from_ms: int
    """`received_ms` of the oldest to stay."""
    free_bytes: int
    """How much of the oldest goes in any case."""
    event_bytes: int
    """What an event counts beside its content."""
    counted_to: int
    """Up to this number, what is retained has been counted."""


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
    retain: Retain | None = None
    """Which of these stay."""
    dead_limit_bytes: int = 0
    """Above 0: dead letters changed; enforce this bound and count what is left."""


@dataclass(slots=True)
class Done:
    """What the transaction did."""

    dropped_events: int = 0
    dropped_bytes: int = 0
    more_to_drop: bool = False
    kept: bool = False
    """Some that could have gone are retained."""
    dropped_to: int = 0
    """The newest number that was dropped; 0 for none."""
    retained_events: int = 0
    """New among those that are done with: counted before any were dropped."""
    retained_bytes: int = 0
    counted_to: int = 0
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
            if job.retain is not None:
                _count_retained(connection, job.drop_to, job.retain.counted_to, done)
            _drop_segments(connection, job.drop_to, job.retain, done)
        if job.dead_limit_bytes:
            done.dead_letters = _bound_dead_letters(connection, job.dead_limit_bytes)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return done


def _count_retained(connection: sqlite3.Connection, drop_to: int, counted_to: int, done: Done) -> None:
    """Count the segments that every sink is done with by now."""
    end, events, size = connection.execute(
        "SELECT max(last), sum(events), sum(size) FROM segments"
        " WHERE first > ?1 AND first <= ?2 AND last <= ?2",
        (counted_to, drop_to),
    ).fetchone()
    done.counted_to = max(counted_to, end or 0)
    done.retained_events, done.retained_bytes = events or 0, size or 0


def _drop_segments(connection: sqlite3.Connection, drop_to: int, retain: Retain | None, done: Done) -> None:
    rows = connection.execute(
        "SELECT first, last, size, events, received_ms FROM segments"
        " WHERE first <= ?1 AND last <= ?1 ORDER BY first LIMIT ?2",
        (drop_to, _DROP_AT_ONCE),
    )
    count = first = freed_bytes = 0
    for at, last, size, events, received_ms in rows:
        if retain is not None and received_ms >= retain.from_ms and freed_bytes >= retain.free_bytes:
            done.kept = True
            break
        freed_bytes += size + events * (retain.event_bytes if retain is not None else 0)
        count, first, done.dropped_to = count + 1, at, last
        done.dropped_events += events
        done.dropped_bytes += size
    rows.close()
    if count:
        connection.execute("DELETE FROM segments WHERE first <= ?", (first,))
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
