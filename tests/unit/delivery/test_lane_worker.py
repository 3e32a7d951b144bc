"""The worker of a sink that takes events one by one, in virtual time."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from structlog.testing import capture_logs

from tests.unit.delivery.fakes import Answer, FakeSink, House, by_key, event, events, number, seen_once
from zoomrelay.delivery.health import MAX_PAUSE_MISCONFIGURED_SECONDS
from zoomrelay.delivery.lane_worker import READ_AHEAD, READ_PORTION
from zoomrelay.delivery.router import Route
from zoomrelay.errors import SinkError, SinkRejected, SinkUnavailable
from zoomrelay.event import Event
from zoomrelay.spool.base import SinkStart

# Nothing here runs in a thread, so time may move on as soon as nothing is to be done: far faster.
pytestmark = [pytest.mark.asyncio, pytest.mark.looptime(noop_cycles=1)]


def unavailable(retry_after: float | None = None, status: int = 503) -> SinkUnavailable:
    return SinkUnavailable(f"HTTP {status}", retry_after=retry_after, status=status)


def refused(status: int = 400, *, final: bool = False) -> SinkRejected:
    return SinkRejected(f"HTTP {status}", status=status, final=final, excerpt="no such field")


def fails_for(wanted: int, error: SinkError) -> Answer:
    return lambda one, _attempt: error if number(one) == wanted else None


def fails_at(rate: float, seed: int = 7) -> Answer:
    random = Random(seed)
    return lambda _one, _attempt: unavailable() if random.random() < rate else None


def now() -> float:
    return asyncio.get_running_loop().time()


# --- the usual case ---------------------------------------------------------------------------------


async def test_everything_is_delivered_once_in_order_per_key() -> None:
    sink = FakeSink(concurrency=8)
    async with House(sink) as house:
        await house.spool.append(events(5000, keys=40))
        took = await house.until_ended()
    assert seen_once(sink.taken) and len(sink.taken) == 5000
    assert all(numbers == sorted(numbers) for numbers in by_key(sink.taken).values())
    assert sink.most_under_way == 8
    assert took < 1.1 * 5000 * 0.001 / 8 + 0.1, "as many calls as may be were not under way"


@pytest.mark.parametrize(("ordering", "most"), [("strict", 1), ("key", 3), ("none", 8)])
async def test_orderings(ordering: str, most: int) -> None:
    random = Random(3)
    sink = FakeSink(concurrency=8, seconds=0.0)
    sink.seconds = lambda _one: random.uniform(0.001, 0.02)
    async with House(sink, ordering=ordering) as house:  # type: ignore[arg-type]
        await house.spool.append(events(200, keys=3))
        await house.until_ended()
    assert sink.most_under_way == most
    assert (sink.numbers == sorted(sink.numbers)) is (ordering == "strict")


async def test_what_is_not_wanted_is_filtered() -> None:
    sink = FakeSink()
    async with House(sink, route=Route(["meeting.*", "!*.ended"])) as house:
        names = ("meeting.started", "meeting.ended", "user.created")
        await house.spool.append([event(n, name=names[n % 3]) for n in range(3000)])
        await house.until_ended()
        assert (house.counts.delivered, house.counts.filtered) == (1000, 2000)
    assert {taken.name for taken in sink.taken} == {"meeting.started"}


async def test_read_ahead_is_bounded() -> None:
    sink = FakeSink(seconds=10_000.0)
    async with House(sink) as house:
        await house.spool.append(events(20_000))
        await asyncio.sleep(60)
        assert len(house.worker._lanes) <= READ_AHEAD + READ_PORTION  # type: ignore[attr-defined]


# --- one event fails --------------------------------------------------------------------------------


async def test_a_failing_head_holds_up_its_own_lane_only() -> None:
    sink = FakeSink(fails_for(1, unavailable()))
    async with House(sink) as house:
        await house.spool.append([event(1, "bad"), event(2, "bad"), *events(100, keys=10, start=3)])
        await house.until(lambda: len(sink.taken) == 100, seconds=2)
        assert 2 not in sink.numbers
        sink.answer = lambda _one, _attempt: None
        await house.until_ended(seconds=10)
    assert sink.numbers[-2:] == [1, 2]


async def test_a_refused_event_is_dead_after_three_tries_where_others_are_taken() -> None:
    sink = FakeSink(fails_for(1, refused()))
    async with House(sink) as house:
        await house.spool.append([event(1, "bad"), event(2, "bad"), event(3)])
        with capture_logs() as logs:
            await house.until(lambda: house.counts.dead == 1, seconds=5)
            await house.until_ended(seconds=5)
        (letter,) = await house.spool.dead_letters()
    assert (letter.reason, letter.attempts, letter.status) == ("HTTP 400", 3, 400)
    assert letter.excerpt == "no such field"
    assert sink.numbers == [3, 2]
    (said,) = [line for line in logs if line["event"] == "sink.dead_letters"]
    assert (said["count"], said["latest_reason"], said["latest_attempts"]) == (1, "HTTP 400", 3)


async def test_a_refused_event_alone_is_kept_until_another_was_taken() -> None:
    sink = FakeSink(fails_for(1, refused()))
    async with House(sink) as house:
        with capture_logs() as logs:
            await house.spool.append([event(1)])
            await asyncio.sleep(3600)
        assert house.counts.pending == 1
        assert [(line["event"], line["log_level"]) for line in logs] == [("sink.failing", "warning")]
        assert "configured" in logs[0]["hint"]
        assert house.worker.health.misconfigured
        assert len(sink.calls) > 30, "it is tried again and again"
        # It slows down nobody: the next is tried at once, and settles what the first refusals meant.
        before = now()
        await house.spool.append([event(2)])
        await house.until(lambda: sink.numbers == [2], seconds=0.1)
        await house.until(lambda: house.counts.dead == 1, seconds=60)
        assert now() - before < 60 and house.worker.health.ok


async def test_a_receiver_that_refuses_everything_loses_nothing() -> None:
    sink = FakeSink(lambda _one, _attempt: refused(401), concurrency=16)
    async with House(sink) as house:
        with capture_logs() as logs:
            await house.spool.append(events(500, keys=50))
            await asyncio.sleep(3600)
        assert (house.counts.pending, house.counts.dead) == (500, 0)
        assert len(sink.calls) < 250, "it is to be slowed down"
        assert [line["event"] for line in logs] == ["sink.failing"]
        sink.answer = lambda _one, _attempt: None
        await house.until_ended(seconds=120)
    assert seen_once(sink.taken) and len(sink.taken) == 500
    assert all(numbers == sorted(numbers) for numbers in by_key(sink.taken).values())


async def test_a_final_refusal_is_dead_at_once_and_says_nothing_of_the_sink() -> None:
    sink = FakeSink(lambda _one, _attempt: refused(422, final=True), concurrency=16)
    async with House(sink) as house:
        await house.spool.append(events(1000))
        took = await house.until_ended(seconds=60)
        assert house.counts.dead == 1000 and house.worker.health.ok
    assert took < 1.0 and len(sink.calls) == 1000


async def test_dead_letters_are_told_of_in_one_line_now_and_then() -> None:
    sink = FakeSink(lambda _one, _attempt: refused(422, final=True), concurrency=1, seconds=0.1)
    with capture_logs() as logs:
        async with House(sink) as house:
            await house.spool.append(events(250))
            await house.until_ended(seconds=60)
    counts = [line["count"] for line in logs if line["event"] == "sink.dead_letters"]
    assert sum(counts) == 250 and len(counts) == 4


# --- retrying ---------------------------------------------------------------------------------------


async def test_attempts_are_numbered() -> None:
    sink = FakeSink(lambda _one, attempt: unavailable() if attempt < 4 else None)
    async with House(sink) as house:
        await house.spool.append([event(1)])
        await house.until_ended(seconds=60)
    assert [attempt for _, _, attempt in sink.calls] == [1, 2, 3, 4]


@pytest.mark.parametrize("asked", [0.5, 3.0, 40.0])
async def test_retry_after_is_obeyed(asked: float) -> None:
    error = unavailable(asked, 502)
    sink = FakeSink(lambda one, attempt: error if attempt == 1 and number(one) == 1 else None)
    async with House(sink) as house:
        await house.spool.append(events(50))
        await house.until_ended(seconds=100)
    first, second = sink.calls_of(1)
    assert asked <= second - first <= asked + 0.2
    assert max(time for time, which, _ in sink.calls if which != 1) < 0.2, "it asked for one event"


@pytest.mark.parametrize("status", [429, 503])
async def test_a_receiver_that_asks_for_peace_gets_it_and_then_one_probe(status: int) -> None:
    sink = FakeSink(lambda one, _: unavailable(30, status) if number(one) == 1 and now() < 20 else None)
    async with House(sink, ordering="none") as house:
        await house.spool.append(events(50))
        await asyncio.sleep(1)
        sink.most_under_way, sink.seconds = 0, 0.5
        await asyncio.sleep(29.2)
        assert sink.most_under_way == 1
        await house.until_ended(seconds=100)
    assert not [time for time, _, _ in sink.calls if 0.01 < time < 30]
    assert sink.most_under_way == 4
    assert house.counts.parked == 0


async def test_giving_up_runs_across_parking() -> None:
    sink = FakeSink(fails_for(1, unavailable()))
    async with House(sink, give_up_after_seconds=600) as house:
        await house.spool.append([event(1, "bad"), event(2, "bad")])
        for batch in range(200):
            await house.spool.append(events(1, start=100 + batch))
            await asyncio.sleep(5)
            if house.counts.dead:
                break
        (letter,) = await house.spool.dead_letters()
        await house.until_ended(seconds=100)
    assert letter.reason == "gave up: HTTP 503" and letter.attempts > 10
    assert 600 <= sink.calls_of(1)[-1] <= 660
    assert sink.numbers[-1] == 2


async def test_nothing_is_given_up_while_the_sink_is_down() -> None:
    sink = FakeSink(lambda _one, _attempt: unavailable())
    async with House(sink, give_up_after_seconds=60) as house:
        await house.spool.append(events(300, keys=20))
        await asyncio.sleep(2 * 3600)
        assert (house.counts.pending, house.counts.dead) == (300, 0)
        sink.answer = lambda _one, _attempt: None
        await house.until_ended(seconds=60)
    assert len(sink.taken) == 300


# --- parking ----------------------------------------------------------------------------------------


async def test_one_stuck_lane_stops_no_other() -> None:
    """The read-ahead fills up with a lane whose head fails; it makes way, and keeps its order."""
    stuck = [event(n, "bad") for n in range(1, 4001)]
    sink = FakeSink(fails_for(1, unavailable()))
    async with House(sink) as house:
        await house.spool.append([*stuck, *events(1000, keys=10, start=10_001)])
        await house.until(lambda: len(sink.taken) == 1000, seconds=15)
        assert house.counts.parked == 4000
        sink.answer = lambda _one, _attempt: None
        await house.until_ended(seconds=300)
    assert by_key(sink.taken)["bad"] == list(range(1, 4001))
    assert seen_once(sink.taken)


async def test_a_lane_that_hangs_in_a_call_stops_no_other() -> None:
    sink = FakeSink(fails_for(1, unavailable()))
    sink.seconds = lambda one: 15.0 if number(one) == 1 else 0.001
    async with House(sink) as house:
        stuck = [event(n, "bad") for n in range(1, 4001)]
        await house.spool.append([*stuck, *events(1000, keys=10, start=10_001)])
        await house.until(lambda: len(sink.taken) == 1000, seconds=13)
        sink.answer, sink.seconds = (lambda _one, _attempt: None), 0.001
        await house.until_ended(seconds=300)
    assert by_key(sink.taken)["bad"] == list(range(1, 4001))


async def test_new_events_queue_up_behind_a_parked_lane() -> None:
    sink = FakeSink(fails_for(1, unavailable()))
    async with House(sink) as house:
        for at in range(60):
            await house.spool.append([event(at + 1, "bad"), event(at + 1001, "good")])
            await asyncio.sleep(1)
        assert len(by_key(sink.taken)["good"]) == 60 and house.counts.pending == 60
        sink.answer = lambda _one, _attempt: None
        await house.until_ended(seconds=120)
    assert by_key(sink.taken)["bad"] == list(range(1, 61))


async def test_a_parked_lane_survives_the_worker() -> None:
    sink = FakeSink(fails_for(1, unavailable()))
    async with House(sink) as house:
        await house.spool.append([event(n, "bad") for n in range(1, 101)])
        for at in range(30):
            await house.spool.append([event(at + 1001, "good")])
            await asyncio.sleep(1)
        assert house.counts.parked == 100
        before = max(attempt for _, first, attempt in sink.calls if first == 1)
        await house.restart()
        await house.until(lambda: sink.calls[-1][1] == 1 and sink.calls[-1][2] > before, seconds=120)
        sink.answer = lambda _one, _attempt: None
        await house.until_ended(seconds=120)
    assert by_key(sink.taken)["bad"] == list(range(1, 101))


async def test_a_redriven_event_holds_up_nobody_and_arrives() -> None:
    sink = FakeSink(fails_for(1, refused(422, final=True)))
    async with House(sink) as house:
        await house.spool.append(events(10, keys=1))
        await house.until_ended(seconds=10)
        (letter,) = await house.spool.dead_letters()
        sink.answer = fails_for(1, unavailable())
        assert await house.spool.redrive([letter.number]) == 1
        await house.spool.append(events(10, keys=1, start=11))
        await house.until_ended(seconds=10)
        assert 1 not in sink.numbers
        sink.answer = lambda _one, _attempt: None
        await house.until(lambda: house.counts.redelivered == 1, seconds=60)
        assert (house.counts.dead, house.counts.dead_letters) == (1, 0)
    assert sink.numbers == [*range(2, 21), 1]


# --- the sink fails ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("keys", "at_least"), [(0, 6000), (200, 1500), (40, 300)])
async def test_half_of_the_calls_answered_503_is_no_crawl(keys: int, at_least: int) -> None:
    sink = FakeSink(fails_at(0.5), concurrency=16, seconds=0.001)
    async with House(sink) as house:
        await house.spool.append(events(2000, keys=keys))
        most = await house.until(lambda: len(sink.taken) >= 1800, seconds=60)
        print(f"{keys} keys: {len(sink.taken) / most:.0f} events per virtual second")
        assert len(sink.taken) / most > at_least
        # One event in a thousand fails ten times and more: not even that takes long.
        assert await house.until_ended(seconds=60) < 20
    assert all(numbers == sorted(numbers) for key, numbers in by_key(sink.taken).items() if key)


async def test_strict_order_with_half_of_the_calls_answered_503() -> None:
    sink = FakeSink(fails_at(0.5), concurrency=16, seconds=0.001)
    async with House(sink, ordering="strict") as house:
        await house.spool.append(events(300))
        assert await house.until_ended(seconds=60) < 30
    assert sink.numbers == list(range(1, 301))


async def test_a_receiver_that_is_down_is_probed_by_one_call_at_a_time() -> None:
    sink = FakeSink(lambda _one, _attempt: unavailable(), concurrency=16)
    async with House(sink) as house:
        await house.spool.append(events(1000))
        await house.until(lambda: not house.worker.health.ok, seconds=5)
        await asyncio.sleep(0.1)
        before, sink.most_under_way = len(sink.calls), 0
        await asyncio.sleep(600)
        assert sink.most_under_way == 1
        assert 40 <= len(sink.calls) - before <= 200
        # It is back: that is noticed within the longest pause, and then everything goes.
        sink.answer = lambda _one, _attempt: None
        back = now()
        took = await house.until_ended(seconds=60) - back
    assert took < 16 and sink.most_under_way == 16
    assert seen_once(sink.taken) and len(sink.taken) == 1000


async def test_a_short_outage_costs_little() -> None:
    sink = FakeSink(lambda _one, _attempt: unavailable() if 1.0 < now() < 3.0 else None, concurrency=16)
    async with House(sink) as house:
        for _ in range(50):
            await house.spool.append(events(20, start=house.counts.appended + 1))
            await asyncio.sleep(0.1)
        ended = await house.until_ended(seconds=60)
    assert ended < 8.0


async def test_trouble_is_told_in_two_lines() -> None:
    sink = FakeSink(lambda _one, _attempt: unavailable() if 5 < now() < 305 else None, concurrency=16)
    with capture_logs() as logs:
        async with House(sink) as house:
            for at in range(400):
                await house.spool.append(events(5, start=at * 5 + 1))
                await asyncio.sleep(1)
            await house.until_ended(seconds=60)
    assert [line["event"] for line in logs] == ["sink.failing", "sink.recovered"]
    assert logs[0]["error"] == "HTTP 503" and logs[0]["sink"] == "sink"
    assert 298 < logs[1]["failed_seconds"] < 320


async def test_a_slow_sink_holds_up_no_other() -> None:
    fast, slow = FakeSink(name="fast"), FakeSink(name="slow", seconds=50.0)
    ours = House(fast)
    await ours.spool.open([SinkStart("fast"), SinkStart("slow")])
    async with ours, House(slow, spool=ours.spool):
        await ours.spool.append(events(10_000))
        await ours.until_ended(seconds=5)
        assert len(slow.taken) == 0
        # The house of the slow one is left as it is: nothing of it may be lost either.
        assert ours.spool.stats().sinks["slow"].pending == 10_000


# --- the end ----------------------------------------------------------------------------------------


async def test_stop_finishes_what_is_under_way_and_reads_no_more() -> None:
    sink = FakeSink(seconds=1.0, concurrency=4)
    async with House(sink) as house:
        await house.spool.append(events(100))
        await asyncio.sleep(1.5)
        assert sink.under_way == 4
        house.worker.stop()
        async with asyncio.timeout(0.6):
            await house.task
        assert len(sink.taken) == 8 and sink.closed == 1
        assert house.counts.delivered == 8 and house.counts.pending == 92
        await house.restart()
        await house.until_ended(seconds=60)
    assert seen_once(sink.taken) and len(sink.taken) == 100


@pytest.mark.parametrize("moment", ["idle", "full", "waiting", "down", "opening", "before"])
async def test_stop_ends_at_once_where_nothing_is_under_way(moment: str) -> None:
    sink = FakeSink()
    if moment == "opening":
        sink.opening = [unavailable() for _ in range(1000)]
    house = House(sink)
    if moment == "before":
        house.worker.stop()
    async with house:
        if moment in ("waiting", "down", "full"):
            count = {"waiting": 1, "down": 100, "full": 9000}[moment]
            sink.answer = lambda _one, _attempt: unavailable()
            await house.spool.append(events(count))
        await asyncio.sleep(100)
        before = now()
        house.worker.stop()
        house.worker.stop()
        await asyncio.wait_for(house.task, 1)
        assert now() - before < 0.01
    assert sink.closed == 1


async def test_a_worker_that_is_cut_off_sends_again_what_was_under_way() -> None:
    sink = FakeSink(seconds=1.0, concurrency=4)
    async with House(sink) as house:
        await house.spool.append(events(20))
        await asyncio.sleep(1.5)
        await house.restart()
        await house.until_ended(seconds=60)
    assert seen_once(sink.taken) and len(sink.taken) == 20
    assert [attempt for _, first, attempt in sink.calls if first == 5] == [1, 1]


async def test_an_error_that_is_not_of_the_tree_ends_the_worker() -> None:
    sink = FakeSink()

    def broken(_one: Event, _attempt: int) -> SinkError | None:
        raise ZeroDivisionError

    sink.answer = broken
    with pytest.raises(ExceptionGroup):
        async with House(sink) as house:
            await house.spool.append(events(1))
            await asyncio.sleep(1)
            await house.task
    assert sink.closed == 1


async def test_a_sink_that_cannot_be_opened_is_tried_again() -> None:
    sink = FakeSink()
    sink.opening = [unavailable() for _ in range(5)]
    with capture_logs() as logs:
        async with House(sink) as house:
            await house.spool.append(events(10))
            await house.until_ended(seconds=100)
    assert [line["event"] for line in logs] == ["sink.failing", "sink.recovered"]


async def test_a_file_that_cannot_be_reopened_is_no_crash() -> None:
    sink = FakeSink()
    async with House(sink) as house:
        sink.reopening = unavailable()
        with capture_logs() as logs:
            await house.worker.reopen()
    assert [line["event"] for line in logs] == ["sink.reopen_failed"]


async def test_a_redriven_event_that_never_succeeds_is_given_up() -> None:
    """The same clock as for any other event, begun anew when it was redriven."""
    sink = FakeSink(fails_for(1, refused(final=True)))
    async with House(sink, give_up_after_seconds=600) as house:
        await house.spool.append(events(1))
        await house.until_ended()
        sink.answer = fails_for(1, unavailable())
        await house.spool.redrive([1])
        began = now()
        for at in range(2, 100):
            await house.spool.append([event(at)])
            await asyncio.sleep(10)
        (letter,) = await house.spool.dead_letters()
        assert (letter.redriving, letter.reason) == (False, "gave up: HTTP 503")
        assert 600 <= sink.calls_of(1)[-1] - began < 700
        assert house.counts.redriving == 0


# --- the sink's own outages -------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2])
async def test_an_outage_counts_against_nobody_not_even_the_only_event(count: int) -> None:
    sink = FakeSink(lambda _one, _attempt: unavailable())
    async with House(sink, give_up_after_seconds=3600) as house:
        await house.spool.append(events(count))
        await asyncio.sleep(3 * 3600)
        sink.answer = lambda _one, _attempt: None
        await house.until_ended(seconds=60)
        assert (house.counts.delivered, house.counts.dead) == (count, 0)


async def test_a_sink_that_refuses_everything_is_asked_with_what_is_new_too() -> None:
    def answer(one: Event, _attempt: int) -> SinkRejected | None:
        return refused() if number(one) <= 300 else None

    sink = FakeSink(answer)
    async with House(sink) as house:
        await house.spool.append(events(300))
        await asyncio.sleep(600)
        await house.spool.append(events(1, start=301))
        await house.until(lambda: bool(sink.taken), seconds=2 * MAX_PAUSE_MISCONFIGURED_SECONDS)
        assert sink.numbers == [301]
