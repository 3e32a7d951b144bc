"""The few calls by which a file sink touches the disk; tests put a disk with faults in their place."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from zoomrelay.durable import sync_directory

MODE = 0o640
"""Of files that a sink creates: log collectors commonly read through the group. The umask applies."""
DIRECTORY_MODE = 0o750


class Disk(Protocol):
    """Everything raises `OSError`, as the calls of the same name in `os` do."""

    def open(self, path: Path) -> int:
        """A descriptor for reading and appending; the file is created if need be, its directory is not."""
        ...

    def status(self, descriptor: int) -> os.stat_result: ...

    def read(self, descriptor: int, size: int, offset: int) -> bytes: ...

    def write(self, descriptor: int, data: memoryview) -> int:
        """How many bytes were appended; may be fewer than given."""
        ...

    def fdatasync(self, descriptor: int) -> None: ...

    def truncate(self, descriptor: int, size: int) -> None: ...

    def close(self, descriptor: int) -> None: ...

    def sync_directory(self, path: Path) -> None:
        """Make the names in this directory durable."""
        ...

    def exists(self, path: Path) -> bool: ...

    def names(self, directory: Path) -> list[str]:
        """What is in it; nothing where it does not exist, or is none."""
        ...

    def make_directory(self, path: Path) -> None:
        """Does nothing where it is there; the directory above must be."""
        ...

    def rename(self, path: Path, to: Path) -> None:
        """Puts it in the place of what is there."""
        ...

    def unlink(self, path: Path) -> None:
        """Does nothing where it is gone."""
        ...

    def free_bytes(self, directory: Path) -> int:
        """What may still be written there, by those without privileges."""
        ...


class SystemDisk:
    """The machine's own disk."""

    def open(self, path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, MODE)

    def status(self, descriptor: int) -> os.stat_result:
        return os.fstat(descriptor)

    def read(self, descriptor: int, size: int, offset: int) -> bytes:
        return os.pread(descriptor, size, offset)

    def write(self, descriptor: int, data: memoryview) -> int:
        return os.write(descriptor, data)

    def fdatasync(self, descriptor: int) -> None:
        _fdatasync(descriptor)

    def truncate(self, descriptor: int, size: int) -> None:
        os.ftruncate(descriptor, size)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def sync_directory(self, path: Path) -> None:
        sync_directory(path)

    def exists(self, path: Path) -> bool:
        return os.path.lexists(path)

    def names(self, directory: Path) -> list[str]:
        try:
            return [found.name for found in directory.iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def make_directory(self, path: Path) -> None:
        with suppress(FileExistsError):
            path.mkdir(DIRECTORY_MODE)

    def rename(self, path: Path, to: Path) -> None:
        path.replace(to)

    def unlink(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def free_bytes(self, directory: Path) -> int:
        found = os.statvfs(directory)
        return found.f_bavail * found.f_frsize


_fdatasync = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync
