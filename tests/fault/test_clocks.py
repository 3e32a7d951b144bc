"""Wall clocks that are wrong, or set while the relay runs, and machines that sleep: nothing breaks.

What the ledger calls `seconds` must be true whatever the wall clock shows.
"""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path
from random import Random

import pytest
from prometheus_client import CollectorRegistry

from tests.support.clockwork import MODULE, Clockwork
from tests.support.lab import Lab
from tests.unit.intake.fakes import FakeSpool, HandClock
from tests.unit.spool import spools
from zoomrelay.event import Event
from zoomrelay.intake.admit import Intake
from zoomrelay.intake.ledger import Gap, Ledger, read
from zoomrelay.retry_after import answered_at, retry_after_seconds
from zoomrelay.spool.base import SinkStart
from zoomrelay.telemetry.metrics import Metrics

_STOP, _CONTINUE = signal.SIGSTOP, signal.SIGCONT
HOUR = 3600.0
TO_1970 = 86_400.0 - time.time()
TO_2100 = 4_102_444_800.0 - time.time()
STEPS = [
    pytest.param(7 * HOUR, id="forward", marks=pytest.mark.full),
    pytest.param(-7 * HOUR, id="back"),
    pytest.param(TO_1970, id="1970", marks=pytest.mark.full),
    pytest.param(TO_2100, id="2100", marks=pytest.mark.full),
]
FAST = "heartbeat_seconds = 5"
MARGIN_SECONDS = 5.0
"""Of an entry over the truth: what may have been under way, the age of a stamp, a busy machine. The clocks
are wrong by hours."""


def only_gap(lab: Lab, cause: str) -> Gap:
    """The one ended gap of this cause."""
    (gap,) = [gap for gap in read(lab.state_dir) if gap.cause == cause and gap.to_ms is not None]
    return gap


def true(gap: Gap, seconds: float) -> None:
    """Never shorter than it was, and little longer; and its ends are so far apart, or farther."""
    assert seconds <= gap.seconds <= seconds + MARGIN_SECONDS, gap
    assert gap.to_ms is not None
    assert gap.to_ms - gap.from_ms >= seconds * 1000 - 2, gap


@pytest.mark.parametrize("step", STEPS)
async def test_a_step_while_it_listens_is_not_noticed(tmp_path: Path, step: float) -> None:
    """Heartbeats go on, nothing reconnects, nothing is lost or comes twice; a close afterwards costs what it
    would have cost before."""
    clocks = Clockwork(tmp_path / "clocks")
    async with Lab(tmp_path, seed=1, source=FAST) as lab:
        await lab.start(module=MODULE, environ=clocks.environ)
        lab.zoom.set_rate(200)
        await lab.pause(1)
        clocks.set(wrong_seconds=step)
        beats = lab.zoom.journal.connections[0].heartbeats
        await lab.pause(6)
        assert lab.zoom.journal.connections[0].heartbeats > beats
        assert len(lab.zoom.journal.connections) == 1
        assert read(lab.state_dir) == []
        clocks.set()
        lab.zoom.set_rate(0)
        lab.zoom.end("close")
        await lab.relay.until(lambda: lab.zoom.accepted, "another acceptance")
        before, after = lab.zoom.journal.connections
        await lab.end()
        assert before.ended_at is not None and after.accepted_at is not None
        true(only_gap(lab, "closed"), after.accepted_at - before.ended_at)
        assert sum(len(set(lines)) - len(lines) for lines in lab.delivered().values()) == 0


@pytest.mark.parametrize("step", STEPS)
async def test_a_step_while_nothing_is_listened_to(tmp_path: Path, step: float) -> None:
    clocks = Clockwork(tmp_path / "clocks")
    async with Lab(tmp_path, seed=2, source=FAST) as lab:
        await lab.start(module=MODULE, environ=clocks.environ)
        await lab.pause(1.5)
        lab.relay.send(_STOP)
        ended_at = time.time()
        lab.zoom.end("close")
        await lab.pause(0.5)
        clocks.set(wrong_seconds=step)
        await lab.pause(0.5)
        lab.relay.send(_CONTINUE)
        await lab.relay.until(lambda: lab.zoom.accepted, "another acceptance")
        accepted_at = lab.zoom.journal.connections[-1].accepted_at
        await lab.finish()
        await lab.relay.stop()
        assert accepted_at is not None
        true(only_gap(lab, "closed"), accepted_at - ended_at)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("killed", [False, True])
async def test_a_step_while_it_is_away(tmp_path: Path, step: float, killed: bool) -> None:
    """What was measured before the end is added to the time since, none of it by the wall clock."""
    clocks = Clockwork(tmp_path / "clocks")
    async with Lab(tmp_path, seed=3, source=FAST) as lab:
        await lab.start(module=MODULE, environ=clocks.environ)
        await lab.zoom.burst(50)
        await lab.pause(1.5)
        if killed:
            lab.kill()
        else:
            await lab.relay.stop()
        clocks.set(wrong_seconds=step)
        await lab.pause(1)
        await lab.start(module=MODULE, environ=clocks.environ)
        accepted_at = lab.zoom.journal.connections[-1].accepted_at
        await lab.finish()
        await lab.relay.stop()
        assert accepted_at is not None
        gap = next(gap for gap in read(lab.state_dir) if gap.to_ms is not None)
        assert gap.cause == ("crash" if killed else "stopped")
        true(gap, accepted_at - _ended_at(lab))


def _ended_at(lab: Lab) -> float:
    ended_at = lab.zoom.journal.connections[0].ended_at
    assert ended_at is not None
    return ended_at


@pytest.mark.parametrize("step", STEPS[:2])
async def test_a_machine_that_slept(tmp_path: Path, step: float) -> None:
    """An hour, and the wall clock is set as soon as it wakes."""
    clocks = Clockwork(tmp_path / "clocks")
    async with Lab(tmp_path, seed=4, source=FAST) as lab:
        await lab.start(module=MODULE, environ=clocks.environ)
        await lab.zoom.burst(50)
        await lab.pause(1.5)
        clocks.set(wrong_seconds=step, suspended_seconds=HOUR)
        await lab.relay.until(lambda: len(lab.zoom.journal.connections) == 2, "another connection")
        await lab.finish()
        await lab.relay.stop()
        true(only_gap(lab, "suspended"), HOUR)


# --- part by part, on clocks of our own -------------------------------------------------------------


def ledger_of(directory: Path, clock: HandClock) -> Ledger:
    ledger = Ledger(directory, clock, Metrics(CollectorRegistry()), boot_id=lambda: "this boot")
    ledger.open([("main", "sub")], {})
    return ledger


@pytest.mark.parametrize("step", [7 * HOUR, -7 * HOUR])
async def test_a_step_in_a_long_gap_that_a_kill_interrupts(tmp_path: Path, step: float) -> None:
    """Half an hour before the kill and ten minutes after it; the clock was set in between."""
    clock = HandClock()
    ledger = ledger_of(tmp_path, clock)
    path = ledger.path("main", "sub")
    path.accepted(clock.wall())
    clock.sleep(60)
    path.lost("closed", "", clean=True, heard_until=clock.wall())
    clock.sleep(900)
    clock.step(step)
    clock.sleep(900)
    await ledger.write()
    clock.sleep(600)
    (listed,) = read(tmp_path, clock, boot_id=lambda: "this boot")
    assert listed.seconds == pytest.approx(2400.25)
    again = ledger_of(tmp_path, clock)
    again.path("main", "sub").accepted(clock.wall())
    await again.write()
    (gap,) = [gap for gap in read(tmp_path, clock, boot_id=lambda: "this boot") if gap.to_ms is not None]
    assert gap.seconds == pytest.approx(2400.25)
    assert gap.to_ms is not None and gap.to_ms - gap.from_ms >= 2_400_000


@pytest.mark.parametrize("step", [7 * HOUR, -7 * HOUR])
async def test_what_waits_for_the_disk_is_not_held_however_the_clock_is_set(step: float) -> None:
    """A kill now must be listed from when the oldest of it came."""
    clock, spool = HandClock(), FakeSpool()
    spool.seconds, spool.broken = 0.0, True
    intake = Intake(spool, clock, Random(1), Metrics(CollectorRegistry()))
    task = asyncio.create_task(intake.run())
    wall_ms = int(clock.wall() * 1000)
    intake.push([Event(bytes(16), "main", "sub", "meeting.started", None, "", wall_ms, b"{}")])
    for _ in range(5):
        await asyncio.sleep(0)  # the first attempt fails
    clock.sleep(600)
    clock.step(step)
    assert intake.held_until_ms(intake.now_ms()) <= intake.now_ms() - 600_000
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


class SteppedClock(spools.LoopClock):
    """Follows the loop; its wall clock is set by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.step = 0.0

    def wall(self) -> float:
        return super().wall() + self.step


@pytest.mark.looptime
@pytest.mark.parametrize("step", [30 * HOUR, -30 * HOUR])
async def test_the_spool_waits_by_no_wall_clock(tmp_path: Path, step: float) -> None:
    """A parked lane is due when it was to be; a sink that was taken out keeps its backlog for its day."""
    made = spools.Spools("sqlite", tmp_path)
    made.clock = clock = SteppedClock()
    spool = await made.open("a", "gone")
    await spool.append(spools.events(5, keys=1))
    await spool.set_sinks([SinkStart("a")])
    spools.park(spool, "a", "key0", await spools.take(spool, "a", 5), seconds=30)
    clock.step = step
    assert await spools.is_idle(spool, "a", seconds=29)
    async with asyncio.timeout(3):
        assert await spool.read("a", 10, spools.READ_BYTES)
    await asyncio.sleep(23 * HOUR)
    await spool.append(spools.events(1, start=6))
    assert spool.stats().sinks["gone"].abandoned == 0
    await asyncio.sleep(2 * HOUR)
    await spool.append(spools.events(1, start=7))
    assert spool.stats().sinks["gone"].abandoned > 0
    await made.close()


def test_a_date_in_retry_after_is_by_the_clock_of_who_says_it() -> None:
    date, then = "Sat, 21 Nov 2026 12:00:00 GMT", "Sat, 21 Nov 2026 12:00:30 GMT"
    for wall in (0.0, time.time(), 4e9):
        assert retry_after_seconds(then, answered_at(date, wall)) == 30.0
    for odd in (None, "", "today"):
        assert answered_at(odd, 17.0) == 17.0
