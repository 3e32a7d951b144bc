"""A sink that catches up steps back while the event loop is busy."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.delivery.fakes import FakeSink, House, LoopClock, events
from zoomrelay.delivery.courtesy import BEHIND_SECONDS, LONG_SECONDS, LOOK_SECONDS, Courtesy
from zoomrelay.delivery.lane_worker import LaneWorker
from zoomrelay.spool.memory import MemorySpool

LONG, SHORT = LONG_SECONDS * 2, LONG_SECONDS / 2


def note(courtesy: Courtesy, turns: int, seconds: float) -> None:
    for _ in range(turns):
        courtesy.note(seconds)


def behind(concurrency: int) -> Courtesy:
    """One whose sink has a backlog of ten minutes."""
    courtesy = Courtesy(concurrency)
    courtesy.read(600.0, 0.0)
    return courtesy


def test_it_steps_back_while_turns_are_long_and_comes_back_when_they_are_short() -> None:
    courtesy = behind(16)
    note(courtesy, 35, LONG)
    assert courtesy.calls == 7
    note(courtesy, 50, SHORT)
    assert courtesy.calls == 8


def test_there_is_always_one_call_and_never_more_than_there_may_be() -> None:
    courtesy = behind(4)
    note(courtesy, 10_000, LONG)
    assert courtesy.calls == 1
    note(courtesy, 10_000, SHORT)
    assert courtesy.calls == 4


def test_who_has_caught_up_is_bound_no_more() -> None:
    courtesy = behind(16)
    note(courtesy, 35, LONG)
    courtesy.read(BEHIND_SECONDS, 100.0)
    assert courtesy.calls == 16


def test_a_backlog_that_hardly_shrinks_goes_first() -> None:
    courtesy = behind(16)
    note(courtesy, 35, LONG)
    courtesy.read(599.5, LOOK_SECONDS)
    assert courtesy.calls == 15
    note(courtesy, 50, LONG)
    assert courtesy.calls == 15, "it does not step back, though the turns are long"
    courtesy.read(596.0, 2 * LOOK_SECONDS)
    note(courtesy, 35, LONG)
    assert courtesy.calls == 7


def test_not_even_calls_that_take_long_stay_few_for_ever() -> None:
    courtesy = behind(16)
    note(courtesy, 1000, LONG)
    for minute in range(1, 5):
        note(courtesy, 100, LONG)
        courtesy.read(600.0 + minute, 60.0 * minute)
    assert courtesy.calls == 16


def test_a_look_too_soon_or_after_an_outage_says_nothing() -> None:
    courtesy = behind(16)
    courtesy.read(600.0, LOOK_SECONDS / 2)
    note(courtesy, 35, LONG)
    assert courtesy.calls == 7
    courtesy.forget()
    courtesy.read(1200.0, 600.0)
    note(courtesy, 35, LONG)
    assert courtesy.calls == 3


@pytest.mark.looptime
@pytest.mark.parametrize(("late", "most"), [(True, 2), (False, 8)], ids=["a backlog", "live"])
async def test_only_a_backlog_is_bound_by_it(late: bool, most: int) -> None:
    sink = FakeSink(concurrency=8, seconds=0.1)
    spool = MemorySpool(max_bytes=2**32, clock=LoopClock())
    house = House(sink, spool=spool)
    await spool.open([house.start])
    await spool.append(events(40))
    await asyncio.sleep(2 * BEHIND_SECONDS if late else 0.0)
    assert isinstance(house.worker, LaneWorker)
    house.worker._courtesy._calls = 2.0
    async with house:
        await house.until_ended()
    assert sink.most_under_way == most
