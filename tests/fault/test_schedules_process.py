"""The real relay process through seeded schedules of faults: the rule of the oracle holds in each."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support import player
from tests.support.schedule import draw

SEED = "ZOOMRELAY_TEST_SEED"


def _seeds() -> list[object]:
    if named := os.environ.get(SEED):
        return [pytest.param(int(named), id=named)]
    return [pytest.param(seed, marks=[] if seed < 20 else pytest.mark.full) for seed in range(120)]


@pytest.mark.parametrize("seed", _seeds())
async def test_process_schedule(tmp_path: Path, seed: int) -> None:
    await played(seed, tmp_path)


async def played(seed: int, directory: Path) -> None:
    schedule = draw(seed, player.BOUNDS)
    try:
        print(await player.play(schedule, directory))
    except AssertionError as error:
        again = f"{SEED}={seed} .venv/bin/python -m pytest -k test_process_schedule tests/fault"
        pytest.fail(f"seed {seed}; again: {again}\n{schedule}\n{error}")
