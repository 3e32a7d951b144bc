"""The one thread that writes the spool's file. Everything of one job is one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from zoomrelay.spool.base import Item, Quarantined
from zoomrelay.spool.segment import PathIds, encode, split

_INSERT_SEGMENTS = 'INSERT INTO segments (first, last, events, size, crc, "index", content) VALUES '
_DROP_AT_ONCE = 256

Statement = tuple[str, tuple[object, ...]]


@dataclass(slots=True)
class Job:
    """What one transaction does, in this order."""

    items: Sequence[Item] = ()
    path_ids: PathIds = field(default_factory=dict)
    statements: list[Statement] = field(default_factory=list)
    """Kept for the next job if this one fails."""
    quarantined: Sequence[Quarantined] = ()
    of_batch: list[Statement] = field(default_factory=list)
    """What goes with `items` and `quarantined`; not kept."""
    drop_to: int = 0
    """Segments whose last number is at most this are to go, a bounded number of them per job."""
    dead_limit_bytes: int = 0
    """Above 0: dead letters changed; enforce this bound and count what is left."""


@dataclass(slots=True)
class Done:
    """What the transaction did."""

    appended_bytes: int = 0
    dropped_events: int = 0
    dropped_bytes: int = 0
    more_to_drop: bool = False
    dead: dict[str, tuple[int, int]] | None = None
    """Sink -> (dead letters kept, their bytes), where the job asked for it."""


def run_job(connection: sqlite3.Connection, job: Job) -> Done:
    """Do the job, or nothing of it: raises `sqlite3.Error` after a rollback."""
    segments = [encode(run, job.path_ids) for run in split(job.items)] if job.items else []
    done = Done(appended_bytes=sum(segment.size for segment in segments))
    connection.execute("BEGIN IMMEDIATE")
    try:
        if segments:
            # Few statements, each with the whole load: every call takes the interpreter's lock anew.
            rows = ", ".join(["(?, ?, ?, ?, ?, ?, ?)"] * len(segments))
            values = [value for segment in segments for value in msgspec.structs.astuple(segment)]
            connection.execute(_INSERT_SEGMENTS + rows, values)
        for statement, parameters in job.statements + job.of_batch:
            connection.execute(statement, parameters)
        _drop_segments(connection, job, done)
        if job.dead_limit_bytes:
            done.dead = _bound_dead_letters(connection, job.dead_limit_bytes)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return done


def _drop_segments(connection: sqlite3.Connection, job: Job, done: Done) -> None:
    if not job.drop_to:
        return
    count, first, size, events = connection.execute(
        "SELECT count(*), max(first), sum(size), sum(events) FROM (SELECT first, size, events"
        " FROM segments WHERE first <= ?1 AND last <= ?1 ORDER BY first LIMIT ?2)",
        (job.drop_to, _DROP_AT_ONCE),
    ).fetchone()
    if count:
        connection.execute("DELETE FROM segments WHERE first <= ?", (first,))
        done.dropped_events, done.dropped_bytes = events, size
        done.more_to_drop = count == _DROP_AT_ONCE


def _bound_dead_letters(connection: sqlite3.Connection, limit_bytes: int) -> dict[str, tuple[int, int]]:
    """Let the oldest dead letters go until the rest fits."""
    (total,) = connection.execute("SELECT coalesce(sum(size), 0) FROM dead").fetchone()
    while total > limit_bytes:
        oldest = connection.execute("SELECT number, size FROM dead ORDER BY number LIMIT 100").fetchall()
        for number, size in oldest:
            if total > limit_bytes:
                connection.execute("DELETE FROM dead WHERE number = ?", (number,))
                total -= size
    rows = connection.execute("SELECT sink, count(*), sum(size) FROM dead GROUP BY sink")
    return {sink: (count, size) for sink, count, size in rows}
