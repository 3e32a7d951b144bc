"""kill -9 at random moments: the spool opens again, what was held arrives, and the ledger tells the rest."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, Self

import pytest

from tests.support import books, oracle
from tests.support.lab import Lab
from tests.support.receiver import Receiver
from tests.support.yardstick import Yardstick

RATE = 2000
HELD_AFTER_SECONDS = 0.05
WAITS = 3
"""From socket to disk an event waits for a turn in two threads, and for the disk."""
IN_FLIGHT = RATE // 2
"""Delivered and not durably settled: what comes in 100 ms, and what a busy machine adds to that."""


@pytest.mark.parametrize(
    ("seed", "kills"),
    [(1, 5), (2, 5), *[pytest.param(seed, 10, marks=pytest.mark.full) for seed in range(10, 20)]],
)
async def test_killed_at_random_moments(tmp_path: Path, seed: int, kills: int) -> None:
    await killed_at_random_moments(tmp_path, seed=seed, kills=kills)


async def killed_at_random_moments(directory: Path, *, seed: int, kills: int) -> None:
    random = Random(seed)
    async with Lab(directory, seed=seed) as lab, Flight(lab) as flight:
        await lab.start()
        lab.zoom.set_rate(RATE)
        for _ in range(kills):
            if random.random() < 0.7:
                await lab.accepted()  # the others die while they start
            await lab.pause(random.uniform(0, 1.0))
            await flight.kill()
            lab.relay.start()
        await lab.accepted()
        await lab.pause(0.5)
        lab.zoom.set_rate(0)
        await lab.end()
        flight.judge()


async def test_killed_while_it_posts(tmp_path: Path) -> None:
    seed, random = 3, Random(3)
    receiver = Receiver(seed=seed, refuse_part=0.2)
    lab = Lab(tmp_path, seed=seed, receiver=receiver, http_options="concurrency = 8")
    async with lab, Flight(lab) as flight:
        await lab.start()
        lab.zoom.set_rate(300)
        for _ in range(3):
            await lab.pause(random.uniform(0.3, 1.2))
            await flight.kill()
            await lab.start()
        lab.zoom.set_rate(0)
        receiver.refuse_part = 0
        await lab.end()
        flight.judge()


async def test_killed_while_deadlines_pass(tmp_path: Path) -> None:
    """What is late goes to the dead letters, all else to the receiver; nothing goes nowhere."""
    seed, random = 4, Random(4)
    receiver = Receiver(seed=seed, refuse_part=1.0)
    options = 'concurrency = 8\n[sinks.crm.deadline_seconds]\n"meeting.*" = 1'
    async with (
        Lab(tmp_path, seed=seed, receiver=receiver, http_options=options) as lab,
        Flight(lab) as flight,
    ):
        await lab.start()
        lab.zoom.set_rate(300)
        for refuse_part in (1.0, 1.0, 0.5, 0.0):
            receiver.refuse_part = refuse_part
            await lab.pause(random.uniform(0.5, 1.5))
            await flight.kill()
            await lab.start()
        lab.zoom.set_rate(0)
        await lab.finish()
        await lab.relay.stop()
        late = books.dead(lab.state_dir, "crm", "deadline")
        print(lab.figures(), f"late {len(late)}")
        assert late, "the receiver was down for longer than the deadline"
        assert all(b'"event":"meeting.' in content for content in late)
        lab.judge(buried={"crm": late})
        flight.judge(buried={"crm": late})


class Flight:
    """Kills, and remembers what was in flight each time: delivered, and not durably settled."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._copies = lab.relay.directory / "copies"
        self._held: set[bytes] = set()
        self._in_flight: dict[str, list[set[bytes]]] = {}
        self._waits: list[float] = []
        """How slow the machine was at each kill."""
        self._yardstick = Yardstick(lab.relay.directory)

    async def __aenter__(self) -> Self:
        self._yardstick.__enter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        self._yardstick.__exit__(*error)

    async def kill(self) -> None:
        """Kill, and look at a copy of the spool, so that the original is recovered by the relay itself."""
        lab = self._lab
        lab.kill()
        self._waits.append(self._yardstick.worst_seconds)
        if lab.receiver is not None:
            await lab.receiver.left()
        if not (lab.state_dir / "spool.sqlite").exists():
            return
        copy = self._copies / str(len(lab.kills))
        shutil.copytree(lab.state_dir, copy, ignore=shutil.ignore_patterns("control.sock"))
        self._held.update(books.held(copy).values())
        for sink, delivered in lab.delivered().items():
            unsettled = books.unsettled(copy, sink)
            self._in_flight.setdefault(sink, []).append(unsettled & set(delivered))
        shutil.rmtree(copy)

    def judge(self, buried: Mapping[str, Sequence[bytes]] | None = None) -> None:
        """`buried`: as for `Lab.judge`."""
        lab = self._lab
        truth, seed = lab.truth(), f"seed {lab.seed}"
        for sink, delivered in lab.delivered().items():
            ended = {*delivered, *(buried or {}).get(sink, ())}
            assert self._held <= ended, f"{seed}: {sink} did not get everything that was held"
            in_flight = self._in_flight.get(sink, [])
            allowed = set().union(*in_flight)
            twice = oracle.repeated(delivered)
            assert set(twice) <= allowed, f"{seed}: {sink} got events again that were settled"
            most = max(map(len, in_flight), default=0)
            print(f"{seed}: {sink}: at most {most} in flight at a kill, {twice.total()} sent again")
            assert most <= IN_FLIGHT, f"{seed}: {sink}: {most} events in flight"
        self._judge_ages(truth)
        for kill in lab.kills:
            assert _listed(truth, kill), f"{seed}: the kill at {kill:.3f} is in no interval: {truth.gaps}"

    def _judge_ages(self, truth: oracle.Truth) -> None:
        """How old the oldest event was that a kill destroyed; negative if it was sent after the kill."""
        lost = [sent for sent in oracle.lost(truth, self._lab.delivered()["archive"]) if sent.heard]
        ages, beyond = [], []
        for connection in truth.connections:
            accepted = connection.accepted_at or float("inf")
            at = next((at for at, kill in enumerate(truth.kills) if accepted <= kill), None)
            if at is not None:
                own = [truth.kills[at] - sent.at for sent in lost if sent.connection == connection.number]
                ages.append(max(own, default=0.0))
                beyond.append(ages[-1] - WAITS * self._waits[at])
        told = f"seed {self._lab.seed}: ms: oldest event destroyed {_ms(ages)}, waits {_ms(self._waits)}"
        print(told)
        # On a busy machine the calmest quarter of the kills shows what we take ourselves.
        assert sorted(beyond)[len(beyond) // 4] < HELD_AFTER_SECONDS, told


def _ms(seconds: list[float]) -> list[int]:
    return [round(each * 1000) for each in seconds]


def _listed(truth: oracle.Truth, moment: float) -> bool:
    return any(gap.from_ms / 1000 <= moment <= (gap.to_ms or 0) / 1000 for gap in truth.gaps)
