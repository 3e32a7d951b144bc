"""An event that fails for a quarter of an hour while others succeed is poison; nothing else is."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.delivery.fakes import Answer, FakeSink, House, event, number
from zoomrelay.delivery.lanes import Ordering
from zoomrelay.delivery.retry import POISON_SECONDS
from zoomrelay.errors import SinkUnavailable
from zoomrelay.spool.base import DeadLetter

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

DOWN = SinkUnavailable("HTTP 500", status=500, excerpt="oops")


def fails(*numbers: int) -> Answer:
    return lambda one, _attempt: DOWN if number(one) in numbers else None


async def trickle(house: House, seconds: float, every: float = 5.0, start: int = 1000) -> None:
    """Other events, each with a key of its own."""
    loop = asyncio.get_running_loop()
    end, n = loop.time() + seconds, start
    while loop.time() < end:
        await house.spool.append([event(n, f"other{n}")])
        await asyncio.sleep(every)
        n += 1


async def letters(house: House) -> list[DeadLetter]:
    return await house.spool.dead_letters()


@pytest.mark.parametrize(
    ("ordering", "every", "batch"),
    [("key", 5.0, 1), ("none", 20.0, 1), ("key", 20.0, 20), ("none", 5.0, 20), ("key", 120.0, 1)],
)
async def test_a_quarter_of_an_hour_is_enough(ordering: Ordering, every: float, batch: int) -> None:
    """Even where others are so few that their sink looks ill in between."""
    sink = FakeSink(fails(1), max_batch=batch)
    async with House(sink, ordering=ordering) as house:
        await house.spool.append([event(1, "k"), event(2, "k")])
        await trickle(house, POISON_SECONDS - 20, every)
        assert house.counts.dead == 0
        await trickle(house, 500, every, start=9000)
        assert house.counts.dead == 1
        (letter,) = await letters(house)
        assert (letter.reason, letter.status, letter.excerpt) == ("poison", 500, "HTTP 500: oops")
        assert letter.attempts >= 10
        await house.until_ended()
        assert 2 in sink.numbers


async def test_two_of_them_are_two() -> None:
    sink = FakeSink(fails(1, 2))
    async with House(sink) as house:
        await house.spool.append([event(1, "a"), event(2, "b")])
        await trickle(house, POISON_SECONDS + 300, every=5)
        assert [letter.reason for letter in await letters(house)] == ["poison"] * 2


async def test_alone_nothing_is_poison() -> None:
    sink = FakeSink(fails(1))
    async with House(sink) as house:
        await house.spool.append([event(1, "k")])
        await asyncio.sleep(5_000)
        assert house.counts.dead == 0
        await house.spool.append([event(2, "other")])
        await asyncio.sleep(200)
        assert house.counts.dead == 0  # one success might be chance


async def test_in_strict_order_nothing_is_poison() -> None:
    sink = FakeSink(fails(1))
    async with House(sink, ordering="strict") as house:
        await house.spool.append([event(1)])
        await trickle(house, 3_000, every=60)
        assert (house.counts.dead, house.counts.delivered) == (0, 0)


async def test_an_outage_of_the_sink_begins_the_time_anew() -> None:
    sink = FakeSink(fails(1))
    async with House(sink) as house:
        await house.spool.append([event(1, "k")])
        await trickle(house, 800)
        sink.answer = lambda _one, _attempt: DOWN
        await trickle(house, 60, start=5000)
        sink.answer = fails(1)
        back = asyncio.get_running_loop().time()
        await trickle(house, 800, start=7000)
        assert house.counts.dead == 0
        await trickle(house, 300, start=9000)
        assert house.counts.dead == 1
        assert asyncio.get_running_loop().time() - back >= POISON_SECONDS


async def test_give_up_applies_first_where_it_is_smaller() -> None:
    sink = FakeSink(fails(1))
    async with House(sink, give_up_after_seconds=120) as house:
        await house.spool.append([event(1, "k")])
        await trickle(house, 400, every=2)
        (letter,) = await letters(house)
        assert letter.reason == "gave up: HTTP 500"


async def test_a_receiver_that_fails_often_loses_nothing() -> None:
    """Nine of ten calls fail: others are taken all the time, and each gets its turn."""
    sink = FakeSink(lambda one, attempt: DOWN if (number(one) * 31 + attempt) % 10 else None)
    async with House(sink) as house:
        await house.spool.append([event(n, f"k{n}") for n in range(300)])
        await house.until_ended(seconds=100_000)
        assert (house.counts.dead, house.counts.delivered) == (0, 300)


async def test_another_worker_begins_anew() -> None:
    sink = FakeSink(fails(1))
    async with House(sink) as house:
        await house.spool.append([event(1, "k")])
        await trickle(house, 800)
        await house.restart()
        await trickle(house, 800, start=5000)
        assert house.counts.dead == 0
        await trickle(house, 300, start=9000)
        assert house.counts.dead == 1


async def test_a_redriven_one_is_poison_again() -> None:
    sink = FakeSink(fails(1))
    async with House(sink) as house:
        await house.spool.append([event(1, "k")])
        await trickle(house, POISON_SECONDS + 200)
        (letter,) = await letters(house)
        await house.spool.redrive([letter.number])
        await trickle(house, POISON_SECONDS - 20, start=5000)
        assert house.counts.redriving == 1
        await trickle(house, 300, start=9000)
        (again,) = await letters(house)
        assert (again.reason, house.counts.redriving, house.counts.dead) == ("poison", 0, 1)
