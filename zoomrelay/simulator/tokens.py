"""Access tokens: issuing and judging them as Zoom does. Pure; chance and time are passed in."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from random import Random

import msgspec

TOKEN_IS_EMPTY = "token is empty"
UNKNOWN_TOKEN = "Invalid Token"
EXPIRED_TOKEN = "Token is invalid"

ERRORS: Mapping[str, Mapping[str, object]] = {
    "invalid_client": {"reason": "Invalid client_id or client_secret", "error": "invalid_client"},
    "invalid_request": {"reason": "Bad Request", "error": "invalid_request"},
    "unsupported_grant_type": {"reason": "unsupported grant type", "error": "unsupported_grant_type"},
    "invalid_grant": {"reason": "Invalid authorization code", "error": "invalid_grant"},
    "app_disabled": {"code": 4717, "reason": "The app has been disabled", "error": "invalid_request"},
    "owner_gone": {
        "code": 4735,
        "reason": "The owner of the token does not exist",
        "error": "invalid_request",
    },
    "disabled_by_admin": {
        "code": 4738,
        "reason": "The app was disabled by an admin",
        "error": "invalid_request",
    },
}
"""Refusals of the token endpoint (HTTP 400) by a short name. The first three bodies are as Zoom's users
quote them; of the others only the numbers are known."""

SCOPES = (
    "marketplace:write:websocket_connection marketplace:write:event_subscription "
    "marketplace:read:list_event_subscriptions"
)


class Credentials(msgspec.Struct, frozen=True):
    """The app that the pretend Zoom knows. Not a real one."""

    account_id: str = "SimulatedAccountId-000"
    client_id: str = "SimulatedClientId-0000"
    client_secret: str = "SimulatedClientSecret-0000000000"


class TokenBook:
    """The tokens that were issued, and what a WebSocket would say to one."""

    def __init__(self, random: Random, credentials: Credentials, *, expires_in_seconds: int) -> None:
        self._random = random
        self._credentials = credentials
        self.expires_in_seconds = expires_in_seconds
        self._expires: dict[str, float] = {}
        self.issued = 0

    def refusal(self, client: tuple[str, str], parameters: Mapping[str, str]) -> str:
        """The name in `ERRORS` with which this request is refused, empty if it is not.

        An `account_id` may be left out of `client_credentials`, which speak for the app alone.
        """
        known = self._credentials
        if client != (known.client_id, known.client_secret):
            return "invalid_client"
        grant = parameters.get("grant_type", "")
        if grant == "client_credentials":
            return ""
        if grant != "account_credentials":
            return "unsupported_grant_type"
        return "" if parameters.get("account_id") == known.account_id else "invalid_request"

    def issue(self, grant: str, now: float, *, kills_older: bool = False) -> dict[str, object]:
        """The body of a successful answer; `now` in seconds since the epoch."""
        if kills_older:
            self._expires.clear()
        self.issued += 1
        token = self._token(grant, int(now))
        self._expires[token] = now + self.expires_in_seconds
        return {
            "access_token": token,
            "token_type": "bearer",
            "expires_in": self.expires_in_seconds,
            "scope": SCOPES,
            "api_url": "https://api.zoom.us",
        }

    def judge(self, token: str, now: float) -> str:
        """The text with which a connection with this token is refused, empty if it is accepted."""
        if not token:
            return TOKEN_IS_EMPTY
        expires = self._expires.get(token)
        if expires is None:
            return UNKNOWN_TOKEN
        return EXPIRED_TOKEN if now >= expires else ""

    def revoke_all(self) -> None:
        """Make every token issued so far invalid."""
        self._expires.clear()

    def _token(self, grant: str, now: int) -> str:
        """Looks like Zoom's JWT (some 700 characters); nobody can verify it."""
        claims: dict[str, object] = {
            "aud": "https://oauth.zoom.us",
            "uid": self._id(22),
            "ver": 10,
            "auid": self._id(64),
            "nbf": now,
            "iss": f"zm:cid:{self._credentials.client_id}",
            "gno": 0,
            "exp": now + self.expires_in_seconds,
            "type": 3,
            "iat": now,
            "code": self._id(128),
        }
        if grant == "account_credentials":
            claims["aid"] = self._credentials.account_id
        head = {"sv": "000002", "alg": "HS512", "v": "2.0", "kid": self._id(36)}
        parts = (msgspec.json.encode(head), msgspec.json.encode(claims), self._random.randbytes(64))
        return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)

    def _id(self, length: int) -> str:
        return base64.urlsafe_b64encode(self._random.randbytes(length)).decode()[:length]
