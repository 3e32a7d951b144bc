"""Wall clock and elapsed time, passed in wherever they are needed.

Timers run on the event loop. What is here is for stamps that leave the process (`wall`) and for ages
that must survive a suspended machine or a stepped clock (`elapsed`).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    """Where the time comes from."""

    def wall(self) -> float:
        """Seconds since the epoch. May jump in either direction."""
        ...

    def elapsed(self) -> float:
        """Seconds since some fixed moment of this boot. Never jumps back; counts suspended time."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def wall(self) -> float:
        return time.time()

    def elapsed(self) -> float:
        return time.clock_gettime(_ELAPSED)


_ELAPSED = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boot_id() -> str:
    """Names this boot of the machine, to which `elapsed` belongs; empty where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
