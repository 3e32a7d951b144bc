"""Events per second of the http sink, beside bare aiohttp and httpx loops that do nothing else.

All send the same 900 bytes, 16 at a time, to a receiver in a process of its own that reads a request and
answers `200` as fast as Python can; one row sends batches of 500. `python -m bench.http_sink` prints the
figures.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from random import Random
from typing import Any, cast

import aiohttp
import httpx
import uvloop
from prometheus_client import CollectorRegistry

from zoomrelay.clock import SystemClock
from zoomrelay.config.models import HttpSinkConfig
from zoomrelay.delivery.batching import Batching
from zoomrelay.delivery.lane_worker import LaneWorker
from zoomrelay.delivery.router import Route
from zoomrelay.event import Event
from zoomrelay.sinks import registry
from zoomrelay.spool.base import SinkStart
from zoomrelay.spool.memory import MemorySpool
from zoomrelay.telemetry.metrics import Metrics

CONCURRENCY = 16
CONTENT = b'{"event":"meeting.started","event_ts":1700000000000,"payload":{"object":{"topic":"%s"}}}' % (
    b"x" * 814
)
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"

WORKERS: dict[str, dict[str, Any]] = {
    "zoomrelay, raw": {},
    "zoomrelay, zoom-webhook": {"format": "zoom-webhook", "secret_token": "secret", "validate": False},
    "zoomrelay, NDJSON batches of 500": {"batch_events": 500},
}
"""Settings beside the usual ones."""

Post = Callable[[], Awaitable[object]]
Loop = Callable[[str], AbstractAsyncContextManager[Post]]


async def measure(seconds: float) -> dict[str, float]:
    """Events per second by name of the loop; each runs for about `seconds`."""
    loops = {"the sink alone": _sink, "aiohttp": _bare_aiohttp, "httpx": _bare_httpx}
    async with receiver() as url:
        workers = {name: await _worker(url, seconds, more) for name, more in WORKERS.items()}
        return workers | {name: await _rate(loop, url, seconds) for name, loop in loops.items()}


async def _rate(loop: Loop, url: str, seconds: float) -> float:
    async with loop(url) as post:
        await _flood(post, seconds / 10)
        return await _flood(post, seconds) / seconds


async def _flood(post: Post, seconds: float) -> int:
    """How many requests were answered when `CONCURRENCY` tasks post for `seconds`."""
    clock = asyncio.get_running_loop().time
    end = clock() + seconds

    async def lane() -> int:
        count = 0
        while clock() < end:
            await post()
            count += 1
        return count

    return sum(await asyncio.gather(*(lane() for _ in range(CONCURRENCY))))


async def _worker(url: str, seconds: float, more: dict[str, Any]) -> float:
    """The same sink behind its worker: read from a spool, in lanes, settled."""
    config = HttpSinkConfig(name="bench", url=url, concurrency=CONCURRENCY, **more)
    spool = MemorySpool(max_bytes=2**30, clock=SystemClock())
    await spool.open([SinkStart(config.name)])
    worker = LaneWorker(
        registry.build(config, SystemClock()), Route(), spool, Random(1), Metrics(CollectorRegistry()),
        ordering="key", give_up_after_seconds=3600,
        batching=Batching(config.batch_events, config.batch_bytes, config.batch_seconds),
    )  # fmt: skip
    task = asyncio.create_task(worker.run())
    count = int(seconds * (8000 if config.batch_events == 1 else 40_000))
    keys = [f"meeting {number}" for number in range(500)]
    began = asyncio.get_running_loop().time()
    for _ in range(0, count, len(keys)):
        await spool.append([an_event(key) for key in keys])
    while spool.stats().sinks[config.name].pending:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.005)
    rate = spool.stats().sinks[config.name].delivered / (asyncio.get_running_loop().time() - began)
    worker.stop()
    await task
    return rate


def an_event(key: str) -> Event:
    """One of 900 bytes."""
    return Event(os.urandom(16), "zoom", "ZhPGtK84QbapRWXzEBW7MA", "meeting.started", None, key, 0, CONTENT)


@asynccontextmanager
async def _sink(url: str) -> AsyncIterator[Post]:
    sink = registry.build(HttpSinkConfig(name="bench", url=url, concurrency=CONCURRENCY), SystemClock())
    event = an_event("")
    await sink.open()
    yield lambda: sink.send((event,), 1)
    await sink.close()


@asynccontextmanager
async def _bare_aiohttp(url: str) -> AsyncIterator[Post]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONCURRENCY)) as session:

        async def post() -> None:
            async with session.post(url, data=CONTENT) as response:
                await response.read()

        yield post


@asynccontextmanager
async def _bare_httpx(url: str) -> AsyncIterator[Post]:
    limits = httpx.Limits(max_connections=CONCURRENCY, max_keepalive_connections=CONCURRENCY)
    async with httpx.AsyncClient(limits=limits) as client:
        yield lambda: client.post(url, content=CONTENT)


@asynccontextmanager
async def receiver() -> AsyncIterator[str]:
    """The address of a receiver in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.http_sink", "receive", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    port = int(await process.stdout.readline())
    try:
        yield f"http://127.0.0.1:{port}/events"
    finally:
        process.terminate()
        await process.wait()


class _Receiver(asyncio.Protocol):
    """Knows of HTTP only where a request ends."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class only behaves like one
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := end_of_request(self._buffer)) is not None:
            self._buffer = self._buffer[end:]
            self._transport.write(ANSWER)


def end_of_request(buffer: bytes) -> int | None:
    """Where the first request ends; None while it is not all here."""
    head = buffer.find(b"\r\n\r\n")
    if head < 0:
        return None
    length = int(buffer[:head].lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or b"0")
    end = head + 4 + length
    return end if len(buffer) >= end else None


async def _receive() -> None:
    server = await asyncio.get_running_loop().create_server(_Receiver, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def _report() -> None:
    for name, rate in (await measure(3.0)).items():
        print(f"{name:>32}  {rate:8,.0f} events/s")


if __name__ == "__main__":
    uvloop.run(_receive() if sys.argv[1:] == ["receive"] else _report())
