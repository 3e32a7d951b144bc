"""Events that go several at once, and at a bounded rate."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.unit.delivery.fakes import FakeSink, House, by_key, event, events, number, seen_once
from zoomrelay.delivery.batching import Batching
from zoomrelay.delivery.lanes import Lanes
from zoomrelay.delivery.pace import Pace
from zoomrelay.errors import SinkRejected, SinkUnavailable
from zoomrelay.spool.base import Item

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

REFUSED = SinkRejected("HTTP 400", status=400)
DOWN = SinkUnavailable("HTTP 503", status=503)


def now() -> float:
    return asyncio.get_running_loop().time()


def refuses(*numbers: int, error: SinkRejected | SinkUnavailable = REFUSED):
    return lambda one, _attempt: error if number(one) in numbers else None


# --- what goes into a batch


def lanes(*keys: str, events: int = 4, bytes: int = 1000, seconds: float = 10.0) -> Lanes:
    found = Lanes("key", Batching(events, bytes, seconds))
    found.push([Item(n, event(n, key)) for n, key in enumerate(keys, 1)], now=0.0)
    return found


def tokens(found: Lanes, at: float, **more: int) -> list[list[int]]:
    batch = found.pop_batch(at, **more)
    return [[item.token for item in list(lane.items)[: lane.taken]] for lane in batch]


async def test_a_batch_takes_runs_of_lanes_up_to_its_bound() -> None:
    ours = lanes("a", "a", "b", "a", "b", "c")
    assert tokens(ours, 0.0) == [[1, 2, 4], [3]]
    assert tokens(ours, 0.0) == [] and ours.next_due() == 10.0
    assert tokens(ours, 10.0) == [[6]]


async def test_a_lane_is_in_one_batch_at_a_time() -> None:
    ours = lanes("a", "a", "a", events=2)
    (lane,) = ours.pop_batch(0.0)
    assert lane.taken == 2 and tokens(ours, 99.0) == []
    ours.done(lane)
    assert len(ours) == 1 and tokens(ours, 99.0) == [[3]]


async def test_bytes_bound_a_batch_and_never_an_event() -> None:
    size = len(event(1).content)
    ours = lanes("a", "b", "c", "d", events=9, bytes=2 * size)
    assert tokens(ours, 0.0) == [[1], [2]]
    assert tokens(lanes("a", "a", bytes=1), 0.0) == [[1]]


async def test_an_event_waits_from_when_it_came() -> None:
    ours = lanes("a")
    (lane,) = ours.pop_batch(10.0)
    ours.push([Item(2, event(2, "a"))], now=12.0)
    ours.push([Item(3, event(3, "a"))], now=13.0)
    ours.done(lane)
    assert tokens(ours, 21.9) == [] and ours.next_due() == 22.0
    assert tokens(ours, 22.0) == [[2, 3]]


async def test_lanes_of_a_failed_batch_come_in_smaller_ones_and_at_once() -> None:
    ours = lanes("a", "b", "c", "d")
    for lane in ours.pop_batch(0.0):
        lane.fail(0)
        lane.most = 2
        ours.retry(lane, 1.0)
    assert tokens(ours, 0.9) == []
    assert [tokens(ours, 1.0) for _ in range(3)] == [[[1], [2]], [[3], [4]], []]


async def test_the_caller_may_want_one_only() -> None:
    assert tokens(lanes("a", "a", "b"), 0.0, most=1) == [[1]]


async def test_what_is_under_way_does_not_step_aside() -> None:
    ours = lanes("a", "a", "a", events=2)
    (lane,) = ours.pop_batch(0.0)
    lane.try_(0.0, 0.0)
    assert [[item.token for item in tail] for _, tail in ours.take_tails(5.0)] == [[3]]
    ours.done(lane)
    assert len(ours) == 0


# --- the worker


async def test_everything_is_delivered_once_in_order_in_few_calls() -> None:
    sink = FakeSink(max_batch=50)
    async with House(sink) as house:
        await house.spool.append(events(1000, keys=7))
        await house.until_ended(seconds=60)
    assert seen_once(sink.taken) and len(sink.taken) == 1000
    assert all(numbers == sorted(numbers) for numbers in by_key(sink.taken).values())
    assert max(sink.sizes) == 50 and len(sink.calls) <= 25


async def test_a_batch_that_is_not_full_goes_after_batch_seconds() -> None:
    sink = FakeSink(max_batch=50)
    async with House(sink, batch_seconds=3.0) as house:
        await house.spool.append(events(20))
        await asyncio.sleep(2.9)
        assert not sink.calls
        await house.spool.append(events(5, start=21))
        await house.until_ended(seconds=1)
    assert sink.sizes == [25] and 3.0 <= sink.calls[0][0] <= 3.01


@pytest.mark.parametrize("final", [False, True])
@pytest.mark.parametrize("keys", [0, 3])
async def test_an_event_that_is_refused_kills_no_neighbour(keys: int, final: bool) -> None:
    error = SinkRejected("HTTP 422", status=422, final=final)
    sink = FakeSink(refuses(40, 41, 250, error=error), max_batch=100)
    async with House(sink) as house:
        await house.spool.append(events(300, keys=keys))
        for later in range(301, 311):  # what is taken meanwhile shows whose fault a refusal is
            await asyncio.sleep(1)
            await house.spool.append([event(later)])
        await house.until_ended(seconds=60)
        dead = {int(letter.id[3:], 16) for letter in await house.spool.dead_letters()}
    assert dead == {40, 41, 250} and house.counts.delivered == 307
    assert seen_once(sink.taken)
    assert all(numbers == sorted(numbers) for key, numbers in by_key(sink.taken).items() if key)
    assert house.worker.health.ok


async def test_an_event_that_always_fails_leaves_its_neighbours_soon() -> None:
    """A receiver that trips over one event answers 503 to its whole batch."""
    sink = FakeSink(refuses(17, error=DOWN), max_batch=64)
    async with House(sink) as house:
        for portion in range(60):
            await house.spool.append(events(64, start=1 + 64 * portion))
            await asyncio.sleep(0.5)
        assert house.counts.delivered == 60 * 64 - 1 and house.counts.pending == 1
        sink.answer = refuses()
        await house.until_ended(seconds=120)
    assert seen_once(sink.taken)


async def test_a_receiver_that_refuses_everything_loses_nothing_and_is_asked_seldom() -> None:
    sink = FakeSink(lambda _one, _attempt: REFUSED, max_batch=100, concurrency=4)
    async with House(sink) as house:
        await house.spool.append(events(1000, keys=400))
        await asyncio.sleep(10)
        asked = len(sink.calls)
        await asyncio.sleep(3600)
        assert house.worker.health.misconfigured and house.counts.pending == 1000
        assert asked < 200 and len(sink.calls) - asked < 200
        assert set(sink.sizes[asked:]) == {1}
        sink.answer = refuses()
        await house.until_ended(seconds=120)
    assert seen_once(sink.taken)
    assert all(numbers == sorted(numbers) for numbers in by_key(sink.taken).values())


async def test_an_outage_ends_in_full_batches() -> None:
    sink = FakeSink(lambda _one, _attempt: DOWN if now() < 600 else None, max_batch=100, concurrency=4)
    async with House(sink) as house:
        await house.spool.append(events(10_000, keys=2500))
        await asyncio.sleep(600)
        ended = await house.until_ended(seconds=100)
    assert ended < 620 and seen_once(sink.taken)
    assert Counter(sink.sizes[-50:]).most_common(1)[0][0] == 100


async def test_a_worker_that_stops_leaves_a_batch_that_was_not_sent() -> None:
    sink = FakeSink(max_batch=50)
    async with House(sink, batch_seconds=60) as house:
        await house.spool.append(events(20))
        await asyncio.sleep(1)
        house.worker.stop()
        await house.until(house.task.done, seconds=1)
        assert house.counts.pending == 20 and not sink.calls


# --- the rate


async def test_a_pace_has_no_memory_of_idle_times() -> None:
    pace = Pace(100)
    pace.called(1, 0.0)
    assert pace.free_at <= 0.0
    for _ in range(10):
        pace.called(1, 0.0)
    assert pace.free_at == pytest.approx(0.06)
    pace.called(1, 1000.0)
    assert pace.free_at == pytest.approx(999.96)


async def test_without_a_rate_there_is_no_pace() -> None:
    pace = Pace(0)
    pace.called(1000, 5.0)
    assert pace.free_at < 0


@pytest.mark.parametrize("batch", [1, 10])
async def test_max_rate_bounds_the_events(batch: int) -> None:
    sink = FakeSink(max_batch=batch, concurrency=16)
    async with House(sink, max_rate=50) as house:
        await house.spool.append(events(150))
        ended = await house.until_ended(seconds=60)
    assert 2.7 <= ended <= 3.1


async def test_a_receiver_that_does_not_fit_is_asked_again_and_loses_nothing() -> None:
    sink = FakeSink()
    sink.opening = [SinkRejected("endpoint.url_validation: HTTP 401", status=401)] * 5
    async with House(sink) as house:
        await house.spool.append(events(100))
        await asyncio.sleep(0.01)
        assert house.worker.health.misconfigured and house.counts.pending == 100
        await house.until_ended(seconds=400)
    assert seen_once(sink.taken) and house.worker.health.ok
