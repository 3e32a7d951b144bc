"""A receiver that is down and then slow, under 500 events a second, beside another sink."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

import pytest
from msgspec.structs import replace

from tests.unit.delivery.fakes import WALL, FakeSink, House, LoopClock, by_key, event
from zoomrelay.errors import SinkUnavailable
from zoomrelay.event import Event
from zoomrelay.spool.memory import MemorySpool

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

DOWN = SinkUnavailable("HTTP 503", status=503)
EACH_TICK = 25
TICK_SECONDS = 0.05


class Measured(FakeSink):
    """Knows how old each event was when it took it, in seconds."""

    def __init__(self, name: str, seconds: Callable[[Event], float]) -> None:
        super().__init__(name=name, concurrency=8, max_batch=25, seconds=seconds)
        self.ages: list[float] = []

    async def send(self, batch: list[Event], attempt: int) -> None:  # type: ignore[override]
        await super().send(batch, attempt)
        now_ms = (WALL + asyncio.get_running_loop().time()) * 1000
        self.ages += [(now_ms - one.received_ms) / 1000 for one in batch]

    def p99(self) -> float:
        """Of what was taken since it was asked last."""
        ages, self.ages = sorted(self.ages), []
        return ages[len(ages) * 99 // 100]


@pytest.mark.parametrize(
    "down_seconds", [15, pytest.param(150, marks=pytest.mark.full)], ids=["short", "beyond the deadline"]
)
async def test_nothing_is_lost_order_is_kept_and_the_other_sink_does_not_notice(down_seconds: int) -> None:
    random = Random(5)
    slow = Measured("slow", lambda _one: 0.002)
    other = Measured("other", lambda _one: random.uniform(0.001, 0.004))
    spool = MemorySpool(max_bytes=2**32, clock=LoopClock())
    ours = House(slow, spool=spool, deadlines={"rtms": 60.0}, batch_seconds=0.01)
    others = House(other, spool=spool, batch_seconds=0.01)
    await spool.open([ours.start, others.start])
    sent = 0

    async def send(seconds: float) -> None:
        nonlocal sent
        for _ in range(int(seconds / TICK_SECONDS)):
            received_ms = round((WALL + asyncio.get_running_loop().time()) * 1000)
            numbers = range(sent, sent + EACH_TICK)
            named = [
                event(n, f"key{n % 499}", name="rtms" if n % 100 == 99 else "meeting.x") for n in numbers
            ]
            await spool.append([replace(one, received_ms=received_ms) for one in named])
            sent += EACH_TICK
            await asyncio.sleep(TICK_SECONDS)

    async with ours, others:
        await send(10)
        normal = other.p99()
        slow.answer = lambda _one, _attempt: DOWN
        await send(down_seconds)
        while_down = other.p99()
        slow.answer, slow.seconds, slow.ages = lambda _one, _attempt: None, 0.1, []
        back = asyncio.get_running_loop().time()
        while ours.counts.pending > 1000:
            await send(1)
        drained_after = asyncio.get_running_loop().time() - back
        while_slow = other.p99()
        await ours.until_ended()
        await others.until_ended()
        print(f"p99 of the other sink: {normal:.4f} s, {while_down:.4f} s, {while_slow:.4f} s")
        print(f"{sent} events, caught up after {drained_after:.0f} s, {ours.counts.dead} late")
        assert max(while_down, while_slow) <= max(2 * normal, 0.02)
        # Every urgent one that was in time arrived, and everything else.
        dead = await spool.dead_letters(sink="slow", limit=10_000)
        assert {letter.reason for letter in dead} == {"deadline"} if down_seconds > 60 else not dead
        late = {letter.content for letter in [await spool.dead_letter(one.number) for one in dead] if letter}
        assert len(slow.taken) + len(late) == sent
        late_numbers = {int(one.split(b'"event_ts":')[1][:-1]) for one in late}
        assert late_numbers.isdisjoint(slow.numbers) and all(n % 100 == 99 for n in late_numbers)
        for urgent in (True, False):
            order = by_key([one for one in slow.taken if (one.name == "rtms") == urgent])
            assert all(numbers == sorted(numbers) for numbers in order.values())
        # Only what came in the outage, less its last minute, and what the pause before the first try cost.
        assert len(late) <= 5 * max(0, down_seconds - 60 + 16)
