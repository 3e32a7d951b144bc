"""kill -9 of either side of a takeover at random moments: the other goes on, the ledger tells the rest."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.support.lab import Lab
from tests.support.process import RelayProcess
from tests.support.takeover import successor
from zoomrelay.takeover.journal import journals

RATE = 1000
KILLS = 4


@pytest.mark.full
@pytest.mark.parametrize(("seed", "mode"), [(1, "kick-old"), (2, "allow-both"), (3, "refuse-new")])
async def test_killed_at_random_moments(tmp_path: Path, seed: int, mode: str) -> None:
    random = Random(seed)
    async with Lab(tmp_path, seed=seed, on_second_connection=mode) as lab:
        await lab.start()
        lab.zoom.set_rate(RATE)
        for _ in range(KILLS):
            await one_dies(lab, random)
        await lab.pause(0.2)
        lab.zoom.set_rate(0)
        await lab.finish()
        await lab.relay.stop()
        print(mode, lab.figures())
        lab.judge(ordered=False)
        assert not journals(lab.state_dir)


async def one_dies(lab: Lab, random: Random) -> None:
    """Afterwards the lab's relay is the one that goes on, or another where none was left."""
    old, begun = lab.relay, len(lab.relay.log("takeover.begun"))
    new = successor(lab)
    await new.until(lambda: len(new.log("takeover.begun")) > begun, "the takeover")
    await lab.pause(random.uniform(0, 0.4))
    victim = random.choice((old, new))
    other = old if victim is new else new
    if victim.running:
        lab.kills.append(victim.kill())
    lab.relay = other
    await lab.pause(0.5)
    await other.until(lambda: not other.running or _serves(lab, other), "a relay", may_end=True)
    if not other.running:
        await lab.start()


def _serves(lab: Lab, relay: RelayProcess) -> bool:
    """It holds the state directory and is accepted."""
    holder = (lab.state_dir / "lock").read_text()
    return f'"pid": {relay.pid}' in holder and _is_heard(lab)


def _is_heard(lab: Lab) -> bool:
    return any(each.open for each in lab.zoom.journal.connections) and not journals(lab.state_dir)
