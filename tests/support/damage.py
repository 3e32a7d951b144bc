"""Damage to the files of a spool, as disks and people do it. Chance is passed in."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random

_HEADER_BYTES = 100


def do(state: Path, how: str, random: Random) -> None:
    """Do as a word of `schedule.DAMAGES` says, to the spool in this state directory."""
    file, log = state / "spool.sqlite", state / "spool.sqlite-wal"
    match how:
        case "remove directory":
            state.rename(state.with_name("going"))
            shutil.rmtree(state.with_name("going"))
        case "remove log":
            log.unlink(missing_ok=True)
        case "cut log":
            _cut(log, random)
        case "cut file":
            _cut(file, random)
        case "header":
            _overwrite(file, 0, random.randbytes(_HEADER_BYTES))
        case "flip":
            at = random.randrange(max(1, file.stat().st_size))
            _overwrite(file, at, random.randbytes(1))
        case _:
            raise AssertionError(how)


def move_log_into_file(state: Path) -> None:
    """As SQLite does it now and then, so that damage to the file costs something. Nobody has it open."""
    with closing(sqlite3.connect(state / "spool.sqlite")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()


def _cut(file: Path, random: Random) -> None:
    if file.exists() and file.stat().st_size:
        os.truncate(file, random.randrange(file.stat().st_size))


def _overwrite(file: Path, at: int, content: bytes) -> None:
    with file.open("r+b") as opened:
        opened.seek(at)
        opened.write(content)
