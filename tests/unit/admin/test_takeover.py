"""Both ends of a takeover's conversation, over a real control socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from tests.unit.admin.fakes import FakeRelay
from zoomrelay.admin.control import ControlServer
from zoomrelay.admin.socket_path import control_socket_path
from zoomrelay.admin.takeover import Predecessor
from zoomrelay.errors import RelayNotRunning, TakeoverRefused
from zoomrelay.takeover.messages import Begin, Line, Offer, Paths, Released

BEGIN = Begin("1.0", 12, "takeover-12-aa.journal", {"admin": "00"})
OFFER = Offer("0.9", 11, 1, ["admin"], {"main/a": True})


class FakeHandover:
    """The old side: does what it is told, and notes it."""

    def __init__(self) -> None:
        self.noted: list[object] = []
        self.refuses = ""
        self.lines: asyncio.Queue[Line] = asyncio.Queue()
        self.gone_from = asyncio.Event()

    def begin(self, asked: Begin) -> Line:
        if self.refuses:
            raise TakeoverRefused(self.refuses)
        self.noted.append(asked)
        return Line(offer=OFFER)

    async def refused(self, told: Paths) -> None:
        self.noted.append(("refused", told))

    def ready(self, told: Paths) -> None:
        if self.refuses:
            raise TakeoverRefused(self.refuses)
        self.noted.append(("ready", told))

    def gone(self, journal: str) -> None:
        self.noted.append(("gone", journal))
        self.gone_from.set()

    async def line(self, journal: str, beat_seconds: float) -> Line | None:
        assert journal == BEGIN.journal
        try:
            async with asyncio.timeout(beat_seconds):
                return await self.lines.get()
        except TimeoutError:
            return None


class Old(FakeRelay):
    def __init__(self) -> None:
        super().__init__()
        self.handover = FakeHandover()


@pytest.fixture
async def old(tmp_path: Path) -> AsyncIterator[FakeHandover]:
    relay = Old()
    server = ControlServer(tmp_path, relay)  # type: ignore[arg-type]
    await server.open()
    yield relay.handover
    await server.close()


@asynccontextmanager
async def new(directory: Path) -> AsyncIterator[Predecessor]:
    predecessor = Predecessor(directory, BEGIN.journal)
    try:
        yield predecessor
    finally:
        await predecessor.close()


async def test_to_the_end(tmp_path: Path, old: FakeHandover) -> None:
    async with new(tmp_path) as predecessor:
        assert await predecessor.begin(BEGIN) == OFFER
        listening = asyncio.create_task(predecessor.run())
        await predecessor.refused(["main/a"])
        await predecessor.ready(["main/a"])
        assert not predecessor.ended.is_set()
        old.lines.put_nowait(Line(released=Released(["00" * 16])))
        async with asyncio.timeout(10):
            await predecessor.ended.wait()
        predecessor.check()
        assert predecessor.timeless == [b"\0" * 16]
        await listening
    told = Paths(BEGIN.journal, ["main/a"])
    assert old.noted == [BEGIN, ("refused", told), ("ready", told), ("gone", BEGIN.journal)]


async def test_the_old_one_goes_on(tmp_path: Path, old: FakeHandover) -> None:
    async with new(tmp_path) as predecessor:
        await predecessor.begin(BEGIN)
        old.lines.put_nowait(Line(cancelled="no patience"))
        await asyncio.wait_for(predecessor.run(), 10)
        with pytest.raises(TakeoverRefused, match="goes on: no patience"):
            predecessor.check()


async def test_the_new_one_dies(tmp_path: Path, old: FakeHandover) -> None:
    async with new(tmp_path) as predecessor:
        await predecessor.begin(BEGIN)
    async with asyncio.timeout(10):
        await old.gone_from.wait()


async def test_refusals(tmp_path: Path, old: FakeHandover) -> None:
    async with new(tmp_path) as predecessor:
        old.refuses = "it is stopping"
        with pytest.raises(TakeoverRefused, match="refuses: it is stopping"):
            await predecessor.begin(BEGIN)
        with pytest.raises(TakeoverRefused, match="it is stopping"):
            await predecessor.ready([])


async def test_nobody_is_there(tmp_path: Path) -> None:
    async with new(tmp_path) as predecessor:
        with pytest.raises(RelayNotRunning):
            await predecessor.begin(BEGIN)
    control_socket_path(tmp_path).touch()
    async with new(tmp_path) as predecessor:
        with pytest.raises(RelayNotRunning):
            await predecessor.begin(BEGIN)


async def test_an_older_version(tmp_path: Path) -> None:
    runner = web.AppRunner(web.Application())
    await runner.setup()
    await web.UnixSite(runner, str(control_socket_path(tmp_path))).start()
    async with new(tmp_path) as predecessor:
        with pytest.raises(TakeoverRefused, match="cannot be taken over: stop it"):
            await predecessor.begin(BEGIN)
    await runner.cleanup()
