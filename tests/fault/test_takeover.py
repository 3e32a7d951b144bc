"""Takeover: from one process to the next, nothing is lost and nothing comes twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import oracle
from tests.support.lab import Lab
from tests.support.takeover import take_over, twice

RATE = 2000
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
