"""The loops to compare with, each in a process of its own: `python -m bench.bare KIND PORT COUNT`.

Prints one JSON object: events per second, CPU time per event, peak memory.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from typing import Any

import uvloop
import websockets


class Measure:
    """Rates between the first event and the last."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._began = self._cpu = 0.0

    def begin(self) -> None:
        self._began, self._cpu = time.perf_counter(), time.process_time()

    def end(self, **more: Any) -> None:
        seconds = time.perf_counter() - self._began
        cpu = time.process_time() - self._cpu
        figures = {
            "events_per_second": self._count / seconds,
            "cpu_us": cpu / self._count * 1e6,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        print(json.dumps(figures | more), flush=True)


async def bare(port: int, count: int, *, file: bool) -> None:
    """A websockets loop that only receives; or that also unwraps and writes, promising nothing."""
    measure = Measure(count)
    with tempfile.TemporaryFile() as out:
        async with websockets.connect(f"ws://127.0.0.1:{port}/ws", max_size=None) as socket:
            await socket.recv()
            for number in range(count):
                frame = await socket.recv(decode=False)
                if number == 0:
                    measure.begin()
                if file:
                    out.write(json.loads(frame)["content"].encode() + b"\n")
            measure.end()
            socket.transport.abort()


if __name__ == "__main__":
    uvloop.run(bare(int(sys.argv[2]), int(sys.argv[3]), file=sys.argv[1] == "bare-file"))
