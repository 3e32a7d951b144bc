"""How many calls at once a sink makes that has a backlog. Pure.

Sending is mostly work of the event loop's, so a sink that catches up, once its receiver is up again, can take
all of it: then everything else that goes through the loop waits, live events of other sinks among it. So it
makes fewer calls while the loop takes long for a turn, and as many as it may while it does not. But it does
catch up: where its backlog hardly shrinks, the machine is busy without it, and it steps back no further.
"""

from __future__ import annotations

LONG_SECONDS = 0.001
"""For a turn of the loop. An event takes a dozen of them from its frame to its receiver."""
BEHIND_SECONDS = 2.0
"""What was received so long ago is a backlog."""
LOOK_SECONDS = 5.0
"""Between two looks at how old the backlog is, or more."""
LEAST_GAIN = 0.2
"""By so much of the time that passes a backlog must become younger."""
_STEP_BACK = 0.98
_STEP_FORWARD = 0.02
"""For each call: thirty-five in long turns halve it, fifty in short ones add one."""


class Courtesy:
    """The bound for one sink."""

    def __init__(self, concurrency: int) -> None:
        self._most = concurrency
        self._calls = float(concurrency)
        self._looked: tuple[float, float] | None = None
        """When, and how old what was read was."""
        self._gains = True
        self.behind = False
        """What was read last is a backlog; otherwise there is no bound."""

    @property
    def calls(self) -> int:
        """At least 1, at most `concurrency`."""
        return int(self._calls) if self.behind else self._most

    def read(self, age_seconds: float, now: float) -> None:
        """What is sent next had been received so long before `now`, which is any clock's time."""
        self.behind = age_seconds > BEHIND_SECONDS
        if not self.behind:
            self.forget()
            return
        then, age_then = self._looked or (now, age_seconds)
        if self._looked is not None and now - then < LOOK_SECONDS:
            return
        self._gains = now == then or age_then - age_seconds >= LEAST_GAIN * (now - then)
        if not self._gains:
            self._calls = min(self._most, 2 * self._calls)
        self._looked = now, age_seconds

    def forget(self) -> None:
        """Nothing was sent for a while, which says nothing of how fast it goes."""
        self._looked, self._gains = None, True

    def note(self, turn_seconds: float) -> None:
        """The loop took so long for a turn; noted before each call."""
        if turn_seconds <= LONG_SECONDS:
            self._calls = min(self._most, self._calls + _STEP_FORWARD)
        elif self._gains:
            self._calls = max(1.0, self._calls * _STEP_BACK)
