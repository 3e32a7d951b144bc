"""The file sink that rotates, with its thread and its tasks, on a real disk."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.unit.sinks.segmented import FakeClock, event, unpacked
from zoomrelay.config.models import FileSinkConfig
from zoomrelay.errors import SinkUnavailable
from zoomrelay.sinks import upkeep
from zoomrelay.sinks.disk import SystemDisk
from zoomrelay.sinks.file import FileSink


class Disk(SystemDisk):
    """The machine's own, with trouble that can be switched on."""

    def __init__(self) -> None:
        self.free: int | None = None
        self.failing: set[str] = set()

    def free_bytes(self, directory: Path) -> int:
        return super().free_bytes(directory) if self.free is None else self.free

    def rename(self, path: Path, to: Path) -> None:
        if "rename" in self.failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().rename(path, to)


Make = Callable[..., FileSink]


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
async def make(tmp_path: Path, disk: Disk) -> AsyncIterator[Make]:
    made: list[FileSink] = []

    def sink(clock: FakeClock | None = None, **settings: Any) -> FileSink:
        given = {"name": "archive", "path": tmp_path / "events.ndjson", **settings}
        made.append(FileSink(FileSinkConfig.model_validate(given), disk, clock or FakeClock()))
        return made[-1]

    yield sink
    for one in made:
        await one.close()


async def until(happened: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not happened():  # noqa: ASYNC110 - nobody says so
            await asyncio.sleep(0.005)


def endings(directory: Path) -> list[str]:
    return sorted(path.suffix for path in directory.iterdir())


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
async def test_segments_end_and_are_compressed_by_themselves(make: Make, tmp_path: Path, kind: str) -> None:
    clock = FakeClock()
    sink = make(clock, rotate_seconds=0.05, compression=kind)
    await sink.open()
    await sink.send([event(1)], 1)
    assert endings(tmp_path) == [".part"]
    clock.now += 1
    ending = {"gzip": ".gz", "zstd": ".zst"}[kind]
    await until(lambda: endings(tmp_path) == [ending])  # no further event came
    (found,) = tmp_path.iterdir()
    assert unpacked(found.name, found.read_bytes()) == event(1).content + b"\n"
    assert found.stat().st_mode & 0o777 == 0o640 & ~_umask()


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


async def test_what_close_left_is_compressed_at_the_next_open(make: Make, tmp_path: Path) -> None:
    one = make(rotate_bytes=10**6, compression="gzip")
    await one.send([event(1)], 1)  # also without `open`
    await one.close()
    assert endings(tmp_path) == [".full"]
    again = make(rotate_bytes=10**6, compression="gzip")
    await again.open()
    await until(lambda: endings(tmp_path) == [".gz"])


@pytest.mark.parametrize("settings", [{}, {"rotate_bytes": 10**6}, {"path": "{source}"}], ids=str)
async def test_it_stops_before_the_disk_is_full(
    make: Make, tmp_path: Path, disk: Disk, settings: dict[str, Any]
) -> None:
    path = tmp_path / settings.get("path", "events.ndjson")
    sink = make(**settings | {"path": path}, min_free_bytes=1000)
    await sink.open()
    disk.free = 1000 + len(event(1).content) - 1
    with pytest.raises(SinkUnavailable, match="the disk has no more than min_free_bytes left"):
        await sink.send([event(1)], 1)
    assert [found for found in tmp_path.iterdir() if found.stat().st_size] == []
    disk.free = None
    await sink.send([event(1)], 2)


async def test_the_folder_is_never_asked_for_room_that_nobody_wants_kept(make: Make, disk: Disk) -> None:
    disk.free = 0
    await make().send([event(1)], 1)


async def test_trouble_with_rotation_is_told_once_and_tried_again(
    make: Make, tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "RETRY_SECONDS", 0.01)
    clock = FakeClock()
    sink = make(clock, rotate_seconds=0.02)
    with structlog.testing.capture_logs() as lines:
        await sink.open()
        await sink.send([event(1)], 1)
        disk.failing.add("rename")
        clock.now += 1
        await until(lambda: lines)
        await asyncio.sleep(0.05)  # several tries
        disk.failing.clear()
        await until(lambda: endings(tmp_path) == [".ndjson"])
    assert [line["event"] for line in lines] == ["sink.rotation_failed"]


async def test_trouble_with_compression_is_told_once_and_tried_again(
    make: Make, tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "RETRY_SECONDS", 0.01)
    sink = make(rotate_bytes=1, compression="gzip", min_free_bytes=10**6)
    with structlog.testing.capture_logs() as lines:
        await sink.open()
        await sink.send([event(1)], 1)
        disk.free = 10**6 + 2 * len(event(1).content) - 1  # enough for the event, too little for its segment
        await sink.send([event(2)], 1)
        disk.free = 10**6
        await until(lambda: lines)
        await asyncio.sleep(0.05)
        disk.free = None
        await until(lambda: endings(tmp_path) == [".gz", ".part"])
    assert [line["event"] for line in lines] == ["sink.packing_failed"]


async def test_a_bug_in_its_tasks_is_no_secret(
    make: Make, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = make(rotate_seconds=10)
    await sink.open()

    def broken() -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(sink._files, "finish_due", broken)
    await sink.close()
    await sink.open()
    with pytest.raises(RuntimeError, match="broken"):
        async with asyncio.timeout(10):
            while True:
                await sink.send([event(1)], 1)
