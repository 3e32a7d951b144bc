"""A receiver that is down and then slow, beside another: `python -m bench.outage SECONDS`.

A relay as it is run, with two http sinks, at 500 events a second. One receiver answers 503 for so many
seconds, and afterwards takes its time; the other is well all along. Both are here and check what comes: that
all of it does, how often, in order for each key. Prints one JSON object, ages (from receipt to the receiver)
of what the other one took in each phase among it.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import uvloop

from bench.http_sink import ANSWER, end_of_request
from bench.relay import source
from zoomrelay.intake.identity import Identifier

RATE = 500
CALM_SECONDS = 30
SLOW_SECONDS = 0.01
"""What each answer takes once the receiver is up again: at most 1,600 a second, 16 at a time."""
_REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"


_PARTS = re.compile(
    rb'\{"id":"(?P<id>\w+)".*?"received_at":"(?P<received>[^"]+)","event":(?P<content>.*"bench":"(?P<place>[\d.]+)"\})\}'
)
"""Of an envelope. Not by a JSON decoder: some of the events are as odd as Zoom's can be."""
_read = Identifier("main").read


class Receiver:
    """What one receiver took, and how it is."""

    def __init__(self) -> None:
        self.down = False
        self.answer_seconds = 0.0
        self.times: Counter[str] = Counter()
        self.disorder = 0
        self.refused = 0
        self._latest: dict[str, bytes] = {}
        self._ages_ms: list[float] = []
        self._all_ages_ms: list[float] = []

    async def listen(self) -> int:
        """The port."""
        server = await asyncio.get_running_loop().create_server(lambda: _Door(self), "127.0.0.1", 0)
        return cast(int, server.sockets[0].getsockname()[1])

    def take(self, body: bytes) -> None:
        parts = _PARTS.fullmatch(body)
        assert parts is not None, body
        self.times[parts["id"].decode()] += 1
        received = datetime.fromisoformat(parts["received"].decode())
        self._ages_ms.append((time.time() - received.timestamp()) * 1000)
        key, place = _read(parts["content"], "", 0).key, parts["place"]
        self.disorder += key != "" and place < self._latest.get(key, place)
        self._latest[key] = place

    def ages(self) -> dict[str, float]:
        """Of what was taken since this was asked last, in milliseconds."""
        ages, self._ages_ms = self._ages_ms, []
        self._all_ages_ms += ages
        return _percentiles(ages)

    def all_ages(self) -> dict[str, float]:
        """Of what was asked for so far."""
        return _percentiles(self._all_ages_ms)


def _percentiles(ages_ms: list[float]) -> dict[str, float]:
    ages = sorted(ages_ms)
    return {"p50_ms": ages[len(ages) // 2], "p99_ms": ages[len(ages) * 99 // 100]}


class _Door(asyncio.Protocol):
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := end_of_request(self._buffer)) is not None:
            request, self._buffer = self._buffer[:end], self._buffer[end:]
            receiver = self._receiver
            if receiver.down:
                receiver.refused += 1
                self._transport.write(_REFUSAL)
                continue
            receiver.take(request.partition(b"\r\n\r\n")[2])
            if receiver.answer_seconds:
                asyncio.get_running_loop().call_later(receiver.answer_seconds, self._transport.write, ANSWER)
            else:
                self._transport.write(ANSWER)


async def measure(seconds: int) -> dict[str, Any]:
    crm, other = Receiver(), Receiver()
    count = RATE * (CALM_SECONDS + seconds + seconds // 2)
    phases: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as directory:
        flood = await _python("bench.flood", str(count), str(RATE))
        assert flood.stdout is not None
        zoom = int(await flood.stdout.readline())
        sinks = _REST.format(crm=await crm.listen(), other=await other.listen())
        config = Path(directory, "zoomrelay.toml")
        config.write_text(source(directory, zoom) + sinks)
        relay = await _python("zoomrelay", "run", "--config", str(config))
        try:
            await _until(lambda: len(other.times) > RATE)
            other.ages()
            await asyncio.sleep(CALM_SECONDS)
            phases["calm"] = other.ages()
            crm.down = True
            await asyncio.sleep(seconds)
            phases["down"] = other.ages()
            crm.down, crm.answer_seconds = False, SLOW_SECONDS
            began = time.monotonic()
            backlog = len(other.times) - len(crm.times)
            await _until(lambda: len(other.times) - len(crm.times) < RATE)
            drained_seconds = time.monotonic() - began
            phases["slow, backlog draining"] = other.ages()
            phases["all along"] = other.all_ages()
            await _until(lambda: len(crm.times) == len(other.times) == count)
        finally:
            relay.terminate()
            await relay.wait()
            flood.terminate()
            await flood.wait()
    return {
        "sent": count,
        "taken": {"crm": len(crm.times), "other": len(other.times)},
        "twice": {"crm": crm.times.total() - len(crm.times), "other": other.times.total() - len(other.times)},
        "out_of_order": {"crm": crm.disorder, "other": other.disorder},
        "refused": crm.refused,
        "backlog": backlog,
        "drained_seconds": drained_seconds,
        "other_ages": phases,
    }


async def _python(*arguments: str) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", *arguments, stdin=pipe, stdout=pipe if "flood" in arguments[0] else None
    )


async def _until(so: Callable[[], bool]) -> None:
    """Bounded: whatever hangs, this ends."""
    async with asyncio.timeout(3600):
        while not so():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)


_REST = """
# This Zoom answers no heartbeats, and would begin anew on a new connection.
dead_after_seconds = 3600
[sinks.crm]
type = "http"
url = "http://127.0.0.1:{crm}/"
format = "envelope"
concurrency = 16
[sinks.other]
type = "http"
url = "http://127.0.0.1:{other}/"
format = "envelope"
concurrency = 16
[admin]
listen = ""
[log]
level = "error"
"""


if __name__ == "__main__":
    print(json.dumps(uvloop.run(measure(int(sys.argv[1])))))
