"""The manager of tokens, with a Zoom and a clock that a test can turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from random import Random

from prometheus_client import CollectorRegistry

from zoomrelay.auth.manager import TokenManager
from zoomrelay.auth.stores.base import TokenStore
from zoomrelay.auth.stores.memory import MemoryStore
from zoomrelay.auth.token import Instant, Token
from zoomrelay.config.models import SourceConfig
from zoomrelay.errors import TokenError, TokenRefused
from zoomrelay.telemetry.metrics import Metrics


class LoopClock:
    """Both clocks go with the loop's; a test may let the machine sleep, or set the wall clock wrong."""

    def __init__(self) -> None:
        self.slept = 0.0
        self.wrong = 0.0

    def wall(self) -> float:
        return 1_700_000_000 + self.wrong + self.elapsed()

    def elapsed(self) -> float:
        return asyncio.get_running_loop().time() + self.slept


class Died(BaseException):
    """The process was killed here."""


class FakeEndpoint:
    """A Zoom that issues numbered tokens after half a second, or fails while `error` is set.

    Refresh tokens are checked and replaced; what is done with a used one says `old_refresh_works`.
    """

    def __init__(self, clock: LoopClock) -> None:
        self.clock = clock
        self.asked: list[tuple[float, str]] = []
        self.error: TokenError | None = None
        self.after: BaseException | None = None
        """Raised once the request was carried out: the answer is lost."""
        self.life_seconds = 3600.0
        self.secret = "first"
        self.revoked: list[str] = []
        self.refresh_token = ""
        self.refresh_life_seconds: float | None = None
        self.older_refresh_tokens: list[str] = []
        self.old_refresh_works = True

    def credentials(self) -> str:
        return self.secret

    async def revoke(self, value: str) -> None:
        self.revoked.append(value)

    async def request(self, grant: str, form: Mapping[str, str] = {}) -> Token:
        now = asyncio.get_running_loop().time()
        self.asked.append((now, grant))
        number, issued = len(self.asked), Instant(now, self.clock.elapsed())
        await asyncio.sleep(0.5)
        if self.error is not None:
            raise self.error
        if grant == "refresh_token":
            self._check(form["refresh_token"])
        if grant in ("refresh_token", "authorization_code"):
            grant = "authorization_code"
            self.older_refresh_tokens.append(self.refresh_token)
            self.refresh_token = f"refresh-{number}"
        if self.after is not None:
            raise self.after
        refresh = self.refresh_token if grant == "authorization_code" else ""
        return Token(
            f"secret-{number}",
            grant,
            issued,
            self.life_seconds,
            refresh_token=refresh,
            refresh_life_seconds=self.refresh_life_seconds,
        )

    def _check(self, value: str) -> None:
        known = [self.refresh_token, *(self.older_refresh_tokens if self.old_refresh_works else ())]
        if value not in known:
            raise TokenRefused("Zoom refused the credentials", reason="invalid_grant", cure="something else")

    @property
    def times(self) -> list[float]:
        return [at for at, _ in self.asked]

    @property
    def waits(self) -> list[float]:
        return [later - earlier for earlier, later in zip(self.times, self.times[1:], strict=False)]


class House:
    """One manager. `beside` gives another one, as another process would have it."""

    def __init__(
        self,
        *,
        clock: LoopClock | None = None,
        endpoint: FakeEndpoint | None = None,
        store: TokenStore | None = None,
        metrics: Metrics | None = None,
        seed: int = 3,
        **source: object,
    ) -> None:
        self.clock = clock or LoopClock()
        self.endpoint = endpoint or FakeEndpoint(self.clock)
        self.store = store or MemoryStore()
        self.metrics = metrics or Metrics(CollectorRegistry())
        self.protected: list[str] = []
        self._source = source
        fields = {"name": "main", "account_id": "a", "client_id": "c", "client_secret": "s", **source}
        self.manager = TokenManager(
            SourceConfig.model_validate(fields),
            self.endpoint,
            self.clock,
            Random(seed),
            self.metrics,
            store=self.store,
            protect=self.protected.append,
        )

    def beside(self, seed: int = 4, metrics: Metrics | None = None) -> House:
        return House(
            clock=self.clock,
            endpoint=self.endpoint,
            store=self.store,
            metrics=metrics,
            seed=seed,
            **self._source,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.manager.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled(), task.exception()

    def sample(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value("zoomrelay_" + name, {"source": "main", **labels})
