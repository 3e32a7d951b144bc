"""Order per key and no loss, under every format and in batches, at a receiver that fails at random."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest
from aiohttp import web
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

EVENTS, KEYS = 160, 9
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
POISON = 77
"""Refused for good wherever it is."""

Read = Callable[[bytes], list[Any]]


def lines(body: bytes) -> list[Any]:
    return [json.loads(line) for line in body.splitlines()]


def one(body: bytes) -> list[Any]:
    return [json.loads(body)]


# Settings, how a body is read, and where in it the event is.
FORMATS: list[tuple[dict[str, Any], Read, str]] = [
    ({"format": "raw"}, one, ""),
    ({"format": "envelope"}, one, "event"),
    ({"format": "zoom-webhook", "secret_token": SECRET, "validate": False}, one, ""),
    ({"format": "cloudevents"}, one, "data"),
    ({"format": "cloudevents", "cloudevents_mode": "binary"}, one, ""),
    ({"format": "standard-webhooks", "secret_token": SECRET}, one, "data"),
    ({"format": "splunk-hec", "secret_token": SECRET}, one, "event"),
    ({"format": "raw", "batch_events": 20}, lines, ""),
    ({"format": "envelope", "batch_events": 7}, lines, "event"),
    ({"format": "cloudevents", "batch_events": 20}, json.loads, "data"),
    (
        {"format": "splunk-hec", "secret_token": SECRET, "batch_events": 50},
        lines,
        "event",
    ),
    ({"format": "raw", "batch_events": 20, "compression": "gzip"}, lines, ""),
]


class Receiver:
    """Takes whole requests, and answers 503 or nothing to some, before or after it took them."""

    def __init__(self, read: Read, place: str) -> None:
        self._random = Random("formats")
        self._read = read
        self._place = place
        self.taken: list[tuple[str, int]] = []

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        if request.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        found = [each[self._place] if self._place else each for each in self._read(body)]
        chance = self._random.random()
        if chance < 0.1:
            return web.Response(status=503)
        if any(event["n"] == POISON for event in found):
            return web.Response(status=422)
        self.taken += [(event["key"], event["n"]) for event in found]
        if chance < 0.15:
            assert request.transport is not None
            request.transport.abort()
        return web.Response(status=502 if chance < 0.2 else 200)


@asynccontextmanager
async def serving(receiver: Receiver) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/", receiver.take)
    # What compresses is read as it came.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, auto_decompress=False)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    await runner.cleanup()


def event(number: int) -> Event:
    key = f"key{number % KEYS}"
    content = json.dumps({"event": "x", "key": key, "n": number}).encode()
    return Event(number.to_bytes(16), "main", "sub", "x", None, key, 0, content)


def named(settings: dict[str, Any]) -> str:
    return " ".join(str(value) for key, value in settings.items() if key not in ("secret_token", "validate"))


@pytest.mark.parametrize(
    ("settings", "read", "place"), FORMATS, ids=[named(settings) for settings, _, _ in FORMATS]
)
async def test_order_is_kept(settings: dict[str, Any], read: Read, place: str) -> None:
    receiver = Receiver(read, place)
    async with serving(receiver) as url, asyncio.timeout(30):
        config = HttpSinkConfig(name="crm", url=url, batch_seconds=0.02, **settings)
        spool = MemorySpool(max_bytes=2**30, clock=SystemClock())
        await spool.open([SinkStart("crm")])
        worker = LaneWorker(
            registry.build(config, SystemClock()),
            Route(),
            spool,
            Random(1),
            Metrics(CollectorRegistry()),
            ordering="key",
            give_up_after_seconds=3600,
            batching=Batching(config.batch_events, config.batch_bytes, config.batch_seconds),
        )
        task = asyncio.create_task(worker.run())
        await spool.append([event(number) for number in range(EVENTS)])
        last = EVENTS
        while spool.stats().sinks["crm"].pending:
            await spool.append([event(last)])  # what is taken meanwhile shows whose fault a refusal is
            last += 1
            await asyncio.sleep(0.2)
        worker.stop()
        await task
    counts = spool.stats().sinks["crm"]
    assert (counts.delivered, counts.dead, counts.conservation_error) == (last - 1, 1, 0)
    firsts: dict[str, list[int]] = defaultdict(list)
    for key, number in dict.fromkeys(receiver.taken):
        firsts[key].append(number)
    assert sorted(number for numbers in firsts.values() for number in numbers) == [
        n for n in range(last) if n != POISON
    ]
    assert all(numbers == sorted(numbers) for numbers in firsts.values())
