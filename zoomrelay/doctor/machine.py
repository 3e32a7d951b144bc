"""This machine: files of secrets, the state directory, who holds it, the spool. Nothing is changed."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pwd
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from zoomrelay import causes
from zoomrelay.admin.client import ControlClient
from zoomrelay.admin.health import Status
from zoomrelay.admin.words import size
from zoomrelay.config.models import Config
from zoomrelay.config.secret_files import open_to_all
from zoomrelay.doctor.finding import Finding, failed, passed, skipped, warned
from zoomrelay.doctor.walk import Step
from zoomrelay.errors import (
    ControlRefused,
    RelayNotRunning,
    SpoolError,
    SpoolFormatError,
    StateDirectoryError,
)
from zoomrelay.spool.sqlite import FILE_NAME
from zoomrelay.spool.sqlite_file import Damaged, look
from zoomrelay.spool.statedir import holder, refuse_network_file_system

FULL_BYTES = 64 * 1024**2
"""Less room than this is as good as none."""
_ASK_SECONDS = 5.0
_LOOK_AT_MOST = 1000


class Machine:
    """What is local. `relay` is the state of the relay that runs here, once `lock` has been looked at."""

    def __init__(self, config: Config, secret_files: Sequence[Path]) -> None:
        self._config = config
        self._secret_files = secret_files
        self.path = config.state_dir
        self.relay: Status | None = None
        self.held = True
        """Somebody holds the state directory, or may: nobody has looked yet, or nobody could."""
        directory = Step("state_directory", self.state_directory, target=str(self.path))
        lock = Step("lock", self.lock)
        self.steps = [
            Step("secret_files", self.secrets),
            directory,
            lock,
            Step("relay", self.relay_state, (lock,)),
            Step("spool", self.spool, (lock,)),
        ]

    async def secrets(self) -> Finding:
        """Nobody else on this machine should read them; the group may, for that is how services share."""
        open_ones = open_to_all(self._secret_files)
        if open_ones:
            return warned(causes.SECRET_OPEN, f"everybody can read {', '.join(open_ones)}")
        count = len(self._secret_files)
        return passed(f"{count} file{'s' if count != 1 else ''}, readable for their owner and group only")

    async def state_directory(self) -> Finding:
        try:
            there = self.path.is_dir()
            refuse_network_file_system(self.path)
            if not there:
                return self._would_be_made()
            return await asyncio.to_thread(self._judge_directory)
        except OSError as error:
            return failed(causes.STATE_DIR, f"{self.path}: {error.strerror}")
        except StateDirectoryError as error:
            return failed(causes.STATE_DIR, str(error))

    def _would_be_made(self) -> Finding:
        if self.path.exists():
            return failed(causes.STATE_DIR, f"{self.path} is not a directory")
        parent = next(parent for parent in self.path.absolute().parents if parent.exists())
        if not os.access(parent, os.W_OK | os.X_OK):
            return warned(causes.STATE_DIR, f"it is not there yet, and you may not make it in {parent}")
        return self._room(parent, 0) or passed("it is not there yet; zoomrelay run makes it")

    def _judge_directory(self) -> Finding:
        found = self.path.stat()
        if os.geteuid() not in (found.st_uid, 0):
            return warned(causes.STATE_FOREIGN, f"it belongs to {_user(found.st_uid)}")
        if not os.access(self.path, os.R_OK | os.W_OK | os.X_OK):
            return failed(causes.STATE_DIR, "it cannot be written")
        paths = [self.path, *sorted(self.path.rglob("*"))[:_LOOK_AT_MOST]]
        open_ones = [path for path in paths if _open_to_others(path)]
        if open_ones:
            return warned(causes.STATE_OPEN, f"others may open {', '.join(map(str, open_ones[:5]))}")
        spool = self.path / FILE_NAME
        taken = spool.stat().st_size if spool.exists() else 0
        left = _free_bytes(self.path)
        return self._room(self.path, taken) or passed(f"ours alone; {size(left)} of its disk are free")

    def _room(self, path: Path, taken_bytes: int) -> Finding | None:
        """What is wrong with the disk's room; the spool has so much of it already."""
        left, wanted = _free_bytes(path), self._config.spool.max_bytes - taken_bytes
        if left < FULL_BYTES:
            return failed(causes.DISK_FULL, f"{size(left)} are left on its disk")
        if self._config.spool.type == "sqlite" and left < wanted:
            return warned(
                causes.DISK_SMALL, f"{size(left)} are left on its disk, the spool may want {size(wanted)}"
            )
        return None

    # --- who holds it -------------------------------------------------------------------------------

    async def lock(self) -> Finding:
        try:
            self.held = self.somebody_holds_it()
        except OSError as error:
            words = f"nobody but its user can say whether a relay runs there ({error.strerror})"
            return warned(causes.STATE_FOREIGN, words)
        if not self.held:
            return passed("no relay runs on this state directory")
        try:
            answer = await asyncio.to_thread(
                ControlClient(self.path, timeout_seconds=_ASK_SECONDS).get, "/status", dict
            )
            self.relay = msgspec.convert(answer, Status)
        except (RelayNotRunning, ControlRefused, StateDirectoryError, msgspec.ValidationError) as error:
            return warned(causes.RELAY_MUTE, f"{holder(self.path)} holds it: {error}")
        return passed(f"a relay runs here, {holder(self.path)}")

    def somebody_holds_it(self) -> bool:
        """Looked at anew. Raises `OSError` where we may not look."""
        with self._lock() as ours:
            return not ours

    @contextmanager
    def _lock(self) -> Iterator[bool]:
        """Whether we could take the lock, which is let go of at the end: a relay that starts meanwhile would
        not wait. No file is made, and none changed."""
        try:
            descriptor = os.open(self.path / "lock", os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            yield True
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield True
        except BlockingIOError:
            yield False
        finally:
            os.close(descriptor)

    async def relay_state(self) -> Finding:
        if self.relay is None:
            return skipped("a relay is there, and does not answer" if self.held else "no relay runs here")
        if self.relay.ready:
            return passed(f"zoomrelay {self.relay.version} is ready")
        return failed(causes.RELAY_TROUBLE, "not ready: " + "; ".join(self.relay.not_ready_because))

    # --- the spool ----------------------------------------------------------------------------------

    async def spool(self) -> Finding:
        if self.relay is not None:
            return self._spool_by_relay(self.relay)
        if self._config.spool.type == "memory":
            return passed("in memory: what no sink has taken ends with the relay")
        return await asyncio.to_thread(self._look_at_spool)

    def _spool_by_relay(self, relay: Status) -> Finding:
        spool = relay.spool
        if not spool.writable:
            return failed(causes.RELAY_TROUBLE, f"the relay cannot write it: {spool.trouble}")
        return passed(
            f"the relay says: {spool.events:,} events, {size(spool.bytes)} of {size(spool.max_bytes)}"
        )

    def _look_at_spool(self) -> Finding:
        file = self.path / FILE_NAME
        try:
            with self._lock() as ours:
                if not ours:
                    return skipped("a process holds the state directory and does not answer")
                look(file)
        except FileNotFoundError:
            return passed("there is none yet; zoomrelay run makes it")
        except Damaged as error:
            return failed(causes.SPOOL_DAMAGED, f"{file}: {error}")
        except SpoolFormatError as error:
            return failed(causes.SPOOL_FOREIGN, str(error))
        except (SpoolError, OSError) as error:
            return warned(causes.STATE_FOREIGN, f"it cannot be looked at: {error}")
        return passed(f"head and tail are sound, {size(file.stat().st_size)}")


def _open_to_others(path: Path) -> bool:
    try:
        return bool(path.lstat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)) and not path.is_symlink()
    except OSError:
        return False


def _free_bytes(path: Path) -> int:
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize


def _user(number: int) -> str:
    try:
        return f"the user {pwd.getpwuid(number).pw_name}"
    except KeyError:
        return f"the user with id {number}"
