"""The admin port: read-only HTTP for probes, scrapes and browsers."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Callable
from urllib.parse import urlsplit

import msgspec
import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from zoomrelay.admin.health import Status, readiness
from zoomrelay.admin.page import SECURITY_POLICY, page
from zoomrelay.config.addresses import listen_address
from zoomrelay.errors import ConfigError, Problem
from zoomrelay.telemetry.redaction import redact

log = structlog.get_logger()

_CLOSE_SECONDS = 0.2
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": SECURITY_POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "zoomrelay",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class AdminServer:
    """`/metrics`, `/livez`, `/readyz` and `/` at the address of the setting admin.listen.

    `/livez` answers 200 as long as the event loop turns and nothing is stuck, else 503.
    `/readyz` answers 200 or 503 with the reasons. Nothing can be changed from here, and nothing that it
    shows is secret.
    """

    def __init__(self, listen: str, status: Callable[[], Status], registry: CollectorRegistry) -> None:
        self._listen = listen
        self._status = status
        self._registry = registry
        self._runner: web.AppRunner | None = None

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of every socket that listens."""
        return [address[:2] for address in self._runner.addresses] if self._runner else []

    async def open(self) -> None:
        """Listen, unless it is turned off. Raises `ConfigError` if the address cannot be had."""
        address = listen_address(self._listen)
        if address is None:
            return
        host, port = address
        self._runner = web.AppRunner(self._app(host), access_log=None, shutdown_timeout=_CLOSE_SECONDS)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host or None, port).start()
        except OSError as error:
            await self.close()
            raise ConfigError([_cannot_listen(self._listen, error)]) from error
        log.info("admin.listening", addresses=[f"{host}:{port}" for host, port in self.addresses])

    async def close(self) -> None:
        """Stop listening. May be called without `open`, and twice."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    def _app(self, host: str) -> web.Application:
        async def for_people(request: web.Request) -> web.Response:
            if not host_is_ours(request.headers.get("Host", ""), host):
                raise web.HTTPMisdirectedRequest(text="This address is not one of this relay's.\n")
            return web.Response(text=redact(page(self._status())), content_type="text/html")

        app = web.Application()
        app.on_response_prepare.append(_with_headers)
        app.add_routes(
            [
                web.get("/", for_people),
                web.get("/livez", self._live),
                web.get("/readyz", self._ready),
                web.get("/metrics", self._metrics),
            ]
        )
        return app

    async def _live(self, _request: web.Request) -> web.Response:
        stuck = self._status().stuck
        return web.Response(
            text=f"stuck: {', '.join(stuck)}\n" if stuck else "ok\n", status=503 if stuck else 200
        )

    async def _ready(self, _request: web.Request) -> web.Response:
        status = self._status()
        text = redact(msgspec.json.encode(readiness(status)).decode())
        return web.Response(text=text, status=200 if status.ready else 503, content_type="application/json")

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4}
        )


async def _with_headers(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)


def host_is_ours(header: str, bound_host: str) -> bool:
    """Whether a browser that sends this Host header meant us. A page of somebody else can let its own name
    lead to our address (DNS rebinding) and read what we answer; a name that is ours, or a bare
    address, cannot be made to belong to that page. No header: not a browser."""
    if not header:
        return True
    try:
        host = urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return False
    own = {"localhost", bound_host.lower(), socket.gethostname().lower()}
    return host in own or host.endswith(".localhost") or _is_address(host)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _cannot_listen(listen: str, error: OSError) -> Problem:
    known = error.errno and not isinstance(error, socket.gaierror)
    why = os.strerror(error.errno) if known and error.errno else error.strerror
    return Problem(
        "admin.listen",
        f"cannot listen on {listen}: {why}",
        'stop what uses it, choose another address, or "" to do without',
    )
