"""Somebody who takes events by HTTP, and is not always in the mood."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from random import Random
from types import TracebackType
from typing import Self

from aiohttp import web


class Receiver:
    """An async context manager on a free port. Answers 200, or `status` to a part of the requests.

    `taken` holds the bodies that were answered with 2xx, in that order.
    """

    def __init__(self, *, seed: int = 0, refuse_part: float = 0.0, status: int = 503) -> None:
        self.refuse_part = refuse_part
        self.status = status
        self.hanging = False
        """Answer nothing any more."""
        self.taken: list[bytes] = []
        self.taken_at: list[float] = []
        """When; wall clock, seconds."""
        self.times: Counter[str] = Counter()
        """webhook-id -> how often it was taken."""
        self.replayed: list[bytes] = []
        """Taken too, with `webhook-replay: true`; these are not in `taken`."""
        self.requests = 0
        self.url = ""
        self._random = Random(f"receiver {seed}")

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=32 * 1024**2)
        app.router.add_post("/hook", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/hook"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    def forget(self) -> None:
        """Start with nothing taken."""
        self.taken.clear()
        self.taken_at.clear()
        self.times.clear()

    async def left(self) -> None:
        """Wait until nobody is connected any more: what a killed relay had sent has been dealt with."""
        server = self._runner.server
        assert server is not None
        while server.connections:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.01)

    async def _take(self, request: web.Request) -> web.Response:
        self.requests += 1
        body = await request.read()
        if self.hanging:
            await asyncio.sleep(3600)
        if self._random.random() < self.refuse_part:
            return web.Response(status=self.status)
        if request.headers.get("webhook-replay") == "true":
            self.replayed.append(body)
            return web.Response()
        self.taken.append(body)
        self.taken_at.append(time.time())
        self.times[request.headers["webhook-id"]] += 1
        return web.Response()
