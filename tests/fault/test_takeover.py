"""Takeover: from one process to the next, nothing is lost and nothing comes twice."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest

from tests.support import crash, oracle
from tests.support.lab import STDOUT, Lab
from tests.support.process import RelayProcess
from tests.support.receiver import Receiver
from tests.support.takeover import successor, take_over, twice
from zoomrelay.admin.client import ControlClient
from zoomrelay.errors import ControlRefused
from zoomrelay.spool.statedir import StateDirectory
from zoomrelay.takeover.journal import journals

RATE = 2000
DYING_RATE = 500
MODES = ("kick-old", "allow-both")


def steps(points: Sequence[str], *, quick: set[str]) -> list[Any]:
    """Each point in each mode; all but the quick ones, in one mode, take their time."""
    return [
        pytest.param(point, mode, marks=() if point in quick and mode == MODES[0] else pytest.mark.full)
        for point in points
        for mode in MODES
    ]


async def test_again_and_again(tmp_path: Path) -> None:
    await again_and_again(tmp_path, times=6, modes=MODES)


async def again_and_again(directory: Path, *, times: int, modes: Sequence[str]) -> None:
    """These modes in turn."""
    async with Lab(directory, seed=1) as lab:
        await lab.start()
        lab.zoom.set_rate(RATE)
        seconds = []
        for mode in islice(cycle(modes), times):
            lab.zoom.on_second_connection = mode
            seconds.append(await take_over(lab))
        lab.zoom.set_rate(0)
        await lab.finish()
        await lab.relay.stop()
        print(modes, lab.figures(), "seconds", [round(each, 2) for each in seconds])
        lab.judge()
        delivered = lab.delivered()["archive"]
        assert not oracle.lost(lab.truth(), delivered)
        assert not twice(delivered)
        assert lab.tokens_issued == 1, "the new one takes the token from the cache"


async def test_whoever_is_just_ending_is_waited_for(tmp_path: Path) -> None:
    """It answers nobody any more, and still has the state directory."""
    async with Lab(tmp_path, seed=3) as lab:
        state = StateDirectory(lab.state_dir)
        state.acquire(create=True)
        new = successor(lab)
        await new.until(lambda: bool(new.log("takeover.nobody")), "that it finds nobody")
        await lab.pause(0.5)
        state.release()
        lab.relay = new
        await lab.accepted()
        await lab.end()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.full
async def test_fifty_times(tmp_path: Path, mode: str) -> None:
    await again_and_again(tmp_path, times=50, modes=[mode])


@pytest.mark.full
async def test_several_subscriptions_and_every_kind_of_sink(tmp_path: Path) -> None:
    receiver = Receiver(seed=6, refuse_part=0.1)
    lab = Lab(tmp_path, seed=6, receiver=receiver, more=STDOUT, subscriptions=("one", "two"))
    async with lab:
        await lab.start()
        lab.zoom.set_rate(200)
        await take_over(lab)
        await lab.pause(0.5)
        lab.zoom.set_rate(0)
        receiver.refuse_part = 0
        await lab.end()
        for sink, delivered in lab.delivered().items():
            assert not oracle.lost(lab.truth(), delivered)
            assert sink == "crm" or not twice(delivered)


@pytest.mark.full
async def test_one_that_is_never_accepted(tmp_path: Path) -> None:
    """The old one listens all the time; a second takeover and a reload are refused meanwhile."""
    async with Lab(tmp_path, seed=7) as lab:
        await lab.start()
        lab.zoom.set_rate(100)
        lab.zoom.faults.never_accept = True
        new = successor(lab)
        await new.until(lambda: new.log("takeover.begun"), "the takeover")
        client = ControlClient(lab.state_dir)
        status = await asyncio.to_thread(client.get, "/status", dict)
        assert status["successor"] == new.pid
        with pytest.raises(ControlRefused, match="takes over"):
            await asyncio.to_thread(client.post, "/reload", dict)
        third = successor(lab)
        assert await third.ended(60) == 78
        assert "another takeover is under way" in lab.relay.log_text()
        await new.stop()
        await lab.relay.until(lambda: lab.relay.log("takeover.cancelled"), "its end")
        lab.zoom.faults.never_accept = False
        await _end(lab, once=True)
        assert [c.ending for c in lab.truth().connections if c.accepted_at] == ["client-closed"]
        assert not lab.truth().gaps[:-1]


@pytest.mark.full
async def test_one_that_hangs(tmp_path: Path) -> None:
    """The old one waits for so long and goes on; when the other moves again it leaves, and its journal is
    imported."""
    async with Lab(tmp_path, seed=8) as lab:
        await lab.start(module=crash.MODULE, environ={crash.LIMIT_VARIABLE: "1"})
        lab.zoom.set_rate(DYING_RATE)
        lab.zoom.faults.never_accept = True
        new = successor(lab)
        await new.until(lambda: new.log("takeover.begun"), "the takeover")
        new.send(signal.SIGSTOP)
        lab.zoom.faults.never_accept = False
        await lab.relay.until(lambda: lab.relay.log("takeover.cancelled"), "the old one's patience to end")
        new.send(signal.SIGCONT)
        assert await new.ended(60) == 78
        assert "goes on" in lab.relay.log_text()
        await _end(lab, once=True)


async def test_where_zoom_refuses_the_new_connection(tmp_path: Path) -> None:
    """Break before make, as short as can be, and written down."""
    async with Lab(tmp_path, seed=2, on_second_connection="refuse-new") as lab:
        await lab.start()
        lab.zoom.set_rate(RATE)
        await take_over(lab)
        lab.zoom.set_rate(0)
        await lab.end()
        assert not twice(lab.delivered()["archive"])
        (gap,) = [gap for gap in lab.truth().gaps if gap.cause == "takeover"]
        assert gap.seconds < 5


@pytest.mark.parametrize(("point", "mode"), steps(crash.NEW, quick={"new.write.half", "new.import.half"}))
async def test_the_new_one_dies_at(tmp_path: Path, point: str, mode: str) -> None:
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
            await lab.relay.until(lambda: _is_heard(lab, new), "its acceptance", seconds=30)
        await _end(lab, once=point in crash.NEW[: crash.NEW.index("new.locked")])


@pytest.mark.parametrize(("point", "mode"), steps(crash.OLD, quick={"old.left"}))
async def test_the_old_one_dies_at(tmp_path: Path, point: str, mode: str) -> None:
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


@pytest.mark.full
async def test_both_die(tmp_path: Path) -> None:
    """The next one finds the journal."""
    async with Lab(tmp_path, seed=5) as lab:
        await lab.start()
        lab.zoom.set_rate(DYING_RATE)
        new = successor(
            lab, module=(*crash.MODULE, "--takeover"), environ={crash.VARIABLE: "new.remove.before:1"}
        )
        # Both write into one log; that the new one was told is what counts.
        await new.until(
            lambda: [line for line in new.log("takeover.begun") if "of" in line], "the takeover", seconds=60
        )
        lab.kill()
        assert await new.ended(60) == -signal.SIGKILL, new.tail()
        lab.kills.append(new.ended_at)
        assert journals(lab.state_dir)
        await lab.start()
        assert not journals(lab.state_dir)
        await _end(lab)


def _goes_on(lab: Lab) -> bool:
    return bool(lab.relay.log("takeover.cancelled") or lab.relay.log("takeover.left_alone"))


def _is_heard(lab: Lab, dead: RelayProcess) -> bool:
    """Somebody is accepted, and it is not only that Zoom does not know yet of this one's death."""
    connections = [each for each in lab.truth().connections if each.open]
    return any(not dead.started_at <= each.opened_at <= dead.ended_at for each in connections)


async def _end(lab: Lab, *, once: bool = False) -> None:
    """`once`: whoever died held no sink, so nothing can have come twice."""
    await lab.pause(0.2)
    lab.zoom.set_rate(0)
    await lab.end(ordered=False)
    assert not (once and twice(lab.delivered()["archive"]))
    assert not journals(lab.state_dir)
