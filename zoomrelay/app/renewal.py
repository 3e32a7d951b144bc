"""New sockets in the place of old ones, while a source is at work: make before break.

    a subscription that is new            gets a socket
    one that is gone                      its socket is closed in order; where others are new, not before all
                                          of these are accepted
    one whose socket is made otherwise    gets a second socket; once that is accepted, the first is closed.
    (another address, proxy, …)           Zoom itself closes the older (and does not offer it anything that
                                          came since), or refuses the newer: then the older is closed first.
                                          One subscription after the other.

Whatever has not come about when the configuration changes once more is considered anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Protocol

import structlog

from zoomrelay.config.models import SourceConfig
from zoomrelay.config.subscriptions import subscription_id
from zoomrelay.session.runner import SessionRunner
from zoomrelay.supervisor import Supervisor

log = structlog.get_logger()

_TOGETHER_SECONDS = 1.0
"""For so long after the newer socket was accepted Zoom may end the older. If it has not, the older was whole
when the newer began, and our closing it misses nothing."""


class Sockets(Protocol):
    """Those of one source (`RunningSource`)."""

    @property
    def runners(self) -> Collection[SessionRunner]: ...

    def open(self, subscription: str) -> SessionRunner:
        """Begin to keep a socket open; a subscription that is not known begins without a gap."""
        ...

    def retire(self, runner: SessionRunner) -> None:
        """Expect that another socket takes its place."""
        ...

    async def close(self, runner: SessionRunner) -> None:
        """End it in order; and its subscription with it, if the configuration does not name it any more."""
        ...


class Renewal:
    """Of one source."""

    def __init__(self, source: str, sockets: Sockets, supervisor: Supervisor) -> None:
        self.done = asyncio.Event()
        """No old socket stays in the place of a new one."""
        self.done.set()
        self._service = f"renewal.{source}"
        self._log = log.bind(source=source)
        self._sockets = sockets
        self._supervisor = supervisor
        self._closing = asyncio.Lock()
        self._new: set[str] = set()
        """Subscriptions that were added by a reload."""
        self._wanted: dict[str, str] = {}
        self._config: SourceConfig | None = None

    @property
    def awaited(self) -> list[str]:
        """Subscriptions in whose place old sockets stay until they are accepted."""
        if self.done.is_set():
            return []
        return sorted({runner.subscription for runner in [*self._coming(), *self._outdated()]})

    @asynccontextmanager
    async def halted(self) -> AsyncIterator[None]:
        """Inside, no socket comes or goes by itself; what had not come about is given up."""
        async with self._closing:
            await self._supervisor.cancel(self._service)
            self.done.set()
            yield

    async def begin(self, config: SourceConfig) -> None:
        """Make the sockets as these settings want them. What need not wait is done on return. The caller is
        inside `halted`."""
        self._config = config
        self._wanted = {subscription_id(text): text for text in config.subscriptions}
        there = {runner.subscription for runner in self._sockets.runners}
        self._new = (self._new | (self._wanted.keys() - there)) & self._wanted.keys()
        for runner in self._outdated():
            if runner.accepted_since is None:
                await self._sockets.close(runner)
        there = {runner.subscription for runner in self._sockets.runners}
        for name, text in self._wanted.items():
            if name not in there:
                self._sockets.open(text)
        if not self._coming():
            await self._close(self._gone())
        if self._gone() or self._outdated():
            self.done.clear()
            self._supervisor.start(self._service, self._run())
            self._supervisor.may_end(self._service)

    # --- what is what -------------------------------------------------------------------------------

    def _fits(self, runner: SessionRunner) -> bool:
        assert self._config is not None
        return runner.fits(self._config, self._wanted.get(runner.subscription, ""))

    def _gone(self) -> list[SessionRunner]:
        """Nobody wants their subscriptions any more."""
        return [runner for runner in self._sockets.runners if runner.subscription not in self._wanted]

    def _outdated(self) -> list[SessionRunner]:
        """Their subscriptions are wanted, by sockets that are made otherwise."""
        wanted = [runner for runner in self._sockets.runners if runner.subscription in self._wanted]
        return [runner for runner in wanted if not self._fits(runner)]

    def _coming(self) -> list[SessionRunner]:
        """Of new subscriptions, and not accepted yet."""
        fitting = [runner for runner in self._sockets.runners if self._fits(runner)]
        return [r for r in fitting if r.subscription in self._new and r.accepted_since is None]

    # --- the service --------------------------------------------------------------------------------

    async def _run(self) -> None:
        while coming := self._coming():
            await coming[0].news()
        closed = [runner.subscription for runner in self._gone()]
        async with self._closing:
            await self._close(self._gone())
        renewed = self._outdated()
        for runner in renewed:
            await self._renew(runner)
        self._log.info(
            "source.handed_over", closed=closed, made_anew=[runner.subscription for runner in renewed]
        )
        self.done.set()

    async def _renew(self, old: SessionRunner) -> None:
        new = self._successor(old)
        if new is None:
            if old.accepted_since is None:
                await self._close_one(old)
            else:
                self._sockets.retire(old)
            new = self._sockets.open(self._wanted[old.subscription])
        while new.accepted_since is None:
            await new.news()
            if new.gives_way and old in self._sockets.runners:
                await self._close_one(old)
                new.try_now()
        with suppress(TimeoutError):
            async with asyncio.timeout(_TOGETHER_SECONDS):
                await old.ended()
        await self._close_one(old)

    def _successor(self, old: SessionRunner) -> SessionRunner | None:
        runners = self._sockets.runners
        return next((r for r in runners if r.subscription == old.subscription and self._fits(r)), None)

    async def _close_one(self, runner: SessionRunner) -> None:
        async with self._closing:
            if runner in self._sockets.runners:
                await self._sockets.close(runner)

    async def _close(self, runners: Iterable[SessionRunner]) -> None:
        await asyncio.gather(*(self._sockets.close(runner) for runner in runners))
