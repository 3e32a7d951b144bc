"""One token per source, always at hand, shared by all who need it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

import structlog

from zoomrelay.auth.endpoint import Endpoint
from zoomrelay.auth.grants import Grants, Verdict
from zoomrelay.auth.schedule import Schedule
from zoomrelay.auth.token import Instant, Token
from zoomrelay.clock import Clock
from zoomrelay.config.models import SourceConfig
from zoomrelay.errors import TokenError, TokenRefused, TokenUnavailable
from zoomrelay.telemetry.metrics import Metrics

log = structlog.get_logger()


class TokenManager:
    """Gets tokens, renews them in the background, and hears complaints about them.

    A token stays in use while its successor is asked for, and to the end of its life where none can be
    had: trouble at the token endpoint touches nobody who needs no new token. `get` works without `run`;
    `run` is what keeps the token fresh.
    """

    def __init__(
        self,
        source: SourceConfig,
        endpoint: Endpoint,
        clock: Clock,
        random: Random,
        metrics: Metrics,
        *,
        protect: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`protect` is told every token's value before anybody else sees it, for redaction."""
        self._name = source.name
        self._endpoint = endpoint
        self._clock = clock
        self._metrics = metrics
        self._protect = protect
        self._grants = Grants(source)
        self._schedule = Schedule(random)
        self._token: Token | None = None
        self._failure: TokenError | None = None
        self._flight: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    # --- for those who need a token -----------------------------------------------------------------

    async def get(self, min_life_seconds: float = 600.0) -> Token:
        """A token with at least `min_life_seconds` left (less, where tokens are short-lived or a new one
        cannot be had).

        However many ask, one request is made. Where none can be made yet, or it fails, this raises
        `TokenUnavailable` or `TokenRefused` without waiting for the next; its `retry_after` is the
        seconds until that.
        """
        if not self._serves(min_life_seconds):
            await self._renew()
        token = self._token
        if token is not None and token.life_left(self._now()) > 0:
            return token
        raise self._no_token()

    def invalidate(self, token: Token) -> None:
        """Somebody found this token refused: forget it. Ignored if it is not the current one."""
        if token is self._token:
            self._set(None)

    def refused(self, token: Token) -> bool:
        """A socket refused this token. True: try again at once, there is a newer token or another grant
        to be tried; False: all was tried, wait for minutes."""
        if token is not self._token:
            # A stale complaint: another has complained already, what that led to holds for all.
            return self._token is not None or not self._grants.exhausted
        self.invalidate(token)
        verdict = self._grants.refused()
        log.warning(
            "auth.token_refused_by_socket",
            source=self._name,
            grant=token.grant,
            age_seconds=round(self._now().since(token.issued)),
            next=verdict.value,
            next_grant=self._grants.current,
            cure=_CURE if verdict is Verdict.EXHAUSTED else None,
        )
        return verdict is not Verdict.EXHAUSTED

    def accepted(self, token: Token) -> None:
        """A socket accepted this token, and so its grant."""
        if self._grants.accepted(token.grant):
            log.info("auth.grant_worked", source=self._name, grant=token.grant)

    # --- the background -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep the token fresh until cancelled."""
        try:
            while True:
                now = self._now()
                due_seconds = self._schedule.due_seconds(self._token, now)
                self._publish(now)
                if due_seconds <= 0:
                    await self._renew()
                else:
                    await self._sleep(due_seconds, now)
        finally:
            await self.close()

    async def close(self) -> None:
        """End a request that is under way."""
        if self._flight is not None:
            self._flight.cancel()
            await asyncio.wait([self._flight])

    async def _sleep(self, due_seconds: float, now: Instant) -> None:
        """Until then, or the token's end, or something changes."""
        left = self._token.life_left(now) if self._token is not None else 0.0
        self._changed.clear()
        try:
            async with asyncio.timeout(min(due_seconds, left) if left > 0 else due_seconds):
                await self._changed.wait()
        except TimeoutError:
            pass

    # --- one request at a time ----------------------------------------------------------------------

    async def _renew(self) -> None:
        """Join the request that is under way, or start one if that is allowed now. Never raises a
        `TokenError`: what came of it is in `_token` and `_failure`."""
        if self._flight is None and self._schedule.wait_seconds(self._now()) <= 0:
            self._flight = asyncio.create_task(self._request(), name=f"auth.request:{self._name}")
        if (flight := self._flight) is not None:
            # `wait` and not `await`: who stops waiting does not take the token away from the others.
            await asyncio.wait([flight])
            if not flight.cancelled():
                flight.result()

    async def _request(self) -> None:
        try:
            await asyncio.sleep(self._schedule.spacing_seconds(self._now()))
            self._schedule.asked(self._now())
            self._issued(await self._endpoint.request(self._grants.current))
        except TokenError as error:
            self._failed(error)
        finally:
            self._flight = None
            self._changed.set()

    def _issued(self, token: Token) -> None:
        self._protect(token.value)
        self._failure = None
        self._schedule.succeeded()
        self._set(token)
        self._count("issued")
        log.info(
            "auth.token_issued",
            source=self._name,
            grant=token.grant,
            life_seconds=round(token.life_seconds),
            scopes=len(token.scopes),
        )

    def _failed(self, error: TokenError) -> None:
        wait_seconds = self._schedule.failed(error, self._now())
        news = self._failure is None or self._failure.reason != error.reason
        self._failure = error
        refused = isinstance(error, TokenRefused)
        self._count("refused" if refused else "unavailable")
        if news:
            say = log.error if refused else log.warning
            say(
                "auth.credentials_refused" if refused else "auth.endpoint_unavailable",
                source=self._name,
                reason=error.reason,
                error=str(error),
                cure=error.cure or None,
                retry_seconds=round(wait_seconds, 1),
                token_left_seconds=self._left_seconds(),
            )

    # --- small things -------------------------------------------------------------------------------

    def _now(self) -> Instant:
        return Instant(asyncio.get_running_loop().time(), self._clock.elapsed())

    def _serves(self, min_life_seconds: float) -> bool:
        """Whether the token has that life left; of a short-lived one, a quarter of its life will do."""
        token = self._token
        return token is not None and (
            token.life_left(self._now()) >= min(min_life_seconds, token.life_seconds / 4)
        )

    def _no_token(self) -> TokenError:
        """The last failure, said anew with the time that is left to wait."""
        wait_seconds = self._schedule.wait_seconds(self._now())
        last = self._failure
        if last is None:
            return TokenUnavailable("there is no token yet", reason="none", retry_after=wait_seconds)
        error = type(last)(str(last), reason=last.reason, cure=last.cure, retry_after=wait_seconds)
        error.__cause__ = last.__cause__
        return error

    def _set(self, token: Token | None) -> None:
        self._token = token
        if token is not None:
            ends = self._clock.wall() + token.life_left(self._now())
            self._metrics.token_expires.labels(self._name).set(ends)
        self._publish(self._now())
        self._changed.set()

    def _publish(self, now: Instant) -> None:
        usable = self._token is not None and self._token.life_left(now) > 0
        self._metrics.token_usable.labels(self._name).set(usable)

    def _left_seconds(self) -> int:
        return max(0, round(self._token.life_left(self._now()))) if self._token is not None else 0

    def _count(self, result: str) -> None:
        self._metrics.token_requests.labels(self._name, result).inc()


_CURE = (
    "Zoom's socket refuses fresh tokens of this app: check that the subscription belongs to it, that it is"
    " activated and has its WebSocket scopes, and that no other program uses the same app"
)
