"""Disks that misbehave for real: a small one of its own, and one that takes no write beyond a size."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.require import missing, require

_BALLAST = "ballast"
_SYS = Path("/sys/fs/ext4")


class SmallDisk:
    """A file system of its own, in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self) -> None:
        """Leave no room at all."""
        descriptor = os.open(self.path / _BALLAST, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            for size in (65536, 4096, 1):
                self._fill_by(descriptor, size)
        finally:
            os.close(descriptor)

    def _fill_by(self, descriptor: int, size: int) -> None:
        try:
            while True:
                os.write(descriptor, bytes(size))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise

    def free(self) -> None:
        """Give back what `fill` took."""
        (self.path / _BALLAST).unlink()


@contextmanager
def small_disk(path: Path, size_bytes: int) -> Iterator[SmallDisk]:
    """A tmpfs of this size at `path`, while inside; needs root, and a kernel that lets it mount."""
    require("mount")
    if os.geteuid() != 0:
        missing("mounting a small disk needs root")
    path.mkdir(mode=0o700)
    options = f"size={size_bytes},mode=0700"
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], capture_output=True, check=False
    )
    if done.returncode:
        missing(f"no file system can be mounted here: {done.stderr.decode().strip()}")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


class FailingDisk:
    """A file system that can be made to find an error in itself: from then on it is read-only, also for
    those who have files open, which no `mount` can do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fail(self) -> None:
        """For good: this kernel knows no way back."""
        (_SYS / self._device() / "trigger_fs_error").write_text("1")

    def take_away(self) -> None:
        """Whoever has files open there keeps them; what lies below shows again."""
        subprocess.run(["umount", "--lazy", self.path], check=True)

    def _device(self) -> str:
        found = subprocess.run(
            ["findmnt", "--noheadings", "--output", "SOURCE", self.path], capture_output=True, check=True
        )
        return Path(found.stdout.decode().strip()).name


@contextmanager
def failing_disk(path: Path, size_bytes: int) -> Iterator[FailingDisk]:
    """An ext4 of this size at `path`, while inside; needs root, and a kernel with loop devices."""
    for program in ("mount", "mkfs.ext4", "findmnt"):
        require(program)
    if os.geteuid() != 0:
        missing("mounting a disk needs root")
    path.mkdir(mode=0o700)
    image = path.with_name("disk.img")
    image.write_bytes(b"")
    os.truncate(image, size_bytes)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    done = subprocess.run(
        ["mount", "-o", "loop,errors=remount-ro", image, path], capture_output=True, check=False
    )
    if done.returncode or not _SYS.exists():
        missing(f"no ext4 can be mounted here: {done.stderr.decode().strip()}")
    try:
        yield FailingDisk(path)
    finally:
        if path.is_mount():
            subprocess.run(["umount", "--lazy", path], check=True)


@contextmanager
def no_file_beyond(pid: int, size_bytes: int) -> Iterator[None]:
    """Inside, what this process writes beyond that many bytes of a file fails: to SQLite, an I/O error."""
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
