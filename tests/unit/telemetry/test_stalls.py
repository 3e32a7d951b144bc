"""A loop that stands still is seen while it does, counted, and written down; a busy one is left alone."""

from __future__ import annotations

import asyncio
import stat
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from zoomrelay.telemetry.metrics import Metrics
from zoomrelay.telemetry.stacks import LARGEST_CHARACTERS, place, stacks
from zoomrelay.telemetry.stalls import DIRECTORY, KEPT, StallWatch

STALL_SECONDS = 0.5


class House:
    """A watch over the test's own loop."""

    def __init__(self, state_dir: Path, stall_seconds: float = STALL_SECONDS) -> None:
        self.registry = CollectorRegistry()
        self.directory = state_dir / DIRECTORY
        self._watch = StallWatch(state_dir, Metrics(self.registry), stall_seconds=stall_seconds)
        self.log: list[Any] = []

    async def __aenter__(self) -> House:
        self._capturing = capture_logs()
        self.log = self._capturing.__enter__()
        self._task = asyncio.create_task(self._watch.run(), name="stalls")
        await asyncio.sleep(0.05)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        self._capturing.__exit__(None, None, None)

    async def stall(self, *, seen: bool = True) -> None:
        """Block, where it will be `seen` until there is a line in the log."""
        stand_still(STALL_SECONDS + 0.3)
        deadline = time.monotonic() + 10
        while seen and not self.log and time.monotonic() < deadline:
            stand_still(0.02)
        await asyncio.sleep(0.15)

    @property
    def told(self) -> list[str]:
        return [line["event"] for line in self.log]

    @property
    def files(self) -> list[Path]:
        return sorted(self.directory.glob("*"))

    def counted(self, name: str) -> float:
        return self.registry.get_sample_value(f"zoomrelay_{name}_total") or 0.0


def stand_still(seconds: float) -> None:
    time.sleep(seconds)


async def somewhere_deep(reached: asyncio.Event) -> None:
    await asyncio.shield(reached.wait())


async def test_a_stall_leaves_its_stacks(tmp_path: Path) -> None:
    reached = asyncio.Event()
    waiting = asyncio.create_task(somewhere_deep(reached), name="session.main.sub")
    async with House(tmp_path) as house:
        await house.stall()
    reached.set()
    await waiting
    stalled, again = house.log
    assert house.told == ["loop.stalled", "loop.turns_again"]
    assert stalled["where"].startswith("telemetry/test_stalls.py:") and "stand_still" in stalled["where"]
    assert again["seconds"] >= stalled["seconds"] >= STALL_SECONDS
    assert stalled["cpu_seconds"] < STALL_SECONDS
    (file,) = house.files
    assert stalled["file"] == str(file)
    text = file.read_text()
    assert "task session.main.sub\n" in text and "in somewhere_deep" in text
    assert "thread MainThread\n" in text and "time.sleep(seconds)" in text
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(house.directory.stat().st_mode) == 0o700
    assert house.counted("loop_stalls") == 1
    assert house.counted("loop_stall_seconds") == pytest.approx(again["seconds"], abs=0.1)


async def test_of_many_stalls_one_a_minute_is_told_and_all_are_counted(tmp_path: Path) -> None:
    async with House(tmp_path) as house:
        await house.stall()
        await house.stall()
    assert house.told == ["loop.stalled", "loop.turns_again"]
    assert len(house.files) == 1
    assert house.counted("loop_stalls") == 2


async def test_only_the_newest_files_are_kept(tmp_path: Path) -> None:
    (tmp_path / DIRECTORY).mkdir()
    for number in range(KEPT + 5):
        (tmp_path / DIRECTORY / f"20200101T0000{number:02}Z.txt").write_text("old")
    async with House(tmp_path) as house:
        await house.stall()
    assert len(house.files) == KEPT
    assert "somewhere" not in house.files[0].read_text() and "MainThread" in house.files[-1].read_text()


async def test_a_disk_that_takes_nothing_costs_the_file_only(tmp_path: Path) -> None:
    (tmp_path / DIRECTORY).write_text("in the way")
    async with House(tmp_path) as house:
        await house.stall()
    assert house.told == ["loop.stalled", "loop.turns_again"]
    assert house.log[0]["file"] is None


async def test_one_that_no_thread_could_see_is_told_afterwards(tmp_path: Path) -> None:
    """As where the whole process was stopped."""
    async with House(tmp_path) as house:
        house._watch._over.set()
        await asyncio.sleep(0.15)
        await house.stall(seen=False)
    (stalled,) = house.log
    assert stalled["event"] == "loop.stalled" and "paused" in stalled["hint"]
    assert house.counted("loop_stalls") == 1


async def test_a_loop_that_is_busy_and_turns_is_left_alone(tmp_path: Path) -> None:
    async with House(tmp_path, stall_seconds=1.5) as house:
        for _ in range(40):
            stand_still(0.05)
            await asyncio.sleep(0)
    assert house.told == [] and house.files == [] and house.counted("loop_stalls") == 0


async def test_the_listener_ends_with_the_watch(tmp_path: Path) -> None:
    before = {thread.name for thread in threading.enumerate()}
    async with House(tmp_path):
        assert "stalls" in {thread.name for thread in threading.enumerate()} - before
    deadline = time.monotonic() + 5
    while any(thread.name == "stalls" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


# --- the stacks ---------------------------------------------------------------------------------------


async def test_stacks_show_places_and_no_values() -> None:
    planted = "-".join(["planted", "value"])
    reached = asyncio.Event()
    tasks = [asyncio.create_task(somewhere_deep(reached), name=f"task {n}") for n in range(3)]
    await asyncio.sleep(0)
    text = stacks(asyncio.get_running_loop())
    reached.set()
    await asyncio.gather(*tasks)
    assert text.count("in somewhere_deep") == 3
    assert planted not in text
    assert "test_stacks_show_places_and_no_values" in text


async def test_stacks_are_bounded() -> None:
    reached = asyncio.Event()
    tasks = [asyncio.create_task(somewhere_deep(reached)) for _ in range(2000)]
    await asyncio.sleep(0)
    text = stacks(asyncio.get_running_loop())
    reached.set()
    await asyncio.gather(*tasks)
    assert LARGEST_CHARACTERS < len(text) < LARGEST_CHARACTERS + 100
    assert text.endswith("(cut off here)\n")


def test_a_place_is_known_by_its_thread() -> None:
    assert "test_a_place_is_known_by_its_thread" in place(threading.get_ident())
    assert place(-1) == ""
