"""The file sink on a real disk."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from zoomrelay.config.models import FileSinkConfig
from zoomrelay.errors import SinkUnavailable
from zoomrelay.event import Event
from zoomrelay.sinks.disk import SystemDisk
from zoomrelay.sinks.file import FileSink

EVENT = Event(bytes(16), "main", "abc", "x", None, "", 0, b'{"event":"x"}')
LINE = EVENT.content + b"\n"


class CountingDisk(SystemDisk):
    def __init__(self) -> None:
        self.calls: list[str] = []

    def write(self, descriptor: int, data: memoryview) -> int:
        self.calls.append("write")
        return super().write(descriptor, data)

    def fdatasync(self, descriptor: int) -> None:
        self.calls.append("fdatasync")
        super().fdatasync(descriptor)


class HangingDisk(SystemDisk):
    """Hangs in the next call of this name until `gate` opens; then it does half of it, and fails where
    `failing`."""

    def __init__(self) -> None:
        self.hanging = ""
        self.failing = False
        self.gate, self.hangs, self.over = threading.Event(), threading.Event(), threading.Event()

    def open(self, path: Path) -> int:
        self._perhaps_hang("open")
        return super().open(path)

    def write(self, descriptor: int, data: memoryview) -> int:
        half = len(data) // 2 if self.hanging == "write" else len(data)
        self._perhaps_hang("write")
        return super().write(descriptor, data[:half])

    def fdatasync(self, descriptor: int) -> None:
        self._perhaps_hang("fdatasync")
        super().fdatasync(descriptor)

    def close(self, descriptor: int) -> None:
        super().close(descriptor)
        if self.hangs.is_set():
            self.over.set()

    def _perhaps_hang(self, call: str) -> None:
        if self.hanging == call:
            self.hanging = ""
            self.hangs.set()
            self.gate.wait(10)
            if self.failing:
                raise OSError(errno.EIO, os.strerror(errno.EIO))


async def left_behind(sink: FileSink, disk: HangingDisk, call: str) -> None:
    """The sink, closed while it hangs in this call."""
    disk.hanging = call
    task = asyncio.create_task(sink.send([EVENT, EVENT], 1))
    assert await asyncio.to_thread(disk.hangs.wait, 10)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await sink.close()


@pytest.mark.parametrize(("fsync", "calls"), [(True, ["write", "fdatasync"]), (False, ["write"])])
async def test_a_batch_is_one_write_and_one_fdatasync(tmp_path: Path, fsync: bool, calls: list[str]) -> None:
    disk = CountingDisk()
    sink = FileSink(FileSinkConfig(name="archive", path=tmp_path / "a", fsync=fsync), disk)
    await sink.open()
    await sink.send([EVENT] * 1000, 1)
    await sink.close()
    assert disk.calls == calls
    assert (tmp_path / "a").read_bytes() == LINE * 1000


async def test_a_new_file_is_for_its_owner_and_its_group(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    umask = os.umask(0)
    try:
        sink = FileSink(FileSinkConfig(name="archive", path=path))
        await sink.open()
    finally:
        os.umask(umask)
    await sink.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


async def test_what_is_there_is_kept_and_a_torn_line_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    path.write_bytes(LINE + b'{"event":"x","payl')
    sink = FileSink(FileSinkConfig(name="archive", path=path))
    await sink.open()
    await sink.send([EVENT], 1)
    await sink.close()
    assert path.read_bytes() == LINE + LINE


async def test_logrotate(tmp_path: Path) -> None:
    path, old = tmp_path / "events.ndjson", tmp_path / "events.ndjson.1"
    sink = FileSink(FileSinkConfig(name="archive", path=path))
    await sink.open()
    await sink.send([EVENT], 1)
    path.rename(old)
    await sink.send([EVENT], 1)  # between the rename and the signal
    await sink.reopen()
    await sink.send([EVENT], 1)
    await sink.close()
    assert (old.read_bytes(), path.read_bytes()) == (LINE * 2, LINE)


async def test_a_missing_directory_is_named_and_not_created(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "events.ndjson"
    sink = FileSink(FileSinkConfig(name="archive", path=path))
    with pytest.raises(SinkUnavailable, match=f"the directory {path.parent} does not exist"):
        await sink.open()
    assert not path.parent.exists()
    path.parent.mkdir()
    await sink.open()
    await sink.send([EVENT], 1)
    await sink.close()
    assert path.read_bytes() == LINE


async def test_a_directory_that_vanishes_is_named(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "events.ndjson"
    path.parent.mkdir()
    sink = FileSink(FileSinkConfig(name="archive", path=path))
    await sink.open()
    path.unlink()
    path.parent.rmdir()
    with pytest.raises(SinkUnavailable, match="does not exist"):
        await sink.send([EVENT], 1)
    path.parent.mkdir()
    await sink.send([EVENT], 2)
    await sink.close()
    assert path.read_bytes() == LINE


@pytest.mark.parametrize("kind", ["directory", "fifo", "device"])
async def test_only_regular_files(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "odd"
    match kind:
        case "directory":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "device":
            path = Path("/dev/null")
    sink = FileSink(FileSinkConfig(name="archive", path=path))
    with pytest.raises(SinkUnavailable, match=r"not a regular file|Is a directory"):
        await sink.open()
    await sink.close()


@pytest.mark.parametrize("call", ["write", "fdatasync"])
@pytest.mark.parametrize("path", ["events.ndjson", "{source}.ndjson"])
async def test_one_that_hung_and_failed_leaves_alone_what_its_successor_wrote(
    tmp_path: Path, path: str, call: str
) -> None:
    config, disk = FileSinkConfig(name="archive", path=tmp_path / path), HangingDisk()
    old = FileSink(config, disk)
    await old.send([EVENT], 1)
    await left_behind(old, disk, call)
    new = FileSink(config)
    await new.send([EVENT, EVENT], 1)
    (file,) = tmp_path.iterdir()
    before = file.read_bytes()
    disk.failing = True
    disk.gate.set()
    assert await asyncio.to_thread(disk.over.wait, 10)
    assert file.read_bytes() == before
    await new.close()


async def test_one_that_hung_repairs_no_line_that_its_successor_is_writing(tmp_path: Path) -> None:
    path, disk = tmp_path / "events.ndjson", HangingDisk()
    await left_behind(FileSink(FileSinkConfig(name="archive", path=path), disk), disk, "open")
    path.write_bytes(LINE + b'{"event":"x","payl')  # the successor is about to write the rest
    disk.gate.set()
    assert await asyncio.to_thread(disk.over.wait, 10)
    assert path.read_bytes() == LINE + b'{"event":"x","payl'


async def test_of_what_hung_no_more_is_written_than_the_disk_had(tmp_path: Path) -> None:
    path, disk = tmp_path / "events.ndjson", HangingDisk()
    old = FileSink(FileSinkConfig(name="archive", path=path), disk)
    await left_behind(old, disk, "write")
    disk.gate.set()
    assert await asyncio.to_thread(disk.over.wait, 10)
    assert path.read_bytes() == LINE


async def test_one_that_hung_does_not_end_the_segment_of_its_successor(tmp_path: Path) -> None:
    config = FileSinkConfig(name="archive", path=tmp_path / "events.ndjson", rotate_bytes=2**20)
    disk, part = HangingDisk(), tmp_path / "events.ndjson.part"
    old = FileSink(config, disk)
    await left_behind(old, disk, "fdatasync")
    new = FileSink(config)
    await new.open()
    await new.send([EVENT], 1)
    disk.gate.set()
    assert await asyncio.to_thread(disk.over.wait, 10)
    assert part.read_bytes() == LINE
    await new.close()
    assert sorted(file.read_bytes() for file in tmp_path.iterdir()) == [LINE, LINE * 2]


async def test_one_that_hung_ends_its_segment_where_nobody_followed(tmp_path: Path) -> None:
    config = FileSinkConfig(name="archive", path=tmp_path / "events.ndjson", rotate_bytes=2**20)
    disk = HangingDisk()
    await left_behind(FileSink(config, disk), disk, "fdatasync")
    disk.gate.set()
    async with asyncio.timeout(10):
        while (tmp_path / "events.ndjson.part").exists():  # noqa: ASYNC110 - nobody says so
            await asyncio.sleep(0.005)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [LINE * 2]
