"""Two subscriptions, either one failing at random moments: nothing is lost while one of them is accepted, and
each event is delivered once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import pytest

from tests.support.lab import Lab
from zoomrelay.admin.client import ControlClient
from zoomrelay.admin.health import Status
from zoomrelay.config.subscriptions import subscription_id

ONE, TWO = "SubscriptionOne0000000", "SubscriptionTwo0000000"


class Twins(Lab):
    """A lab whose relay has two subscriptions."""

    def __init__(self, directory: Path, **options: object) -> None:
        super().__init__(directory, subscriptions=(ONE, TWO), **options)  # type: ignore[arg-type]

    def configure(self, **changes: object) -> None:
        super().configure(**changes)
        file = self.relay.config_file
        file.write_text(file.read_text().replace(f'["{ONE}"]', f'["{ONE}", "{TWO}"]'))

    async def both_accepted(self) -> None:
        await self.relay.until(
            lambda: all(
                any(
                    c.open and c.subscription == name and (c.accepted_at or 0) >= self.relay.started_at
                    for c in self.zoom.journal.connections
                )
                for name in (ONE, TWO)
            ),
            f"acceptance of both (seed {self.seed})",
        )

    def status(self) -> Status:
        return ControlClient(self.state_dir).get("/status", Status)

    def once(self) -> None:
        """Every event that was sent is in the archive, and once."""
        sent = {one.content for one in self.zoom.journal.since() if one.kind == "event"}
        archive = Counter(self.delivered()["archive"])
        assert sent == archive.keys(), f"seed {self.seed}: {len(sent - archive.keys())} lost"
        twice = [content for content, count in archive.items() if count > 1]
        assert not twice, f"seed {self.seed}: {len(twice)} delivered twice, such as {twice[0]!r}"


def test_ids_are_ids() -> None:
    assert (subscription_id(ONE), subscription_id(TWO)) == (ONE, TWO)


@pytest.mark.parametrize(
    ("seed", "rounds"), [(1, 4), pytest.param(2, 15, marks=pytest.mark.full)], ids=["short", "long"]
)
async def test_either_may_fail_at_any_moment(tmp_path: Path, seed: int, rounds: int) -> None:
    random = Random(seed)
    async with Twins(tmp_path, seed=seed) as lab:
        lab.relay.start()
        for _ in range(rounds):
            await lab.both_accepted()
            await lab.zoom.burst(random.randint(1, 400))
            _fail(lab, random)
            await lab.zoom.burst(random.randint(1, 400))
        await lab.both_accepted()
        await lab.finish()
        status = lab.status()
        await lab.relay.stop()
        lab.once()
    (source,) = status.sources
    assert source.conservation_error == 0
    frames = sum(path.first + path.merged for path in source.paths)
    assert frames == source.counts.appended + source.counts.merged
    assert source.counts.merged


def _fail(lab: Twins, random: Random) -> None:
    """End one of the two in some way."""
    which = random.choice((ONE, TWO))
    match random.choice(("close", "reset", "refuse")):
        case "close":
            lab.zoom.end("close", random.choice((1000, 1001, 1011)), "Bye", which)
        case "reset":
            lab.zoom.end("reset", subscription=which)
        case "refuse":
            lab.zoom.faults.change({"refuse": "Token is invalid", "refuse_times": 1})
            lab.zoom.end("close", 1000, "Bye", which)


async def test_copies_are_known_across_a_restart(tmp_path: Path) -> None:
    async with Twins(tmp_path, seed=3) as lab:
        lab.relay.start()
        await lab.both_accepted()
        event = {
            "event": "meeting.started",
            "event_ts": 1_700_000_000_000,
            "payload": {"object": {"uuid": "u"}},
        }
        assert await lab.zoom.emit(event)
        await lab.finish()
        await lab.relay.stop()
        lab.relay.start()
        await lab.both_accepted()
        assert await lab.zoom.emit(event)
        await lab.finish()
        await lab.relay.stop()
        assert sum(b'"uuid":"u"' in line.replace(b" ", b"") for line in lab.delivered()["archive"]) == 1
