"""The careful owner of a source's tokens, for commands that live for one moment only."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import SystemRandom
from typing import TypeVar

from prometheus_client import CollectorRegistry

from zoomrelay.auth.endpoint import TokenEndpoint
from zoomrelay.auth.manager import TokenManager
from zoomrelay.auth.stores.file import FileStore
from zoomrelay.auth.token import Token
from zoomrelay.clock import SystemClock
from zoomrelay.config.models import Config, LogConfig, SourceConfig
from zoomrelay.telemetry.logs import configure_logging, protect_config, protect_rotating
from zoomrelay.telemetry.metrics import Metrics

_Result = TypeVar("_Result")


class TokenCache:
    """Asks, and changes, what relay and commands share. Every method raises `TokenError` where Zoom or the
    way to it says no, and `TokenStoreError` where the cache cannot be used. The log on standard error holds
    warnings only."""

    def __init__(self, config: Config, source: SourceConfig) -> None:
        configure_logging(LogConfig(level="warning", format=config.log.format))
        protect_config(config)
        self._store = FileStore(config.state_dir, source)
        self._source = source

    def get(self, min_life_seconds: float, share: float, *, rejected: str = "") -> Token:
        """As `TokenManager.get`; a new one where the current one is the `rejected` one."""

        async def ask(tokens: TokenManager) -> Token:
            if rejected:
                await tokens.rejected(rejected)
            return await tokens.get(min_life_seconds, share=share)

        return self._run(ask)

    def forget(self) -> None:
        """Drop the access token."""
        self._run(lambda tokens: tokens.forget())

    def revoke(self) -> None:
        """Make what there is invalid at Zoom, and drop it."""
        self._run(lambda tokens: tokens.revoke())

    def redeem(self, code: str, *, verifier: str, redirect_uri: str) -> float | None:
        """Turn a code into tokens, which are stored on return; wall time at which the refresh token ends."""

        async def ask(tokens: TokenManager) -> float | None:
            await tokens.redeem(code, verifier=verifier, redirect_uri=redirect_uri)
            return tokens.refresh_token_ends()

        return self._run(ask)

    def _run(self, ask: Callable[[TokenManager], Awaitable[_Result]]) -> _Result:
        return asyncio.run(self._asked(ask))

    async def _asked(self, ask: Callable[[TokenManager], Awaitable[_Result]]) -> _Result:
        clock = SystemClock()
        tokens = TokenManager(
            self._source,
            TokenEndpoint(self._source, clock),
            clock,
            SystemRandom(),
            Metrics(CollectorRegistry()),
            store=self._store,
            protect=protect_rotating,
        )
        try:
            return await ask(tokens)
        finally:
            await tokens.close()
