"""The promise, end to end: whatever Zoom, the network and the receivers do, the rule of the oracle holds."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

import pytest

from tests.support.lab import STDOUT, Lab
from tests.support.receiver import Receiver

_CODES = (1000, 1001, 1011)


@pytest.mark.parametrize(
    ("seed", "count"),
    [pytest.param(1, 5_000), pytest.param(2, 50_000, marks=pytest.mark.full)],
)
async def test_every_event_is_delivered_or_listed(tmp_path: Path, seed: int, count: int) -> None:
    await delivered_or_listed(tmp_path, seed=seed, count=count)


async def delivered_or_listed(directory: Path, *, seed: int, count: int) -> None:
    random = Random(seed)
    receiver = Receiver(seed=seed, refuse_part=0.5)
    async with Lab(directory, seed=seed, receiver=receiver, more=STDOUT) as lab:
        await lab.start()
        most = max(1500, count // 8)  # a socket that is closed again and again looks contested, and waits
        while count:
            await _trouble(lab, random)
            portion = min(count, random.randint(200, most))
            await lab.zoom.burst(portion)
            count -= portion
        receiver.refuse_part = 0.0
        await lab.end()


async def _trouble(lab: Lab, random: Random) -> None:
    match random.choice(("close", "close", "reset", "refuse", "upgrade", "none", "none")):
        case "close":
            lab.zoom.end("close", random.choice(_CODES), "Bye")
        case "reset":
            lab.zoom.end("reset")
        case "refuse":
            lab.zoom.faults.change({"refuse": "Token is invalid", "refuse_times": random.randint(1, 2)})
            lab.zoom.end("close", 1000, "Bye")
        case "upgrade":
            lab.zoom.faults.change({"upgrade_status": 502, "upgrade_times": 1})
            lab.zoom.end("close", 1001, "going away")
    # Now and then events come while nobody listens.
    if random.random() < 0.8:
        await lab.accepted()
    else:
        await asyncio.sleep(random.uniform(0, 0.1))
