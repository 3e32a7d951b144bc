"""Whether the spool's files are still those that were opened: somebody may remove, replace or cut them.

SQLite notices nothing of this. It goes on writing into a file that has no name any more, and past the end
of a log that was cut: what is committed then is gone with the process.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from zoomrelay.spool.sqlite_file import COMPANIONS


class _Seen(NamedTuple):
    identities: tuple[tuple[int, int] | None, ...]
    """Device and inode of each file; None where there is none."""
    sizes: tuple[int, ...]


class Watch:
    """Files that only we may change: call `note` after each change of our own."""

    def __init__(self, path: Path) -> None:
        self._paths = [os.fspath(path) + suffix for suffix in COMPANIONS]
        self._noted: _Seen | None = None

    def note(self) -> None:
        self._noted = self._look()

    def forget(self) -> None:
        """The files were closed: any may stand there now."""
        self._noted = None

    def moved(self) -> bool:
        """One of the files was removed or another has its name."""
        return self._noted is not None and self._look().identities != self._noted.identities

    def shrunk(self) -> bool:
        """One of the files has become shorter."""
        if self._noted is None:
            return False
        return any(now < noted for now, noted in zip(self._look().sizes, self._noted.sizes, strict=True))

    def _look(self) -> _Seen:
        states = [_state(path) for path in self._paths]
        identities = tuple(None if state is None else (state.st_dev, state.st_ino) for state in states)
        return _Seen(identities, tuple(0 if state is None else state.st_size for state in states))


def _state(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)  # noqa: PTH116 - before and after every commit
    except (FileNotFoundError, NotADirectoryError):
        return None
