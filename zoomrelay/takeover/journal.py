"""What a relay received before the state directory was its own: a private file that another can import.

`takeover-*.journal` in the state directory, 0600:

    b"zoomrelay takeover journal 1\\n", then records:
    length (u32, little endian), CRC-32 of what follows (u32), a `Record` as a MessagePack array

A record that a kill cut short ends the file: nothing before it is lost, nothing behind it exists. Whoever
writes holds a `flock` on the file for as long as it lives, so one that can be locked was left behind, and may
be imported. It is removed when all of it is held by the spool.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec
import structlog

from zoomrelay.durable import sync_directory
from zoomrelay.errors import StateDirectoryError

log = structlog.get_logger()

HEAD = b"zoomrelay takeover journal 1\n"
MAX_BYTES = 256 * 1024 * 1024
"""At this size nothing more is read from the sockets: Zoom's side is held back."""
_MAX_WAITING_BYTES = 4 * 1024 * 1024
"""The same for what is not written yet."""
_RETRY_SECONDS = 0.5
_LENGTHS = struct.Struct("<II")
_LARGEST_RECORD_BYTES = 2**30


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What came together on one subscription."""

    source: str
    subscription: str
    received_ms: int
    contents: list[bytes]
    kind: Literal["events", "unreadable", "refused"] = "events"
    reason: str = ""
    """Why it is unreadable."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Record).decode


class Journal:
    """A journal of this process. `run` is the service that writes it."""

    def __init__(self, path: Path, descriptor: int, *, max_bytes: int = MAX_BYTES) -> None:
        self.path = path
        self.bytes = len(HEAD)
        """Written and waiting."""
        self.rest: list[Record] = []
        """What came after `stop`, and is in no file."""
        self._descriptor: int | None = descriptor
        self._max_bytes = max_bytes
        self._written = len(HEAD)
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._stopping = False
        self._arrived = asyncio.Event()
        self._emptied = asyncio.Event()

    @classmethod
    def create(cls, state_dir: Path, *, max_bytes: int = MAX_BYTES) -> Journal:
        """A new one, locked. Raises `StateDirectoryError`."""
        path = state_dir / f"takeover-{os.getpid()}-{secrets.token_hex(4)}.journal"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.pwrite(descriptor, HEAD, 0)
            sync_directory(state_dir)
        except OSError as error:
            raise StateDirectoryError(f"cannot make the journal {path}: {error.strerror}") from error
        return cls(path, descriptor, max_bytes=max_bytes)

    def add(self, record: Record) -> None:
        """Keep this; durable soon, in order."""
        if self._stopping:
            self.rest.append(record)
            return
        framed = frame(record)
        self._waiting.append(framed)
        self._waiting_bytes += len(framed)
        self.bytes += len(framed)
        self._arrived.set()

    @property
    def full(self) -> bool:
        """Nothing more should be added before `room` returned."""
        return self.bytes >= self._max_bytes or self._waiting_bytes >= _MAX_WAITING_BYTES

    async def room(self) -> None:
        """Return when there may be room again."""
        self._emptied.clear()
        await self._emptied.wait()

    async def run(self) -> None:
        """Write what gathers, until `stop` was called and all is durable. Tries until it succeeds."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                taken, self._waiting, self._waiting_bytes = b"".join(self._waiting), [], 0
                await self._write(taken)
                self._emptied.set()
            if self._stopping:
                return

    def stop(self) -> None:
        """What comes from now on goes into `rest`; `run` returns after the last write."""
        self._stopping = True
        self._arrived.set()

    async def _write(self, data: bytes) -> None:
        troubled = False
        while True:
            try:
                await asyncio.to_thread(self._append, data)
                return
            except OSError as error:
                if not troubled:
                    hint = "nothing is lost: it is tried again, and reading pauses meanwhile"
                    log.error("takeover.journal_unwritable", error=error.strerror, hint=hint)
                troubled = True
                await asyncio.sleep(_RETRY_SECONDS)

    def _append(self, data: bytes) -> None:
        assert self._descriptor is not None
        view, at = memoryview(data), self._written
        while view:
            count = os.pwrite(self._descriptor, view, at)
            view, at = view[count:], at + count
        os.fdatasync(self._descriptor)
        self._written = at

    def close(self) -> None:
        """Let go of it, and leave it to whoever imports it, with `rest`. May be called twice."""
        if self._descriptor is not None:
            with suppress(OSError):  # then the ledger lists that time
                self._append(b"".join([frame(record) for record in self.rest]))
            os.close(self._descriptor)
            self._descriptor = None

    def remove(self) -> None:
        """All of it is held elsewhere."""
        self.path.unlink(missing_ok=True)
        self.rest.clear()
        self.close()


def frame(record: Record) -> bytes:
    """As it stands in the file."""
    payload = _encode(record)
    return _LENGTHS.pack(len(payload), zlib.crc32(payload)) + payload


def read(path: Path) -> Iterator[Record]:
    """Every whole record from the beginning on; stops at the first that is not. Raises `OSError`."""
    with path.open("rb") as file:
        if file.read(len(HEAD)) != HEAD:
            return
        while len(lengths := file.read(_LENGTHS.size)) == _LENGTHS.size:
            length, crc = _LENGTHS.unpack(lengths)
            payload = file.read(min(length, _LARGEST_RECORD_BYTES))
            if len(payload) != length or zlib.crc32(payload) != crc:
                return
            try:
                yield _decode(payload)
            except msgspec.MsgspecError:
                return


def journals(state_dir: Path) -> list[Path]:
    """Those that are there, in a stable order."""
    return sorted(state_dir.glob("takeover-*.journal"))


class Claim:
    """A journal that was left behind, and is ours to import."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)

    def release(self) -> None:
        os.close(self._descriptor)


def claim(path: Path) -> Claim | None:
    """None where somebody still writes it, or it is gone."""
    descriptor = -1
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.exists():
            return Claim(path, descriptor)
    except OSError:
        pass
    if descriptor >= 0:
        with suppress(OSError):
            os.close(descriptor)
    return None
