"""Statements and rows of the sqlite spool, and the questions asked of it. No state here."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from zoomrelay.event import Event
from zoomrelay.spool.base import DeadLetter, Death, Item, Quarantined, SinkCounts
from zoomrelay.spool.marks import SinkMarks
from zoomrelay.spool.ranges import Ranges
from zoomrelay.spool.segment import Segment, checksum

_DEAD_COLUMNS = (
    "sink, size, redriving, source, subscription, digest, name, event_ts, key, received_ms, died_ms,"
    " reason, attempts, status, excerpt, content"
)
INSERT_DEAD = f"INSERT INTO dead ({_DEAD_COLUMNS}) VALUES ({', '.join('?' * 16)})"  # noqa: S608
UPDATE_DEAD = (
    "UPDATE dead SET redriving = 0, reason = ?, attempts = ?, status = ?, excerpt = ? WHERE number = ?"
)
INSERT_PARKED = f"INSERT OR IGNORE INTO parked VALUES ({', '.join('?' * 11)})"  # noqa: S608
UPSERT_LANE = (
    "INSERT INTO lanes VALUES (?1, ?2, ?3, ?4, ?5)"
    " ON CONFLICT DO UPDATE SET due = ?3, attempts = ?4, waited_seconds = ?5"
)
REWRITE_SEGMENT = (
    'UPDATE segments SET events = ?, size = ?, crc = ?, "index" = ?, content = ? WHERE first = ?'
)

Row = tuple[Any, ...]
_DURABLE_COUNTS = ("delivered", "dead", "filtered", "shed", "expired", "abandoned", "redelivered")
assert set(_DURABLE_COUNTS) < {f.name for f in fields(SinkCounts)}


def dump_sink(marks: SinkMarks) -> str:
    """A sink's marks and counters as JSON."""
    counts = asdict(marks.counts)
    return json.dumps(
        {
            "start": marks.start,
            "low": marks.low,
            "above": list(marks.above),
            "orphaned_seconds": marks.orphaned_seconds,
            "counts": {name: counts[name] for name in _DURABLE_COUNTS},
        }
    )


def load_sink(name: str, state: Mapping[str, Any]) -> SinkMarks:
    """The inverse of `dump_sink`; nothing is handed out."""
    marks = SinkMarks(name, state["start"])
    marks.low = marks.handed = state["low"]
    marks.above = Ranges([(start, end) for start, end in state["above"]])
    marks.orphaned_seconds = state["orphaned_seconds"]
    marks.counts = SinkCounts(**state["counts"])
    return marks


def parked_row(sink: str, lane: str, item: Item, path_ids: Mapping[tuple[str, str], int]) -> Row:
    event = item.event
    path = path_ids[event.source, event.subscription]
    crc = checksum(event.digest, event.content)
    return (
        sink, lane, item.token, path, event.digest, event.name, event.event_ts, event.key,
        event.received_ms, crc, event.content,
    )  # fmt: skip


def dead_row(sink: str, death: Death, wall: float) -> Row:
    event = death.item.event
    return (
        sink, len(event.content), 0, event.source, event.subscription, event.digest, event.name,
        event.event_ts, event.key, event.received_ms, int(wall * 1000), death.reason, death.attempts,
        death.status, death.excerpt, event.content,
    )  # fmt: skip


def quarantined_row(frame: Quarantined) -> Row:
    at = frame.received_ms
    return (
        "", len(frame.raw), 0, frame.source, frame.subscription, b"", "", None, "", at, at,
        frame.reason, 0, None, "", frame.raw,
    )  # fmt: skip


def damaged_row(sink: str, segment: Segment, damaged: Sequence[int], wall: float) -> Row:
    reason = f"damaged in the spool: {len(damaged)} of the events {segment.first} to {segment.last}"
    now_ms = int(wall * 1000)
    return (
        sink, len(segment.content), 0, "", "", b"", "", None, "", 0, now_ms, reason, 0, None, "",
        segment.content,
    )  # fmt: skip


# --- questions, asked in the reading thread ---------------------------------------------------------


def segments_after(
    connection: sqlite3.Connection, token: int, last: int, max_events: int, max_bytes: int
) -> list[Segment]:
    """Segments that hold numbers from `token` + 1 to `last`, until either bound is reached."""
    (start,) = connection.execute(
        "SELECT coalesce(max(first), 0) FROM segments WHERE first <= ?", (token + 1,)
    ).fetchone()
    found: list[Segment] = []
    events = size = 0
    rows = connection.execute(
        'SELECT first, last, events, size, crc, "index", content FROM segments'
        " WHERE first >= ? AND first <= ? AND last > ? ORDER BY first",
        (start, last, token),
    )
    for row in rows:
        segment = Segment(*row)
        found.append(segment)
        events += segment.events - max(0, token + 1 - segment.first)
        size += segment.size
        if events >= max_events or size >= max_bytes:
            break
    rows.close()
    return found


def lane_rows(connection: sqlite3.Connection, sink: str, lane: str, after: int, limit: int) -> list[Row]:
    return connection.execute(
        "SELECT seq, path, digest, name, event_ts, key, received_ms, content FROM parked"
        " WHERE sink = ? AND lane = ? AND seq > ? ORDER BY seq LIMIT ?",
        (sink, lane, after, limit),
    ).fetchall()


def dead_rows(connection: sqlite3.Connection, numbers: Sequence[int]) -> list[Row]:
    """number, attempts, and the fields of the event in their order."""
    return connection.execute(
        "SELECT number, attempts, digest, source, subscription, name, event_ts, key, received_ms, content"
        " FROM dead WHERE number IN (SELECT value FROM json_each(?)) ORDER BY number",
        (json.dumps(list(numbers)),),
    ).fetchall()


def dead_sinks(connection: sqlite3.Connection, numbers: Sequence[int]) -> list[tuple[int, str]]:
    return connection.execute(
        "SELECT number, sink FROM dead WHERE number IN (SELECT value FROM json_each(?)) ORDER BY number",
        (json.dumps(list(numbers)),),
    ).fetchall()


_LETTER = (
    "SELECT number, sink, source, subscription, digest, name, received_ms, died_ms, reason, attempts,"
    " status, excerpt, redriving, {content} FROM dead "
)


def dead_letters(connection: sqlite3.Connection, sink: str | None, limit: int) -> list[DeadLetter]:
    rows = connection.execute(
        _LETTER.format(content="x''") + "WHERE ?1 IS NULL OR sink = ?1 ORDER BY number DESC LIMIT ?2",
        (sink, limit),
    )
    return [_letter(row) for row in rows][::-1]


def dead_letter(connection: sqlite3.Connection, number: int) -> DeadLetter | None:
    row = connection.execute(_LETTER.format(content="content") + "WHERE number = ?", (number,)).fetchone()
    return _letter(row) if row else None


def _letter(row: Row) -> DeadLetter:
    number, sink, source, subscription, digest, *rest = row
    identity = Event(digest, "", "", "", None, "", 0, b"").id if digest else ""
    name, received_ms, died_ms, reason, attempts, status, excerpt, redriving, content = rest
    return DeadLetter(
        number, sink, source, subscription, identity, name, received_ms, died_ms, reason, attempts,
        status, excerpt, bool(redriving), content,
    )  # fmt: skip
