"""What a failure means: for the event, and for the sink. Pure: time and chance are passed in.

A receiver that answers no to one event while it takes others speaks of that event; one that takes nothing
speaks of itself. So a sink that fails as a whole is slowed down and nothing is thrown away, and clocks
that would give up an event run only while its sink is otherwise healthy.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from zoomrelay.backoff import full_jitter
from zoomrelay.delivery.lanes import Lane
from zoomrelay.errors import SinkError, SinkRejected, SinkUnavailable

TRIES_WHEN_REJECTED = 3
"""After so many refusals an event is dead, if others were taken meanwhile."""
_EVENT_DELAY = {"base": 0.2, "cap": 60.0}
_SINK_DELAY = {"base": 0.5, "cap": 60.0}
_MAX_RETRY_AFTER_SECONDS = 3600.0
_FAILING_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Retry:
    """Try the same again."""

    after_seconds: float


@dataclass(frozen=True, slots=True)
class Dead:
    """Give this event up."""

    reason: str


class Health:
    """How a sink is doing, judged by the results of its calls."""

    def __init__(self, concurrency: int, random: Random) -> None:
        self._patience = max(8, 2 * concurrency)
        self.random = random
        self.successes = 0
        self.failures = 0
        """In a row."""
        self.ok = True
        self.misconfigured = False
        """It answers, and takes nothing."""
        self.last_error = ""
        self.paused_until = 0.0
        """No call before this loop time; one at a time while not `ok`."""
        self._failing_since: float | None = None
        self._pauses = 0
        self._healthy_seconds = 0.0
        self._healthy_since: float | None = 0.0

    def healthy_seconds(self, now: float) -> float:
        """For how long it has been healthy so far."""
        return self._healthy_seconds + (now - self._healthy_since if self._healthy_since is not None else 0.0)

    def succeeded(self, now: float) -> bool:
        """Note a success; whether this is a recovery."""
        self.successes += 1
        self.failures = 0
        self._failing_since = None
        if self.ok:
            return False
        self.ok, self.misconfigured, self.paused_until, self._pauses = True, False, 0.0, 0
        self._healthy_since = now
        return True

    def failed(self, error: SinkError, now: float) -> bool:
        """Note a failure; whether the sink counts as failing from now on."""
        self.failures += 1
        self.last_error = error.reason
        if self._failing_since is None:
            self._failing_since = now
        asked = getattr(error, "retry_after", None)
        if asked is not None:
            self.paused_until = max(self.paused_until, now + min(asked, _MAX_RETRY_AFTER_SECONDS))
        turned = self.ok and self._is_failing(now)
        if turned:
            self.ok = False
            self._healthy_seconds = self.healthy_seconds(now)
            self._healthy_since = None
        if not self.ok:
            self._pauses += 1
            delay = full_jitter(self._pauses, random=self.random, **_SINK_DELAY)
            self.paused_until = max(self.paused_until, now + delay)
            self.misconfigured = isinstance(error, SinkRejected)
        return turned

    def _is_failing(self, now: float) -> bool:
        since = now if self._failing_since is None else self._failing_since
        return self.failures >= self._patience or (self.failures >= 3 and now - since >= _FAILING_SECONDS)


def decide(lane: Lane, error: SinkError, health: Health, give_up_after: float, now: float) -> Retry | Dead:
    """What becomes of the head of a lane after its latest failure; `health` has been told of it."""
    if isinstance(error, SinkRejected):
        others_succeeded = health.successes > lane.successes_at_failure
        if error.final or (lane.attempts >= TRIES_WHEN_REJECTED and others_succeeded):
            return Dead(error.reason)
    elif waited(lane, health, now) >= give_up_after:
        return Dead(f"gave up: {error.reason}")
    return Retry(_delay(lane, error, health))


def waited(lane: Lane, health: Health, now: float) -> float:
    """For how long the head has waited while its sink was healthy."""
    return lane.waited_seconds + health.healthy_seconds(now) - lane.healthy_at_failure


def _delay(lane: Lane, error: SinkError, health: Health) -> float:
    delay = full_jitter(lane.attempts, random=health.random, **_EVENT_DELAY)
    if isinstance(error, SinkUnavailable) and error.retry_after is not None:
        delay = max(delay, min(error.retry_after, _MAX_RETRY_AFTER_SECONDS))
    return delay
