"""Until when an event is of use to a sink. Pure: the time is passed in."""

from __future__ import annotations

import math
from collections.abc import Mapping

from zoomrelay.delivery.router import MAX_REMEMBERED, pattern
from zoomrelay.event import GAP_EVENTS, Event


class Deadlines:
    """Globs over event names, each with the seconds after receipt until which an event is of use.

    As in a `Route` they are looked at in order, and the last match wins; 0 is no deadline. For the relay's
    own gap events they do not count. False where there is none.
    """

    def __init__(self, seconds_by_glob: Mapping[str, float] | None = None) -> None:
        self._rules = [
            (pattern(glob), seconds or math.inf) for glob, seconds in (seconds_by_glob or {}).items()
        ]
        self._answers: dict[str, float] = {}

    def __bool__(self) -> bool:
        return self.longest_seconds > 0

    @property
    def longest_seconds(self) -> float:
        """Of those that end; 0 for none."""
        return max([seconds for _, seconds in self._rules if seconds < math.inf], default=0.0)

    def seconds(self, name: str) -> float:
        """Of events of this name; infinite without a deadline."""
        answer = self._answers.get(name)
        if answer is None:
            answer = self._decide(name)
            if len(self._answers) >= MAX_REMEMBERED:
                self._answers.clear()
            self._answers[name] = answer
        return answer

    def has(self, name: str) -> bool:
        return self.seconds(name) < math.inf

    def is_late(self, event: Event, wall: float) -> bool:
        """Whether it is of no use any more. What somebody asked to be sent again is never late."""
        return not event.replayed and wall - event.received_ms / 1000 > self.seconds(event.name)

    def _decide(self, name: str) -> float:
        if name in GAP_EVENTS:
            return math.inf
        matches = [seconds for glob, seconds in self._rules if glob.fullmatch(name)]
        return matches[-1] if matches else math.inf
