"""Events as lines in a file."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence

from zoomrelay.config.models import FileSinkConfig
from zoomrelay.errors import SinkUnavailable
from zoomrelay.event import Event
from zoomrelay.sinks import encode
from zoomrelay.sinks.disk import Disk, SystemDisk
from zoomrelay.sinks.linefile import LineFile
from zoomrelay.sinks.thread import IoThread


class FileSink:
    """Acknowledges a batch after its fdatasync, or after its write where `fsync = false`.

    The file holds whole lines only, in order (the rules stand in `zoomrelay.sinks.linefile`); it is
    created with mode 0640, less the umask, in a directory that must exist. `reopen` is for logrotate.
    """

    max_batch = 5000
    concurrency = 1

    def __init__(self, config: FileSinkConfig, disk: Disk | None = None) -> None:
        self.name = config.name
        self._path = config.path
        self._format = config.format
        self._file = LineFile(config.path, fsync=config.fsync, disk=disk or SystemDisk())
        self._thread = IoThread(f"sink-{config.name}")

    async def open(self) -> None:
        await self._run(self._file.open)

    async def send(self, batch: Sequence[Event], attempt: int) -> None:  # noqa: ARG002
        await self._run(lambda: self._file.append(encode.lines(batch, self._format)))

    async def reopen(self) -> None:
        """Raises `SinkUnavailable` where the file cannot be opened anew; the next `send` tries again."""
        await self._run(self._file.reopen)

    async def close(self) -> None:
        await self._thread.stop(self._file.close)

    async def _run(self, call: Callable[[], None]) -> None:
        try:
            await self._thread.run(call)
        except OSError as error:
            raise SinkUnavailable(self._trouble(error)) from error

    def _trouble(self, error: OSError) -> str:
        if error.errno == errno.ENOENT:
            return f"the directory {self._path.parent} does not exist"
        return f"{self._path}: {error.strerror or os.strerror(error.errno or 0)}"
