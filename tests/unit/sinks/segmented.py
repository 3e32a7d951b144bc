"""A rotating file sink without its thread, on a fake disk: what a process does, and what others find."""

from __future__ import annotations

import gzip
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.unit.sinks.fake_disk import FakeDisk
from zoomrelay.config.models import FileSinkConfig
from zoomrelay.config.path_template import PathTemplate
from zoomrelay.event import Event
from zoomrelay.sinks.filetree import FileTree
from zoomrelay.sinks.packing import Packer
from zoomrelay.sinks.segments import Segments

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

START = 1_767_225_600.0
"""2026-01-01T00:00:00Z"""
DAY_MS = 86_400_000
PATH = Path("/log/events.ndjson")


class FakeClock:
    def __init__(self) -> None:
        self.now = START

    def wall(self) -> float:
        return self.now

    def elapsed(self) -> float:
        return self.now


def event(number: int, *, name: str = "meeting.started", source: str = "main", day: int = 0) -> Event:
    content = b'{"event":"x","event_ts":%d}' % number
    received_ms = int(START * 1000) + day * DAY_MS
    return Event(number.to_bytes(16), source, "abc", name, number, "k", received_ms, content)


class Process:
    """One life of such a sink."""

    def __init__(self, disk: FakeDisk, clock: FakeClock | None = None, **settings: object) -> None:
        config = FileSinkConfig.model_validate({"name": "archive", "path": PATH, **settings})
        self.clock = clock or FakeClock()
        self.packer = (
            None
            if config.compression == "none"
            else Packer(config.compression, min_free_bytes=config.min_free_bytes, disk=disk)
        )
        segments = None
        if config.rotates:
            to_pack = self.packer.add if self.packer else None
            segments = Segments(PathTemplate(config.path), disk=disk, clock=self.clock, to_pack=to_pack)
        self.tree = FileTree(config, segments, disk=disk, clock=self.clock)

    def live(self, batches: Sequence[Sequence[Event]], acknowledged: list[Event]) -> None:
        """From beginning to end, one second per batch."""
        self.tree.open()
        self.pack()
        for batch in batches:
            self.tree.append(batch)
            acknowledged += batch
            self.clock.now += 1
            self.pack()
        self.tree.close()
        self.pack()

    def pack(self) -> None:
        if self.packer is not None:
            self.packer.run()


def finished(disk: FakeDisk) -> list[Path]:
    """What is for others, in order."""
    return sorted(path for path in disk.files if not re.search(r"\.(part|full|tmp)$", path.name))


def lines(disk: FakeDisk, paths: Sequence[Path]) -> list[bytes]:
    whole = b"".join(unpacked(path.name, bytes(disk.files[path].content)) for path in paths)
    assert not whole or whole.endswith(b"\n")
    return whole.splitlines()


def unpacked(name: str, content: bytes) -> bytes:
    """As a collector reads it."""
    if name.endswith(".gz"):
        return gzip.decompress(content)
    if name.endswith(".zst"):
        return zstd.decompress(content)
    return content
