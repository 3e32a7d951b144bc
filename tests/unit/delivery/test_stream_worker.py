"""The worker of a sink that takes batches, in virtual time."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from tests.unit.delivery.fakes import FakeSink, House, event, events, number
from zoomrelay.delivery.router import Route
from zoomrelay.errors import SinkRejected, SinkUnavailable
from zoomrelay.event import GAP_CLOSED, GAP_OPENED

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime(noop_cycles=1)]

FULL = SinkUnavailable("No space left on device")


def a_sink(**more: object) -> FakeSink:
    return FakeSink(concurrency=1, max_batch=100, **more)  # type: ignore[arg-type]


async def test_strict_order_in_batches() -> None:
    sink = a_sink()
    async with House(sink, ordering=None) as house:
        await house.spool.append(events(10_000, keys=7))
        await house.until_ended()
    assert sink.numbers == list(range(1, 10_001))
    assert sink.most_under_way == 1 and len(sink.calls) == 100


async def test_order_holds_through_every_failure() -> None:
    sink, failing = a_sink(), iter([True, False, False, True, True, True, False] * 1000)
    sink.answer = lambda one, _attempt: FULL if number(one) % 100 == 50 and next(failing) else None
    async with House(sink, ordering=None) as house:
        await house.spool.append(events(5000))
        await house.until_ended()
        assert house.counts.dead == 0
    firsts = list(dict.fromkeys(sink.numbers))
    assert firsts == list(range(1, 5001))


async def test_a_full_disk_is_told_once_and_noticed_soon_after() -> None:
    sink = a_sink(seconds=0.0)
    with capture_logs() as logs:
        async with House(sink, ordering=None) as house:
            sink.answer = lambda _one, _attempt: FULL
            await house.spool.append(events(10))
            await asyncio.sleep(600)
            assert 40 < len(sink.calls) < 200, "it neither gives up nor hammers"
            assert not house.worker.health.ok
            sink.answer = lambda _one, _attempt: None
            await house.until_ended(seconds=16)
    assert [line["event"] for line in logs] == ["sink.failing", "sink.recovered"]
    assert logs[0]["error"] == "No space left on device"
    assert [attempt for _, _, attempt in sink.calls] == list(range(1, len(sink.calls) + 1))


async def test_what_is_not_wanted_is_filtered_in_the_same_settlement() -> None:
    sink = a_sink()
    async with House(sink, ordering=None, route=Route(["meeting.*"])) as house:
        names = ("meeting.started", "user.created")
        await house.spool.append([event(n, name=names[n % 2]) for n in range(1000)])
        await house.until_ended()
        assert (house.counts.delivered, house.counts.filtered) == (500, 500)
    assert sink.numbers == list(range(0, 1000, 2))


@pytest.mark.parametrize(("gap_events", "expected"), [(False, 98), (True, 100)])
async def test_gap_events_are_for_sinks_that_ask(gap_events: bool, expected: int) -> None:
    sink = a_sink()
    async with House(sink, ordering=None, route=Route(gap_events=gap_events)) as house:
        names = {50: GAP_OPENED, 60: GAP_CLOSED}
        await house.spool.append([event(n, name=names.get(n, "meeting.started")) for n in range(100)])
        await house.until_ended()
        assert (house.counts.delivered, house.counts.filtered) == (expected, 100 - expected)
    assert sink.numbers == [n for n in range(100) if gap_events or n not in names]


async def test_one_bad_event_of_a_batch_is_found_and_the_rest_delivered() -> None:
    sink = a_sink()
    sink.answer = lambda one, _attempt: SinkRejected("too long") if number(one) == 77 else None
    async with House(sink, ordering=None) as house:
        await house.spool.append(events(200))
        await house.until_ended(seconds=600)
        (letter,) = await house.spool.dead_letters()
    assert letter.reason == "too long" and letter.attempts == 3
    assert list(dict.fromkeys(sink.numbers)) == [n for n in range(1, 201) if n != 77]


async def test_a_sink_that_refuses_everything_loses_nothing() -> None:
    sink = a_sink(answer=lambda _one, _attempt: SinkRejected("no"))
    async with House(sink, ordering=None) as house:
        with capture_logs() as logs:
            await house.spool.append(events(200))
            await asyncio.sleep(3600)
        assert (house.counts.pending, house.counts.dead) == (200, 0)
        assert [line["event"] for line in logs] == ["sink.failing"]
        assert "configured" in logs[0]["hint"]


async def test_final_refusals_are_dead_at_once() -> None:
    sink = a_sink()
    final = SinkRejected("HTTP 422", final=True)
    sink.answer = lambda one, _attempt: final if number(one) % 10 == 0 else None
    async with House(sink, ordering=None) as house:
        await house.spool.append(events(100))
        await house.until_ended(seconds=60)
        assert (house.counts.dead, house.counts.delivered) == (10, 90)


async def test_stop_finishes_the_batch_under_way() -> None:
    sink = a_sink(seconds=1.0)
    async with House(sink, ordering=None) as house:
        await house.spool.append(events(1000))
        await asyncio.sleep(1.5)
        house.worker.stop()
        await asyncio.wait_for(house.task, 0.6)
        assert house.counts.delivered == 200 and sink.closed == 1
        await house.restart()
        await house.until_ended(seconds=60)
    assert sink.numbers == list(range(1, 1001))


@pytest.mark.parametrize("moment", ["idle", "failing"])
async def test_stop_ends_at_once_where_nothing_is_under_way(moment: str) -> None:
    sink = a_sink()
    async with House(sink, ordering=None) as house:
        if moment == "failing":
            sink.answer = lambda _one, _attempt: FULL
            await house.spool.append(events(10))
        await asyncio.sleep(100)
        before = asyncio.get_running_loop().time()
        house.worker.stop()
        await asyncio.wait_for(house.task, 1)
        assert asyncio.get_running_loop().time() - before < 0.01
    assert house.counts.pending == (10 if moment == "failing" else 0)


async def test_a_worker_that_is_cut_off_in_a_call_sends_the_batch_again() -> None:
    sink = a_sink(seconds=1.0)
    async with House(sink, ordering=None) as house:
        await house.spool.append(events(300))
        await asyncio.sleep(1.5)
        await house.restart()
        await house.until_ended(seconds=60)
    assert sink.numbers == list(range(1, 301))
