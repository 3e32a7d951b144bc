"""A relay that stands still for seconds (a busy machine, a paused one): it was deaf without knowing."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from tests.support import books
from tests.support.lab import Lab
from zoomrelay.simulator.faults import How

STALL_SECONDS = 2.5


@pytest.mark.parametrize("how", ["close", pytest.param("reset", marks=pytest.mark.full)])
async def test_socket_ends_while_the_relay_stands_still(tmp_path: Path, how: How) -> None:
    async with Lab(tmp_path, seed=1) as lab:
        await lab.start()
        await lab.zoom.burst(20)
        await lab.pause(1.2)
        lab.relay.send(signal.SIGSTOP)
        await lab.zoom.burst(20)
        lab.zoom.end(how, 1000, "Bye")
        await lab.zoom.burst(20)
        await lab.pause(STALL_SECONDS)
        lab.relay.send(signal.SIGCONT)
        await lab.finish()
        assert b"\nzoomrelay_loop_stalls_total 0.0" not in lab.answers["admin /metrics"]
        await lab.relay.stop()
        lab.judge()


async def test_killed_after_it_stood_still(tmp_path: Path) -> None:
    async with Lab(tmp_path, seed=2) as lab:
        await lab.start()
        await lab.zoom.burst(20)
        await lab.pause(1.2)
        lab.relay.send(signal.SIGSTOP)
        await lab.zoom.burst(20)
        await lab.pause(STALL_SECONDS)
        lab.kill()
        await lab.start()
        await lab.end()


@pytest.mark.full
async def test_killed_while_it_catches_up(tmp_path: Path) -> None:
    """Much had come while it stood still; it holds some of that, which is new by then, and dies."""
    async with Lab(tmp_path, seed=3) as lab:
        await lab.start()
        await lab.zoom.burst(20)
        await lab.pause(1.2)
        lab.relay.send(signal.SIGSTOP)
        frames = lab.zoom.prepare(10_000)
        before = books.last(lab.state_dir)
        flood = asyncio.create_task(lab.zoom.flood(frames))
        await lab.pause(STALL_SECONDS)
        lab.relay.send(signal.SIGCONT)
        await lab.relay.until(lambda: books.last(lab.state_dir) > before, "the first of it in the spool")
        lab.kill()
        await flood
        await lab.start()
        await lab.end()
