"""The random kills of `test_relay_kill`, seed after seed, for as long as one likes: `make soak`."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.fault.test_relay_kill import killed_at_random_moments
from tests.integration.test_relay_promise import delivered_or_listed

MINUTES = "ZOOMRELAY_TEST_SOAK_MINUTES"


@pytest.mark.soak
async def test_soak(tmp_path: Path) -> None:
    """Every seed is another schedule; the one that fails is in the message."""
    deadline = time.monotonic() + 60 * float(os.environ.get(MINUTES, "10"))
    seed = int(time.time())
    while time.monotonic() < deadline:
        directory = tmp_path / str(seed)
        directory.mkdir()
        print(f"\nseed {seed}")
        await killed_at_random_moments(directory, seed=seed, kills=10)
        directory = tmp_path / f"{seed}-promise"
        directory.mkdir()
        await delivered_or_listed(directory, seed=seed, count=5000)
        seed += 1
