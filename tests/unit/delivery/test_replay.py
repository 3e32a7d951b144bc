"""Replayed events in the workers: behind everything live, few at a time, and of no consequence for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random

import msgspec
import pytest

from tests.unit.delivery.fakes import FakeSink, House, LoopClock, by_key, event, events, number
from zoomrelay.delivery.batching import Batching
from zoomrelay.delivery.lanes import Lanes, Ordering
from zoomrelay.delivery.shielded import ShieldedSpool
from zoomrelay.errors import SinkRejected, SinkUnavailable
from zoomrelay.event import Event
from zoomrelay.privacy.shield import Shield, Treatment
from zoomrelay.spool.base import Choice, Item, Quarantined, Remembered, Replay, Settlement, SinkStart
from zoomrelay.spool.memory import MemorySpool

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime(noop_cycles=1)]

in_batches_too = pytest.mark.parametrize("batch", [1, 20])


class Keeping(MemorySpool):
    """A spool in memory that keeps everything for replay."""

    def __init__(self) -> None:
        super().__init__(max_bytes=2**30, clock=LoopClock())
        self.kept: list[Event] = []

    async def append(
        self,
        events: Sequence[Event],
        quarantined: Sequence[Quarantined] = (),
        remembered: Remembered | None = None,
    ) -> None:
        self.kept += events
        await super().append(events, quarantined, remembered)

    async def _span(self, choice: Choice) -> tuple[int, int]:
        return 0, len(self.kept)

    async def _read_held(self, after: int, end: int) -> tuple[list[Item], int, int]:
        last = min(after + 256, end)
        return [Item(n, self.kept[n - 1]) for n in range(after + 1, last + 1)], last, 0


async def delivered(house: House, count: int = 500, keys: int = 20) -> None:
    await house.spool.append(events(count, keys=keys))
    await house.until_ended()
    house.sink.taken.clear()


async def begin(house: House) -> Replay:
    return await house.spool.begin_replay(house.sink.name, Choice())


@pytest.mark.parametrize(
    ("ordering", "batch"), [("key", 1), ("strict", 1), ("none", 1), ("key", 20), ("strict", 20), (None, 100)]
)
async def test_everything_goes_once_more_marked_and_in_order_per_key(
    ordering: str | None, batch: int
) -> None:
    sink = FakeSink(concurrency=8 if ordering else 1, max_batch=batch)
    async with House(sink, ordering=ordering, spool=Keeping()) as house:  # type: ignore[arg-type]
        await delivered(house)
        replay = await begin(house)
        await house.until(lambda: replay.ended)
        assert all(one.replayed for one in sink.taken) and len(sink.taken) == 500
        if ordering != "none":
            assert all(numbers == sorted(numbers) for numbers in by_key(sink.taken).values())
        assert (house.counts.delivered, house.counts.replayed) == (500, 500)


@in_batches_too
async def test_at_most_a_quarter_of_the_calls(batch: int) -> None:
    sink = FakeSink(concurrency=8, max_batch=batch)
    async with House(sink, spool=Keeping()) as house:
        await delivered(house)
        sink.most_under_way = 0
        replay = await begin(house)
        await house.until(lambda: replay.ended)
        assert sink.most_under_way == 2


async def test_live_events_wait_for_nothing_that_is_replayed() -> None:
    sink = FakeSink(concurrency=4, seconds=1.0)
    loop = asyncio.get_running_loop()
    async with House(sink, spool=Keeping()) as house:
        await delivered(house, 100)
        await begin(house)
        await asyncio.sleep(1.5)
        for at in range(501, 521):
            began = loop.time()
            await house.spool.append([event(at, "key1")])
            await house.until(lambda: house.counts.pending == 0)
            assert loop.time() - began < 1.1
        assert 10 < house.counts.replayed < 40


async def test_live_events_wait_for_no_batch_of_replayed_ones_at_a_bounded_rate() -> None:
    sink = FakeSink(concurrency=4, max_batch=50)
    loop = asyncio.get_running_loop()
    async with House(sink, spool=Keeping(), batch_seconds=0.0, max_rate=20.0) as house:
        await delivered(house, 100)
        await asyncio.sleep(10)
        replay = await begin(house)
        for at in range(501, 511):
            began = loop.time()
            await house.spool.append([event(at, "key1")])
            await house.until(lambda: house.counts.pending == 0)
            assert loop.time() - began < 0.2
            await asyncio.sleep(0.3)
        assert house.counts.replayed > 30 and not replay.ended


async def test_a_batch_that_is_being_filled_holds_up_no_replay() -> None:
    sink = FakeSink(max_batch=50)
    async with House(sink, spool=Keeping(), batch_seconds=1000.0) as house:
        await delivered(house, 100)
        replay = await begin(house)
        await house.spool.append([event(501)])
        await house.until(lambda: replay.ended, seconds=10)
        assert (len(sink.taken), house.counts.pending) == (100, 1)


async def test_a_refused_batch_is_sent_apart_and_only_the_culprit_fails() -> None:
    sink = FakeSink(
        lambda one, _: SinkRejected("HTTP 400") if number(one) == 7 and one.replayed else None, max_batch=20
    )
    async with House(sink, spool=Keeping()) as house:
        await delivered(house, 100)
        replay = await begin(house)
        await house.until(lambda: replay.ended, seconds=60)
        assert (replay.progress().sent, replay.progress().failed) == (99, 1)
        assert house.worker.health.ok


@pytest.mark.parametrize("ordering", ["key", "none"])
async def test_a_batch_that_holds_all_of_a_replay_is_not_given_up_while_the_sink_is_down(
    ordering: Ordering,
) -> None:
    sink = FakeSink(max_batch=100)
    async with House(sink, spool=Keeping(), ordering=ordering) as house:
        await delivered(house, 60)
        sink.answer = lambda _one, _: SinkUnavailable("HTTP 503")
        replay = await begin(house)
        await asyncio.sleep(600)
        assert len(sink.calls) < 200
        sink.answer = lambda _one, _: None
        await house.until(lambda: replay.ended)
        assert (replay.progress().sent, replay.progress().failed) == (60, 0)


async def test_lanes_of_one_batch_count_as_one_call() -> None:
    replayed = msgspec.structs.replace(event(1), replayed=True)
    lanes = Lanes("none", Batching(2, seconds=10.0), replays_at_once=2)
    lanes.push([Item(n, replayed) for n in range(1, 9)])
    first, second = lanes.pop_batch(0.0), lanes.pop_batch(0.0)
    assert [len(first), len(second), len(lanes.pop_batch(0.0))] == [2, 2, 0]
    lanes.retry_first(first)
    assert lanes.pop_batch(0.0) == first and not lanes.pop_batch(0.0)
    lanes.drop_replays()
    for lane in first:
        lanes.retry(lane, 0.0)
    for lane in second:
        lanes.done(lane)
    assert lanes.is_empty and lanes.pop_batch(1.0) == []
    lanes.push([Item(n, replayed) for n in range(11, 19)])
    assert [len(lanes.pop_batch(1.0)) for _ in range(3)] == [2, 2, 0]


@in_batches_too
async def test_what_is_refused_is_counted_and_harms_nobody(batch: int) -> None:
    sink = FakeSink(
        lambda one, _: SinkRejected("HTTP 410", status=410) if one.replayed else None, max_batch=batch
    )
    async with House(sink, spool=Keeping()) as house:
        await delivered(house, 100)
        replay = await begin(house)
        await house.until(lambda: replay.ended)
        assert (replay.progress().failed, house.counts.replayed) == (100, 0)
        assert house.worker.health.ok and not house.worker.health.misconfigured
        assert (house.counts.dead, await house.spool.dead_letters()) == (0, [])


@in_batches_too
async def test_what_never_succeeds_is_given_up_and_its_key_goes_on(batch: int) -> None:
    sink = FakeSink(
        lambda one, _: SinkUnavailable("HTTP 503") if number(one) == 3 and one.replayed else None,
        max_batch=batch,
    )
    async with House(sink, spool=Keeping()) as house:
        await delivered(house, 100, keys=10)
        replay = await begin(house)
        took = await house.until(lambda: replay.ended, seconds=600)
        assert (replay.progress().failed, replay.progress().sent) == (1, 99)
        assert took < 300


@in_batches_too
async def test_order_holds_while_calls_fail_at_random(batch: int) -> None:
    random = Random(4)
    sink = FakeSink(
        lambda _one, _: SinkUnavailable("HTTP 503") if random.random() < 0.3 else None,
        concurrency=8,
        max_batch=batch,
    )
    async with House(sink, spool=Keeping()) as house:
        await delivered(house)
        replay = await begin(house)
        await house.spool.append(events(300, keys=20, start=501))
        await house.until(lambda: replay.ended and house.counts.pending == 0)
        for replayed in (True, False):
            taken = [one for one in sink.taken if one.replayed == replayed]
            assert all(numbers == sorted(numbers) for numbers in by_key(taken).values())
        assert replay.progress().sent == 500


@in_batches_too
async def test_cancelled_nothing_more_goes_even_when_the_sink_is_back(batch: int) -> None:
    sink = FakeSink(concurrency=8, max_batch=batch)
    async with House(sink, spool=Keeping()) as house:
        await delivered(house)
        sink.answer = lambda _one, _: SinkUnavailable("HTTP 503")
        replay = await begin(house)
        await asyncio.sleep(30)
        house.spool.end_replay(replay)
        house.worker.drop_replays()
        await asyncio.sleep(30)
        sink.answer = lambda _one, _: None
        await house.spool.append(events(50, start=501))
        await house.until_ended()
        await asyncio.sleep(60)
        assert [one.replayed for one in sink.taken] == [False] * 50
        again = await begin(house)
        await house.until(lambda: again.ended)
        assert again.progress().sent == 550


@in_batches_too
async def test_a_sink_that_is_down_gets_the_rest_when_it_is_back(batch: int) -> None:
    sink = FakeSink(concurrency=4, max_batch=batch)
    async with House(sink, spool=Keeping()) as house:
        await delivered(house, 200)
        replay = await begin(house)
        await house.until(lambda: house.counts.replayed > 50)
        sink.answer = lambda _one, _: SinkUnavailable("HTTP 503")
        await asyncio.sleep(600)
        sink.answer = lambda _one, _: None
        await house.until(lambda: replay.ended)
        assert (replay.progress().sent, replay.progress().failed) == (200, 0)


@in_batches_too
async def test_another_worker_goes_on(batch: int) -> None:
    sink = FakeSink(concurrency=4, max_batch=batch)
    async with House(sink, spool=Keeping()) as house:
        await delivered(house, 300)
        replay = await begin(house)
        await house.until(lambda: house.counts.replayed > 50)
        await house.restart()
        await house.until(lambda: replay.ended)
        assert {number(one) for one in sink.taken} == set(range(1, 301))


async def test_a_replay_to_a_sink_with_privacy_is_hidden_and_still_a_replay() -> None:
    whole = Keeping()
    await whole.open([SinkStart("sink")])
    spool = ShieldedSpool(whole, Shield(Treatment.DROP))
    content = b'{"event":"meeting.started","payload":{"object":{"id":7,"host_email":"jane@example.com"}}}'
    await whole.append([msgspec.structs.replace(event(1), content=content)])
    for replayed in (False, True):
        (item,) = await spool.read("sink", 10, 2**20)
        assert item.event.replayed == replayed
        assert b'"id":7' in item.event.content and b"jane" not in item.event.content
        spool.settle("sink", Settlement(delivered=[item.token]))
        if not replayed:
            replay = await whole.begin_replay("sink", Choice())
    assert (replay.progress().sent, replay.ended) == (1, True)
