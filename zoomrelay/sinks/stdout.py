"""Events as lines on standard output. Nothing else of zoomrelay writes there."""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Sequence

from zoomrelay.config.models import StdoutSinkConfig
from zoomrelay.errors import SinkUnavailable
from zoomrelay.event import Event
from zoomrelay.sinks import encode
from zoomrelay.sinks.thread import IoThread

STDOUT = 1
_LF = ord("\n")


class StdoutSink:
    """Acknowledges a batch when write(2) has taken all of it: a pipe then holds it, a terminal shows it.

    A closed pipe is a sink that is down, and stays down until the process is started anew. A reader
    that stops reading stops this sink, and never the process.
    """

    max_batch = 500
    concurrency = 1

    def __init__(self, config: StdoutSinkConfig, descriptor: int = STDOUT) -> None:
        self.name = config.name
        self._format = config.format
        self._descriptor = descriptor
        self._thread = IoThread(f"sink-{config.name}")
        self._torn = False

    async def open(self) -> None:
        try:
            self._torn = self._torn or _ends_within_a_line(self._descriptor)
        except OSError as error:
            raise _down(error) from error

    async def send(self, batch: Sequence[Event], attempt: int) -> None:  # noqa: ARG002
        await self._thread.run(lambda: self._write(batch))

    async def reopen(self) -> None:
        """Nothing to do: the descriptor is not ours to renew."""

    async def close(self) -> None:
        """Leaves the descriptor open; a write that is stuck in a full pipe is left behind."""
        await self._thread.stop(lambda: None)

    def _write(self, batch: Sequence[Event]) -> None:
        # A line that was cut short, by a failed write or by a kill before us, is ended here, so that the
        # next one stands alone.
        rest = memoryview(b"\n" * self._torn + encode.lines(batch, self._format))
        try:
            while rest:
                written = self._write_some(rest)
                self._torn = rest[written - 1] != _LF if written else self._torn
                rest = rest[written:]
        except OSError as error:
            raise _down(error) from error

    def _write_some(self, data: memoryview) -> int:
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:  # another program may have made the descriptor, which we share, non-blocking
            poll = select.poll()
            poll.register(self._descriptor, select.POLLOUT)
            poll.poll()
            return 0


def _ends_within_a_line(descriptor: int) -> bool:
    """Whether this is a file that a process before us, killed while it wrote, left with half a line. Raises
    OSError where there is no such descriptor."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size == 0:
        return False
    try:
        with open(f"/proc/self/fd/{descriptor}", "rb") as written:
            written.seek(-1, os.SEEK_END)
            return written.read(1) != b"\n"
    except OSError:
        return False  # not Linux, or not ours to read


def _down(error: OSError) -> SinkUnavailable:
    if isinstance(error, BrokenPipeError):
        return SinkUnavailable("standard output is closed: whatever read it has gone")
    return SinkUnavailable(f"standard output cannot be written: {error.strerror}")
