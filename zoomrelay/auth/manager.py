"""One token per source, always at hand, shared by all who need it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from random import Random

import structlog

from zoomrelay import causes
from zoomrelay.auth.announce import Announcer
from zoomrelay.auth.cache import Cache
from zoomrelay.auth.endpoint import Endpoint
from zoomrelay.auth.failures import Failures, Timekeeper
from zoomrelay.auth.grants import Grants, Verdict
from zoomrelay.auth.record import Record
from zoomrelay.auth.rotation import Rotation
from zoomrelay.auth.stores.base import TokenStore
from zoomrelay.auth.stores.memory import MemoryStore
from zoomrelay.auth.token import SHARE, Instant, Token
from zoomrelay.clock import Clock
from zoomrelay.config.models import SourceConfig
from zoomrelay.errors import TokenError, TokenUnavailable
from zoomrelay.telemetry.metrics import Metrics

log = structlog.get_logger()

WATCH_SECONDS = 5.0
"""Between two looks at the store while there is no token: somebody may log in, or get one."""
LOOK_AT_LEAST_SECONDS = 3600.0
STOP_SECONDS = 5.0
"""How long a stop waits for a refresh token that is being renewed: cutting it off could lose it."""
_REFUSED_KEPT = 16


class TokenManager:
    """Gets tokens, renews them in the background, and hears complaints about them.

    A token stays in use while its successor is asked for, and to the end of its life where none can be
    had: trouble at the token endpoint touches nobody who needs no new token. `get` works without `run`;
    `run` is what keeps the token fresh.

    Managers with the same store, in whatever processes, share one token: each asks only under the
    store's lock, and adopts what it finds there instead of asking.
    """

    def __init__(
        self,
        source: SourceConfig,
        endpoint: Endpoint,
        clock: Clock,
        random: Random,
        metrics: Metrics,
        *,
        store: TokenStore | None = None,
        protect: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`protect` is told every token's value before anybody else sees it, for redaction."""
        self._name = source.name
        self._endpoint = endpoint
        self._time = Timekeeper(clock)
        self._protect = protect
        self._rotates = source.grant == "authorization_code"
        self._grants = Grants(source)
        self._announcer = Announcer(source.name, metrics)
        self._failures = Failures(random, endpoint, self._announcer, self._time)
        self._schedule = self._failures.schedule
        self._cache = Cache(store or MemoryStore(), source.name, strict=self._rotates)
        self._rotation = Rotation(source.name, endpoint, self._announcer)
        self._token: Token | None = None
        self._refused: list[str] = []
        """Values that somebody found refused, the last few."""
        self._flight: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    # --- for those who need a token -----------------------------------------------------------------

    async def get(self, min_life_seconds: float = 600.0, *, share: float = SHARE) -> Token:
        """A token with at least `min_life_seconds` left (less, where a new one cannot be had; of a
        short-lived token, this `share` of its life will do).

        However many ask, one request is made. Where none can be made yet, or it fails, this raises
        `TokenUnavailable` or `TokenRefused` without waiting for the next; its `retry_after` is the
        seconds until that.
        """
        await self._look()
        if not self._serves(min_life_seconds, share):
            await self._renew()
        token = self._token
        if token is not None and token.life_left(self._time.now()) > 0:
            return token
        raise self._failures.said_anew()

    def invalidate(self, token: Token) -> None:
        """Somebody found this token refused: forget it. Ignored if it is not the current one."""
        if token is self._token:
            self._refused = [*self._refused, token.value][-_REFUSED_KEPT:]
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
            age_seconds=round(self._time.now().since(token.issued)),
            next=verdict.value,
            next_grant=self._grants.current,
            cure=causes.FRESH_REFUSED.cure if verdict is Verdict.EXHAUSTED else None,
        )
        return verdict is not Verdict.EXHAUSTED

    def accepted(self, token: Token) -> None:
        """A socket accepted this token, and so its grant."""
        if self._grants.accepted(token.grant):
            log.info("auth.grant_worked", source=self._name, grant=token.grant)

    async def rejected(self, value: str) -> bool:
        """Zoom refused this token. True if it was the current one; then it is forgotten, here and in the
        store, and the next `get` asks anew. Raises `TokenUnavailable` where the store must be written and
        cannot."""
        await self._look()
        token = self._token
        if token is None or token.value != value:
            return False
        self.invalidate(token)
        async with self._cache.exclusively():
            record = self._cache.record
            if record.access is not None and record.access.value == value:
                await self._cache.save(record.without_access())
        return True

    # --- by hand ------------------------------------------------------------------------------------

    async def forget(self, *, everything: bool = False) -> None:
        """Drop the access token and the memory of failures; with `everything` the refresh token too.
        Raises `TokenUnavailable` where the store must be written and cannot."""
        async with self._cache.exclusively():
            await self._cache.save(self._cache.record.forgotten(everything=everything))
        self._failures.forget()
        self._set(None)

    async def revoke(self) -> None:
        """Make Zoom forget the current tokens, then `forget` everything. Raises `TokenError`."""
        await self._look()
        record = self._cache.record
        for held in (record.refresh, record.access):
            if held is not None:
                await self._endpoint.revoke(held.value)
        await self.forget(everything=True)

    async def redeem(self, code: str, *, verifier: str, redirect_uri: str) -> Token:
        """Trade an authorization code for tokens, which are durable on return. Raises `TokenError`; the
        code is not used up where they could not be kept."""
        form = {"code": code, "redirect_uri": redirect_uri, "code_verifier": verifier}
        async with self._cache.exclusively():
            record = self._cache.record
            await self._cache.save(record)  # so that a disk that takes nothing shows before it matters
            token = await self._endpoint.request("authorization_code", form)
            if not token.refresh_token:
                raise TokenUnavailable("Zoom's answer held no refresh token", reason="no_refresh_token")
            self._hide(token)
            await self._cache.save(self._issued_record(record.forgotten(everything=True), token))
        self._failures.forget()
        self._issued(token)
        return token

    def try_now(self) -> None:
        """The endpoint's settings were changed by hand: what the last failure said counts no more."""
        self._failures.schedule.forget()
        self._changed.set()

    @property
    def trouble(self) -> TokenError | None:
        """Why the last try brought no token; None once there is one."""
        return self._failures.last

    @property
    def usable(self) -> bool:
        """There is a token with life left."""
        return self._left_seconds() > 0

    def refresh_token_ends(self) -> float | None:
        """When the refresh token ends, wall-clock seconds; None where there is none, or before the first
        `get`, `redeem` or look at the store."""
        refresh = self._cache.record.refresh
        return None if refresh is None else refresh.ends

    # --- the background -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep the token fresh until cancelled."""
        try:
            while True:
                if not self._serves(0.0):
                    await self._look()
                    self._failures.reconsider()
                now = self._time.now()
                due_seconds = self._schedule.due_seconds(self._token, now)
                self._publish(now)
                if due_seconds <= 0:
                    await self._renew()
                else:
                    await self._sleep(due_seconds, now)
        finally:
            await self.close()

    async def close(self) -> None:
        """End a request that is under way; one that renews a refresh token gets a little time, and what
        could not be kept is tried once more."""
        flight = self._flight
        if flight is not None:
            if self._rotates:
                await asyncio.wait([flight], timeout=STOP_SECONDS)
            flight.cancel()
            await asyncio.wait([flight])
        if not self._cache.usable:
            with suppress(TokenUnavailable):
                async with self._cache.exclusively():
                    pass

    async def _sleep(self, due_seconds: float, now: Instant) -> None:
        """Until then, or the token's end, or something changes, or it is time to look at the store."""
        left = self._token.life_left(now) if self._token is not None else 0.0
        longest = min(left, LOOK_AT_LEAST_SECONDS) if left > 0 else WATCH_SECONDS
        self._changed.clear()
        try:
            # A timer that is due in less than the clock can tell would come too early, for ever.
            async with asyncio.timeout(max(min(due_seconds, longest), 0.01)):
                await self._changed.wait()
        except TimeoutError:
            pass

    # --- one request at a time ----------------------------------------------------------------------

    async def _look(self) -> None:
        """Adopt what others have put into the store."""
        record = await self._cache.look()
        if self._cache.usable:
            self._adopt(record)

    async def _renew(self) -> None:
        """Join the request that is under way, or start one if that is allowed now. Never raises a
        `TokenError`: what came of it is in `_token` and `_failures`."""
        self._failures.reconsider()
        if self._flight is None and self._schedule.wait_seconds(self._time.now()) <= 0:
            self._flight = asyncio.create_task(self._request(self._token), name=f"auth.request:{self._name}")
        if (flight := self._flight) is not None:
            # `wait` and not `await`: who stops waiting does not take the token away from the others.
            await asyncio.wait([flight])
            if not flight.cancelled():
                flight.result()

    async def _request(self, unwanted: Token | None) -> None:
        """Get another token than this."""
        try:
            async with self._cache.exclusively():
                self._adopt(self._cache.record)
                if self._token is not None and self._token is not unwanted and self._serves(float("inf")):
                    return
                if not self._failures.must_rest(self._cache.record, self._token):
                    await self._ask(self._cache.record)
        except TokenError as error:
            self._failures.add(error, self._token)
        finally:
            self._flight = None
            self._changed.set()

    async def _ask(self, record: Record) -> None:
        if self._rotates and record.refresh is None:
            self._failures.add(self._rotation.login_needed(), self._token)
            return
        await asyncio.sleep(self._schedule.spacing_seconds(self._time.now()))
        self._schedule.asked(self._time.now())
        asking = record.asking(self._time.moment(), rotating=self._rotates, refused=self._refused)
        await self._cache.save(asking)
        asked_with = self._endpoint.credentials()
        try:
            token = await self._fetch(record)
        except TokenError as error:
            failure = self._failures.add(error, self._token, asked_with=asked_with)
            await self._cache.save(asking.failed(failure, self._rotation.after(error, record, asking)))
        except asyncio.CancelledError:
            await self._cache.save(asking.withdrawn())
            raise
        else:
            self._hide(token)
            await self._cache.save(self._issued_record(asking, token))
            self._issued(token)

    async def _fetch(self, record: Record) -> Token:
        if self._rotates:
            return await self._rotation.renew(record)
        return await self._endpoint.request(self._grants.current)

    def _issued_record(self, record: Record, token: Token) -> Record:
        return record.issued(token, self._time.moment(), self._time.now().since(token.issued))

    # --- what came of it ----------------------------------------------------------------------------

    def _adopt(self, record: Record) -> None:
        """Use the record's token if it is newer than ours and nobody refused it."""
        if record.refresh is not None:
            self._protect(record.refresh.value)
        found = record.access.revived(self._time.moment(), self._time.now()) if record.access else None
        if found is None or not self._is_better(found):
            return
        self._hide(found)
        self._grants.adopted(found.grant)
        self._use(found)
        self._announcer.adopted(found, found.life_left(self._time.now()))

    def _is_better(self, found: Token) -> bool:
        now, held = self._time.now(), self._token
        return (
            found.value not in self._refused
            and self._grants.serves(found.grant)
            and found.life_left(now) > 0
            and (
                held is None
                or (found.value != held.value and now.since(found.issued) < now.since(held.issued))
            )
        )

    def _issued(self, token: Token) -> None:
        self._use(token)
        self._announcer.issued(token)

    def _use(self, token: Token) -> None:
        self._failures.over()
        self._set(token)

    # --- small things -------------------------------------------------------------------------------

    def _hide(self, token: Token) -> None:
        self._protect(token.value)
        if token.refresh_token:
            self._protect(token.refresh_token)

    def _serves(self, min_life_seconds: float, share: float = SHARE) -> bool:
        return self._token is not None and self._token.serves(self._time.now(), min_life_seconds, share)

    def _set(self, token: Token | None) -> None:
        self._token = token
        if token is not None:
            self._announcer.expires(self._time.wall() + token.life_left(self._time.now()))
        self._publish(self._time.now())
        self._changed.set()

    def _publish(self, now: Instant) -> None:
        self._announcer.usable(self._token is not None and self._token.life_left(now) > 0)
        if (ends := self.refresh_token_ends()) is not None:
            self._announcer.refresh_ends(ends, self._time.wall())

    def _left_seconds(self) -> float:
        return self._token.life_left(self._time.now()) if self._token is not None else 0.0
