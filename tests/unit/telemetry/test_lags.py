"""How long events took, whatever their stamps and the clocks say."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from prometheus_client import CollectorRegistry

from tests.unit.delivery.fakes import FakeSink, LoopClock, event
from tests.unit.intake.fakes import HandClock
from zoomrelay.delivery.lane_worker import LaneWorker
from zoomrelay.delivery.router import Route
from zoomrelay.delivery.stream_worker import StreamWorker
from zoomrelay.delivery.worker import Worker
from zoomrelay.event import Event
from zoomrelay.intake.admit import Intake
from zoomrelay.intake.source import SourceIntake
from zoomrelay.session.messages import NO_HEADER, EventFrame
from zoomrelay.spool.base import Item, SinkStart
from zoomrelay.spool.memory import MemorySpool
from zoomrelay.telemetry.lags import IMPLAUSIBLE_MS, Commits, EventLag
from zoomrelay.telemetry.metrics import Metrics

NOW_MS = 1_767_225_600_000


class House:
    """Metrics, and what they say."""

    def __init__(self, clock: HandClock | LoopClock | None = None) -> None:
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry, clock)
        self.lag = EventLag(self.metrics.event_lag.of("main"), self.metrics.event_ts_odd, "main")

    def note(self, *stamps: int | None) -> None:
        self.lag.note([Event(bytes(16), "main", "s", "n", stamp, "", NOW_MS, b"") for stamp in stamps])

    def odd(self, reason: str) -> float:
        labels = {"source": "main", "reason": reason}
        return self.registry.get_sample_value("zoomrelay_event_ts_odd_total", labels) or 0.0

    def counted(self, name: str = "event_lag", **labels: str) -> tuple[float, float]:
        """How many, and the sum of their seconds."""
        of = labels or {"source": "main"}
        count = self.registry.get_sample_value(f"zoomrelay_{name}_seconds_count", of)
        total = self.registry.get_sample_value(f"zoomrelay_{name}_seconds_sum", of)
        return count or 0.0, total or 0.0


def test_the_lag_is_counted() -> None:
    house = House()
    house.note(NOW_MS - 250, NOW_MS - 7_200_000)
    house.note(NOW_MS)
    assert house.counted() == (3, 7200.25)
    hours = {"source": "main", "le": "14400.0"}
    assert house.registry.get_sample_value("zoomrelay_event_lag_seconds_bucket", hours) == 3


def test_no_events_are_no_trouble() -> None:
    house = House()
    house.note()
    assert house.counted() == (0, 0)


def test_what_tells_no_time_is_counted_apart() -> None:
    house = House()
    house.note(None, NOW_MS - 100, 1, -1, NOW_MS // 1000, 2**63 - 1, -(2**63), NOW_MS + IMPLAUSIBLE_MS + 1)
    assert house.counted() == (1, 0.1)
    assert house.odd("missing") == 1 and house.odd("implausible") == 6 and house.odd("ahead") == 0
    house.note(None, None)
    assert house.odd("missing") == 3


def test_what_is_ahead_took_no_time() -> None:
    house = House()
    house.note(NOW_MS + 1, NOW_MS + 5000, NOW_MS - 1000)
    assert house.counted() == (3, 1.0)
    assert house.odd("ahead") == 2 and house.odd("implausible") == 0


# --- from the disk to a receiver ----------------------------------------------------------------------


def received(clock: HandClock, ago_seconds: float = 0.0) -> Event:
    return Event(bytes(16), "main", "s", "n", 1, "", int((clock.wall() - ago_seconds) * 1000), b"")


def told(commits: Commits, *events: Event) -> float:
    """Seconds for which these had been durable, together."""
    tally = Metrics(CollectorRegistry()).durable_to_delivered.of("crm")
    commits.tell(tally, events)
    assert sum(tally.counts) == len(events)
    return tally.sum_ms / 1000


def test_the_wait_begins_with_the_commit() -> None:
    clock = HandClock()
    commits = Commits(clock)
    first, second = received(clock), None
    clock.sleep(3)
    second = received(clock)
    commits.note([first])
    clock.sleep(4)
    commits.note([second])
    clock.sleep(1)
    assert told(commits, first) == 5 and told(commits, second) == 1
    assert told(commits, first, first, second) == 11


def test_what_an_earlier_process_held_waits_since_its_receipt() -> None:
    clock = HandClock()
    commits = Commits(clock)
    old = received(clock, 3600)
    assert told(commits, old) == 3600
    clock.sleep(1)
    commits.note([received(clock)])
    assert told(commits, old) == 3601


def test_a_clock_that_is_set_makes_no_nonsense() -> None:
    clock = HandClock()
    commits = Commits(clock)
    before = received(clock)
    commits.note([before])
    clock.step(-100)
    assert told(commits, before) == 0
    after = received(clock)
    clock.sleep(1)
    commits.note([after])
    clock.sleep(2)
    assert told(commits, after) == 2
    commits.note([])


def test_memory_is_bounded() -> None:
    clock = HandClock()
    commits = Commits(clock)
    first = received(clock)
    for _ in range(5000):
        commits.note([received(clock)])
        clock.sleep(0.01)
    assert len(commits._received_ms) <= 2048
    assert told(commits, first) == pytest.approx(50, abs=0.1)
    last = received(clock)
    commits.note([last])
    clock.sleep(7)
    assert told(commits, last) == 7


# --- all of it ----------------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.looptime
@pytest.mark.parametrize("kind", ["stream", "lanes"])
async def test_through_intake_and_worker(kind: str) -> None:
    house = House(clock := LoopClock())
    spool = SlowSpool(max_bytes=2**30, clock=clock)
    await spool.open([SinkStart("crm")])
    sink = FakeSink(name="crm", seconds=2.0, max_batch=10)
    parts = (sink, Route(), spool, Random(1), house.metrics)
    worker: Worker = (
        StreamWorker(*parts)
        if kind == "stream"
        else LaneWorker(*parts, ordering="key", give_up_after_seconds=3600)
    )
    intake = Intake(spool, clock, Random(1), house.metrics)
    door = SourceIntake(intake, "main", ["sub"])
    tasks = [asyncio.create_task(intake.run()), asyncio.create_task(worker.run())]
    stamp = int(clock.wall() * 1000) - 60_000
    frames = [b'{"event":"a.b","event_ts":%d}' % (stamp + number) for number in range(3)]
    door.events("sub", [EventFrame(frame, NO_HEADER, True) for frame in frames])
    door.own(b'{"event":"zoomrelay.gap_opened","event_ts":1}')
    async with asyncio.timeout(60):
        while spool.stats().sinks["crm"].delivered < 3:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.1)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    count, seconds = house.counted()
    assert count == 3 and seconds == pytest.approx(180, abs=0.01)  # our own event has no lag
    count, seconds = house.counted("durable_to_delivered", sink="crm")
    assert count == 3 and seconds == pytest.approx(6, abs=0.05)
    assert house.counted("received_to_durable", sink="")[0] == 0


class SlowSpool(MemorySpool):
    """Takes a second for a commit."""

    async def append(self, *arguments: object, **options: object) -> None:
        await asyncio.sleep(1)
        await super().append(*arguments, **options)  # type: ignore[arg-type]


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_what_is_sent_once_more_does_not_count() -> None:
    house = House(clock := LoopClock())
    spool = MemorySpool(max_bytes=2**30, clock=clock)
    await spool.open([SinkStart("crm")])
    worker = StreamWorker(FakeSink(name="crm", max_batch=10), Route(), spool, Random(1), house.metrics)
    worker._note_delivered([Item(1, event(1), redriven=True)])
    assert house.counted("durable_to_delivered", sink="crm") == (0, 0)
    worker._note_delivered([Item(1, event(1)), Item(2, event(2), redriven=True)])
    assert house.counted("durable_to_delivered", sink="crm")[0] == 1
