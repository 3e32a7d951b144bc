"""The admin port's connections: few, short, one request each, and nothing large comes in.

Everything that can be known of a visitor before it is known who it is has a bound: how many there are, how
long one stays, the line of its request (8190 bytes), a header (8190), the number of these (128).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from aiohttp import web

from zoomrelay.admin.page import SECURITY_POLICY

MOST_VISITORS = 32
"""At once. One more, and the oldest has to go: so whoever holds many idle connections keeps no probe out."""
VISIT_SECONDS = 10.0
"""From accept to the last byte of the answer, for those who send slowly and those who read slowly."""
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": SECURITY_POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "zoomrelay",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Door(web.Server):
    """Lets visitors in, for `web.ServerRunner`. Every answer gets `HEADERS` and ends its connection."""

    def __init__(
        self, answer: Callable[[web.BaseRequest], web.Response], *, visit_seconds: float = VISIT_SECONDS
    ) -> None:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            return _last(answer(request))

        super().__init__(handle)
        self._visit_seconds = visit_seconds
        self._visitors: dict[web.RequestHandler, asyncio.Transport] = {}

    def __call__(self) -> web.RequestHandler:
        return _Visitor(self, self._visit_seconds)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self._visitors[handler] = transport
        while len(self._visitors) > MOST_VISITORS:
            oldest = next(iter(self._visitors))
            self._visitors.pop(oldest).abort()

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        self._visitors.pop(handler, None)
        super().connection_lost(handler, exc)


class _Visitor(web.RequestHandler):
    """One connection."""

    def __init__(self, door: Door, seconds: float) -> None:
        # Nothing is logged of a visit, and what comes behind a request's head is not read.
        super().__init__(
            door,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # aiohttp's own runners give None too
            lingering_time=0,
        )
        self._seconds = seconds
        self._end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        stream = cast(asyncio.Transport, transport)  # uvloop's are of no class of asyncio's
        self._end = asyncio.get_running_loop().call_later(self._seconds, stream.abort)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._end is not None:
            self._end.cancel()
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What is no HTTP gets a plain no. It is not logged: anybody could fill the log with it."""
        if status == 400:
            return _last(web.Response(status=400, text="This is not a request that can be read.\n"))
        return _last(super().handle_error(request, status, exc, message))


def _last(response: web.StreamResponse) -> web.StreamResponse:
    response.headers.update(HEADERS)
    response.force_close()
    return response
