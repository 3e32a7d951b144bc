"""What a process uses, and how it grows."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MB = 1e6
Point = tuple[float, float]


@dataclass(frozen=True)
class Vitals:
    """Of one process at one moment; Linux only."""

    at: float
    """Monotonic clock, seconds."""
    resident_mb: float
    descriptors: int
    threads: int
    cpu_seconds: float
    """Of its whole life, user and system."""


def read(pid: int) -> Vitals:
    """Raises `OSError` where the process has ended."""
    process = Path(f"/proc/{pid}")
    pages = int((process / "statm").read_text().split()[1])
    stat = (process / "stat").read_text().rpartition(") ")[2].split()
    ticks, threads = int(stat[11]) + int(stat[12]), int(stat[17])
    descriptors = len(list((process / "fd").iterdir()))
    return Vitals(
        time.monotonic(),
        pages * resource.getpagesize() / MB,
        descriptors,
        threads,
        ticks / os.sysconf("SC_CLK_TCK"),
    )


def slope(series: Sequence[Sequence[Point]]) -> float | None:
    """Least squares over several series: one slope, and for each its own start. None of too few points."""
    above = below = 0.0
    for points in series:
        mean_x = sum(x for x, _ in points) / max(1, len(points))
        mean_y = sum(y for _, y in points) / max(1, len(points))
        above += sum((x - mean_x) * (y - mean_y) for x, y in points)
        below += sum((x - mean_x) ** 2 for x, _ in points)
    return above / below if below else None
