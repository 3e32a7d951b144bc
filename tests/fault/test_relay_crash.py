"""kill -9 at named points around commit, settlement, delivery and the ledger; and services that fail."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support import crash
from tests.support.lab import STDOUT, Lab
from tests.support.receiver import Receiver
from zoomrelay.telemetry.recent_lines import SAVED

RATE = 400


FIRST = [(point, 2) for point in crash.POINTS if not point.startswith("ledger")]
LEDGER = [(point, 1) for point in crash.POINTS if point.startswith("ledger")]  # written once a start
LATER = [
    pytest.param([(point, passage), (point, 1)], marks=pytest.mark.full, id=f"{point}:{passage}")
    for point in crash.POINTS
    for passage in ((1,) if point.startswith("ledger") else (9,))
]


SETS = [
    pytest.param(FIRST[:4], id="first"),
    pytest.param(FIRST[4:8], marks=pytest.mark.full, id="second"),
    pytest.param(FIRST[8:] + LEDGER, marks=pytest.mark.full, id="third"),
]


@pytest.mark.parametrize("deaths", [*SETS, *LATER])
async def test_dies_at(tmp_path: Path, deaths: list[tuple[str, int]]) -> None:
    """Each of these (point, passage) in turn, one start after the other."""
    receiver = Receiver(seed=5, refuse_part=0.1)
    async with Lab(tmp_path, seed=5, receiver=receiver, more=STDOUT) as lab:
        await lab.start()
        lab.zoom.set_rate(RATE)
        await lab.pause(0.2)
        lab.kill()  # so that the ledger has something to write at the next start
        for point, passage in deaths:
            lab.relay.start(module=crash.MODULE, environ={crash.VARIABLE: f"{point}:{passage}"})
            assert await lab.relay.ended(60) == -signal.SIGKILL, f"{point}\n{lab.relay.tail()}"
            lab.kills.append(lab.relay.ended_at)
        await lab.start()
        await lab.pause(0.2)
        lab.zoom.set_rate(0)
        await lab.finish()
        await lab.relay.stop()
        print(deaths, lab.figures())
        lab.judge()


@pytest.mark.parametrize(
    "point",
    [crash.FAILURES[0], *(pytest.param(point, marks=pytest.mark.full) for point in crash.FAILURES[1:])],
)
async def test_a_service_that_fails_ends_the_relay(tmp_path: Path, point: str) -> None:
    async with Lab(tmp_path, seed=6) as lab:
        await lab.start()
        lab.zoom.set_rate(RATE)
        await lab.pause(0.2)
        lab.kill()
        lab.relay.start(module=crash.MODULE, environ={crash.VARIABLE: f"{point}:1"})
        assert await lab.relay.ended(60) == 1
        lab.kills.append(lab.relay.ended_at)
        crashed = lab.relay.log("service.crashed")
        assert crashed, lab.relay.tail()
        assert f"injected at {point}" in lab.relay.tail()
        assert "service.crashed" in (lab.state_dir / SAVED).read_text()
        await lab.start()
        lab.zoom.set_rate(0)
        await lab.end()
