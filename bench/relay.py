"""zoomrelay under a flood, in a process of its own: `python -m bench.relay SPOOL PORT COUNT [WEBHOOK_PORT]`.

Prints one JSON object: events per second, CPU time per event, peak memory, and the time from receipt to the
durable commit and to the durable file.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.bare import Measure
from zoomrelay.app import Relay
from zoomrelay.cli.run import run_loop
from zoomrelay.config.load import load
from zoomrelay.event import Event
from zoomrelay.sinks.file import FileSink
from zoomrelay.spool.base import SourceCounts
from zoomrelay.spool.memory import MemorySpool
from zoomrelay.spool.sqlite import SqliteSpool
from zoomrelay.telemetry.logs import configure_logging


class Latencies:
    """Times from receipt, in batches: within one, receipt is taken to be even between first and last. Kept to
    a tenth of a millisecond, so that a million take no more memory than a thousand."""

    def __init__(self) -> None:
        self._tenths: Counter[int] = Counter()

    def note(self, events: Sequence[Event]) -> None:
        now_ms = time.time() * 1000
        first, last = events[0].received_ms, events[-1].received_ms
        steps = min(len(events), 10)
        for n in range(steps):
            tenths = int((now_ms - first - (last - first) * n / steps) * 10)
            self._tenths[tenths] += len(events) // steps

    def figures(self, name: str) -> dict[str, float]:
        return {f"{name}_p{percent}_ms": self._below(percent) for percent in (50, 99)}

    def _below(self, percent: int) -> float:
        left = self._tenths.total() * percent / 100
        for tenths, count in sorted(self._tenths.items()):
            left -= count
            if left < 0:
                return tenths / 10
        return 0.0


async def relay(port: int, count: int, *, spool: str, webhook_port: int = 0) -> None:
    durable, filed = Latencies(), Latencies()
    subscriptions = 2 if spool == "twins" else 1
    spool = "sqlite" if spool == "twins" else spool
    measure = Measure(count * subscriptions)
    _watch(SqliteSpool if spool == "sqlite" else MemorySpool, "append", durable, measure)
    _watch(FileSink, "send", filed)
    with tempfile.TemporaryDirectory() as directory:
        config = Path(directory, "zoomrelay.toml")
        webhook = _WEBHOOK.format(port=webhook_port) if webhook_port else ""
        config.write_text(configuration(directory, port, spool, subscriptions) + webhook)
        loaded = load(config, environ={}).config
        configure_logging(loaded.log)
        running = Relay(loaded)
        task = asyncio.create_task(running.run())
        await running.started.wait()
        growth = await _until_delivered(running, count, merged=count * (subscriptions - 1))
        measure.end(**durable.figures("durable"), **filed.figures("file"), resident_mb=growth)
        running.stop()
        await task


async def _until_delivered(running: Relay, count: int, *, merged: int) -> list[float]:
    """Wait for the last event and copy; the resident memory (MB) at each fifth of the way."""
    samples: list[float] = []
    while True:
        stats = running.spool.stats()
        delivered = stats.sinks["out"].delivered
        if delivered >= count and stats.sources.get("main", SourceCounts()).merged >= merged:
            return [*samples, resident_mb()]
        if len(samples) < 5 and delivered >= count * (len(samples) + 1) // 5:
            samples.append(resident_mb())
        await asyncio.sleep(0.05)


def resident_mb(process: str = "self") -> float:
    """Memory that a process has now; Linux only."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1024 / 1024


def _watch(kind: type[Any], method: str, latencies: Latencies, measure: Measure | None = None) -> None:
    """Measure around the real method."""
    original = getattr(kind, method)
    begun: list[bool] = []

    async def watched(self: Any, events: Sequence[Event], *arguments: Any) -> None:
        if measure and not begun:
            begun.append(True)
            measure.begin()
        await original(self, events, *arguments)
        latencies.note(events)

    setattr(kind, method, watched)


def configuration(directory: str, port: int, spool: str, subscriptions: int = 1) -> str:
    """What the relay is given, as TOML."""
    return source(directory, port, subscriptions) + _REST.format(directory=directory, spool=spool)


def source(directory: str, port: int, subscriptions: int = 1) -> str:
    """The beginning of it: state directory and source, whose table may be continued."""
    ids = ", ".join(f'"BenchSubscription{number}"' for number in range(subscriptions))
    return _SOURCE.format(directory=directory, port=port, ids=ids)


_SOURCE = """
state_dir = "{directory}/state"
[sources.main]
account_id = "account"
client_id = "client"
client_secret = "secret-of-the-bench"
subscriptions = [{ids}]
token_url = "http://127.0.0.1:{port}/oauth/token"
ws_url = "ws://127.0.0.1:{port}/ws"
"""
_REST = """
[spool]
type = "{spool}"
[sinks.out]
type = "file"
path = "{directory}/events.ndjson"
[admin]
listen = ""
[log]
level = "error"
"""


_WEBHOOK = """
[sources.main.webhook]
listen = "127.0.0.1:{port}"
secret_token = "secret-token-of-the-bench"
"""


if __name__ == "__main__":
    webhook_port = int(sys.argv[4]) if len(sys.argv) > 4 else 0
    run_loop(relay(int(sys.argv[2]), int(sys.argv[3]), spool=sys.argv[1], webhook_port=webhook_port))
