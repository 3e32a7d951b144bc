"""The token endpoint over HTTP, with its troubles."""

from __future__ import annotations

import asyncio
import base64
import binascii
from uuid import UUID

from aiohttp import web

from zoomrelay.clock import Clock
from zoomrelay.simulator.faults import Faults
from zoomrelay.simulator.tokens import ERRORS, TokenBook

_HTML = "<html><head><title>Bad Gateway</title></head><body><h1>Something went wrong</h1></body></html>"


class TokenEndpoint:
    """`POST /oauth/token`. Parameters count from the query string as well as from the form."""

    def __init__(self, tokens: TokenBook, faults: Faults, clock: Clock) -> None:
        self._tokens = tokens
        self._faults = faults
        self._clock = clock
        self.requests = 0

    async def handle(self, request: web.Request) -> web.Response:
        self.requests += 1
        # Read first: a request that waits unread would show the client a slow upload.
        form = await request.post()
        parameters = dict(request.query) | {key: str(value) for key, value in form.items()}
        await asyncio.sleep(self._faults.token_delay_seconds)
        if self._faults.take_token_fault():
            response = self._trouble()
        else:
            response = self._answer(request.headers.get("Authorization", ""), parameters)
        response.headers["x-zm-trackingid"] = f"v=2.0;rid={UUID(int=self.requests)}"
        return response

    def _answer(self, authorization: str, parameters: dict[str, str]) -> web.Response:
        if error := self._tokens.refusal(_client(authorization), parameters):
            return _refused(error)
        grant = parameters["grant_type"]
        kills_older = self._faults.token_kills_older
        return web.json_response(self._tokens.issue(grant, self._clock.wall(), kills_older=kills_older))

    def _trouble(self) -> web.Response:
        faults = self._faults
        if not faults.token_status:
            return _refused(faults.token_error)
        headers = {"Retry-After": faults.token_retry_after} if faults.token_retry_after else None
        if faults.token_body == "html":
            return web.Response(
                status=faults.token_status, text=_HTML, content_type="text/html", headers=headers
            )
        if faults.token_body == "empty":
            return web.Response(status=faults.token_status, headers=headers)
        body = {"reason": "Simulated trouble", "error": "server_error"}
        return web.json_response(body, status=faults.token_status, headers=headers)


def _refused(error: str) -> web.Response:
    body = ERRORS.get(error, {"reason": error, "error": error})
    return web.json_response(dict(body), status=400)


def _client(authorization: str) -> tuple[str, str]:
    """Id and secret from a Basic header, empty where it is none."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        client_id, _, secret = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return client_id, secret
