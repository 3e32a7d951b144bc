"""What is asked of the spool's file. Runs in the reading thread (the sums at open: in the writing one)."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from zlib import crc32

import structlog

from zoomrelay.event import Event
from zoomrelay.spool.base import DeadLetter, Item, Remembered, SourceCounts, Token
from zoomrelay.spool.lanes import Lane
from zoomrelay.spool.marks import SinkMarks
from zoomrelay.spool.segment import UNKNOWN_PATH, Paths, Segment, Stretch, checksum, decode
from zoomrelay.spool.sqlite_file import Damaged
from zoomrelay.spool.sqlite_rows import Row, load_sink

log = structlog.get_logger()

ROWS_AT_ONCE = 32
"""Runs of events, which may be as small as one event, that are read and decoded in one go: meanwhile this
thread and the event loop take turns with the interpreter, and whatever comes then is late."""

# --- everything that is kept in memory --------------------------------------------------------------


@dataclass(slots=True)
class Loaded:
    """What is read once, at open."""

    last: Token = 0
    oldest: Token = 0
    """The number before the oldest event in a segment."""
    done: Token = 0
    """Up to about here every sink was done, where that was noted; what is retained is not due again."""
    events: int = 0
    content_bytes: int = 0
    path_ids: dict[tuple[str, str], int] = field(default_factory=dict)
    sources: dict[tuple[str, str], SourceCounts] = field(default_factory=dict)
    last_received: dict[tuple[str, str], int] = field(default_factory=dict)
    marks: dict[str, SinkMarks] = field(default_factory=dict)
    dead_letters: dict[str, int] = field(default_factory=dict)
    remembered: list[Remembered] = field(default_factory=list)


def load(connection: sqlite3.Connection, wall: float, elapsed: float) -> Loaded:
    """Read everything but the events. `wall` and `elapsed` are the present in terms of `Clock`."""
    ask = connection.execute
    drop_unsound(connection)
    loaded = Loaded()
    loaded.events, loaded.content_bytes = stream_size(connection)
    for number, source, subscription, appended, merged, quarantined, unheld, received_ms in ask(
        "SELECT id, source, subscription, appended, merged, quarantined, unheld, last_received_ms FROM paths"
    ):
        path = source, subscription
        loaded.path_ids[path] = number
        loaded.sources[path] = SourceCounts(appended, merged, quarantined, unheld)
        if received_ms:
            loaded.last_received[path] = received_ms
    _load_sinks(connection, loaded)
    _load_lanes(connection, loaded.marks, wall, elapsed)
    for number, sink in ask("SELECT number, sink FROM dead WHERE redriving"):
        if sink in loaded.marks:
            loaded.marks[sink].redriven.add(number, elapsed)
    loaded.dead_letters = dict(ask("SELECT sink, count(*) FROM dead GROUP BY sink").fetchall())
    loaded.remembered = [
        Remembered(generation, digests)
        for generation, crc, digests in ask("SELECT generation, crc, digests FROM identities ORDER BY number")
        if crc32(digests, generation) == crc
    ]
    return loaded


def drop_unsound(connection: sqlite3.Connection) -> None:
    """Let go of rows in which a value has another type than its column: SQLite stores the type beside each
    value, so a single wrong byte makes a number of a text, and the file still looks sound. What such a row
    held counts as lost, like a row that is gone. Raises `Damaged` where they cannot be let go of singly."""
    for table, columns in _TYPES.items():
        unsound = " OR ".join(f"typeof({column}) NOT IN ({types})" for column, types in columns.items())
        gone = connection.execute(f"DELETE FROM {table} WHERE {unsound}").rowcount  # noqa: S608 - ours
        if gone:
            log.error("spool.damaged_rows", table=table, count=gone)
            if connection.execute(f"SELECT 1 FROM {table} WHERE {unsound} LIMIT 1").fetchone():  # noqa: S608
                raise Damaged(f"rows of {table} stand where they cannot be found")


def _types(integers: str = "", texts: str = "", blobs: str = "", reals: str = "") -> dict[str, str]:
    kinds = {"'integer'": integers, "'text'": texts, "'blob'": blobs, "'real'": reals}
    return {column: kind for kind, columns in kinds.items() for column in columns.split()}


_TYPES = {
    "meta": _types("value", "key"),
    "paths": _types("appended merged quarantined unheld last_received_ms", "source subscription"),
    # Of index and content, `segment.decode` reads what it can.
    "segments": _types("last events size received_ms"),
    "sinks": _types("crc", "name state"),
    "parked": _types("seq path received_ms crc", "sink lane name key", "digest content"),
    "lanes": _types("attempts", "sink lane", reals="due waited_seconds"),
    "dead": _types(
        "size redriving received_ms died_ms attempts crc",
        "sink source subscription name key reason excerpt",
        "digest content",
    ),
    "identities": _types("generation crc", blobs="digests"),
}
"""Table -> column -> what `typeof` may say; columns that may be NULL are looked at nowhere by type."""


def stream_size(connection: sqlite3.Connection) -> tuple[int, int]:
    """Events in segments, and bytes of their content."""
    events, content_bytes = connection.execute(
        "SELECT coalesce(sum(events), 0), coalesce(sum(size), 0) FROM segments"
    ).fetchone()
    return events, content_bytes


def missing(connection: sqlite3.Connection, after: int, last: int) -> int:
    """How many of the numbers after `after` up to `last` are in no segment."""
    (present,) = connection.execute(
        "SELECT coalesce(sum(min(last, ?2) - max(first, ?1 + 1) + 1), 0) FROM segments"
        " WHERE last > ?1 AND first <= ?2",
        (after, last),
    ).fetchone()
    return int(last - after - present)


def _load_sinks(connection: sqlite3.Connection, loaded: Loaded) -> None:
    """A sink whose row is damaged or gone begins with the oldest event again; what is parked for it stays."""
    rows = connection.execute("SELECT name, state, crc FROM sinks").fetchall()
    sound = {name: state for name, state, crc in rows if crc == crc32(state.encode())}
    loaded.marks = {name: load_sink(name, json.loads(state)) for name, state in sound.items()}
    _find_ends(connection, loaded)
    parked = {name for (name,) in connection.execute("SELECT DISTINCT sink FROM parked")}
    for name in sorted(parked.union(row[0] for row in rows) - sound.keys()):
        loaded.marks[name] = _marks_anew(connection, name, max(loaded.oldest, loaded.done))


def _marks_anew(connection: sqlite3.Connection, name: str, oldest: Token) -> SinkMarks:
    marks = SinkMarks(name, oldest)
    for (token,) in connection.execute("SELECT seq FROM parked WHERE sink = ? ORDER BY seq", (name,)):
        if token > oldest:
            marks.above.add(token, token)
        else:
            marks.start -= 1  # one more that is this sink's
    marks.frontier = marks.urgent_frontier = marks.known_to()
    return marks


def _find_ends(connection: sqlite3.Connection, loaded: Loaded) -> None:
    first, newest = connection.execute("SELECT min(first), max(last) FROM segments").fetchone()
    row = connection.execute("SELECT value FROM meta WHERE key = 'last'").fetchone()
    done = connection.execute("SELECT value FROM meta WHERE key = 'done'").fetchone()
    # Any of these may have been lost with a damaged file; a number must not be used twice.
    known = [marks.known_to() for marks in loaded.marks.values()]
    loaded.last = max([row[0] if row else 0, newest or 0, *known])
    loaded.oldest = loaded.last if first is None else first - 1
    loaded.done = min(done[0] if done else 0, loaded.last)


def _load_lanes(
    connection: sqlite3.Connection, marks: dict[str, SinkMarks], wall: float, elapsed: float
) -> None:
    lanes = {
        (sink, name): (due, attempts, waited_seconds)
        for sink, name, due, attempts, waited_seconds in connection.execute("SELECT * FROM lanes")
    }
    parked = connection.execute(
        "SELECT sink, lane, count(*), sum(length(content)), min(seq), min(received_ms) FROM parked"
        " GROUP BY sink, lane"
    )
    for sink, name, count, size_bytes, head, oldest_ms in parked:
        if sink in marks:
            due, attempts, waited_seconds = lanes.get((sink, name), (wall, 0, 0.0))
            # The wall clock may have been set meanwhile: never wait longer than an hour for that.
            until = elapsed + min(max(due - wall, 0.0), 3600.0)
            lane = Lane(until, attempts, waited_seconds, head, waiting=count, oldest_ms=oldest_ms)
            marks[sink].lanes.restore(name, lane, size_bytes)


# --- events -----------------------------------------------------------------------------------------


def stretches(
    connection: sqlite3.Connection, token: Token, last: Token, max_events: int, max_bytes: int, paths: Paths
) -> list[Stretch]:
    """What can be read of the numbers from `token` + 1 to `last`, until either bound is reached; at most
    `ROWS_AT_ONCE` runs of them."""
    found: list[Stretch] = []
    events = size = 0
    for segment in _segments(connection, token, last, _WHOLE):
        stretch = decode(segment, paths)
        if found and found[-1].unreadable is not None:  # then its `last` may be nonsense
            found[-1].last = min(found[-1].last, stretch.first - 1)
        found.append(stretch)
        events += sum(1 for item in stretch.items if item.token > token)
        size += sum(len(item.event.content) for item in stretch.items)
        if stretch.unreadable is not None:
            continue  # where it ends shows at the next one
        if events >= max_events or size >= max_bytes or len(found) >= ROWS_AT_ONCE:
            break
    if found:
        found[-1].last = min(found[-1].last, last)
    return found


def whole_segment(connection: sqlite3.Connection, first: Token) -> Segment | None:
    """The segment that begins with this number."""
    row = connection.execute(f"SELECT {_WHOLE} FROM segments WHERE first = ?", (first,)).fetchone()  # noqa: S608
    return Segment(*row) if row else None


def indexes(connection: sqlite3.Connection, token: Token, last: Token, limit: int) -> list[Segment]:
    """The next segments, without their content."""
    return list(islice(_segments(connection, token, last, _INDEX), limit))


_WHOLE = 'first, last, events, size, crc, received_ms, "index", content'
_INDEX = "first, last, events, size, crc, received_ms, \"index\", x''"


def span(connection: sqlite3.Connection, since_ms: int, until_ms: int, last: int) -> tuple[int, int]:
    """The numbers (after, up to) among which everything stands that was received in that time, some more
    besides; commits of different sources may overlap by a moment. Looks at an index only, of which it reads
    what is older than `since_ms`."""
    (first,) = connection.execute(
        "SELECT first FROM segments INDEXED BY segments_sizes WHERE received_ms >= ? ORDER BY first LIMIT 1",
        (since_ms,),
    ).fetchone() or (last + 1,)
    (end,) = connection.execute(
        "SELECT first FROM segments INDEXED BY segments_sizes WHERE received_ms < ?"
        " ORDER BY first DESC LIMIT 1",
        (until_ms,),
    ).fetchone() or (first,)
    (end,) = connection.execute(
        "SELECT max(last) FROM (SELECT last FROM segments WHERE first >= ? ORDER BY first LIMIT ?)",
        (end, 1 + _OVERLAP_SEGMENTS),
    ).fetchone()
    return first - 1, min(max(end or 0, first - 1), last)


def late_to(connection: sqlite3.Connection, token: Token, since_ms: int, last: Token) -> Token:
    """The number, from `token` on, before the first run in which something was received at that time or
    later; `last` where there is none. Looks at an index only."""
    (first,) = connection.execute(
        "SELECT first FROM segments INDEXED BY segments_sizes WHERE received_ms >= ?2"
        " AND first >= (SELECT coalesce(max(first), 0) FROM segments WHERE first <= ?1 + 1)"
        " ORDER BY first LIMIT 1",
        (token, since_ms),
    ).fetchone() or (last + 1,)
    return min(max(token, first - 1), last)


_OVERLAP_SEGMENTS = 8
"""Runs behind the last one that ended in time in which an event of that time may still stand."""


def _segments(connection: sqlite3.Connection, token: Token, last: Token, columns: str) -> Iterator[Segment]:
    (start,) = connection.execute(
        "SELECT coalesce(max(first), 0) FROM segments WHERE first <= ?", (token + 1,)
    ).fetchone()
    rows = connection.execute(
        f"SELECT {columns} FROM segments"  # noqa: S608 - ours
        " WHERE first >= ? AND first <= ? AND last > ? ORDER BY first",
        (start, last, token),
    )
    with contextlib.closing(rows):
        for row in rows:
            yield Segment(*row)


def parked_items(
    connection: sqlite3.Connection, sink: str, lane: str, limit: int, paths: Paths
) -> tuple[list[Item], list[Item]]:
    """The first events of a lane, and those among them whose content is damaged, apart."""
    good: list[Item] = []
    damaged: list[Item] = []
    rows = connection.execute(
        "SELECT seq, path, digest, name, event_ts, key, received_ms, crc, content FROM parked"
        " WHERE sink = ? AND lane = ? ORDER BY seq LIMIT ?",
        (sink, lane, limit),
    )
    for seq, path, digest, name, event_ts, key, received_ms, crc, content in rows.fetchall():
        source, subscription = paths.get(path, UNKNOWN_PATH)
        if type(digest) is not bytes or type(content) is not bytes:
            continue  # as good as gone
        event = Event(digest, source, subscription, name, event_ts, key, received_ms, content)
        (good if checksum(digest, content) == crc else damaged).append(Item(seq, event))
    return good, damaged


# --- dead letters -----------------------------------------------------------------------------------


def dead_items(connection: sqlite3.Connection, numbers: Sequence[int]) -> tuple[list[Item], list[int]]:
    """These dead letters as they are handed out again, and the numbers of those that are damaged."""
    rows = connection.execute(
        "SELECT number, crc, attempts, digest, source, subscription, name, event_ts, key, received_ms,"
        " content FROM dead WHERE number IN (SELECT value FROM json_each(?)) ORDER BY number",
        (json.dumps(list(numbers)),),
    )
    good: list[Item] = []
    damaged: list[int] = []
    for number, crc, attempts, *fields in rows.fetchall():
        event = Event(*fields)
        if not event.digest or not _is_sound(event.digest, event.content, crc):
            damaged.append(number)
        else:
            good.append(Item(-number, event, attempts=attempts, redriven=True))
    return good, damaged


def dead_sinks(connection: sqlite3.Connection, numbers: Sequence[int]) -> list[tuple[int, str, bool, bool]]:
    """(number, sink, whether it holds an event as Zoom sent it, whether it is as it was written) of those of
    these that there are."""
    rows = connection.execute(
        "SELECT number, sink, digest, content, crc FROM dead"
        " WHERE number IN (SELECT value FROM json_each(?)) ORDER BY number",
        (json.dumps(list(numbers)),),
    )
    return [
        (number, sink, bool(digest), _is_sound(digest, content, crc))
        for number, sink, digest, content, crc in rows
    ]


def _is_sound(digest: object, content: object, crc: int) -> bool:
    return type(digest) is bytes and type(content) is bytes and checksum(digest, content) == crc


_LETTER = (
    "SELECT number, sink, source, subscription, digest, name, received_ms, died_ms, reason, attempts,"
    " status, excerpt, redriving, {content} FROM dead "
)


def dead_letters(
    connection: sqlite3.Connection, sink: str | None, limit: int, before: int | None
) -> list[DeadLetter]:
    rows = connection.execute(
        _LETTER.format(content="x''")
        + "WHERE (?1 IS NULL OR sink = ?1) AND (?3 IS NULL OR number < ?3) ORDER BY number DESC LIMIT ?2",
        (sink, limit, before),
    )
    return [_letter(row) for row in rows.fetchall()][::-1]


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
