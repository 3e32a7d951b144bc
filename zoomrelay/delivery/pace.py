"""How many events a second a sink is given at most. Pure: the time is passed in."""

from __future__ import annotations

BURST_SECONDS = 0.05
"""What was not used for so long may be caught up: timers come late."""


class Pace:
    """`free_at` is when the next call may begin; times are loop time, in seconds."""

    def __init__(self, events_per_second: float) -> None:
        """0 is no bound."""
        self._seconds_per_event = 1.0 / events_per_second if events_per_second else 0.0
        self.free_at = float("-inf")

    def called(self, events: int, now: float) -> None:
        """A call with so many events begins."""
        if self._seconds_per_event:
            self.free_at = max(self.free_at, now - BURST_SECONDS) + events * self._seconds_per_event
