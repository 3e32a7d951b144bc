"""Compresses segments that have ended, one after the other. The steps stand in `zoomrelay.sinks.segments`."""

from __future__ import annotations

import errno
import os
import sys
import zlib
from collections import deque
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Literal, Protocol

from zoomrelay.sinks import segment_names as names
from zoomrelay.sinks.disk import Disk

PIECE_BYTES = 1024**2
_GZIP_LEVEL = 6
_GZIP_WINDOW = 31
"""The largest window, and gzip's head and tail around it (zlib's manual, `deflateInit2`)."""
_numbers = count(1)


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class Packer:
    """`add` may be called from any thread. `run` blocks, and raises `OSError`."""

    def __init__(self, kind: Literal["gzip", "zstd"], *, min_free_bytes: int, disk: Disk) -> None:
        self._kind = kind
        self._min_free_bytes = min_free_bytes
        self._disk = disk
        self._waiting: deque[Path] = deque()
        self._stopped = False

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def add(self, full: Path) -> None:
        """A segment whose name ends in `.full`."""
        if full not in self._waiting:
            self._waiting.append(full)

    def start(self) -> None:
        """`run` works again after `stop`."""
        self._stopped = False

    def stop(self) -> None:
        """`run` returns soon; what it was at stays a `.full`."""
        self._stopped = True

    def run(self) -> None:
        """Compress all that wait."""
        while self._waiting and not self._stopped:
            try:
                self._pack(self._waiting[0])
            except OSError:
                self._waiting.rotate(-1)  # one that cannot be read must not hold up the others
                raise
            if not self._stopped:
                self._waiting.popleft()

    def _pack(self, full: Path) -> None:
        if not self._disk.exists(full):
            return  # somebody was faster
        ended = full.with_name(full.name.removesuffix(names.FULL) + names.ENDINGS[self._kind])
        # A name of its own: where one of us hangs in the disk, another may be at the same segment.
        tmp = ended.with_name(f"{ended.name}.{os.getpid()}-{next(_numbers)}{names.TMP}")
        try:
            if self._compress(full, tmp):
                self._disk.rename(tmp, ended)
                self._disk.sync_directory(full.parent)
                self._disk.unlink(full)
        finally:
            with suppress(OSError):
                self._disk.unlink(tmp)

    def _compress(self, full: Path, tmp: Path) -> bool:
        """Whether all of it is in `tmp`, on the disk; False where we were stopped."""
        source = self._disk.open(full)
        try:
            self._check_room(full.parent, self._disk.status(source).st_size)
            target = self._disk.open(tmp)
            try:
                self._copy(source, target)
                self._disk.fdatasync(target)
            finally:
                self._disk.close(target)
        finally:
            self._disk.close(source)
        return not self._stopped

    def _copy(self, source: int, target: int) -> None:
        compressor, offset = _compressor(self._kind), 0
        while not self._stopped and (piece := self._disk.read(source, PIECE_BYTES, offset)):
            offset += len(piece)
            self._write(target, compressor.compress(piece))
        self._write(target, compressor.flush())

    def _write(self, target: int, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._disk.write(target, rest) :]

    def _check_room(self, directory: Path, size: int) -> None:
        if self._min_free_bytes and self._disk.free_bytes(directory) < self._min_free_bytes + size:
            raise OSError(errno.ENOSPC, "there is less room than min_free_bytes and the segment")


def _compressor(kind: Literal["gzip", "zstd"]) -> _Compressor:
    if kind == "gzip":
        return zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP_WINDOW)
    # Imported where it is wanted, as every part of a sink.
    if sys.version_info >= (3, 14):
        from compression.zstd import ZstdCompressor
    else:
        from backports.zstd import ZstdCompressor
    made: _Compressor = ZstdCompressor()
    return made
