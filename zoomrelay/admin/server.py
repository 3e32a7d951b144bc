"""The admin port: read-only HTTP for probes, scrapes and browsers."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping

import msgspec
import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from pydantic import SecretStr

from zoomrelay.admin.access import host_is_ours, token_is_right
from zoomrelay.admin.door import VISIT_SECONDS, Door
from zoomrelay.admin.health import Status, readiness
from zoomrelay.admin.page import page
from zoomrelay.config.addresses import listen_address
from zoomrelay.errors import ConfigError, Problem
from zoomrelay.telemetry.redaction import redact

log = structlog.get_logger()

_CLOSE_SECONDS = 0.2
_PROBES = {"/livez", "/readyz"}
"""Service managers ask these, and have no token."""
_FOR_PROGRAMS = {*_PROBES, "/metrics"}
"""These are asked under whatever name a network has for us, and show no more than programs need."""


class AdminServer:
    """`/metrics`, `/livez`, `/readyz` and `/` at the address of the setting admin.listen.

    `/livez` answers 200 as long as the event loop turns and nothing is stuck, else 503.
    `/readyz` answers 200 or 503 with the reasons. Nothing can be changed from here, and nothing that it
    shows is secret. Where there is a `token`, all but these two ask for it.
    """

    def __init__(
        self,
        listen: str,
        status: Callable[[], Status],
        registry: CollectorRegistry,
        *,
        token: Callable[[], SecretStr | None] = lambda: None,
        visit_seconds: float = VISIT_SECONDS,
    ) -> None:
        self._listen = listen
        self._status = status
        self._registry = registry
        self._token = token
        self._visit_seconds = visit_seconds
        self._host = ""
        self._runner: web.ServerRunner | None = None
        self._pages = {
            "/": self._page,
            "/livez": self._live,
            "/readyz": self._ready,
            "/metrics": self._metrics,
        }

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of every socket that listens."""
        return [address[:2] for address in self._runner.addresses] if self._runner else []

    async def open(self) -> None:
        """Listen, unless it is turned off. Raises `ConfigError` if the address cannot be had."""
        address = listen_address(self._listen)
        if address is None:
            return
        self._host, port = address
        door = Door(self._answer, visit_seconds=self._visit_seconds)
        self._runner = web.ServerRunner(door, shutdown_timeout=_CLOSE_SECONDS)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host or None, port).start()
        except OSError as error:
            await self.close()
            raise ConfigError([_cannot_listen(self._listen, error)]) from error
        log.info("admin.listening", addresses=[f"{host}:{port}" for host, port in self.addresses])

    async def close(self) -> None:
        """Stop listening. May be called without `open`, and twice."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    # --- answers ------------------------------------------------------------------------------------

    def _answer(self, request: web.BaseRequest) -> web.Response:
        token = self._token()
        authorization = request.headers.get("Authorization", "")
        if (
            token
            and request.path not in _PROBES
            and not token_is_right(authorization, token.get_secret_value())
        ):
            return _no(401, "This needs the token of admin.bearer_token.", {"WWW-Authenticate": "Bearer"})
        if request.path not in _FOR_PROGRAMS and not host_is_ours(
            request.headers.get("Host", ""), self._host
        ):
            return _no(421, "This address is not one of this relay's.")
        if request.path not in self._pages:
            return _no(404, f"There are {', '.join(self._pages)}.")
        if request.method not in ("GET", "HEAD"):
            return _no(405, "This can be read only.", {"Allow": "GET, HEAD"})
        if request.can_read_body:
            return _no(413, "No content is taken.")
        return self._pages[request.path]()

    def _page(self) -> web.Response:
        return web.Response(text=redact(page(self._status())), content_type="text/html")

    def _live(self) -> web.Response:
        stuck = self._status().stuck
        return web.Response(
            text=f"stuck: {', '.join(stuck)}\n" if stuck else "ok\n", status=503 if stuck else 200
        )

    def _ready(self) -> web.Response:
        status = self._status()
        text = redact(msgspec.json.encode(readiness(status)).decode())
        return web.Response(text=text, status=200 if status.ready else 503, content_type="application/json")

    def _metrics(self) -> web.Response:
        return web.Response(
            body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4}
        )


def _no(status: int, text: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(status=status, text=f"{text}\n", headers=headers)


def _cannot_listen(listen: str, error: OSError) -> Problem:
    known = error.errno and not isinstance(error, socket.gaierror)
    why = os.strerror(error.errno) if known and error.errno else error.strerror
    return Problem(
        "admin.listen",
        f"cannot listen on {listen}: {why}",
        'stop what uses it, choose another address, or "" to do without',
    )
