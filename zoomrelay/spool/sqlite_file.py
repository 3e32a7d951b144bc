"""The spool's file: its tables, how it is opened and checked, and what becomes of a damaged one.

    spool.sqlite            format 1, WAL, synchronous = FULL: a commit is on the disk when it returns
    spool.sqlite.damaged-N  a file that could not be used, set aside (see `sqlite_salvage.py`)

Tables

    segments      the stream: runs of events in the order in which they were held (see `segment.py`); a
                  run goes as a whole once no sink waits for any of it, and it was retained long enough
    paths         numbers for (source, subscription), and the durable counters of each
    sinks         one row per sink: its marks and counters, as JSON
    parked        copies of the events that wait in a lane of their own, so that segments can go
    lanes         when the head of each parked lane is due, and how often it was tried
    dead          dead letters, self-contained; `sink` is empty for an unreadable frame of a source, `digest`
                  where it does not hold an event as Zoom sent it
    identities    of events whose copies are merged: runs of digests, of the last two generations
    meta          `last`: the newest number given to an event. Numbers are never used twice. `done`: about the
                  newest number that every sink is done with, where delivered events are retained

The view `events` shows the stream one event per row, for people with a sqlite3 shell.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from zoomrelay.durable import sync_directory
from zoomrelay.errors import SpoolError, SpoolFormatError

FORMAT = 1
PAGE_BYTES = 8192
APPLICATION_ID = 0x7A6D7231  # "zmr1"
COMPANIONS = ("", "-wal", "-shm")
"""What is added to the file's name for each of the files that belong together."""
_RESERVE_BYTES = 16 * 1024 * 1024
"""More than the log has when it is about to be emptied."""

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE paths (
    id INTEGER PRIMARY KEY, source TEXT NOT NULL, subscription TEXT NOT NULL,
    appended INTEGER NOT NULL DEFAULT 0, merged INTEGER NOT NULL DEFAULT 0,
    quarantined INTEGER NOT NULL DEFAULT 0, unheld INTEGER NOT NULL DEFAULT 0,
    last_received_ms INTEGER NOT NULL DEFAULT 0,
    UNIQUE (source, subscription));
CREATE TABLE segments (
    first INTEGER PRIMARY KEY, last INTEGER NOT NULL, events INTEGER NOT NULL, size INTEGER NOT NULL,
    crc INTEGER NOT NULL, received_ms INTEGER NOT NULL, "index" BLOB NOT NULL, content BLOB NOT NULL);
CREATE INDEX segments_sizes ON segments (first, last, size, events, received_ms);
CREATE TABLE sinks (name TEXT PRIMARY KEY, state TEXT NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE parked (
    sink TEXT NOT NULL, lane TEXT NOT NULL, seq INTEGER NOT NULL, path INTEGER NOT NULL,
    digest BLOB NOT NULL, name TEXT NOT NULL, event_ts INTEGER, key TEXT NOT NULL,
    received_ms INTEGER NOT NULL, crc INTEGER NOT NULL, content BLOB NOT NULL);
CREATE UNIQUE INDEX parked_order ON parked (sink, lane, seq);
CREATE TABLE lanes (
    sink TEXT NOT NULL, lane TEXT NOT NULL, due REAL NOT NULL, attempts INTEGER NOT NULL,
    waited_seconds REAL NOT NULL, PRIMARY KEY (sink, lane)) WITHOUT ROWID;
CREATE TABLE dead (
    number INTEGER PRIMARY KEY AUTOINCREMENT, sink TEXT NOT NULL, size INTEGER NOT NULL,
    redriving INTEGER NOT NULL, source TEXT NOT NULL, subscription TEXT NOT NULL, digest BLOB NOT NULL,
    name TEXT NOT NULL, event_ts INTEGER, key TEXT NOT NULL, received_ms INTEGER NOT NULL,
    died_ms INTEGER NOT NULL, reason TEXT NOT NULL, attempts INTEGER NOT NULL, status INTEGER,
    excerpt TEXT NOT NULL, crc INTEGER NOT NULL, content BLOB NOT NULL);
CREATE INDEX dead_sizes ON dead (sink, size);
CREATE TABLE identities (
    number INTEGER PRIMARY KEY, generation INTEGER NOT NULL, crc INTEGER NOT NULL, digests BLOB NOT NULL);
CREATE VIEW events AS
    SELECT s.first + json_extract(e.value, '$[0]') AS seq,
           'z1_' || json_extract(e.value, '$[2]') AS id,
           p.source AS source, p.subscription AS subscription,
           json_extract(e.value, '$[3]') AS event,
           json_extract(e.value, '$[4]') AS event_ts,
           json_extract(e.value, '$[5]') AS key,
           json_extract(e.value, '$[6]') AS received_ms,
           CAST(substr(s.content, json_extract(e.value, '$[8]') + 1, json_extract(e.value, '$[9]')) AS TEXT)
               AS content
      FROM segments AS s, json_each(CAST(s."index" AS TEXT)) AS e
      JOIN paths AS p ON p.id = json_extract(e.value, '$[1]');
"""


class Damaged(Exception):
    """The file is not usable as it is, but may be in parts."""


class DiskFull(SpoolError):
    """There is no room for new events; letting others go would help."""


@contextlib.contextmanager
def errors_as_ours(path: Path) -> Iterator[None]:
    """Raise `Damaged` where an error speaks of the file's content, and `SpoolError` where it speaks of the
    disk, of a lock or of rights."""
    try:
        yield
    except sqlite3.Error as error:
        if is_damage(error):
            raise Damaged(str(error)) from error
        raise SpoolError(f"cannot use the spool {path}: {error}") from error
    except OSError as error:
        raise SpoolError(f"cannot use the spool {path}: {error.strerror}") from error


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the error speaks of the file's content (or that it ends too soon), rather than of the disk or
    of a lock."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # raised by the module itself, for text that is none
        return type(error) is sqlite3.OperationalError and "decode" in str(error)
    if code == sqlite3.SQLITE_IOERR_SHORT_READ:
        return True
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def connect(path: Path, mode: str = "mode=rw") -> sqlite3.Connection:
    """A connection in autocommit mode, for one thread at a time; transactions are begun by hand."""
    uri = f"{path.resolve().as_uri()}?{mode}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=5)


def open_checked(path: Path) -> sqlite3.Connection:
    """Open or create the spool's file, for writing.

    Raises `SpoolFormatError` for a newer format or another program's file, which is left untouched;
    `Damaged` for one that is damaged at its head or tail; `SpoolError` where the disk does not let us.
    """
    with errors_as_ours(path):
        make_private(path)
        if path.stat().st_size:
            _refuse_foreign(path)
        elif path.with_name(path.name + "-wal").exists():
            raise Damaged("the file is empty, its write-ahead log is not")
        return _open_writing(path)


def look(path: Path) -> None:
    """Look at head and tail of a file that nobody has open, as `open_checked` does, and leave everything as
    it is. Raises as that does; `FileNotFoundError` where there is none."""
    if not path.stat().st_size:
        return  # a relay was stopped before it had made its tables
    with errors_as_ours(path):
        _refuse_foreign(path)
        with contextlib.closing(connect(path, _read_only(path))) as connection:
            _check_head_and_tail(connection)


def verify(path: Path) -> None:
    """Look through the whole file as it is on the disk, a second per 100 MB. Raises `Damaged`."""
    if not path.stat().st_size:  # where it is empty, opening it would cost its log
        raise Damaged("the file is empty")
    # A connection of its own: the pages that another remembers may be better than the file.
    with contextlib.closing(connect(path, "mode=ro")) as connection:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise Damaged(found)


def refuse_full_disk(connection: sqlite3.Connection, path: Path, size_bytes: int) -> None:
    """Raise `DiskFull` where so many bytes more would leave less than the reserve, on the disk and in the
    file together: a file never becomes smaller, but it is filled again.

    Events that have ended are let go of through the log too, and the log can be emptied only where the file
    can grow. On a disk without any room nothing would ever change again.
    """
    disk = os.statvfs(path.parent)
    left, reserve = disk.f_bavail * disk.f_frsize, min(_RESERVE_BYTES, disk.f_blocks * disk.f_frsize // 3)
    (free_pages,) = connection.execute("PRAGMA freelist_count").fetchone()
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    left -= max(0, pages * PAGE_BYTES - path.stat().st_size)  # still in the log, about to go into the file
    if left + free_pages * PAGE_BYTES - size_bytes < reserve:
        raise DiskFull(
            f"cannot use the spool {path}: the disk is full; {left >> 10} KiB are left,"
            f" of which {reserve >> 10} KiB are not for new events"
        )


def make_private(path: Path) -> None:
    """Create the file if there is none, and give it mode 0600; its companions take the same."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)
    sync_directory(path.parent)


def _read_only(path: Path) -> str:
    # Closing a writing connection would move a log left by a kill into the file. Where there is no log,
    # even a reading one would leave an empty log behind, unless the file is said to stand still.
    return "mode=ro" if path.with_name(path.name + "-wal").exists() else "mode=ro&immutable=1"


def _refuse_foreign(path: Path) -> None:
    with contextlib.closing(connect(path, _read_only(path))) as connection:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application != APPLICATION_ID and (application or version or tables):
        raise SpoolFormatError(
            f"{path} is a SQLite file of another program; set another state_dir. The file was left untouched."
        )
    if version > FORMAT:
        raise SpoolFormatError(
            f"{path} has format {version}, this zoomrelay knows {FORMAT}: it was written by a newer version;"
            " install that version again, or set another state_dir. The file was left untouched."
        )


def _open_writing(path: Path) -> sqlite3.Connection:
    connection = connect(path)
    try:
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise SpoolError(f"the file system of {path} does not take SQLite's write-ahead log")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 1000")
        connection.execute(f"PRAGMA journal_size_limit = {64 * 1024 * 1024}")
        connection.execute("PRAGMA cache_size = -8192")
        _create_tables(connection)
        _check_head_and_tail(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _create_tables(connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == 0:
        connection.executescript(
            f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA application_id = {APPLICATION_ID};"
            f" PRAGMA user_version = {FORMAT}; COMMIT;"
        )


def _check_head_and_tail(connection: sqlite3.Connection) -> None:
    """Read every small table's first row and the newest segment. A full check would take a second per
    100 MB; rows are checked by their CRC when they are read."""
    for table in ("meta", "paths", "sinks", "lanes", "parked", "dead", "identities"):
        connection.execute(f"SELECT * FROM {table} LIMIT 1").fetchone()  # noqa: S608 - names are ours
    connection.execute("SELECT * FROM segments ORDER BY first DESC LIMIT 1").fetchone()
    connection.execute("SELECT * FROM segments ORDER BY first LIMIT 1").fetchone()
