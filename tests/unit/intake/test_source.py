"""One source with several subscriptions, in virtual time: merging, conservation, deaf and quiet paths."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from tests.unit.intake.fakes import FakeSpool, LoopClock
from zoomrelay.clock import SystemClock
from zoomrelay.event import WEBHOOK
from zoomrelay.intake.admit import Intake
from zoomrelay.intake.source import SourceIntake
from zoomrelay.session.messages import NO_HEADER, EventFrame
from zoomrelay.spool.base import SinkStart, SourceCounts, Spool
from zoomrelay.spool.sqlite import SqliteSpool
from zoomrelay.telemetry.metrics import Metrics

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime(noop_cycles=1)]


def content(number: int, *, timed: bool = True) -> bytes:
    ts = b'"event_ts":%d,' % number if timed else b""
    return b'{"event":"meeting.started",%s"payload":{"object":{"uuid":"u%d"}}}' % (ts, number)


class House:
    def __init__(self, *subscriptions: str, spool: Spool | None = None, quiet: float = 0.0) -> None:
        self.fake = FakeSpool()
        self.spool = spool or self.fake
        clock = LoopClock() if spool is None else SystemClock()
        self.intake = Intake(self.spool, clock, Random(1), Metrics(CollectorRegistry()))
        self.intake.open()
        self.source = SourceIntake(self.intake, "main", subscriptions, quiet_after_seconds=quiet)
        self.source.begin_counting(self.counts)

    async def __aenter__(self) -> House:
        self.task = asyncio.create_task(self.intake.run())
        for path in self.source.paths.values():
            path.accepted(0.0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.intake.stop()
        await asyncio.wait_for(self.task, 60)
        assert self.error == 0

    @property
    def counts(self) -> SourceCounts:
        return self.spool.stats().sources.get("main", SourceCounts())

    @property
    def error(self) -> int:
        return self.source.conservation_error(self.counts)

    def push(self, subscription: str, *numbers: int, timed: bool = True) -> None:
        frames = [EventFrame(content(number, timed=timed), NO_HEADER, True) for number in numbers]
        self.source.events(subscription, frames)

    async def alive(self, seconds: int) -> None:
        """Let time pass, as accepted sessions see it."""
        for _ in range(seconds):
            await asyncio.sleep(1)
            for path in self.source.paths.values():
                path.alive(0.0)


async def test_the_first_copy_is_held_and_the_other_counted() -> None:
    async with House("one", "two") as house:
        house.push("one", 1, 2, 3)
        house.push("two", 2, 3, 4)
        await asyncio.sleep(1)
        house.push("one", 4, 5)
        await asyncio.sleep(1)
        paths = house.spool.stats().paths
    held = [(event.event_ts, event.subscription) for event in house.fake.held]
    assert held == [(1, "one"), (2, "one"), (3, "one"), (4, "two"), (5, "one")]
    assert paths["main", "one"].merged == 1 and paths["main", "two"].merged == 2


async def test_a_copy_that_comes_during_the_commit_shares_its_outcome() -> None:
    async with House("one", "two") as house:
        house.fake.seconds = 2.0
        house.fake.broken = True
        house.push("one", 1)
        await asyncio.sleep(0.5)  # under way to the disk
        house.push("two", 1)
        await asyncio.sleep(30)
        assert house.counts.merged == 0 and house.error == 0
        house.fake.broken = False
        await asyncio.sleep(30)
        assert house.counts.merged == 1
    assert len(house.fake.held) == 1


async def test_identities_go_with_their_events() -> None:
    async with House("one", "two") as house:
        house.push("one", 1, 2)
        house.push("two", 1, 2)
        house.push("two", 9, timed=False)
        await asyncio.sleep(1)
    (remembered,) = house.fake.remembered
    assert remembered.digests == b"".join(event.digest for event in house.fake.held if event.event_ts)


async def test_a_single_subscription_remembers_nothing() -> None:
    async with House("one") as house:
        house.push("one", 1, 1)
        await asyncio.sleep(1)
    assert len(house.fake.held) == 2 and not house.fake.remembered and not len(house.intake.identities)


async def test_events_without_a_time_are_merged_for_a_minute() -> None:
    async with House("one", "two") as house:
        house.push("one", 1, timed=False)
        await asyncio.sleep(59)
        house.push("two", 1, timed=False)
        await asyncio.sleep(2)
        house.push("two", 1, timed=False)
        await asyncio.sleep(1)
    assert len(house.fake.held) == 2


async def test_inversions_are_counted() -> None:
    async with House("one", "two") as house:
        house.push("one", 5, 6)
        house.push("two", 4, 5, 6, 7)
        house.push("one", 4, 7)
        assert house.source.inversions == 1


async def test_a_deaf_path_is_told_with_its_cure_and_hears_again() -> None:
    async with House("one", "two") as house:
        with capture_logs() as logs:
            for number in range(50):
                house.push("one", number)
                await house.alive(1)
            one, two = house.source.paths["one"], house.source.paths["two"]
            assert one.covers and not two.covers
            assert two.deaf and not one.deaf and two.missed > 20 and "deaf" in two.trouble
            for number in range(50, 90):
                house.push("one", number)
                house.push("two", number)
                await house.alive(1)
            assert not two.deaf and not two.trouble
    assert [line["event"] for line in logs] == ["session.deaf", "session.hears_again"]
    assert "save the subscription" in logs[0]["cure"]


async def test_subscriptions_that_differ_are_told() -> None:
    async with House("one", "two") as house:
        with capture_logs() as logs:
            for number in range(0, 400, 2):
                house.push("one", number)
                house.push("two", number + 1)
                await house.alive(1)
        assert not any(path.covers for path in house.source.paths.values())
    assert [line["event"] for line in logs] == ["source.subscriptions_differ"]


async def test_quiet_is_reported_where_it_was_asked_for() -> None:
    async with House("one", quiet=60) as house:
        house.push("one", 1)
        await house.alive(59)
        path = house.source.paths["one"]
        assert not path.quiet
        with capture_logs() as logs:
            await house.alive(2)
            assert path.quiet and "quiet" in path.trouble
            house.push("one", 2)
            await house.alive(1)
            assert not path.quiet
            await house.alive(100)
            path.lost("closed", "", clean=True, heard_until=0.0)
            assert not path.quiet
    assert [line["event"] for line in logs] == ["session.quiet", "session.hears_again", "session.quiet"]


@pytest.mark.looptime(False)
async def test_copies_that_come_after_a_restart_are_known(tmp_path: Path) -> None:
    for brought_by in ("one", "two"):
        spool = SqliteSpool(tmp_path, max_bytes=2**30, clock=SystemClock())
        await spool.open([SinkStart("a")])
        async with House("one", "two", spool=spool) as house:
            house.push(brought_by, *range(100))
        await spool.flush()
        counts = house.counts
        await spool.close()
    assert (counts.appended, counts.merged) == (100, 100)


async def test_merging_begins_with_the_second_subscription_and_goes_on() -> None:
    async with House("one") as house:
        house.push("one", 1, 1)
        house.source.add("two").accepted(0.0)
        house.push("one", 2)
        house.push("two", 2, 3)
        house.source.remove("one")
        house.push("two", 3, 4)
        await asyncio.sleep(1)
    assert [event.event_ts for event in house.fake.held] == [1, 1, 2, 3, 4]


async def test_a_path_that_takes_the_place_of_another_is_judged_for_itself() -> None:
    async with House("one", "two") as house:
        await house.alive(3)
        house.push("one", *range(10))
        await house.alive(30)
        assert house.source.paths["two"].deaf
        bit = house.source.paths["two"].bit
        house.source.remove("two")
        path = house.source.add("three")
        path.accepted(0.0)
        assert path.bit == bit and (path.missed, path.covers) == (0, True)
        await house.alive(3)
        house.push("one", *range(10, 20))
        house.push("three", *range(10, 20))
        await house.alive(30)
        assert (path.missed, path.deaf) == (0, False)


class Told:
    """A ledger's path that keeps what it is told."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def accepted(self, wall: float) -> None:
        self.words.append("accepted")

    def lost(self, cause: str, detail: str, *, clean: bool, heard_until: float) -> None:
        self.words.append(cause)

    def alive(self, heard_until: float) -> None: ...


@pytest.mark.parametrize(
    ("cause", "clean", "told"),
    [
        ("stopped", True, []),
        ("stopped", False, ["stopped", "accepted"]),
        ("closed", True, ["closed", "accepted"]),
        ("reset", False, ["reset", "accepted"]),
    ],
)
async def test_a_path_with_two_sockets_is_listened_to_until_both_have_ended(
    cause: str, clean: bool, told: list[str]
) -> None:
    """Unless the first ended properly and by our doing, something may be missing."""
    house = House("one")
    path, ledger = house.source.paths["one"], Told()
    path.then(ledger)
    path.accepted(0.0)
    path.accepted(1.0)
    path.lost(cause, "", clean=clean, heard_until=1.0)
    assert ledger.words == ["accepted", *told] and path.accepted_at is not None
    path.lost("closed", "", clean=True, heard_until=2.0)
    assert ledger.words == ["accepted", *told, "closed"] and path.accepted_at is None


# --- webhooks ---------------------------------------------------------------------------------------------


async def test_a_webhook_alone_knows_what_zoom_sends_again() -> None:
    async with House(WEBHOOK) as house:
        for _ in range(3):
            house.push(WEBHOOK, 1, 2)
            await house.source.held()
        assert [event.content for event in house.fake.held] == [content(1), content(2)]
        assert house.counts.merged == 4 and house.source.conservation_error(house.counts) == 0


async def test_held_means_durable_for_copies_too() -> None:
    async with House(WEBHOOK) as house:
        house.fake.seconds = 1.0
        house.push(WEBHOOK, 1)
        first = asyncio.create_task(house.source.held())
        await asyncio.sleep(0.5)  # it is being committed
        house.push(WEBHOOK, 1)
        copy = asyncio.create_task(house.source.held())
        await asyncio.sleep(0.3)
        assert not first.done() and not copy.done()
        await asyncio.sleep(0.3)
        assert first.done() and copy.done() and len(house.fake.held) == 1


async def test_nothing_is_held_while_the_spool_takes_nothing() -> None:
    async with House(WEBHOOK) as house:
        house.fake.broken = True
        house.push(WEBHOOK, 1)
        waiting = asyncio.create_task(house.source.held())
        await asyncio.sleep(5)
        assert not waiting.done() and house.source.blocked
        waiting.cancel()  # whoever asked has gone
        house.fake.broken = False
        await asyncio.sleep(10)
        assert not house.source.blocked and len(house.fake.held) == 1
        house.push(WEBHOOK, 1)
        await house.source.held()
        assert len(house.fake.held) == 1


async def test_late_events_of_a_webhook_do_not_make_the_sockets_deaf() -> None:
    """What Zoom tries again happened while nobody listened; no socket will bring it."""
    async with House("a", WEBHOOK) as house:
        for name in ("a", WEBHOOK):
            house.source.paths[name].accepted(0.0)
        await asyncio.sleep(5)
        house.push(WEBHOOK, *range(1, 20))  # of long ago
        await asyncio.sleep(30)
        house.source.paths["a"].alive(0.0)
        assert not house.source.paths["a"].deaf and house.source.paths["a"].missed == 0


async def test_a_socket_that_brings_nothing_of_what_comes_by_webhook_is_deaf() -> None:
    async with House("a", WEBHOOK) as house:
        for name in ("a", WEBHOOK):
            house.source.paths[name].accepted(0.0)
        await asyncio.sleep(5)
        now = house.intake.now_ms()
        house.push(WEBHOOK, *range(now, now + 5))
        await asyncio.sleep(30)
        house.source.paths["a"].alive(0.0)
        assert house.source.paths["a"].deaf and house.source.paths["a"].missed == 5
