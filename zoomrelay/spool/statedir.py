"""The state directory: ours alone (0700), on a local disk, held by one relay at a time."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from contextlib import suppress
from pathlib import Path

from zoomrelay.errors import SpoolError, StateDirectoryError

_NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "davfs"}
    | {f"fuse.{kind}" for kind in ("sshfs", "glusterfs", "ceph", "s3fs", "rclone", "gcsfuse")}
)


class StateDirectory:
    """Holds the lock of a state directory for as long as it is open.

    `create=True` (only `zoomrelay run` and `demo`) makes the directory; other commands fail where there is
    none. Raises `StateDirectoryError` in plain words: missing, not writable, on a network file system, or
    in use, and then by which process; `SpoolError` where the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    def acquire(self, *, create: bool) -> None:
        """Take the lock, or raise. The lock ends with the process, however it ends."""
        try:
            if create:
                self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            elif not self.path.is_dir():
                raise StateDirectoryError(f"there is no state directory {self.path}; has the relay run here?")
            refuse_network_file_system(self.path)
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise SpoolError(f"state directory {self.path}: {error.strerror}") from error
            raise StateDirectoryError(
                f"state directory {self.path}: {error.strerror}; it must be a directory that"
                " the relay's user may write"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise StateDirectoryError(
                f"state directory {self.path} is in use by {holder(self.path)};"
                " stop it first, or set another state_dir"
            ) from error
        except OSError as error:
            os.close(descriptor)
            raise StateDirectoryError(
                f"state directory {self.path} cannot be locked: {error.strerror}"
            ) from error
        self._lock = descriptor
        with suppress(OSError):  # for `holder` only; on a full disk it must do without
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps({"pid": os.getpid()}).encode(), 0)

    def reclaim(self) -> None:
        """Hold it still: make it and its lock anew where they were removed or replaced. Raises
        `StateDirectoryError` as `acquire` does, and then the next call tries again."""
        before = self._lock
        if before is None or self._is_lock(before):
            return
        self.acquire(create=True)
        os.close(before)

    def _is_lock(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), (self.path / "lock").stat())
        except (FileNotFoundError, NotADirectoryError):
            return False

    def release(self) -> None:
        """Let go. May be called twice."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def holder(path: Path) -> str:
    """Who holds the lock, in words."""
    try:
        pid = int(json.loads((path / "lock").read_text())["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
    return f"the process with id {pid}"


def refuse_network_file_system(path: Path, mountinfo: str = "/proc/self/mountinfo") -> None:
    """Raise `StateDirectoryError` where locks and durability cannot be trusted."""
    kind = _file_system_type(path.resolve(), mountinfo)
    if kind in _NETWORK_FILE_SYSTEMS:
        raise StateDirectoryError(
            f"state directory {path} is on a network file system ({kind}), where locks and fsync cannot be"
            " trusted; set state_dir to a directory on a local disk"
        )


def _file_system_type(path: Path, mountinfo: str) -> str:
    try:
        lines = Path(mountinfo).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""  # not Linux: nothing to go by
    best, kind = -1, ""
    for line in lines:
        before, _, after = line.partition(" - ")
        fields = before.split()
        mount = fields[4].replace("\\040", " ") if len(fields) > 4 else ""
        if mount and after and path.is_relative_to(mount) and len(mount) >= best:
            best, kind = len(mount), after.split()[0]
    return kind
