"""What the last try came to, whoever made it, and when the next may be made."""

from __future__ import annotations

import asyncio
from random import Random

from zoomrelay import causes
from zoomrelay.auth.announce import Announcer
from zoomrelay.auth.endpoint import Endpoint
from zoomrelay.auth.record import Failure, Moment, Record
from zoomrelay.auth.schedule import Schedule
from zoomrelay.auth.token import Instant, Token
from zoomrelay.clock import Clock, boot_id
from zoomrelay.errors import TokenError, TokenUnavailable


class Timekeeper:
    """The present, as this process and as others understand it."""

    def __init__(self, clock: Clock) -> None:
        self.wall = clock.wall
        self._elapsed = clock.elapsed
        self._boot = boot_id()

    def now(self) -> Instant:
        return Instant(asyncio.get_running_loop().time(), self._elapsed())

    def moment(self) -> Moment:
        return Moment(self.wall(), self._elapsed(), self._boot)


class Failures:
    """The schedule of one manager, and the failure that it goes by."""

    def __init__(self, random: Random, endpoint: Endpoint, announcer: Announcer, time: Timekeeper) -> None:
        self.schedule = Schedule(random)
        self.last: TokenError | None = None
        """None once there is a token."""
        self._endpoint = endpoint
        self._announcer = announcer
        self._time = time
        self._credentials = ""
        """Those of the last failure."""

    def over(self) -> None:
        """There is a token."""
        self.last, self._credentials = None, ""
        self.schedule.succeeded()
        self._announcer.works()

    def forget(self) -> None:
        """Somebody did something about it."""
        self.last, self._credentials = None, ""
        self.schedule.forget()

    def reconsider(self) -> None:
        """With other credentials there is no reason to wait."""
        if self._credentials and self._credentials != self._endpoint.credentials():
            self._credentials = ""
            self.schedule.forget()

    def must_rest(self, record: Record, token: Token | None) -> bool:
        """Whether what another process noted forbids asking now; then it is our failure too."""
        moment, failure = self._time.moment(), record.failure
        interrupted_seconds = record.interrupted_wait_seconds(moment)
        if interrupted_seconds > 0:
            self._resume(_INTERRUPTED, 0, interrupted_seconds, token)
            return True
        if failure is None or failure.credentials != self._endpoint.credentials():
            return False
        left_seconds = failure.wait_left_seconds(moment)
        self.schedule.resume(failure.count, left_seconds, self._time.now())
        if left_seconds > 0:
            self._resume(failure.error(), failure.count, left_seconds, token)
        return left_seconds > 0

    def add(self, error: TokenError, token: Token | None, *, asked_with: str = "") -> Failure:
        """Our own try failed; `asked_with`: at Zoom, with these credentials, which may be others by now.
        `token` is the one at hand. As others should know it."""
        wait_seconds = self.schedule.failed(error, self._time.now())
        self._note(error, wait_seconds, token, asked=bool(asked_with))
        self._credentials = asked_with or self._credentials
        return Failure(
            self._time.moment(),
            wait_seconds,
            self.schedule.failures,
            error.reason,
            str(error),
            not error.retryable,
            error.cure,
            self._credentials,
        )

    def said_anew(self) -> TokenError:
        """The last failure, with the time that is left to wait."""
        wait_seconds, last = self.schedule.wait_seconds(self._time.now()), self.last
        if last is None:
            return TokenUnavailable("there is no token yet", reason="none", retry_after=wait_seconds)
        error = type(last)(str(last), reason=last.reason, cure=last.cure, retry_after=wait_seconds)
        error.__cause__ = last.__cause__
        return error

    def _resume(self, error: TokenError, count: int, left_seconds: float, token: Token | None) -> None:
        self.schedule.resume(count, left_seconds, self._time.now())
        self._note(error, left_seconds, token, asked=False)

    def _note(self, error: TokenError, wait_seconds: float, token: Token | None, *, asked: bool) -> None:
        self.last, self._credentials = error, self._endpoint.credentials()
        left_seconds = token.life_left(self._time.now()) if token is not None else 0.0
        self._announcer.failed(error, wait_seconds=wait_seconds, token_left_seconds=left_seconds, asked=asked)


_INTERRUPTED = TokenUnavailable(
    "the last requests for a token were cut off by the end of the process",
    reason="interrupted",
    cure=causes.INTERRUPTED.cure,
)
