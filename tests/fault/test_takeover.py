"""Takeover: from one process to the next, nothing is lost and nothing comes twice."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support import crash, oracle
from tests.support.lab import Lab
from tests.support.takeover import successor, take_over, twice
from zoomrelay.takeover.journal import journals

RATE = 2000
DYING_RATE = 500
MODES = ("kick-old", "allow-both")


@pytest.mark.parametrize("mode", MODES)
async def test_again_and_again(tmp_path: Path, mode: str) -> None:
    await again_and_again(tmp_path, mode, times=3)


async def again_and_again(directory: Path, mode: str, *, times: int) -> None:
    async with Lab(directory, seed=1, on_second_connection=mode) as lab:
        await lab.start()
        lab.zoom.set_rate(RATE)
        seconds = [await take_over(lab) for _ in range(times)]
        lab.zoom.set_rate(0)
        await lab.finish()
        await lab.relay.stop()
        print(mode, lab.figures(), "seconds", [round(each, 2) for each in seconds])
        lab.judge()
        delivered = lab.delivered()["archive"]
        assert not oracle.lost(lab.truth(), delivered)
        assert not twice(delivered)


async def test_where_zoom_refuses_the_new_connection(tmp_path: Path) -> None:
    """Break before make, as short as can be, and written down."""
    async with Lab(tmp_path, seed=2, on_second_connection="refuse-new") as lab:
        await lab.start()
        lab.zoom.set_rate(RATE)
        await take_over(lab)
        lab.zoom.set_rate(0)
        await lab.finish()
        await lab.relay.stop()
        print(lab.figures())
        lab.judge()
        assert not twice(lab.delivered()["archive"])
        (gap,) = [gap for gap in lab.truth().gaps if gap.cause == "takeover"]
        assert gap.seconds < 5


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("point", crash.NEW)
async def test_the_new_one_dies_at(tmp_path: Path, mode: str, point: str) -> None:
    """The old one goes on, with what the new one had received."""
    async with Lab(tmp_path, seed=3, on_second_connection=mode) as lab:
        await lab.start()
        lab.zoom.set_rate(DYING_RATE)
        new = successor(lab, module=(*crash.MODULE, "--takeover"), environ={crash.VARIABLE: f"{point}:1"})
        assert await new.ended(60) == -signal.SIGKILL, new.tail()
        lab.kills.append(new.ended_at)
        if point == "new.remove.after":  # it was the relay
            assert await lab.relay.ended(30) == 0
            await lab.start()
        else:
            await lab.relay.until(lambda: _goes_on(lab), "the old relay's going on", seconds=30)
            await _listens(lab, new.ended_at)
        await _end(lab, once=point in crash.NEW[: crash.NEW.index("new.locked")])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("point", crash.OLD)
async def test_the_old_one_dies_at(tmp_path: Path, mode: str, point: str) -> None:
    """The new one takes the lock, and goes on."""
    async with Lab(tmp_path, seed=4, on_second_connection=mode) as lab:
        await lab.start(module=crash.MODULE, environ={crash.VARIABLE: f"{point}:1"})
        lab.zoom.set_rate(DYING_RATE)
        new = successor(lab)
        assert await lab.relay.ended(60) == -signal.SIGKILL, new.tail()
        lab.kills.append(lab.relay.ended_at)
        await new.until(lambda: len(new.log("relay.started")) > 1, "the new relay's start", seconds=60)
        lab.relay = new
        await _end(lab)


async def test_both_die(tmp_path: Path) -> None:
    """The next one finds the journal."""
    async with Lab(tmp_path, seed=5) as lab:
        await lab.start()
        lab.zoom.set_rate(DYING_RATE)
        new = successor(
            lab, module=(*crash.MODULE, "--takeover"), environ={crash.VARIABLE: "new.remove.before:1"}
        )
        await new.until(lambda: new.log("takeover.begun"), "the takeover", seconds=60)
        lab.kill()
        assert await new.ended(60) == -signal.SIGKILL, new.tail()
        lab.kills.append(new.ended_at)
        assert journals(lab.state_dir)
        await lab.start()
        assert not journals(lab.state_dir)
        await _end(lab)


def _goes_on(lab: Lab) -> bool:
    return bool(lab.relay.log("takeover.cancelled") or lab.relay.log("takeover.left_alone"))


async def _listens(lab: Lab, since: float) -> None:
    """Somebody is accepted who is not dead."""
    await lab.pause(0.1)
    await lab.accepted()


async def _end(lab: Lab, *, once: bool = False) -> None:
    """`once`: whoever died held no sink, so nothing can have come twice."""
    await lab.pause(0.2)
    lab.zoom.set_rate(0)
    await lab.finish()
    await lab.relay.stop()
    print(lab.figures())
    lab.judge(ordered=False)
    assert not (once and twice(lab.delivered()["archive"]))
    assert not journals(lab.state_dir)
