"""How many strangers are heard. Pure."""

from __future__ import annotations


class Budget:
    """So many at once at most, and so many per second. Times are of any steady clock."""

    def __init__(self, per_second: float, at_once: int, now: float) -> None:
        self._per_second = per_second
        self._at_once = at_once
        self._left = float(at_once)
        self._since = now

    def take(self, now: float) -> bool:
        """One more, if there is one left."""
        self._left = min(self._at_once, self._left + (now - self._since) * self._per_second)
        self._since = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def give_back(self) -> None:
        """It was none of those that are to be bounded."""
        self._left = min(self._at_once, self._left + 1)

    def seconds_until_next(self) -> float:
        """After a `take` that found none."""
        return max(0.0, 1 - self._left) / self._per_second
