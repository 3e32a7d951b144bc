"""A backlog drains: `python -m bench.backlog COUNT` fills a SQLite spool with so many events while the http
sink is away, and then lets it catch up, in batches of 500, with a receiver in a process of its own.

Prints one JSON object: events per second live (each sent as soon as it is held) and out of the backlog,
resident memory at each fifth of the way, and half-way what the estimate said and how long it took.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from random import Random
from typing import Any

import uvloop
from prometheus_client import CollectorRegistry

from bench.http_sink import CONCURRENCY, an_event, receiver
from bench.relay import resident_mb
from zoomrelay.admin.drain_rate import DrainRate
from zoomrelay.clock import SystemClock
from zoomrelay.config.models import HttpSinkConfig
from zoomrelay.delivery.batching import Batching
from zoomrelay.delivery.lane_worker import LaneWorker
from zoomrelay.delivery.router import Route
from zoomrelay.sinks import registry
from zoomrelay.spool.base import SinkCounts, SinkStart
from zoomrelay.spool.sqlite import SqliteSpool
from zoomrelay.telemetry.metrics import Metrics

BATCH = 500
AT_ONCE = 1000
"""Events in one commit, as under a flood."""
KEYS = [f"meeting {number}" for number in range(500)]
_TICK_SECONDS = 0.01


class Bench:
    """One spool with one sink."""

    def __init__(self, directory: Path, url: str) -> None:
        self.spool = SqliteSpool(directory, max_bytes=2**34, clock=SystemClock())
        self._config = HttpSinkConfig(name="bench", url=url, concurrency=CONCURRENCY, batch_events=BATCH)
        self._clock = asyncio.get_running_loop().time

    @property
    def counts(self) -> SinkCounts:
        return self.spool.stats().sinks["bench"]

    async def fill(self, count: int) -> None:
        for start in range(0, count, AT_ONCE):
            await self.spool.append([an_event(KEYS[n % len(KEYS)]) for n in range(start, start + AT_ONCE)])

    def start(self) -> tuple[LaneWorker, asyncio.Task[None]]:
        worker = LaneWorker(
            registry.build(self._config, SystemClock()), Route(), self.spool, Random(1),
            Metrics(CollectorRegistry()), ordering="key", give_up_after_seconds=3600,
            batching=Batching(BATCH, 2**20, 0.1),
        )  # fmt: skip
        return worker, asyncio.create_task(worker.run())

    async def live(self, count: int) -> float:
        """Events per second of a sink that keeps up, while they come as fast as it takes them."""
        began, before = self._clock(), self.counts.delivered
        for _ in range(0, count, AT_ONCE):
            await self.fill(AT_ONCE)
            while self.counts.pending > 5 * AT_ONCE:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.001)
        while self.counts.pending:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        return (self.counts.delivered - before) / (self._clock() - began)

    async def drain(self, count: int) -> dict[str, Any]:
        """Watch a backlog of `count` until it is gone."""
        began, rate = self._clock(), DrainRate()
        samples: list[float] = []
        half_way = estimate = 0.0
        while pending := self.counts.pending:
            now = self._clock()
            seconds = rate.seconds_until_drained(now, pending, count - pending)
            if count - pending >= count * (len(samples) + 1) // 5:
                samples.append(resident_mb())
            if not half_way and pending <= count // 2:
                half_way, estimate = now, seconds
            await asyncio.sleep(_TICK_SECONDS)
        ended = self._clock()
        return {
            "events_per_second": count / (ended - began),
            "resident_mb": [*samples, resident_mb()],
            "estimated_seconds": estimate,
            "took_seconds": ended - half_way,
        }


async def measure(count: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as directory:
        async with receiver() as url:
            bench = Bench(Path(directory), url)
            await bench.spool.open([SinkStart("bench")])
            worker, task = bench.start()
            await bench.live(count // 20)  # warm up
            live = await bench.live(count // 5)
            worker.stop()
            await task
            await bench.fill(count)
            filled_mb = resident_mb()
            worker, task = bench.start()
            figures = await bench.drain(count)
            worker.stop()
            await task
            await bench.spool.close()
    return {"live_events_per_second": live, "filled_mb": filled_mb, **figures}


if __name__ == "__main__":
    print(json.dumps(uvloop.run(measure(int(sys.argv[1])))))
