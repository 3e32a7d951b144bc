"""A file of whole lines: what `append` acknowledged is there, what it did not is cut off again.

The rules, and why:

* A batch that failed is cut off, and the file is let go. After a failed write or fdatasync the kernel may
  hold pages for clean that never reached the disk, and a second fdatasync would then succeed for nothing.
  So the batch is written once more, through a file that was opened anew. Where it cannot be cut off
  either, nothing is written until it can: what stands there might turn into zeros at a loss of power.
* A last line without its newline is repaired when the file is opened. Everything acknowledged ends with
  a newline; so an unfinished line that looks like ours (a JSON object that breaks off, or zeros after a
  loss of power) was never acknowledged, will be sent again, and is cut off. Any other last line is
  somebody's: it gets its newline and stays.
* A deleted file is noticed before the next batch, and created anew. A renamed one is written on until
  `reopen`, as logrotate expects. Copying and truncating (its `copytruncate`) is not supported: lines
  that are written between the two are lost.
* Nothing else may write to the file while it is open here. A thread that was left behind in a disk that
  hangs neither writes nor cuts off any more, for its successor may have the file open.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from zoomrelay.sinks.disk import Disk
from zoomrelay.sinks.thread import check_not_left_behind

log = structlog.get_logger()

_REACHES = (64 * 1024, 4 * 1024**2, 64 * 1024**2)
"""How many bytes to look back for the last newline, one try after the other."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one call of `append` writes, or wrote."""

    file: tuple[int, int]
    """Device and inode."""
    start: int
    end: int
    """Where it ends; a file that is longer was written to by somebody else."""


class LineFile:
    """Appends lines to one file. Calls block, never overlap, and raise `OSError`."""

    def __init__(self, path: Path, *, fsync: bool, disk: Disk) -> None:
        self._path = path
        self._fsync = fsync
        self._disk = disk
        self._descriptor: int | None = None
        self._failed: Batch | None = None

    def open(self) -> None:
        """Open or create the file and repair its last line. Does nothing where it is open already."""
        if self._descriptor is None:
            self._descriptor = self._opened()

    def append(self, data: bytes) -> Batch:
        """On return all of `data` (whole lines) is in the file, and on the disk where `fsync` is set."""
        descriptor, status = self._ready()
        batch = Batch(_identity(status), status.st_size, status.st_size + len(data))
        try:
            self._write(descriptor, data)
            if self._fsync:
                self._disk.fdatasync(descriptor)
        except OSError:
            self._failed = batch
            with suppress(OSError):
                self._cut_off_failed(descriptor)
            self.close()
            raise
        return batch

    def withdraw(self, batch: Batch) -> None:
        """Cut off again what was appended last; where that fails, before anything else is written."""
        self._failed = batch
        self.reopen()

    def sync(self) -> int:
        """On return all that was appended is on the disk, whole; how many bytes there are."""
        self.open()
        assert self._descriptor is not None
        self._disk.fdatasync(self._descriptor)
        return self._disk.status(self._descriptor).st_size

    def is_in_place(self) -> bool:
        """Whether its path leads to the file that is open here."""
        self.open()
        assert self._descriptor is not None
        if not self._disk.exists(self._path):
            return False
        found = self._disk.open(self._path)
        try:
            return _identity(self._disk.status(found)) == _identity(self._disk.status(self._descriptor))
        finally:
            self._disk.close(found)

    def reopen(self) -> None:
        """Let go of the file and open what its path names now."""
        self.close()
        self.open()

    def close(self) -> None:
        """Never raises; may be called twice."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):
                self._disk.close(descriptor)

    def _ready(self) -> tuple[int, os.stat_result]:
        """The open file and its state."""
        try:
            if self._descriptor is not None and self._disk.status(self._descriptor).st_nlink == 0:
                log.warning("sink.file_deleted", path=str(self._path))
                self.close()
            if self._descriptor is None:
                self._descriptor = self._opened()
            return self._descriptor, self._disk.status(self._descriptor)
        except OSError:
            self.close()
            raise

    def _opened(self) -> int:
        descriptor = self._disk.open(self._path)
        try:
            self._take_over(descriptor)
        except OSError:
            self._disk.close(descriptor)
            raise
        return descriptor

    def _take_over(self, descriptor: int) -> None:
        check_not_left_behind()
        self._cut_off_failed(descriptor)
        status = self._disk.status(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        if status.st_size:
            self._repair(descriptor, status.st_size)
        else:  # just created, perhaps in a run that died before it came to this line
            self._disk.sync_directory(self._path.parent)

    def _repair(self, descriptor: int, size: int) -> None:
        last = self._last_line(descriptor, size)
        if not last:
            return
        if is_torn(last):
            self._truncate(descriptor, size - len(last))
        else:
            self._write(descriptor, b"\n")
        log.warning("sink.file_repaired", path=str(self._path), cut=is_torn(last), bytes=len(last))

    def _last_line(self, descriptor: int, size: int) -> bytes:
        """What stands behind the last newline."""
        for reach in _REACHES:
            end = self._disk.read(descriptor, min(reach, size), max(size - reach, 0))
            _, newline, last = end.rpartition(b"\n")
            if newline or size <= reach:
                return last
        raise OSError(errno.EINVAL, "not a file of lines")

    def _write(self, descriptor: int, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            check_not_left_behind()
            rest = rest[self._disk.write(descriptor, rest) :]

    def _truncate(self, descriptor: int, size: int) -> None:
        check_not_left_behind()
        self._disk.truncate(descriptor, size)

    def _cut_off_failed(self, descriptor: int) -> None:
        """Cut off what a failed batch left, unless this is another file or somebody else wrote to it."""
        failed = self._failed
        if failed is None:
            return
        status = self._disk.status(descriptor)
        if _identity(status) == failed.file and failed.start < status.st_size <= failed.end:
            self._truncate(descriptor, failed.start)
        self._failed = None


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def is_torn(last: bytes) -> bool:
    """Whether `last`, the end of a file without a newline, is a line of ours that breaks off.

    Ours are JSON objects on one line. A crash cuts them short, and may leave zeros where bytes were
    never written.
    """
    text = last.lstrip(b" \t\0")
    if b"\0" in last or not text:
        return not text or text.startswith(b"{")
    return text.startswith(b"{") and not _is_json(text)


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text.decode("utf-8", "replace"))
    except ValueError:
        return False
    except RecursionError:  # cannot be told, so it stays
        return True
    return True
