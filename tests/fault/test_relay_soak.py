"""Kills and schedules of faults, seed after seed, for as long as one likes: `make soak`."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from tests.fault import test_schedules
from tests.fault.test_relay_kill import killed_at_random_moments
from tests.fault.test_schedules_process import played
from tests.integration.test_relay_promise import delivered_or_listed

MINUTES = "ZOOMRELAY_TEST_SOAK_MINUTES"
ON_VIRTUAL_TIME = 100
"""Schedules for each one against the process."""


@pytest.mark.soak
async def test_soak(tmp_path: Path) -> None:
    """Every seed is another schedule; the one that fails is in the message."""
    deadline = time.monotonic() + 60 * float(os.environ.get(MINUTES, "10"))
    seed = int(time.time())
    while time.monotonic() < deadline:
        print(f"\nseed {seed}")
        await played(seed, _directory(tmp_path, "schedule"))
        if seed % 10 == 0:
            await killed_at_random_moments(_directory(tmp_path, "kill"), seed=seed, kills=10)
            await delivered_or_listed(_directory(tmp_path, "promise"), seed=seed, count=5000)
        seed += 1


@pytest.mark.soak
def test_soak_on_virtual_time(tmp_path: Path) -> None:
    deadline = time.monotonic() + 60 * float(os.environ.get(MINUTES, "10"))
    seed = int(time.time())
    while time.monotonic() < deadline:
        print(f"\nseeds from {seed}, on virtual time")
        test_schedules.hold_to_the_rule(range(seed, seed + ON_VIRTUAL_TIME), tmp_path)
        seed += ON_VIRTUAL_TIME


def _directory(parent: Path, name: str) -> Path:
    """A fresh one in the place of the last."""
    shutil.rmtree(parent / name, ignore_errors=True)
    (parent / name).mkdir()
    return parent / name
