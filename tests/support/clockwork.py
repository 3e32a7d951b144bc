"""Runs zoomrelay with clocks that a test sets: the machine's own are left alone.

    ZOOMRELAY_TEST_CLOCK=FILE  python -m tests.support.clockwork run --config …

FILE holds two numbers, seconds by which the wall clock is wrong and by which the machine was suspended.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from zoomrelay import cli
from zoomrelay.clock import SystemClock

VARIABLE = "ZOOMRELAY_TEST_CLOCK"
MODULE = ("-m", "tests.support.clockwork", "run")


class Clockwork:
    """The other end: what the test turns."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set()

    @property
    def environ(self) -> dict[str, str]:
        return {VARIABLE: str(self._file)}

    def set(self, *, wrong_seconds: float = 0.0, suspended_seconds: float = 0.0) -> None:
        """From now on. A suspended machine's wall clock has gone on, so this adds to both."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{wrong_seconds + suspended_seconds} {suspended_seconds}")
        fresh.rename(self._file)  # never read half


def main() -> None:
    file = Path(os.environ[VARIABLE])
    elapsed = SystemClock.elapsed

    def offsets() -> tuple[float, float]:
        wrong, suspended = file.read_text().split()
        return float(wrong), float(suspended)

    SystemClock.wall = lambda _self: time.time() + offsets()[0]  # type: ignore[method-assign]
    SystemClock.elapsed = lambda self: elapsed(self) + offsets()[1]  # type: ignore[method-assign]
    cli.main()


if __name__ == "__main__":
    main()
