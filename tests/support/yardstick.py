"""How slow the machine itself is just now, for tests that judge a time on a machine that is shared."""

from __future__ import annotations

import os
import time
from collections import deque
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Self

_PAUSE_SECONDS = 0.01


class Yardstick:
    """Wakes up, writes a block and syncs it, again and again; a context manager.

    `worst_seconds` is the longest that took within the last second: what any program waits for a turn
    on the processor and for the disk.
    """

    def __init__(self, directory: Path) -> None:
        self._file = directory / "yardstick"
        self._stop = Event()
        self._taken: deque[tuple[float, float]] = deque(maxlen=100)
        self._thread = Thread(target=self._measure, name="yardstick", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def worst_seconds(self) -> float:
        now = time.monotonic()
        return max((took for at, took in list(self._taken) if now - at <= 1.0), default=0.0)

    def _measure(self) -> None:
        descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            before = time.monotonic()
            while not self._stop.wait(_PAUSE_SECONDS):
                os.pwrite(descriptor, bytes(4096), 0)
                os.fdatasync(descriptor)
                now = time.monotonic()
                self._taken.append((now, now - before - _PAUSE_SECONDS))
                before = now
        finally:
            os.close(descriptor)
