"""Whole relays on virtual time, through seeded schedules of faults: the rule of the oracle holds in each."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.schedule import Bounds, Kind, draw
from tests.support.world import World

SEED = "ZOOMRELAY_TEST_SEED"
BOUNDS = Bounds(
    kinds=list(Kind), seconds=(4.0, 25.0), faults=(1, 5), portions=(4, 16), longest_seconds=10.0
)
BATCH = 25


@pytest.fixture
def memory() -> Iterator[Path]:
    """A directory in memory where there is one: these disks are fakes anyway."""
    shared = Path("/dev/shm")
    directory = tempfile.mkdtemp(prefix="zoomrelay-", dir=shared if os.access(shared, os.W_OK) else None)
    yield Path(directory)
    shutil.rmtree(directory, ignore_errors=True)


def _seeds() -> list[object]:
    """Batches of seeds; one seed alone where it is named."""
    if named := os.environ.get(SEED):
        return [pytest.param([int(named)], id=named)]
    batches = [list(range(first, first + BATCH)) for first in range(0, 2100, BATCH)]
    return [
        pytest.param(seeds, id=f"{seeds[0]}-{seeds[-1]}", marks=[] if seeds[0] < 100 else pytest.mark.full)
        for seeds in batches
    ]


@pytest.mark.parametrize("seeds", _seeds())
def test_schedule(memory: Path, seeds: list[int]) -> None:
    for seed in seeds:
        world = play(seed, memory / str(seed))
        if world.problems:
            pytest.fail(
                f"seed {seed}; again: {SEED}={seed} .venv/bin/python -m pytest -k test_schedule"
                f" tests/fault/test_schedules.py\n{world.report()}"
            )


def test_a_seed_is_a_schedule(memory: Path) -> None:
    assert play(7, memory / "a").trace == play(7, memory / "b").trace


def play(seed: int, directory: Path) -> World:
    directory.mkdir()
    world = World(draw(seed, BOUNDS), directory)
    world.play()
    shutil.rmtree(directory)
    return world
