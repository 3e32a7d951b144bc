"""Taps take what they have room for, and say what they missed."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from tests.unit.delivery.fakes import event
from zoomrelay.delivery.router import Route
from zoomrelay.delivery.taps import MOST_TAPS, Tap, Taps

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


async def test_it_gets_what_comes_from_now_on_and_is_wanted() -> None:
    taps = Taps()
    events = [event(number) for number in range(4)]
    taps.offer(events[:1])
    tap, other = taps.open(Route()), taps.open(Route(("nothing.*",)))
    assert tap and other
    taps.offer(events[1:3])
    assert await tap.read() == (events[1:3], 0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3600):
            await other.read()
    taps.close(tap)
    taps.close(tap)
    taps.offer(events[3:])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3600):
            await tap.read()


async def test_what_is_missed_is_one_stretch_behind_what_is_read() -> None:
    tap = Tap(Route(), most_events=2)
    events = [event(number) for number in range(7)]
    tap.offer(events[:3])
    tap.offer(events[3:5])
    assert await tap.read() == (events[:2], 3)
    tap.offer(events[5:])
    assert await tap.read() == (events[5:], 0)


async def test_a_small_one_does_not_slip_in_behind_a_large_one_that_was_missed() -> None:
    small, size = event(1), len(event(1).content)
    tap = Tap(Route(), most_bytes=3 * size)
    large = msgspec.structs.replace(event(2), content=b"x" * 3 * size)
    tap.offer([small, large, small])
    assert await tap.read() == ([small], 2)


async def test_a_large_one_alone_is_taken() -> None:
    tap = Tap(Route(), most_bytes=1)
    tap.offer([event(1), event(2)])
    assert await tap.read() == ([event(1)], 1)


async def test_the_end_comes_after_what_is_left() -> None:
    taps = Taps()
    tap = taps.open(Route())
    assert tap
    taps.offer([event(1)])
    taps.end()
    assert await tap.read() == ([event(1)], 0)
    assert await tap.read() == ([], 0)


async def test_there_are_only_so_many() -> None:
    taps = Taps()
    opened = [taps.open(Route()) for _ in range(MOST_TAPS)]
    assert all(opened)
    assert taps.open(Route()) is None
    assert opened[0]
    taps.close(opened[0])
    assert taps.open(Route()) is not None
