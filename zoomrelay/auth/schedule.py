"""When the token endpoint may and must be asked. Pure."""

from __future__ import annotations

from random import Random

from zoomrelay.auth.token import Instant, Token
from zoomrelay.backoff import full_jitter
from zoomrelay.errors import TokenError

MIN_INTERVAL_SECONDS = 1.0
"""Between two requests, whatever anybody says. Zoom documents no limit."""
TRANSIENT_CAP_SECONDS = 120.0
PERMANENT_FLOOR_SECONDS = 60.0
PERMANENT_CAP_SECONDS = 300.0
RETRY_AFTER_CAP_SECONDS = 3600.0
"""A date in `Retry-After` is only as good as two clocks; no answer silences us for longer."""


class Schedule:
    """Remembers requests and failures; says how long to wait."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._asked: Instant | None = None
        self._failures = 0
        self._failed: Instant | None = None
        self._wait_seconds = 0.0
        self._refresh_at_life = 0.75

    def due_seconds(self, token: Token | None, now: Instant) -> float:
        """Seconds until a request is due: at about 75 % of the token's life, at once without a token,
        after a failure when its wait is over."""
        due = 0.0
        if token is not None:
            due = self._refresh_at_life * token.life_seconds - now.since(token.issued)
        return max(due, self.wait_seconds(now))

    def wait_seconds(self, now: Instant) -> float:
        """Seconds for which the last failure forbids a request; not positive if it does not."""
        return self._wait_seconds - now.since(self._failed) if self._failed is not None else 0.0

    def spacing_seconds(self, now: Instant) -> float:
        """Seconds by which a request must be put off to keep its distance from the one before."""
        return max(0.0, MIN_INTERVAL_SECONDS - now.since(self._asked)) if self._asked is not None else 0.0

    def asked(self, now: Instant) -> None:
        self._asked = now

    def succeeded(self) -> None:
        # Drawn once per token, so that relays started together do not ask together for ever.
        self._refresh_at_life = self._random.uniform(0.7, 0.8)
        self._failures, self._failed = 0, None

    @property
    def failures(self) -> int:
        """In a row."""
        return self._failures

    def resume(self, failures: int, left_seconds: float, now: Instant) -> None:
        """Another process, or an earlier one, has failed: its wait is ours."""
        self._failures = max(self._failures, failures)
        self._failed, self._wait_seconds = now, left_seconds

    def forget(self) -> None:
        """What was in the way may be gone."""
        self._failures, self._failed = 0, None

    def failed(self, error: TokenError, now: Instant) -> float:
        """Note a failure; the seconds to wait after it."""
        self._failures += 1
        self._failed = now
        asked_for = min(error.retry_after or 0.0, RETRY_AFTER_CAP_SECONDS)
        self._wait_seconds = max(self._backoff_seconds(error), asked_for)
        return self._wait_seconds

    def _backoff_seconds(self, error: TokenError) -> float:
        if error.retryable:
            return full_jitter(self._failures, base=1.0, cap=TRANSIENT_CAP_SECONDS, random=self._random)
        ceiling = min(PERMANENT_CAP_SECONDS, 2 * PERMANENT_FLOOR_SECONDS * self._failures)
        return self._random.uniform(PERMANENT_FLOOR_SECONDS, ceiling)
