"""Wall clocks that are wrong, or set while the relay runs, and machines that sleep: nothing breaks.

What the ledger calls `seconds` must be true whatever the wall clock shows.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.support.clockwork import MODULE, Clockwork
from tests.support.lab import Lab
from zoomrelay.intake.ledger import Gap, read
from zoomrelay.retry_after import answered_at, retry_after_seconds

_STOP, _CONTINUE = signal.SIGSTOP, signal.SIGCONT
HOUR = 3600.0
TO_1970 = 86_400.0 - time.time()
TO_2100 = 4_102_444_800.0 - time.time()
STEPS = [
    pytest.param(7 * HOUR, id="forward"),
    pytest.param(-7 * HOUR, id="back"),
    pytest.param(TO_1970, id="1970", marks=pytest.mark.full),
    pytest.param(TO_2100, id="2100", marks=pytest.mark.full),
]
FAST = "heartbeat_seconds = 1\ndead_after_seconds = 4"
MARGIN_SECONDS = 2.5
"""Of an entry over the truth: what may have been under way, a stamp's age, and a busy machine."""


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
        await lab.pause(2.5)
        assert lab.zoom.journal.connections[0].heartbeats >= beats + 2
        assert len(lab.zoom.journal.connections) == 1
        assert read(lab.state_dir) == []
        clocks.set()
        lab.zoom.set_rate(0)
        lab.zoom.end("close")
        await lab.relay.until(lambda: lab.zoom.accepted, "another acceptance")
        before, after = lab.zoom.journal.connections
        await lab.finish()
        await lab.relay.stop()
        lab.judge()
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
        gap = [gap for gap in read(lab.state_dir) if gap.to_ms is not None][0]
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


def test_a_date_in_retry_after_is_by_the_clock_of_who_says_it() -> None:
    date, then = "Sat, 21 Nov 2026 12:00:00 GMT", "Sat, 21 Nov 2026 12:00:30 GMT"
    for wall in (0.0, time.time(), 4e9):
        assert retry_after_seconds(then, answered_at(date, wall)) == 30.0
    for odd in (None, "", "today"):
        assert answered_at(odd, 17.0) == 17.0
