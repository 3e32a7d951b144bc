"""The admin port of a relay that stands by: it lives, and is not ready."""

from __future__ import annotations

import structlog
from aiohttp import web

from zoomrelay.config.addresses import listen_address

log = structlog.get_logger()

_CLOSE_SECONDS = 0.2
_NOT_READY = {"ready": False, "not_ready_because": ["another relay has taken over; this one stands by"]}


class StandbyServer:
    """`/livez` answers 200, `/readyz` 503. It does without where the relay that runs has the address."""

    def __init__(self, listen: str) -> None:
        self._listen = listen
        self._runner: web.AppRunner | None = None

    async def open(self) -> None:
        """Never raises for an address that cannot be had."""
        address = listen_address(self._listen)
        if address is None:
            return
        app = web.Application()
        app.add_routes([web.get("/livez", _live), web.get("/readyz", _ready)])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_CLOSE_SECONDS)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, address[0] or None, address[1]).start()
        except OSError as error:
            await self.close()
            log.info("standby.no_port", listen=self._listen, error=error.strerror)
        else:
            found = [f"{each[0]}:{each[1]}" for each in self._runner.addresses]
            log.info("standby.listening", addresses=found)

    async def close(self) -> None:
        """May be called twice."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()


async def _live(_request: web.Request) -> web.Response:
    return web.Response(text="ok\n")


async def _ready(_request: web.Request) -> web.Response:
    return web.json_response(_NOT_READY, status=503)
