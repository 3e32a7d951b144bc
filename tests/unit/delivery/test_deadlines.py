"""Events with a deadline: the late ones die, the others go first after an outage."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from tests.unit.delivery.fakes import WALL, FakeSink, House, event, events, number, seen_once
from zoomrelay.delivery.deadlines import Deadlines
from zoomrelay.delivery.lanes import Ordering
from zoomrelay.errors import SinkRejected, SinkUnavailable
from zoomrelay.event import GAP_OPENED, Event
from zoomrelay.spool.base import DeadLetter

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

DOWN = SinkUnavailable("HTTP 503", status=503, excerpt="later")
RTMS = {"rtms.*": 60.0}


def now() -> float:
    return asyncio.get_running_loop().time()


def rtms(wanted: int, key: str = "", *, name: str = "rtms.started") -> Event:
    """Received now."""
    return replace(event(wanted, key, name=name), received_ms=int((WALL + now()) * 1000))


async def dead(house: House) -> list[DeadLetter]:
    return await house.spool.dead_letters()


def numbers(letters: Sequence[DeadLetter]) -> list[int]:
    return [letter.number for letter in letters]


# --- the rules --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("meeting.rtms_started", 60),
        ("meeting.started", 3600),
        ("meeting.ended", float("inf")),
        ("phone.ringing", float("inf")),
        (GAP_OPENED, float("inf")),
    ],
)
async def test_the_last_match_wins_and_nothing_is_no_deadline(name: str, seconds: float) -> None:
    globs = {"z*": 1.0, "meeting.*": 3600.0, "meeting.rtms_*": 60.0, "*.ended": 0.0}
    deadlines = Deadlines(globs)
    assert (deadlines.seconds(name), deadlines.has(name)) == (seconds, seconds < 1e9)
    assert deadlines.longest_seconds == 3600 and deadlines
    assert not Deadlines() and not Deadlines({"*": 0.0})


# --- late ones --------------------------------------------------------------------------------------


async def test_what_is_late_when_its_turn_comes_is_dead_and_was_not_sent() -> None:
    sink = FakeSink(lambda _event, _attempt: DOWN)
    async with House(sink, deadlines=RTMS) as house:
        await house.spool.append([rtms(1), event(2), rtms(3)])
        await asyncio.sleep(100)
        calls = len(sink.calls)
        sink.answer = lambda _event, _attempt: None
        await house.until_ended()
        assert sink.numbers == [2]
        assert (house.counts.delivered, house.counts.dead) == (1, 2)
        letters = await dead(house)
        assert [letter.reason for letter in letters] == ["deadline"] * 2
        assert calls >= 5
        tried = max(letters, key=lambda letter: letter.attempts)
        assert (tried.status, tried.excerpt, tried.attempts > 1) == (503, "HTTP 503: later", True)


@pytest.mark.parametrize("ordering", ["key", "none", "strict"])
async def test_under_every_ordering_and_in_batches(ordering: Ordering) -> None:
    sink = FakeSink(lambda _event, _attempt: DOWN, max_batch=10)
    async with House(sink, deadlines=RTMS, ordering=ordering) as house:
        await house.spool.append(
            [rtms(n, f"k{n % 3}") if n % 2 else event(n, f"k{n % 3}") for n in range(40)]
        )
        await asyncio.sleep(70)
        sink.answer = lambda _event, _attempt: None
        await house.until_ended()
        assert sorted(sink.numbers) == list(range(0, 40, 2))
        assert house.counts.dead == 20
        if ordering != "none":
            assert [n for n in sink.numbers if n % 3 == 0] == list(range(0, 40, 6))


async def test_a_late_head_that_fails_alone_is_dead_even_if_it_was_parked() -> None:
    sink = FakeSink(lambda one, _attempt: DOWN if one.name == "rtms.started" else None)
    async with House(sink, deadlines=RTMS) as house:
        await house.spool.append([rtms(1, "k"), rtms(2, "k", name="rtms.x"), event(3, "k")])
        for n in range(10, 140):
            await house.spool.append([event(n)])
            await asyncio.sleep(1)
        await house.until_ended()
        assert house.counts.dead == 2  # what stands behind it waits for it, until it is late itself
        assert 3 in sink.numbers and sink.numbers.index(3) < 5


async def test_redriven_it_is_not_judged_again() -> None:
    sink = FakeSink(lambda _event, _attempt: DOWN)
    async with House(sink, deadlines=RTMS) as house:
        await house.spool.append([rtms(1)])
        await asyncio.sleep(90)
        assert house.counts.dead == 1
        sink.answer = lambda _event, _attempt: None
        assert await house.spool.redrive(numbers(await dead(house))) == 1
        await house.until(lambda: sink.numbers == [1])
        await house.until(lambda: house.counts.redelivered == 1)


async def test_nothing_is_late_without_a_deadline() -> None:
    sink = FakeSink(lambda _event, _attempt: DOWN)
    async with House(sink) as house:
        await house.spool.append([rtms(n) for n in range(20)])
        await asyncio.sleep(4_000)
        sink.answer = lambda _event, _attempt: None
        await house.until_ended()
        assert house.counts.delivered == 20


# --- urgent ones go first ---------------------------------------------------------------------------


async def outage(house: House, sink: FakeSink, seconds: int, each_second: int, keys: int = 7) -> list[Event]:
    """A receiver that is down for so long; every hundredth event is urgent."""
    sink.answer = lambda _event, _attempt: DOWN
    sent: list[Event] = []
    for second in range(seconds):
        begin = second * each_second
        batch = [
            rtms(n, f"k{n % keys}") if n % 100 == 99 else event(n, f"k{n % keys}")
            for n in range(begin, begin + each_second)
        ]
        await house.spool.append(batch)
        sent += batch
        await asyncio.sleep(1)
    return sent


@pytest.mark.parametrize(("ordering", "batch"), [("key", 1), ("none", 1), ("key", 25)])
async def test_after_an_outage_those_in_time_go_before_the_backlog(ordering: Ordering, batch: int) -> None:
    sink = FakeSink(seconds=0.01, max_batch=batch)
    async with House(sink, deadlines=RTMS, ordering=ordering) as house:
        sent = await outage(house, sink, 150, 50)
        back = now()
        sink.answer = lambda _event, _attempt: None
        await house.until_ended()
        taken = [one for one in sink.taken if one.name == "rtms.started"]
        assert 20 <= len(taken) <= 31  # of the last minute, less the pause
        last = max(number(one) for one in taken)
        assert last == number(sent[-1])
        assert sink.numbers.index(last) < 300
        taken_at = [at for at, first, _ in sink.calls if first == last]
        assert not taken_at or taken_at[-1] - back < 20
        assert house.counts.dead == 75 - len(taken)
        assert house.counts.delivered == len(sink.taken) == 7_500 - house.counts.dead
        assert seen_once(sink.taken)
        if ordering == "key":
            for key in range(7):
                for urgent in (True, False):
                    order = [
                        n for one in sink.taken
                        if one.key == f"k{key}" and (one.name == "rtms.started") == urgent
                        for n in [number(one)]
                    ]  # fmt: skip
                    assert order == sorted(order)


async def test_those_that_come_while_the_backlog_drains_do_not_wait_for_it() -> None:
    sink = FakeSink(seconds=0.04, concurrency=1)
    waited: list[float] = []
    sink.answer = lambda _event, _attempt: None
    async with House(sink, deadlines=RTMS) as house:
        await house.spool.append(events(5_000))
        for n in range(30):
            begun = now()
            await house.spool.append([rtms(20_000 + n)])
            await house.until(lambda n=n: 20_000 + n in sink.numbers[-100:])  # type: ignore[misc]
            waited.append(now() - begun)
        assert max(waited) < 0.2
        assert house.counts.pending > 4000


async def test_in_strict_order_nothing_overtakes() -> None:
    sink = FakeSink(seconds=0.001)
    async with House(sink, deadlines=RTMS, ordering="strict") as house:
        await house.spool.append([*events(3000), rtms(5000)])
        await house.until_ended()
        assert sink.numbers == [*range(1, 3001), 5000]


async def test_a_refused_urgent_event_is_dead_and_the_rest_goes_on() -> None:
    no = SinkRejected("HTTP 400", status=400)
    sink = FakeSink(lambda one, _attempt: no if number(one) == 5000 else None)
    async with House(sink, deadlines=RTMS) as house:
        await house.spool.append([*events(3000), rtms(5000, "k"), rtms(5001, "k")])
        await house.until_ended()
        assert (house.counts.dead, house.counts.delivered) == (1, 3001)


async def test_another_worker_takes_up_what_the_first_had_before_its_turn() -> None:
    sink = FakeSink(seconds=1.0)
    async with House(sink, deadlines=RTMS) as house:
        await house.spool.append([*events(3000), *(rtms(5000 + n, "k") for n in range(20))])
        await asyncio.sleep(5.5)
        assert house.counts.delivered > 5
        await house.restart()
        sink.seconds = 0.001
        await house.until_ended()
        order = list(dict.fromkeys(n for n in sink.numbers if n >= 5000))
        assert order == list(range(5000, 5020))
        assert house.counts.delivered == 3020


async def test_stop_ends_at_once_while_both_readers_wait() -> None:
    sink = FakeSink()
    async with House(sink, deadlines=RTMS) as house:
        await asyncio.sleep(1)
        house.worker.stop()
        async with asyncio.timeout(1):
            await house.task
