"""How many calls at once a sink makes that has a backlog. Pure.

Sending is mostly work of the event loop's, so a sink that catches up, once its receiver is up again, can take
all of it: then everything else that goes through the loop waits, live events of other sinks among it. So it
makes fewer calls while the loop takes long for a turn, and as many as it may while it does not.
"""

from __future__ import annotations

LONG_SECONDS = 0.0015
"""For a turn of the loop. An event takes a dozen of them from its frame to its receiver."""
BEHIND_SECONDS = 2.0
"""What was received so long ago is a backlog."""
_STEP_BACK = 0.98
_STEP_FORWARD = 0.02
"""For each call: thirty-five in long turns halve it, fifty in short ones add one."""


class Courtesy:
    """The bound for one sink."""

    def __init__(self, concurrency: int) -> None:
        self._most = concurrency
        self._calls = float(concurrency)

    @property
    def calls(self) -> int:
        """At least 1, at most `concurrency`."""
        return int(self._calls)

    def note(self, turn_seconds: float) -> None:
        """The loop took so long for a turn; noted before each call."""
        if turn_seconds > LONG_SECONDS:
            self._calls = max(1.0, self._calls * _STEP_BACK)
        else:
            self._calls = min(self._most, self._calls + _STEP_FORWARD)
