"""Which gaps a twin really covered. Pure.

When a gap ends, its twins are those that seemed to be listening. That one of them was deaf just then may
show only later; its own gap reaches back to that time. So the truth is found when the ledger is read.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

import msgspec

from zoomrelay.intake.gaps import Gap


def corrected(gaps: Sequence[Gap]) -> list[Gap]:
    """The same entries, `covered_by` without the subscriptions that missed a part of the interval too."""
    intervals: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for gap in gaps:
        if gap.subscription:
            intervals.setdefault((gap.source, gap.subscription), []).append((gap.from_ms, _end(gap)))
    missed = {path: _Missed(of_it) for path, of_it in intervals.items()}
    return [_corrected(gap, missed) if gap.covered_by else gap for gap in gaps]


class _Missed:
    """Intervals of one path; whether any of them overlaps another one."""

    def __init__(self, intervals: Iterable[tuple[int, float]]) -> None:
        ordered = sorted(intervals)
        self._starts = [start for start, _ in ordered]
        self._latest_ends = list(accumulate((end for _, end in ordered), max))

    def overlaps(self, start: float, end: float) -> bool:
        begun = bisect_left(self._starts, end)
        return begun > 0 and self._latest_ends[begun - 1] > start


_NOTHING = _Missed([])


def _corrected(gap: Gap, missed: dict[tuple[str, str], _Missed]) -> Gap:
    heard = tuple(
        twin
        for twin in gap.covered_by
        if not missed.get((gap.source, twin), _NOTHING).overlaps(gap.from_ms, _end(gap))
    )
    return msgspec.structs.replace(gap, covered_by=heard)


def _end(gap: Gap) -> float:
    return float("inf") if gap.to_ms is None else gap.to_ms
