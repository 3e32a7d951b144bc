"""The token endpoint and its neighbour, the revocation, over HTTP, with their troubles."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections import Counter
from uuid import UUID

from aiohttp import web

from zoomrelay.clock import Clock
from zoomrelay.simulator.codes import Codes
from zoomrelay.simulator.faults import Faults
from zoomrelay.simulator.refresh import RefreshTokens
from zoomrelay.simulator.tokens import ERRORS, USER_GRANTS, TokenBook

_HTML = "<html><head><title>Bad Gateway</title></head><body><h1>Something went wrong</h1></body></html>"


class TokenEndpoint:
    """`POST /oauth/token` and `POST /oauth/revoke`. Parameters count from the query string as well as from
    the form."""

    def __init__(
        self, tokens: TokenBook, codes: Codes, refresh: RefreshTokens, faults: Faults, clock: Clock
    ) -> None:
        self._tokens = tokens
        self._codes = codes
        self._refresh = refresh
        self._faults = faults
        self._clock = clock
        self.requests = 0
        self.requests_by_grant: Counter[str] = Counter()
        """With any answer; what names no grant counts as empty."""
        self.revocations = 0

    async def handle(self, request: web.Request) -> web.Response:
        self.requests += 1
        number = self.requests
        # Read first: a request that waits unread would show the client a slow upload.
        parameters = await _parameters(request)
        self.requests_by_grant[parameters.get("grant_type", "")] += 1
        await asyncio.sleep(self._faults.token_delay_seconds)
        troubled = self._faults.take_token_fault()
        response = self._trouble() if troubled else self._answer(request, parameters)
        if self._faults.take_lost_answer() and request.transport is not None:
            request.transport.abort()
        response.headers["x-zm-trackingid"] = f"v=2.0;rid={UUID(int=number)}"
        return response

    async def revoke(self, request: web.Request) -> web.Response:
        """Makes one token invalid, of whichever kind."""
        parameters = await _parameters(request)
        token = parameters.get("token", "")
        if not self._tokens.knows(_client(request, parameters), public=True):
            return _refused("invalid_client")
        self.revocations += 1
        if not (self._tokens.revoke(token) or self._refresh.revoke(token)):
            return _refused("invalid_token")
        return web.json_response({"status": "success"})

    def _answer(self, request: web.Request, parameters: dict[str, str]) -> web.Response:
        client = _client(request, parameters)
        if error := self._tokens.refusal(client, parameters) or self._used(client, parameters):
            return _refused(error)
        return web.json_response(self._issue(parameters["grant_type"], str(request.url.origin())))

    def _issue(self, grant: str, origin: str) -> dict[str, object]:
        faults, now = self._faults, self._clock.wall()
        body = self._tokens.issue(
            grant,
            now,
            kills_older=faults.token_kills_older,
            limit=faults.token_limit,
            scopes=faults.token_scopes,
        )
        if grant in USER_GRANTS:
            body["refresh_token"] = self._refresh.issue(now, kills_older=faults.refresh_kills_older)
        return body | {"api_url": origin}

    def _used(self, client: tuple[str, str], parameters: dict[str, str]) -> str:
        """Use up what the request brings; the name of the refusal if that is worth nothing."""
        now = self._clock.wall()
        if parameters["grant_type"] == "refresh_token":
            return self._refresh.use(parameters.get("refresh_token", ""), now)
        if parameters["grant_type"] != "authorization_code":
            return ""
        return self._codes.redeem(
            parameters.get("code", ""),
            redirect_uri=parameters.get("redirect_uri", ""),
            verifier=parameters.get("code_verifier", ""),
            public=not client[1],
            now=now,
        )

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


async def _parameters(request: web.Request) -> dict[str, str]:
    form = await request.post()
    return dict(request.query) | {key: str(value) for key, value in form.items()}


def _client(request: web.Request, parameters: dict[str, str]) -> tuple[str, str]:
    """Id and secret from a Basic header, the id alone from the parameters where there is no header; empty
    where neither makes sense."""
    authorization = request.headers.get("Authorization")
    if authorization is None:
        return parameters.get("client_id", ""), ""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        client_id, _, secret = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return client_id, secret
