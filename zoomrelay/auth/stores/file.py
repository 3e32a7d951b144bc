"""A token store on disk, shared by every process that may use the state directory.

    state_dir/tokens/ID.json           the record (`auth.record`); 0600, in a directory of 0700
    state_dir/tokens/ID.json.new       the next one, until it takes the name of the last
    state_dir/tokens/ID.json.damaged-N what stood there and was no record; it may hold a refresh token
    state_dir/tokens/ID.lock           held (flock) by whoever writes; never removed

A record is written to the side, synced, renamed and its directory synced: a reader sees the old one or the
new one. The kernel lets go of the lock when its holder dies, however it dies.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import msgspec
import structlog

from zoomrelay.auth.record import VERSION, Record, app_id
from zoomrelay.config.models import SourceConfig
from zoomrelay.durable import sync_directory
from zoomrelay.errors import TokenStoreBusy, TokenStoreError

log = structlog.get_logger()

_MAX_BYTES = 1024 * 1024
_MAX_SET_ASIDE = 20
_POLL_SECONDS = (0.01, 0.1)
"""Between two tries to get the lock: first and longest."""
_OTHERS = 0o077


class FileStore:
    """The record of the app of one source, in a state directory that must exist when it is used.

    A file that is damaged, another user's, a link or no file at all is refused in one line of the log and
    replaced at the next write; what stood there is set aside, never deleted. One of ours that others could
    read keeps its refresh token, which cannot be had anew, and loses its access token, which can.
    """

    def __init__(self, state_dir: Path, source: SourceConfig) -> None:
        self._app = app_id(source)
        self._source = source.name
        self._state_dir = state_dir
        self.directory = state_dir / "tokens"
        self.path = self.directory / f"{self._app}.json"
        self._lock_path = self.directory / f"{self._app}.lock"
        self._known: tuple[tuple[int, ...], Record] | None = None
        self._told: tuple[str, ...] = ()

    # --- the promise --------------------------------------------------------------------------------

    async def read(self) -> Record:
        return self._load()

    async def write(self, record: Record) -> None:
        with _in_our_words(self.path):
            await _to_its_end(lambda: self.replace(record))

    @asynccontextmanager
    async def lock(self, patience_seconds: float) -> AsyncIterator[None]:
        with _in_our_words(self._lock_path):
            self._make_directory()
            descriptor = _open_lock(self._lock_path)
        try:
            await self._acquire(descriptor, patience_seconds)
            yield
        finally:
            os.close(descriptor)

    # --- the lock -----------------------------------------------------------------------------------

    async def _acquire(self, descriptor: int, patience_seconds: float) -> None:
        # By asking again and again: a thread that waits in flock could not be called back.
        loop = asyncio.get_running_loop()
        deadline, (pause, longest) = loop.time() + patience_seconds, _POLL_SECONDS
        while not _try_lock(descriptor, self._lock_path):
            if loop.time() >= deadline:
                raise TokenStoreBusy(f"{self._lock_path} has been held for {patience_seconds:g} s by another")
            await asyncio.sleep(pause)
            pause = min(longest, pause * 1.5)

    # --- reading ------------------------------------------------------------------------------------

    def _load(self) -> Record:
        with _in_our_words(self.path):
            try:
                descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except FileNotFoundError:
                return Record()
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.EACCES, errno.ENXIO):
                    raise
                return self._refuse("a link" if error.errno == errno.ELOOP else "not ours to read")
            try:
                return self._read_open(descriptor)
            finally:
                os.close(descriptor)

    def _read_open(self, descriptor: int) -> Record:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return self._refuse("no regular file")
        if status.st_uid != self.directory.stat().st_uid:
            return self._refuse("another user's")
        signature = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if self._known is None or self._known[0] != signature or status.st_mode & _OTHERS:
            record = self._decode(os.read(descriptor, _MAX_BYTES))
            if record is None:
                return self._refuse("damaged, or another app's")
            if status.st_mode & _OTHERS:
                return self._tighten(descriptor, record)
            self._known = signature, record
        return self._known[1]

    def _decode(self, content: bytes) -> Record | None:
        """None where it is no record of this app."""
        try:
            record = msgspec.json.decode(content, type=Record)
        except (msgspec.DecodeError, RecursionError):
            return None
        if record.version > VERSION:
            raise TokenStoreError(f"{self.path} was written by a newer zoomrelay; it is left untouched")
        return record if record.version == VERSION and record.app == self._app else None

    def _refuse(self, problem: str) -> Record:
        self._tell(problem, "it is set aside when a token was got anew")
        return Record()

    def _tighten(self, descriptor: int, record: Record) -> Record:
        os.fchmod(descriptor, 0o600)
        self._tell(
            "open to other users",
            "its mode was set to 0600; the access token is got anew"
            + (", the refresh token is kept" if record.refresh else ""),
        )
        return record.without_access()

    def _tell(self, problem: str, action: str) -> None:
        if self._told != (problem, action):
            self._told = (problem, action)
            log.warning(
                "auth.cache_refused", source=self._source, path=str(self.path), problem=problem, action=action
            )

    # --- writing ------------------------------------------------------------------------------------

    def replace(self, record: Record) -> None:
        """Blocks. What `write` promises; raises `OSError` too."""
        self._make_directory()
        self._set_aside()
        fresh = self.path.with_suffix(".json.new")
        fresh.unlink(missing_ok=True)
        write_synced(fresh, msgspec.json.encode(record.bound_to(self._app)))
        fresh.rename(self.path)
        sync_directory(self.directory)

    def _set_aside(self) -> None:
        """Move away what is no record of ours, whatever it is."""
        if self._is_ours():
            return
        for number in range(1, _MAX_SET_ASIDE + 1):
            place = self.path.with_suffix(f".json.damaged-{number}")
            if not os.path.lexists(place):
                self.path.rename(place)
                log.warning("auth.cache_set_aside", source=self._source, path=str(place))
                return
        raise TokenStoreError(
            f"{self.directory} holds {_MAX_SET_ASIDE} damaged caches; look at them and remove them"
        )

    def _is_ours(self) -> bool:
        """Nothing, or a record that may be replaced."""
        if not os.path.lexists(self.path):
            return True
        self._known = None
        return self._load() != Record()

    def _make_directory(self) -> None:
        if not self._state_dir.is_dir():
            raise TokenStoreError(f"there is no state directory {self._state_dir}; has the relay run here?")
        with suppress(FileExistsError):
            self.directory.mkdir(mode=0o700)
            _give(self.directory, self._state_dir)
            sync_directory(self._state_dir)
        status = self.directory.lstat()
        if not stat.S_ISDIR(status.st_mode) or os.geteuid() not in (status.st_uid, 0):
            raise TokenStoreError(f"{self.directory} must be a directory of the user who runs this")
        if status.st_mode & _OTHERS:
            self.directory.chmod(0o700)
            self._tell("in a directory open to other users", "its mode was set to 0700")


@contextmanager
def _in_our_words(path: Path) -> Iterator[None]:
    """Turns an `OSError` into a `TokenStoreError` that names the path."""
    try:
        yield
    except OSError as error:
        raise TokenStoreError(f"{path}: {error.strerror or error}") from error


def _open_lock(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        _give(descriptor, path.parent)
        return descriptor
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)  # it can be locked all the same


def _try_lock(descriptor: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise TokenStoreError(f"{path} cannot be locked: {error.strerror}") from error
    return True


def write_synced(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        _give(descriptor, path.parent)
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _give(made: int | Path, directory: Path) -> None:
    """What root makes belongs to whom the directory belongs to: the relay must be able to use it."""
    if os.geteuid() == 0:
        owner = directory.stat()
        os.chown(made, owner.st_uid, owner.st_gid)


async def _to_its_end(work: Callable[[], None]) -> None:
    """In a thread; who is cancelled meanwhile waits for the end, so that no lock is let go too early."""
    job = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        await asyncio.shield(job)
    except asyncio.CancelledError:
        await asyncio.wait([job])
        raise
