"""Where the browser comes home to after a login: one page on loopback, for as long as it takes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from aiohttp import web

from zoomrelay.auth.consent import LOOPBACK, REDIRECT_RULES, Consent
from zoomrelay.errors import ConsentError, StrangeRedirect

_PAGE = '<!doctype html><html lang="en"><meta charset="utf-8"><title>zoomrelay</title><p>{}</p>'
_HEADERS = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}


class Homecoming:
    """An async context manager; `redirect_uri` holds the port after the start, a free one unless it is named
    in the address. Raises `ConsentError` where that is taken."""

    def __init__(self, redirect_uri: str, *, say: Callable[[str], None]) -> None:
        """`say` gets a line for the person at the terminal."""
        self._parts = urlsplit(redirect_uri)
        self._say = say
        self._consent: Consent | None = None
        self._code: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @property
    def redirect_uri(self) -> str:
        return self._parts.geturl()

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.add_routes([web.get(self._parts.path or "/", self._handle)])
        # No access log: the code is part of the address.
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        port = self._parts.port or 0
        try:
            await web.TCPSite(self._runner, LOOPBACK, port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise ConsentError(f"port {port} of this machine cannot be used: {error.strerror}") from error
        self._parts = self._parts._replace(netloc=f"{LOOPBACK}:{self._runner.addresses[0][1]}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def code(self, consent: Consent, patience_seconds: float) -> str:
        """The code, once it has come. Raises `ConsentError` where the answer is no, or none comes in time."""
        self._consent = consent
        try:
            async with asyncio.timeout(patience_seconds):
                return await self._code
        except TimeoutError as error:
            raise ConsentError(
                f"the browser did not come back within {patience_seconds:g} s. {REDIRECT_RULES}"
            ) from error

    async def _handle(self, request: web.Request) -> web.Response:
        if self._consent is None or self._code.done():
            return _page("This login is over. You may close this page.", status=410)
        try:
            self._code.set_result(self._consent.code_in(request.rel_url.raw_query_string))
        except StrangeRedirect as error:
            self._say(f"A browser came back, but {error}. Open the address above; still waiting.")
            return _page(f"Not accepted: {error}. Look at the terminal.", status=400)
        except ConsentError as error:
            self._code.set_exception(error)
            return _page("Zoom did not grant access. Look at the terminal; you may close this page.")
        return _page("zoomrelay has what it needs. You may close this page.")


def _page(text: str, status: int = 200) -> web.Response:
    return web.Response(text=_PAGE.format(text), status=status, content_type="text/html", headers=_HEADERS)
