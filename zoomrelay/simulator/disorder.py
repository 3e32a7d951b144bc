"""Duplicates, late and swapped events, rubbish in between: what faults do to a stream. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

from zoomrelay.simulator.faults import Faults
from zoomrelay.simulator.rubbish import in_pieces, rubbish
from zoomrelay.simulator.wire import Frame

_PIECES = 5
_SWAP_PATIENCE_SECONDS = 1.0
"""An event that waits for the next one to change places with goes alone after this."""


class Disorder:
    """Passes frames on, or does to them what `faults` says at that moment. Loses none."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._count = 0
        self._rubbish = 0
        self._swapped: Frame | None = None
        self._swapped_at = 0.0
        self._late: list[tuple[float, int, Frame]] = []

    @property
    def holding(self) -> int:
        """How many frames are held back."""
        return len(self._late) + (self._swapped is not None)

    def due(self, now: float) -> list[Frame]:
        """Frames held back whose time has come; call it now and then while `holding`."""
        ready: list[Frame] = []
        if self._swapped is not None and now >= self._swapped_at + _SWAP_PATIENCE_SECONDS:
            ready.append(self._swapped)
            self._swapped = None
        while self._late and self._late[0][0] <= now:
            ready.append(heapq.heappop(self._late)[2])
        return ready

    def apply(self, frames: Sequence[Frame], now: float) -> Sequence[Frame]:
        """What goes onto the wire for `frames` at `now` (seconds on any steady clock)."""
        faults = self._faults
        if self._swapped is None and not (
            faults.rubbish_every
            or faults.fragment_every
            or faults.duplicate_every
            or faults.reorder_every
            or faults.late_every
        ):
            self._count += len(frames)
            return frames
        return [out for frame in frames for out in self._one(frame, now)]

    def _one(self, frame: Frame, now: float) -> Iterator[Frame]:
        faults = self._faults
        self._count += 1
        if self._hits(faults.late_every):
            heapq.heappush(self._late, (now + faults.late_seconds, self._count, frame))
            return
        if self._hits(faults.fragment_every):
            frame = in_pieces(frame, _PIECES)
        if self._swapped is None and self._hits(faults.reorder_every):
            self._swapped, self._swapped_at = frame, now
            return
        yield frame
        if self._hits(faults.duplicate_every):
            yield frame
        if self._swapped is not None:
            yield self._swapped
            self._swapped = None
        if self._hits(faults.rubbish_every):
            yield self._next_rubbish()

    def _hits(self, every: int) -> bool:
        return every > 0 and self._count % every == 0

    def _next_rubbish(self) -> Frame:
        self._rubbish += 1
        return rubbish(self._faults.rubbish_kind, self._rubbish)
