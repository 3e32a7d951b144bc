"""The file sink on a real disk."""

from __future__ import annotations

import os
import stat
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
