"""The spool's file and its threads."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from zoomrelay.spool.sqlite_database import Database


async def test_a_call_that_hangs_shows(tmp_path: Path) -> None:
    database = Database(tmp_path / "spool.sqlite", lambda: None)
    await database.open()
    assert database.busy_seconds() == 0
    goes_on = threading.Event()
    hanging = asyncio.create_task(database.write(lambda _: goes_on.wait(30)))
    await asyncio.sleep(0.05)
    behind = asyncio.create_task(database.write(lambda _: None))
    await asyncio.sleep(0.05)
    assert database.busy_seconds() > 0.09, "counted from the oldest"
    goes_on.set()
    await asyncio.gather(hanging, behind)
    assert database.busy_seconds() == 0
    await database.close()
