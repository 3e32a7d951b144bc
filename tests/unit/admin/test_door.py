"""What strangers can do to the admin port, over raw sockets: little, and not for long."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from tests.unit.admin.fakes import FakeRelay
from zoomrelay.admin.door import HEADERS, MOST_VISITORS, VISIT_SECONDS, Door
from zoomrelay.admin.server import AdminServer

LIVE = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
SHORT_SECONDS = 0.4
"""A visit's end where a test waits for it."""


@asynccontextmanager
async def serving(visit_seconds: float = VISIT_SECONDS) -> AsyncIterator[AdminServer]:
    server = AdminServer("127.0.0.1:0", FakeRelay().status, CollectorRegistry(), visit_seconds=visit_seconds)
    await server.open()
    try:
        yield server
    finally:
        await server.close()


class Stranger:
    """One connection to it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def at(cls, address: tuple[str, int]) -> Stranger:
        return cls(*await asyncio.open_connection(*address))

    async def hears(self) -> bytes:
        """Everything until the end, which must come."""
        heard = b""
        async with asyncio.timeout(10):
            try:
                while portion := await self.reader.read(65536):
                    heard += portion
            except ConnectionResetError:
                pass
        return heard

    def leaves(self) -> None:
        self.writer.close()


async def said(server: AdminServer, request: bytes) -> bytes:
    stranger = await Stranger.at(server.addresses[0])
    stranger.writer.write(request)
    heard = await stranger.hears()
    stranger.leaves()
    return heard


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


async def test_one_request_for_each_connection() -> None:
    async with serving() as server:
        heard = await said(server, LIVE * 50)
    assert heard.count(b"HTTP/1.1 ") == 1 and heard.endswith(b"\r\n\r\nok\n")
    assert b"Connection: close" in heard


@pytest.mark.parametrize(
    "request_head",
    [
        pytest.param(b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", id="line"),
        pytest.param(b"GET /livez HTTP/1.1\r\nX: " + b"a" * 10_000 + b"\r\n\r\n", id="header"),
        pytest.param(b"GET /livez HTTP/1.1\r\n" + b"X: a\r\n" * 1000 + b"\r\n", id="headers"),
        pytest.param(b"GET /livez HTTP/1.1\r\nX: " + b"a" * 1_000_000, id="a header without end"),
        pytest.param(b"a" * 1_000_000, id="a line without end"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", id="TLS"),
        pytest.param(b"GET /livez HTTP/1.1\r\nContent-Length: -1\r\n\r\n", id="a length below nothing"),
        pytest.param(
            b"GET /livez HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            id="two lengths",
        ),
    ],
)
async def test_what_is_too_large_or_no_http_is_refused_and_not_logged(
    request_head: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with serving() as server:
        heard = await said(server, request_head)
        assert status_of(heard) == 400
        head = heard.partition(b"\r\n\r\n")[0].decode()
        assert all(f"{name}: {value}" in head for name, value in HEADERS.items())
        assert status_of(await said(server, LIVE)) == 200
    assert [record.getMessage() for record in caplog.records if record.name.startswith("aiohttp")] == []


@pytest.mark.parametrize("method", [b"get", b"CONNECT", b"GETS", b"G\xcb\x9dT", b""])
@pytest.mark.parametrize("path", [b"/", b"/metrics", b"/livez"])
async def test_odd_methods_get_nothing(method: bytes, path: bytes) -> None:
    async with serving() as server:
        heard = await said(server, method + b" " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert status_of(heard) in (400, 404, 405)


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 5\r\n\r\nhello",
        b"Content-Length: 99999999999\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n",
    ],
    ids=["short", "huge", "chunks"],
)
async def test_a_body_is_refused_unread(body: bytes) -> None:
    async with serving() as server:
        began = time.monotonic()
        heard = await said(server, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n" + body)
        assert status_of(heard) == 413
        assert time.monotonic() - began < VISIT_SECONDS / 2


async def test_who_says_nothing_has_to_go() -> None:
    async with serving(SHORT_SECONDS) as server:
        assert await said(server, b"") == b""


async def test_who_speaks_slowly_has_to_go() -> None:
    async with serving(SHORT_SECONDS) as server:
        stranger = await Stranger.at(server.addresses[0])
        began = time.monotonic()
        over = asyncio.create_task(stranger.hears())
        stranger.writer.write(b"GET /livez HTTP/1.1\r\nX: ")
        while not over.done():
            stranger.writer.write(b"a")
            await asyncio.sleep(0.01)
        assert await over == b""
        assert SHORT_SECONDS * 0.9 < time.monotonic() - began < 5
        stranger.leaves()


async def test_who_reads_slowly_has_to_go() -> None:
    door = Door(lambda _: web.Response(body=bytes(64 * 1024**2)), visit_seconds=SHORT_SECONDS)
    runner = web.ServerRunner(door, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    stranger = await Stranger.at(runner.addresses[0][:2])
    stranger.writer.write(LIVE)
    async with asyncio.timeout(5):
        while not door.connections:  # noqa: ASYNC110 - nobody says so
            await asyncio.sleep(0.01)
        while door.connections:  # noqa: ASYNC110 - nobody says so
            await asyncio.sleep(0.01)
    assert len(await stranger.hears()) < 64 * 1024**2
    stranger.leaves()
    await runner.cleanup()


async def test_who_comes_in_crowds_keeps_no_probe_out() -> None:
    await _crowd()


def test_uvloop_does_the_same() -> None:
    async def all_of_it() -> None:
        await test_one_request_for_each_connection()
        await test_who_speaks_slowly_has_to_go()
        await test_who_reads_slowly_has_to_go()
        await _crowd()

    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(all_of_it())


async def _crowd() -> None:
    """Of many the oldest have to go."""
    async with serving() as server:
        crowd = [await Stranger.at(server.addresses[0]) for _ in range(MOST_VISITORS + 8)]
        assert status_of(await said(server, LIVE)) == 200
        for stranger in crowd[:9]:
            assert await stranger.hears() == b""
        for stranger in crowd[9:]:
            stranger.writer.write(LIVE)
            assert status_of(await stranger.hears()) == 200
        for stranger in crowd:
            stranger.leaves()
