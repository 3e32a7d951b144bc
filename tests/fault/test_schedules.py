"""Whole relays on virtual time, through seeded schedules of faults: the rule of the oracle holds in each."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.schedule import Bounds, Kind, draw
from tests.support.world import World

SEED = "ZOOMRELAY_TEST_SEED"
BOUNDS = Bounds(
    kinds=[kind for kind in Kind if kind is not Kind.RELOAD],
    seconds=(4.0, 25.0),
    faults=(1, 5),
    portions=(4, 16),
    longest_seconds=10.0,
    first_seconds=2.0,  # nothing is promised of the time before the very first acceptance, so let it come
)
RELOADS = replace(BOUNDS, kinds=[*BOUNDS.kinds, *[Kind.RELOAD] * len(BOUNDS.kinds)])
"""Every other step is a reload."""
BATCH = 25
FOUND = [12842, 15338, 16336, 17600, 18377, 19506, 19633]
"""Outside the batches, and once broke the rule."""


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
        pytest.param(FOUND, id="found"),
        *(
            pytest.param(
                seeds, id=f"{seeds[0]}-{seeds[-1]}", marks=[] if seeds[0] < 100 else pytest.mark.full
            )
            for seeds in batches
        ),
    ]


@pytest.mark.parametrize("seeds", _seeds())
def test_schedule(memory: Path, seeds: list[int]) -> None:
    hold_to_the_rule(seeds, memory)


@pytest.mark.parametrize(
    "seeds", [range(12), pytest.param(range(12, 162), marks=pytest.mark.full)], ids=["short", "long"]
)
def test_reloads(memory: Path, seeds: Iterable[int]) -> None:
    """In the midst of everything else, sockets are made anew and secrets change."""
    hold_to_the_rule(seeds, memory, RELOADS)


def hold_to_the_rule(seeds: Iterable[int], directory: Path, bounds: Bounds = BOUNDS) -> None:
    """Fails with the seed that broke it, and how to see that again."""
    for seed in seeds:
        world = play(seed, directory / str(seed), bounds)
        if world.problems:
            again = f"{SEED}={seed} .venv/bin/python -m pytest -k test_schedule tests/fault/test_schedules.py"
            pytest.fail(f"seed {seed}; again: {again}\n{world.report()}")
    # Whatever a kill left lying about ends here, and not in the middle of somebody's `ast.parse`, which a
    # finalizer that prints a traceback breaks (CPython 3.11).
    gc.collect()


def test_a_seed_is_a_schedule(memory: Path) -> None:
    assert play(7, memory / "a").trace == play(7, memory / "b").trace


@pytest.mark.full
def test_a_seed_is_a_schedule_in_every_process(memory: Path) -> None:
    """Not even the order of sets, which differs from process to process, makes a difference."""
    seeds = [seed for seed in range(400) if any(s.kind is Kind.DAMAGE for s in draw(seed, BOUNDS).steps)][:8]
    assert _trace_elsewhere(seeds, memory / "a", "1") == _trace_elsewhere(seeds, memory / "b", "2")


def _trace_elsewhere(seeds: list[int], directory: Path, hash_seed: str) -> bytes:
    script = (
        "import sys; from pathlib import Path; from tests.fault.test_schedules import play\n"
        "print([play(int(seed), Path(sys.argv[1]) / seed).trace for seed in sys.argv[2:]])"
    )
    directory.mkdir()
    command = [sys.executable, "-c", script, directory, *map(str, seeds)]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout


def play(seed: int, directory: Path, bounds: Bounds = BOUNDS) -> World:
    directory.mkdir()
    world = World(draw(seed, bounds), directory)
    try:
        world.play()
    except Exception as error:  # noqa: BLE001 - whatever it is, the seed belongs to it
        world.problems.append(repr(error))
    shutil.rmtree(directory)
    return world
