"""One task group that owns every service: each has a name, a guard and an ordered end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

import structlog

from zoomrelay.errors import ZoomrelayError

log = structlog.get_logger()


class ServiceEnded(ZoomrelayError):
    """A service returned although nobody had asked it to."""


class Supervisor:
    """Use as an async context manager. A service that raises, or returns unasked, ends all others and
    leaves the context as an exception group: a crash is a crash, never a zombie."""

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()
        self._services: dict[str, asyncio.Task[None]] = {}
        self._may_end: set[str] = set()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._group.__aexit__(kind, error, trace)

    def start(self, name: str, service: Coroutine[Any, Any, None]) -> None:
        """Run a service under this name."""
        self._may_end.discard(name)
        self._services[name] = self._group.create_task(self._guard(name, service), name=name)

    async def finish(self, name: str, seconds: float) -> bool:
        """Let a service that was asked to stop come to its end; cancel it after `seconds`, and by as much
        later as the loop stood still then. Whether it ended by itself."""
        self._may_end.add(name)
        task = self._services.pop(name, None)
        if task is None:
            return True
        due = asyncio.get_running_loop().time() + max(0.0, seconds)
        done, _ = await asyncio.wait([task], timeout=max(0.0, seconds))
        if not done and seconds > 0:
            late_seconds = asyncio.get_running_loop().time() - due
            done, _ = await asyncio.wait([task], timeout=late_seconds)
        if not done:
            task.cancel()
            await asyncio.wait([task])
        return bool(done)

    async def cancel(self, name: str) -> None:
        """End a service at once."""
        self._may_end.add(name)
        await self.finish(name, 0)

    def running(self) -> list[str]:
        """Names of services that were started and not finished, oldest first."""
        return list(self._services)

    def may_end(self, name: str) -> None:
        """From now on this service may return."""
        self._may_end.add(name)

    async def _guard(self, name: str, service: Coroutine[Any, Any, None]) -> None:
        try:
            await service
        except Exception:
            log.exception("service.crashed", service=name)
            raise
        if name not in self._may_end:
            log.error("service.ended", service=name)
            raise ServiceEnded(f"the service {name} ended although nobody had asked it to")
