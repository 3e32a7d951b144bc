"""A disk in memory that forgets what was not synced, and fails when told to.

It has the habit that makes a retried fdatasync a lie: when one fails, what it should have written is
taken for clean, and the next one succeeds without writing it.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Inode:
    content: bytearray = field(default_factory=bytearray)
    """What a reader sees now."""
    durable: bytearray = field(default_factory=bytearray)
    """What would be there after a loss of power."""
    dirty: list[tuple[int, int]] = field(default_factory=list)
    links: int = 1


class FakeDisk:
    def __init__(self, *, directories: tuple[str, ...] = ("/log",)) -> None:
        self.files: dict[Path, Inode] = {}
        self.named: dict[Path, Inode] = {}
        """The names that a loss of power leaves: those of the last `sync_directory`."""
        self.directories = {Path(name) for name in directories}
        self.synced_directories: list[Path] = []
        self.room: int | None = None
        self.longest_write: int | None = None
        self.faults: dict[str, list[int | None]] = {}
        self.opened = 0
        self._descriptors: dict[int, Inode] = {}

    def fail(self, call: str, number: int, after: int = 0) -> None:
        """The next call of this name but `after` fails with errno `number`."""
        self.faults.setdefault(call, []).extend([*[None] * after, number])

    def crash(self) -> None:
        """Power is lost and comes back; every descriptor is gone."""
        self._descriptors.clear()
        self.faults.clear()
        self.room = self.longest_write = None
        self.files = dict(self.named)
        for inode in self.files.values():
            inode.content[:] = inode.durable
            inode.dirty.clear()

    def put(self, path: Path, content: bytes) -> None:
        self.files[path] = self.named[path] = Inode(bytearray(content), bytearray(content))

    def remove(self, path: Path) -> None:
        self.files.pop(path).links -= 1

    @property
    def descriptors(self) -> int:
        return len(self._descriptors)

    # --- the calls of a Disk

    def open(self, path: Path) -> int:
        self._perhaps_fail("open")
        if path.parent not in self.directories:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        self.opened += 1
        self._descriptors[self.opened] = self.files.setdefault(path, Inode())
        return self.opened

    def status(self, descriptor: int) -> os.stat_result:
        self._perhaps_fail("status")
        inode = self._descriptors[descriptor]
        return os.stat_result(
            (stat.S_IFREG | 0o640, id(inode), 1, inode.links, 0, 0, len(inode.content), 0, 0, 0)
        )

    def read(self, descriptor: int, size: int, offset: int) -> bytes:
        self._perhaps_fail("read")
        return bytes(self._descriptors[descriptor].content[offset : offset + size])

    def write(self, descriptor: int, data: memoryview) -> int:
        self._perhaps_fail("write")
        inode = self._descriptors[descriptor]
        limits = (len(data), self.longest_write, self.room)
        size = min(limit for limit in limits if limit is not None)
        if size == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self.room is not None:
            self.room -= size
        inode.dirty.append((len(inode.content), len(inode.content) + size))
        inode.content += data[:size]
        return size

    def fdatasync(self, descriptor: int) -> None:
        inode = self._descriptors[descriptor]
        dirty, inode.dirty = inode.dirty, []
        self._perhaps_fail("fdatasync")
        for start, end in dirty:
            inode.durable += bytes(max(0, min(end, len(inode.content)) - len(inode.durable)))
            inode.durable[start:end] = inode.content[start:end]

    def truncate(self, descriptor: int, size: int) -> None:
        self._perhaps_fail("truncate")
        inode = self._descriptors[descriptor]
        if self.room is not None:
            self.room += max(0, len(inode.content) - size)
        del inode.content[size:], inode.durable[size:]

    def close(self, descriptor: int) -> None:
        del self._descriptors[descriptor]
        self._perhaps_fail("close")

    def sync_directory(self, path: Path) -> None:
        self._perhaps_fail("sync_directory")
        self.synced_directories.append(path)
        self.named = {name: inode for name, inode in self.named.items() if name.parent != path}
        self.named |= {name: inode for name, inode in self.files.items() if name.parent == path}

    def exists(self, path: Path) -> bool:
        return path in self.files or path in self.directories

    def names(self, directory: Path) -> list[str]:
        found = [path for path in (*self.files, *self.directories) if path.parent == directory]
        return [path.name for path in found]

    def make_directory(self, path: Path) -> None:
        if path.parent not in self.directories:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        self.directories.add(path)

    def rename(self, path: Path, to: Path) -> None:
        self._perhaps_fail("rename")
        self.files[to] = self.files.pop(path)

    def unlink(self, path: Path) -> None:
        self._perhaps_fail("unlink")
        if path in self.files:
            self.remove(path)

    def free_bytes(self, directory: Path) -> int:
        assert directory in self.directories
        return 10**9 if self.room is None else self.room

    def _perhaps_fail(self, call: str) -> None:
        faults = self.faults.get(call)
        if faults and (number := faults.pop(0)) is not None:
            raise OSError(number, os.strerror(number))
