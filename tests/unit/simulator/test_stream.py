"""Pace, in virtual time, against a gateway that only counts."""

import asyncio
import json
from collections.abc import Sequence
from random import Random

import pytest

from zoomrelay.simulator.faults import Faults
from zoomrelay.simulator.script import Script
from zoomrelay.simulator.stream import Stream
from zoomrelay.simulator.wire import Frame

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


class _LoopClock:
    def wall(self) -> float:
        return 1_790_000_000 + asyncio.get_running_loop().time()

    def elapsed(self) -> float:
        return asyncio.get_running_loop().time()


class _Gateway:
    """Keeps what it is given, with the time; its reader pauses once for as long as it is told to."""

    def __init__(self) -> None:
        self.frames: list[tuple[float, Frame]] = []
        self.drain_seconds = 0.0
        self.subscriptions = ("main",)

    def deliver(self, subscription: str, frames: Sequence[Frame]) -> bool:
        now = asyncio.get_running_loop().time()
        self.frames += [(now, frame) for frame in frames]
        return True

    async def drain(self) -> None:
        pause, self.drain_seconds = self.drain_seconds, 0.0
        await asyncio.sleep(pause)


def _stream(gateway: _Gateway, faults: Faults | None = None, **options: object) -> Stream:
    script = Script(Random(0), mix={"user": 1})
    settings: dict[str, object] = {"rate": 0.0, "count": None, "secret_token": "", "changed": lambda: None}
    return Stream(script, gateway, faults or Faults(), _LoopClock(), **settings | options)  # type: ignore[arg-type]


async def _run(stream: Stream, seconds: float) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds):
            await stream.run()


@pytest.mark.parametrize("rate", [0.5, 3, 2000])
async def test_the_rate_is_kept(rate: float) -> None:
    gateway = _Gateway()
    await _run(_stream(gateway, rate=rate), 4)
    assert abs(len(gateway.frames) - rate * 4) <= max(1, rate * 0.01)


async def test_events_are_spread_evenly() -> None:
    gateway = _Gateway()
    await _run(_stream(gateway, rate=2000), 2)
    per_tenth = [sum(int(at * 10) == tenth for at, _ in gateway.frames) for tenth in range(1, 19)]
    assert all(abs(count - 200) <= 20 for count in per_tenth), per_tenth


async def test_a_count_ends_it() -> None:
    gateway = _Gateway()
    stream = _stream(gateway, rate=100, count=25)
    await _run(stream, 5)
    assert len(gateway.frames) == stream.emitted == 25
    assert stream.finished


async def test_a_new_rate_holds_from_now_on() -> None:
    gateway = _Gateway()
    stream = _stream(gateway, rate=100)
    await _run(stream, 1)
    before = len(gateway.frames)
    stream.rate = 0
    await _run(stream, 5)
    assert len(gateway.frames) == before
    with pytest.raises(ValueError):
        stream.rate = -1


async def test_a_long_stall_is_not_made_up_for_at_once() -> None:
    gateway = _Gateway()
    stream = _stream(gateway, rate=100)
    gateway.drain_seconds = 20.0  # once
    await _run(stream, 22)
    assert 250 <= len(gateway.frames) <= 310, "one second's worth is, and then the rate goes on"


async def test_late_events_are_sent_when_the_stream_rests() -> None:
    gateway = _Gateway()
    stream = _stream(gateway, Faults(late_every=2, late_seconds=3))
    await stream.burst(4)
    assert len(gateway.frames) == 2
    assert not stream.finished
    await _run(stream, 4)
    assert [round(at) for at, _ in gateway.frames] == [0, 0, 3, 3]


async def test_a_burst_is_whole_and_in_order() -> None:
    gateway = _Gateway()
    await _stream(gateway).burst(1000)
    numbers = [json.loads(frame.content)["payload"]["simulated"] for _, frame in gateway.frames]
    assert numbers == list(range(1, 1001))
