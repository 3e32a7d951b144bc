"""A corner of the REST API: who am I, and every way in which Zoom refuses to say."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from zoomrelay.clock import Clock
from zoomrelay.simulator.faults import Faults
from zoomrelay.simulator.tokens import EXPIRED_TOKEN, Credentials, TokenBook

REST_ERRORS: Mapping[str, tuple[int, Mapping[str, object]]] = {
    "invalid_token": (401, {"code": 124, "message": "Invalid access token."}),
    "expired_token": (401, {"code": 124, "message": "Access token is expired."}),
    "missing_scopes": (
        400,
        {"code": 4711, "message": "Invalid access token, does not contain scopes:[user:read:user:admin]."},
    ),
    "invalid_api_key": (400, {"code": 200, "message": "Invalid api key or secret."}),
    "paid_account": (400, {"code": 200, "message": "Only available for paid account."}),
    "rate_limited": (
        429,
        {"code": 429, "message": "You have reached the maximum per-second rate limit for this API."},
    ),
    "server_error": (500, {"code": 500, "message": "Internal server error."}),
}
"""Status and body by a short name. Codes and the words of 124, 4711 and "Invalid api key" are as users quote
them; the status that comes with code 200 is a guess."""

_READS_USER = {"user:read:user", "user:read:user:admin", "user:read", "user:read:admin"}


class RestApi:
    """`GET /v2/users/me`."""

    def __init__(self, tokens: TokenBook, credentials: Credentials, faults: Faults, clock: Clock) -> None:
        self._tokens = tokens
        self._credentials = credentials
        self._faults = faults
        self._clock = clock
        self.requests = 0

    async def me(self, request: web.Request) -> web.Response:
        self.requests += 1
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        name = self._faults.take_rest_error() or self._refusal(token if scheme.lower() == "bearer" else "")
        if name:
            return self._refused(name)
        body = {
            "id": "SimulatedUserId-000000",
            "first_name": "User",
            "last_name": "1",
            "email": "user1@example.com",
            "type": 2,
            "status": "active",
            "account_id": self._credentials.account_id,
        }
        return web.json_response(body, headers={"x-ratelimit-category": "Light"})

    def _refusal(self, token: str) -> str:
        now = self._clock.wall()
        issued = self._tokens.find(token, now)
        if issued is None:
            expired = self._tokens.judge(token, now) == EXPIRED_TOKEN
            return "expired_token" if expired else "invalid_token"
        if issued.grant == "client_credentials":
            return "invalid_api_key"
        return "" if _READS_USER & set(issued.scopes) else "missing_scopes"

    def _refused(self, name: str) -> web.Response:
        status, body = REST_ERRORS.get(name, (400, {"code": 300, "message": name}))
        headers = {"x-ratelimit-category": "Light"}
        if status == 429:
            headers["Retry-After"] = self._faults.rest_retry_after
        return web.json_response(dict(body), status=status, headers=headers)
