"""Rows of the sqlite spool and the statements that write them. No state, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any
from zlib import crc32

import msgspec

from zoomrelay.spool.base import Death, Item, Quarantined, Remembered, SinkCounts
from zoomrelay.spool.lanes import Lane
from zoomrelay.spool.marks import SinkMarks
from zoomrelay.spool.ranges import Ranges
from zoomrelay.spool.segment import PathIds, Stretch, checksum, plain_text, storable

_DEAD_COLUMNS = (
    "sink, size, redriving, source, subscription, digest, name, event_ts, key, received_ms, died_ms,"
    " reason, attempts, status, excerpt, crc, content"
)
INSERT_DEAD = f"INSERT INTO dead ({_DEAD_COLUMNS}) VALUES ({', '.join('?' * 17)})"  # noqa: S608
UPDATE_DEAD = (
    "UPDATE dead SET redriving = 0, reason = ?, attempts = ?, status = ?, excerpt = ? WHERE number = ?"
)
REDRIVE_DEAD = "UPDATE dead SET redriving = 1 WHERE number = ?"
DAMAGE_DEAD = "UPDATE dead SET redriving = 0, digest = x'', reason = ? WHERE number = ?"
DELETE_DEAD = "DELETE FROM dead WHERE number = ?"
INSERT_PARKED = f"INSERT OR IGNORE INTO parked VALUES ({', '.join('?' * 11)})"  # noqa: S608
DELETE_PARKED = "DELETE FROM parked WHERE sink = ? AND lane = ? AND seq = ?"
DELETE_PARKED_OF_SINK = "DELETE FROM parked WHERE sink = ?"
DELETE_LANES_OF_SINK = "DELETE FROM lanes WHERE sink = ?"
DELETE_LANE = "DELETE FROM lanes WHERE sink = ? AND lane = ?"
UPSERT_LANE = (
    "INSERT INTO lanes VALUES (?1, ?2, ?3, ?4, ?5)"
    " ON CONFLICT DO UPDATE SET due = ?3, attempts = ?4, waited_seconds = ?5"
)
UPSERT_SINK = "INSERT INTO sinks VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET state = ?2, crc = ?3"
UPSERT_LAST = "INSERT INTO meta VALUES ('last', ?1) ON CONFLICT DO UPDATE SET value = ?1"
UPSERT_DONE = "INSERT INTO meta VALUES ('done', ?1) ON CONFLICT DO UPDATE SET value = ?1"
INSERT_PATH = "INSERT OR IGNORE INTO paths (id, source, subscription) VALUES (?, ?, ?)"
COUNT_PATH = (
    "UPDATE paths SET appended = appended + ?, quarantined = quarantined + ?,"
    " last_received_ms = coalesce(nullif(?, 0), last_received_ms) WHERE id = ?"
)
COUNT_MERGED = "UPDATE paths SET merged = merged + ? WHERE id = ?"
INSERT_IDENTITIES = "INSERT INTO identities (generation, crc, digests) VALUES (?, ?, ?)"
FORGET_IDENTITIES = "DELETE FROM identities WHERE generation < ?"
RESTORE_PATH = "INSERT OR REPLACE INTO paths VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
REWRITE_SEGMENT = (
    'UPDATE segments SET events = ?, size = ?, crc = ?, "index" = ?, content = ? WHERE first = ?'
)

Row = tuple[Any, ...]
DAMAGED = "damaged in the spool file: wrong checksum"
_DURABLE_COUNTS = ("delivered", "dead", "filtered", "shed", "expired", "abandoned", "redelivered", "replayed")
assert set(_DURABLE_COUNTS) < {field.name for field in fields(SinkCounts)}


def sink_row(marks: SinkMarks) -> Row:
    """A sink's name, its marks and counters as JSON, and the CRC-32 of that."""
    state = msgspec.json.encode(
        {
            "start": marks.start,
            "low": marks.low,
            "above": list(marks.above),
            "frontier": marks.next_frontier(),
            "orphaned_seconds": marks.orphaned_seconds,
            "counts": {name: getattr(marks.counts, name) for name in _DURABLE_COUNTS},
        }
    )
    return marks.name, state.decode(), crc32(state)


def load_sink(name: str, state: Mapping[str, Any]) -> SinkMarks:
    """Marks as they were stored; nothing is handed out."""
    marks = SinkMarks(name, state["start"])
    marks.low = marks.handed = state["low"]
    marks.above = Ranges([(start, end) for start, end in state["above"]])
    marks.frontier = state.get("frontier", marks.known_to())
    marks.urgent_frontier = marks.known_to()
    marks.orphaned_seconds = state["orphaned_seconds"]
    marks.counts = SinkCounts(**state["counts"])
    return marks


def lane_row(sink: str, name: str, lane: Lane, wall_minus_elapsed: float) -> Row:
    return sink, name, lane.until + wall_minus_elapsed, lane.attempts, lane.waited_seconds


def parked_row(sink: str, lane: str, item: Item, path_ids: PathIds) -> Row:
    path = path_ids[item.event.source, item.event.subscription]
    event = storable(item.event)
    crc = checksum(event.digest, event.content)
    return (
        sink, lane, item.token, path, event.digest, event.name, event.event_ts, event.key,
        event.received_ms, crc, event.content,
    )  # fmt: skip


def dead_row(sink: str, death: Death, wall: float) -> Row:
    event = storable(death.item.event)
    return (
        sink, len(event.content), 0, event.source, event.subscription, event.digest, event.name,
        event.event_ts, event.key, event.received_ms, int(wall * 1000), death.reason,
        death.attempts, death.status, death.excerpt, checksum(event.digest, event.content), event.content,
    )  # fmt: skip


def died_again_row(death: Death) -> Row:
    return (
        death.reason, death.attempts, death.status, death.excerpt, -death.item.token,
    )  # fmt: skip


def quarantined_row(frame: Quarantined) -> Row:
    at = frame.received_ms
    return (
        "", len(frame.raw), 0, frame.source, frame.subscription, b"", "", None, "", at, at,
        plain_text(frame.reason), 0, None, "", checksum(b"", frame.raw), frame.raw,
    )  # fmt: skip


def identities_row(remembered: Remembered) -> Row:
    return remembered.generation, crc32(remembered.digests, remembered.generation), remembered.digests


def damaged_row(sink: str, item: Item, wall: float) -> Row:
    """A dead letter without a digest, so that it is never redriven: its content is not what Zoom sent."""
    event = item.event
    return (
        sink, len(event.content), 0, event.source, event.subscription, b"", event.name, None, event.key,
        event.received_ms, int(wall * 1000), DAMAGED, 0, None,
        f"id {event.id}", checksum(b"", event.content), event.content,
    )  # fmt: skip


def unreadable_row(sink: str, stretch: Stretch, count: int, wall: float) -> Row:
    """One dead letter for a whole segment whose index is damaged."""
    content = stretch.unreadable or b""
    reason = f"damaged in the spool file: {count} of the events {stretch.first} to {stretch.last} unreadable"
    return (
        sink, len(content), 0, "", "", b"", "", None, "", 0, int(wall * 1000), reason, 0, None, "",
        checksum(b"", content), content,
    )  # fmt: skip
