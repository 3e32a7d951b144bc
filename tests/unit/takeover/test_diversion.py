"""The valve: into the journal first, then into intake, and nothing beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.unit.intake.fakes import WALL, HandClock
from zoomrelay.takeover.diversion import Diversion
from zoomrelay.takeover.journal import Journal, Record, read


@dataclass
class Frame:
    content: bytes


class Taker:
    """A consumer and a listener."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.full = False

    def events(self, subscription: str, frames: Sequence[Frame]) -> None:
        self.told.append([frame.content for frame in frames])

    def unreadable(self, subscription: str, raw: bytes, reason: str) -> None:
        self.told.append(("unreadable", raw, reason))

    def refused(self, subscription: str, raw: bytes) -> None:
        self.told.append(("refused", raw))

    async def room(self) -> None:
        self.told.append("room")

    def accepted(self, wall: float, *, at: float | None = None) -> None:
        self.told.append(("accepted", wall, at))

    def lost(self, cause: str, detail: str, *, clean: bool, heard_until: float) -> None:
        self.told.append(("lost", cause, heard_until))

    def alive(self, heard_until: float) -> None:
        self.told.append(("alive", heard_until))


async def test_frames(tmp_path: Path) -> None:
    journal, taker = Journal.create(tmp_path), Taker()
    diversion = Diversion(journal, HandClock())
    service = asyncio.create_task(journal.run())
    source = diversion.source("main")
    assert diversion.source("main") is source
    source.events("sub", [Frame(b"1"), Frame(b"2")])
    source.unreadable("sub", b"?", "why")
    source.refused("sub", b"!")
    diversion.hold()
    assert source.full
    source.events("sub", [Frame(b"3")])
    await service
    now = int(WALL * 1000)
    assert [*read(journal.path)] == [
        Record("main", "sub", now, [b"1", b"2"]),
        Record("main", "sub", now, [b"?"], "unreadable", "why"),
        Record("main", "sub", now, [b"!"], "refused"),
    ]
    assert [each.contents for each in journal.rest] == [[b"3"]]
    waiting = asyncio.create_task(source.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    source.lead_to(taker)
    await waiting
    source.events("sub", [Frame(b"4")])
    source.unreadable("sub", b"?", "why")
    source.refused("sub", b"!")
    assert taker.told == [[b"4"], ("unreadable", b"?", "why"), ("refused", b"!")]
    assert not source.full
    journal.close()


async def test_a_full_journal_holds_the_reader_back_until_the_import(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, max_bytes=100)
    diversion, taker = Diversion(journal, HandClock()), Taker()
    service = asyncio.create_task(journal.run())
    source = diversion.source("main")
    source.events("sub", [Frame(b"x" * 100)])
    assert source.full
    waiting = asyncio.create_task(source.room())
    diversion.hold()
    await service
    assert not waiting.done()
    taker.full = True
    source.lead_to(taker)
    await waiting
    assert taker.told == ["room"]
    journal.close()


async def test_what_the_ledger_is_told(tmp_path: Path) -> None:
    clock, book, taker = HandClock(), Taker(), Taker()
    journal = Journal.create(tmp_path)
    path = Diversion(journal, clock).path("main", "sub")
    assert path.first_accepted is None
    path.accepted(WALL + 1)
    clock.sleep(5)
    path.alive(WALL + 5)
    path.lost("reset", "", clean=False, heard_until=WALL + 4)
    path.accepted(WALL + 6)
    assert path.first_accepted == (WALL + 1, 500.0)
    assert path.tell(book) == WALL + 6
    assert book.told == [
        ("accepted", WALL + 1, 500.0),
        ("lost", "reset", WALL + 4),
        ("accepted", WALL + 6, 505.0),
    ]
    path.lead_to(taker)
    path.alive(WALL + 7)
    path.lost("closed", "", clean=True, heard_until=WALL + 8)
    path.accepted(WALL + 9)
    assert [told[0] for told in taker.told] == ["alive", "lost", "accepted"]
    journal.close()
