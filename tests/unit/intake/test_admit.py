"""From frames to held events, in virtual time."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from tests.unit.intake.fakes import WALL, FakeSpool, LoopClock
from zoomrelay.event import GAP_OPENED
from zoomrelay.intake.admit import Intake
from zoomrelay.intake.source import SourceIntake
from zoomrelay.session.messages import NO_HEADER, EventFrame
from zoomrelay.telemetry.metrics import Metrics

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime(noop_cycles=1)]


class House:
    def __init__(self, *subscriptions: str, max_events: int = 100, max_bytes: int = 10**9) -> None:
        self.spool = FakeSpool()
        self.registry = CollectorRegistry()
        self.intake = Intake(
            self.spool,
            LoopClock(),
            Random(1),
            Metrics(self.registry),
            max_events=max_events,
            max_bytes=max_bytes,
        )
        self.door = SourceIntake(self.intake, "main", subscriptions or ("sub",))

    async def __aenter__(self) -> House:
        self.task = asyncio.create_task(self.intake.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.intake.stop()
        await asyncio.wait_for(self.task, 60)
        assert self.intake.waiting == 0

    def metric(self, name: str) -> float | None:
        return self.registry.get_sample_value("zoomrelay_" + name)


def content(number: int) -> bytes:
    return b'{"event":"meeting.started","event_ts":%d,"payload":{"object":{"uuid":"u"}}}' % number


def push(door: SourceIntake, *numbers: int, subscription: str = "sub") -> None:
    door.events(subscription, [frame(content(number)) for number in numbers])


def frame(content: bytes) -> EventFrame:
    return EventFrame(content, NO_HEADER, True)


async def test_what_gathers_is_one_commit() -> None:
    async with House() as house:
        push(house.door, 1)
        await asyncio.sleep(0.005)  # the first commit is under way
        push(house.door, *range(2, 50))
        await asyncio.sleep(1)
    assert house.spool.commits == [1, 48]
    assert [event.event_ts for event in house.spool.held] == list(range(1, 50))


async def test_an_event_is_what_was_received() -> None:
    async with House("other") as house:
        await asyncio.sleep(2.5)
        push(house.door, 7, subscription="other")
    (event,) = house.spool.held
    assert (event.source, event.subscription, event.name) == ("main", "other", "meeting.started")
    assert (event.event_ts, event.key, event.content) == (7, "u", content(7))
    assert event.received_ms == int((WALL + 2.5) * 1000)
    assert event.id.startswith("z1_") and len(event.id) == 35


async def test_what_is_no_event_is_kept_raw() -> None:
    async with House() as house:
        house.door.events("sub", [frame(b"not json")])
        house.door.unreadable("sub", b"\xff\xfe", "neither text nor JSON")
        push(house.door, 1)
    assert [(kept.raw, kept.subscription) for kept in house.spool.kept] == [
        (b"not json", "sub"),
        (b"\xff\xfe", "sub"),
    ]
    assert "JSON" in house.spool.kept[0].reason
    assert house.spool.commits == [3]


@pytest.mark.parametrize("bound", [{"max_events": 10}, {"max_bytes": 10 * len(content(1))}])
async def test_readers_wait_while_it_is_full(bound: dict[str, int]) -> None:
    async with House(**bound) as house:
        house.spool.seconds = 3.0
        push(house.door, *range(10))
        await asyncio.sleep(1)
        assert not house.door.full  # those are under way to the disk
        push(house.door, *range(10, 20))
        assert house.door.full
        before = asyncio.get_running_loop().time()
        await asyncio.gather(house.door.room(), house.intake.room())
        assert 1.9 < asyncio.get_running_loop().time() - before < 2.1
        assert not house.door.full
        assert 3.9 < (house.metric("intake_paused_seconds_total") or 0) < 4.1


async def test_a_reader_that_finds_it_full_again_waits_again() -> None:
    async with House(max_events=5) as house:
        house.spool.seconds = 1.0
        received = 0
        while received < 100:
            push(house.door, received)
            received += 1
            assert house.intake.waiting <= 10
            if house.door.full:
                await house.door.room()
    assert [event.event_ts for event in house.spool.held] == list(range(100))


@pytest.mark.parametrize("seconds", [0.1, 0.7])
async def test_readers_of_a_flood_take_turns(seconds: float) -> None:
    """A subscription must not wait until another has nothing to say, however long a round takes."""
    async with House(max_events=5) as house:
        house.spool.seconds = seconds
        turns: list[str] = []

        async def reader(name: str) -> None:
            while True:
                turns.append(name)
                push(house.door, *range(5))
                await house.door.room()

        readers = [asyncio.create_task(reader(name)) for name in "abc"]
        await asyncio.sleep(30.5 * seconds)
        for one in readers:
            one.cancel()
        assert "".join(turns).startswith("abc" * 9)
        await asyncio.wait(readers)


async def test_a_spool_that_fails_loses_and_doubles_nothing() -> None:
    async with House() as house:
        house.spool.broken = True
        with capture_logs() as logs:
            push(house.door, *range(30))
            await asyncio.sleep(120)
            push(house.door, *range(30, 60))
            assert house.spool.held == [] and house.intake.waiting == 60
            house.spool.broken = False
            await asyncio.sleep(6)
        assert [event.event_ts for event in house.spool.held] == list(range(60))
    assert [line["event"] for line in logs] == ["intake.spool_unavailable", "intake.spool_available"]
    assert logs[0]["error"] == "disk I/O error"
    assert 120 < logs[1]["unavailable_seconds"] < 126


async def test_a_spool_that_fails_is_a_trouble_until_it_takes_something() -> None:
    async with House() as house:
        push(house.door, 1)
        await asyncio.sleep(1)
        assert house.intake.troubles.lasting() == [] and house.intake.troubles.take() == ([], [])
        house.spool.broken = True
        push(house.door, 2)
        await asyncio.sleep(60)
        (opened,), _ = house.intake.troubles.take()
        assert (opened.cause, opened.from_ms) == ("spool_unwritable", int((WALL + 1.01) * 1000))
        assert "disk I/O error" in opened.detail
        house.spool.broken = False
        await asyncio.sleep(20)
    _, (gap,) = house.intake.troubles.take()
    assert 59 < gap.seconds < 65


async def test_long_pauses_are_troubles_and_short_ones_are_not() -> None:
    async with House(max_events=5) as house:
        for number, seconds in enumerate((0.9, 4.0)):
            house.spool.seconds = seconds
            push(house.door, number)
            await asyncio.sleep(0.001)
            push(house.door, *range(10 * number, 10 * number + 5))
            await house.door.room()
            await asyncio.sleep(10)
            paused = house.metric("intake_paused_seconds_total") or 0
            causes = [gap.cause for gap in house.intake.troubles.take()[1]]
            assert (causes, paused) == (
                ["paused"] if number else [],
                pytest.approx(0.9 + 4 * number, abs=0.01),
            )


async def test_a_reader_that_is_cut_off_leaves_no_pause_behind() -> None:
    async with House(max_events=1) as house:
        house.spool.seconds = 9.0
        push(house.door, 1)
        await asyncio.sleep(1)
        push(house.door, 2)
        reader = asyncio.create_task(house.door.room())
        await asyncio.sleep(2)
        reader.cancel()
        await asyncio.wait([reader])
        _, (gap,) = house.intake.troubles.take(finish=True)
        assert (gap.cause, gap.seconds) == ("paused", 2)


async def test_refused_events_are_kept_and_counted() -> None:
    async with House() as house:
        house.door.refused("sub", content(1))
        house.door.refused("sub", content(2))
    assert [(kept.raw, kept.reason) for kept in house.spool.kept] == [
        (content(1), "signature"),
        (content(2), "signature"),
    ]
    _, (gap,) = house.intake.troubles.take(finish=True)
    assert (gap.cause, gap.source, gap.paths, gap.events) == ("signature_refused", "main", ("main/sub",), 2)


async def test_an_event_of_the_relays_own_came_on_no_subscription() -> None:
    async with House() as house:
        push(house.door, 1)
        house.door.own(b'{"event":"zoomrelay.gap_opened","payload":{"object":{"id":"main/sub"}}}')
        push(house.door, 2)
    first, own, second = house.spool.held
    assert (own.name, own.source, own.subscription, own.key) == (GAP_OPENED, "main", "", "main/sub")
    assert (first.event_ts, second.event_ts) == (1, 2)
    assert house.door.paths["sub"].received == 2


async def test_stop_holds_what_was_received() -> None:
    house = House()
    async with house:
        house.spool.seconds = 5.0
        push(house.door, 1)
        await asyncio.sleep(1)
        push(house.door, 2, 3)
    assert house.spool.commits == [1, 2]


async def test_a_stop_that_is_cut_off_says_what_is_not_held() -> None:
    house = House()
    async with house:
        house.spool.broken = True
        push(house.door, 1, 2)
        await asyncio.sleep(1)
        house.intake.stop()
        await asyncio.sleep(10)
        assert not house.task.done() and house.intake.waiting == 2
        house.spool.broken = False


async def test_a_stop_tries_again_at_once() -> None:
    house = House()
    async with house:
        house.spool.broken = True
        push(house.door, 1, 2)
        await asyncio.sleep(60)
        house.spool.broken = False
        house.intake.stop()
        await asyncio.sleep(0.2)
        assert house.task.done() and house.spool.commits == [2]


async def test_until_when_everything_is_held() -> None:
    async with House() as house:
        house.spool.seconds = 2.0
        last_frame_ms = int((WALL + 100) * 1000)
        assert house.intake.held_until_ms(last_frame_ms) == last_frame_ms
        await asyncio.sleep(10)
        push(house.door, 1)
        await asyncio.sleep(1)
        push(house.door, 2)
        first_ms, second_ms = int((WALL + 10) * 1000), int((WALL + 11) * 1000)
        assert house.intake.held_until_ms(last_frame_ms) == first_ms
        await asyncio.sleep(1.5)
        assert house.intake.held_until_ms(last_frame_ms) == second_ms
        assert house.intake.held_until_ms(second_ms - 500) == second_ms - 500
        await asyncio.sleep(3)
        assert house.intake.held_until_ms(last_frame_ms) == last_frame_ms


async def test_figures() -> None:
    async with House() as house:
        push(house.door, 1, 2)
        assert house.metric("intake_events") == 2
        assert house.metric("intake_bytes") == 2 * len(content(1))
        await asyncio.sleep(1)
        assert house.metric("intake_events") == 0
        assert house.metric("received_to_durable_seconds_count") == 1
        assert (house.metric("received_to_durable_seconds_sum") or 0) == pytest.approx(0.01, abs=0.002)
