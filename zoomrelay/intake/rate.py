"""How many events come per second, as a weighted mean of the last minutes. Pure."""

from __future__ import annotations

import math

MEAN_SECONDS = 120.0
"""What came so long ago weighs e times less than what comes now."""
_LEAST_SPAN = 0.9
"""About a second: what came within less of it tells nothing."""


class Rate:
    """A mean whose weights fade with time. In the beginning it is the plain mean of what there was."""

    def __init__(self, per_second: float | None = None) -> None:
        """`per_second`: what was known before, if anything; it fades like the rest."""
        self._span = 0.0 if per_second is None else MEAN_SECONDS
        self._events = self._span * (per_second or 0.0)

    def note(self, events: int, seconds: float) -> None:
        """So many events came in the last so many seconds."""
        if seconds <= 0:
            return
        fade = math.exp(-seconds / MEAN_SECONDS)
        weight = MEAN_SECONDS * (1 - fade)
        self._span = self._span * fade + weight
        self._events = self._events * fade + weight * events / seconds

    @property
    def per_second(self) -> float | None:
        """None while less than about a second was noted."""
        return self._events / self._span if self._span >= _LEAST_SPAN else None
