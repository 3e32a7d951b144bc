"""How a sink is doing, judged by the results of its calls. Pure: time and chance are passed in.

One failure says little. Many in a row, or some over a second, say that the sink fails as a whole: then it
is called one call at a time, with pauses that grow, until one call is answered. As long as only one event
has failed, it alone waits; others are tried at once, for they tell whether the event or the sink is ill.
A receiver that says for how long it wants peace gets it from all events, and one call then tells whether it
was long enough.
"""

from __future__ import annotations

from random import Random

from zoomrelay.backoff import full_jitter
from zoomrelay.errors import SinkError, SinkRejected, SinkUnavailable

MAX_PAUSE_SECONDS = 15.0
"""Between two calls of a sink that is down: so soon after its return it is noticed."""
MAX_PAUSE_MISCONFIGURED_SECONDS = 60.0
"""Between two calls of a sink that answers no to everything: somebody must act first."""
MAX_RETRY_AFTER_SECONDS = 3600.0
"""The longest wait that a receiver may ask for."""
_PAUSE_BASE_SECONDS = 0.5
_FAILING_SECONDS = 1.0
_FAILING_FAILURES = 3
_SLOW_DOWN = frozenset({429, 503})
"""Answers whose `Retry-After` speaks of the receiver, not of the event."""


class Health:
    """One per sink. Times are loop time, in seconds."""

    def __init__(self, random: Random, *, patience: int) -> None:
        """After `patience` failures in a row the sink counts as failing. 1 is for sinks that take
        everything in one stream: there each failure speaks of the sink."""
        self.random = random
        self.ok = True
        self.misconfigured = False
        """It answers, and takes nothing."""
        self.last_error = ""
        """Why the latest call failed; empty once the sink has recovered."""
        self.successes = 0
        """Calls that the sink took."""
        self.paused_until = 0.0
        """No call before this moment."""
        self.probing = False
        """One call at a time: until one is answered it is not known whether the sink takes any."""
        self.ill_at = float("-inf")
        """When a failure said at the latest that it fails as a whole, and not at one event."""
        self._asked_until = 0.0
        self._patience = patience
        self._failures = 0
        self._failed_events = 0
        self._failing_since = 0.0
        self._pauses = 0
        self._paused_at = float("-inf")
        self._healthy_seconds = 0.0
        self._turned_at = 0.0

    def healthy_seconds(self, now: float) -> float:
        """For how long it has been healthy, up to a constant: only differences mean something."""
        return self._healthy_seconds + (now - self._turned_at if self.ok else 0.0)

    def succeeded(self, now: float) -> float | None:
        """A call was taken. On a recovery, for how many seconds the sink had failed."""
        self.successes += 1
        return self.answered(now)

    def answered(self, now: float) -> float | None:
        """The sink is there, whatever it said: an answer that the configuration expects
        (`dead_letter_on`). Returns what `succeeded` does."""
        self._failures = self._failed_events = self._pauses = 0
        # What was under way when it asked for peace does not break that.
        self.paused_until = self._asked_until
        self.probing = now < self._asked_until
        if self.ok:
            return None
        self.ok, self.misconfigured, self.last_error = True, False, ""
        self._turned_at = now
        return now - self._failing_since

    def failed(
        self, error: SinkError, now: float, *, started: float, first: bool, whole: bool = False
    ) -> bool:
        """A call that began at `started` failed; `first`: the first failure of its event, `whole`: it
        speaks of the sink in any case. True where that is news: the sink counts as failing from now on,
        or looks misconfigured from now on."""
        whole = whole or self._patience == 1
        self.last_error = error.reason
        self._count(now, first=first)
        news = self._judge(error, now, whole=whole)
        if not self.ok and (whole or not self.one_event):
            self.ill_at = now
        self._obey(error, now)
        # Calls that were under way when the pause began tell nothing new.
        if not self.ok and started > self._paused_at and (whole or not self.one_event):
            self._pause(now)
        return news

    @property
    def one_event(self) -> bool:
        """Whether at most one event has failed since the last success: that may be to blame itself."""
        return self._failed_events <= 1

    def _count(self, now: float, *, first: bool) -> None:
        if self._failures == 0 and self.ok:
            self._failing_since = now
        self._failures += 1
        self._failed_events += first

    def _judge(self, error: SinkError, now: float, *, whole: bool) -> bool:
        turned = self.ok and (whole or self._is_failing(now))
        if turned:
            self._healthy_seconds = self.healthy_seconds(now)
            self.ok, self.probing = False, True
        refused = not self.ok and isinstance(error, SinkRejected)
        news = turned or (refused and not self.misconfigured)
        self.misconfigured |= refused
        return news

    def _is_failing(self, now: float) -> bool:
        lasting = self._failures >= _FAILING_FAILURES and now - self._failing_since >= _FAILING_SECONDS
        return lasting or self._failures >= self._patience

    def _obey(self, error: SinkError, now: float) -> None:
        asked = asked_seconds(error)
        if asked and (error.status in _SLOW_DOWN or not self.ok):
            self._asked_until = max(self._asked_until, now + asked)
            self.paused_until = max(self.paused_until, self._asked_until)
            self.probing = True

    def _pause(self, now: float) -> None:
        self._pauses += 1
        self._paused_at = now
        cap = MAX_PAUSE_MISCONFIGURED_SECONDS if self.misconfigured else MAX_PAUSE_SECONDS
        pause = full_jitter(self._pauses, base=_PAUSE_BASE_SECONDS, cap=cap, random=self.random)
        self.paused_until = max(self.paused_until, now + pause)


def asked_seconds(error: SinkError) -> float:
    """For how long the receiver asked us to wait (`Retry-After`), within reason; 0 if it did not."""
    asked = error.retry_after if isinstance(error, SinkUnavailable) else None
    return min(max(asked or 0.0, 0.0), MAX_RETRY_AFTER_SECONDS)
