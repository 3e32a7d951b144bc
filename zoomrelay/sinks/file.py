"""Events as lines in a file, or in many."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from zoomrelay.clock import Clock, SystemClock
from zoomrelay.config.models import FileSinkConfig
from zoomrelay.config.path_template import PathTemplate
from zoomrelay.errors import SinkUnavailable
from zoomrelay.event import Event
from zoomrelay.sinks import encode
from zoomrelay.sinks.disk import Disk, SystemDisk
from zoomrelay.sinks.filetree import FileTree
from zoomrelay.sinks.linefile import LineFile
from zoomrelay.sinks.packing import Packer
from zoomrelay.sinks.segments import Segments
from zoomrelay.sinks.thread import IoThread
from zoomrelay.sinks.upkeep import Upkeep

T = TypeVar("T")


class _Files(Protocol):
    """Calls block, never overlap, and raise `OSError`; `close` never raises."""

    def open(self) -> None: ...
    def append(self, batch: Sequence[Event]) -> None: ...
    def reopen(self) -> None: ...
    def close(self) -> None: ...


class FileSink:
    """Acknowledges a batch after its fdatasync, or after its write where `fsync = false`.

    Files hold whole lines only, in order (the rules stand in `zoomrelay.sinks.linefile`); they are created
    with mode 0640, less the umask. The directory must exist, up to the first that has a placeholder.
    `reopen` is for logrotate. What has ended of a sink that rotates: see `zoomrelay.sinks.segments`.
    """

    max_batch = 5000
    concurrency = 1

    def __init__(self, config: FileSinkConfig, disk: Disk | None = None, clock: Clock | None = None) -> None:
        self.name = config.name
        self._config = config
        self._template = PathTemplate(config.path)
        self._disk = disk or SystemDisk()
        self._clock = clock or SystemClock()
        self._thread = IoThread(f"sink-{config.name}")
        self._upkeep: Upkeep | None = None
        self._files = self._build()

    async def open(self) -> None:
        await self._run(self._files.open)
        if self._upkeep is not None:
            self._upkeep.start()

    async def send(self, batch: Sequence[Event], attempt: int) -> None:  # noqa: ARG002
        await self._run(lambda: self._append(batch))
        if self._upkeep is not None:
            self._upkeep.look()

    async def reopen(self) -> None:
        """Raises `SinkUnavailable` where a file cannot be opened anew; the next `send` tries again."""
        await self._run(self._files.reopen)

    async def close(self) -> None:
        if self._upkeep is not None:
            await self._upkeep.stop()
        await self._thread.stop(self._files.close)

    def _build(self) -> _Files:
        config = self._config
        if not (config.rotates or self._template.has_placeholders):
            return _OneFile(config, self._disk)
        segments, packer = None, None
        if config.compression != "none":
            packer = Packer(config.compression, min_free_bytes=config.min_free_bytes, disk=self._disk)
        if config.rotates:
            to_pack = None if packer is None else packer.add
            segments = Segments(self._template, disk=self._disk, clock=self._clock, to_pack=to_pack)
        tree = FileTree(config, segments, disk=self._disk, clock=self._clock)
        if config.rotates:
            self._upkeep = Upkeep(
                config.name,
                rotate_seconds=config.rotate_seconds,
                finish_due=lambda: self._thread.run(tree.finish_due),
                packer=packer,
            )
        return tree

    def _append(self, batch: Sequence[Event]) -> None:
        if self._config.min_free_bytes:
            self._check_room(sum(len(event.content) for event in batch))
        self._files.append(batch)

    def _check_room(self, coming_bytes: int) -> None:
        if self._disk.free_bytes(self._template.root) < self._config.min_free_bytes + coming_bytes:
            raise OSError(errno.ENOSPC, "the disk has no more than min_free_bytes left")

    async def _run(self, call: Callable[[], T]) -> T:
        try:
            return await self._thread.run(call)
        except OSError as error:
            raise SinkUnavailable(self._trouble(error)) from error

    def _trouble(self, error: OSError) -> str:
        if error.errno == errno.ENOENT:
            return f"the directory {self._template.root} does not exist"
        return f"{self._config.path}: {error.strerror or os.strerror(error.errno or 0)}"


class _OneFile:
    """A path without placeholders and rotation."""

    def __init__(self, config: FileSinkConfig, disk: Disk) -> None:
        self._format = config.format
        self._file = LineFile(config.path, fsync=config.fsync, disk=disk)
        self.open = self._file.open
        self.reopen = self._file.reopen
        self.close = self._file.close

    def append(self, batch: Sequence[Event]) -> None:
        self._file.append(encode.lines(batch, self._format))
