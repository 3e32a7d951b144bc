"""Access tokens: issuing and judging them as Zoom does. Pure; chance and time are passed in."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from random import Random

import msgspec

TOKEN_IS_EMPTY = "token is empty"
UNKNOWN_TOKEN = "Invalid Token"
EXPIRED_TOKEN = "Token is invalid"


def _numbered(code: int, reason: str, error: str = "invalid_request") -> Mapping[str, object]:
    return {"code": code, "reason": reason, "error": error}


ERRORS: Mapping[str, Mapping[str, object]] = {
    "invalid_client": {"reason": "Invalid client_id or client_secret", "error": "invalid_client"},
    "invalid_request": {"reason": "Bad Request", "error": "invalid_request"},
    "unsupported_grant_type": {"reason": "unsupported grant type", "error": "unsupported_grant_type"},
    "invalid_grant": {"reason": "Invalid authorization code", "error": "invalid_grant"},
    "invalid_token": _numbered(4700, "Invalid token", "invalid_grant"),
    "invalid_redirect": _numbered(4700, "Invalid redirect"),
    "client_not_found": _numbered(4702, "Invalid client", "invalid_client"),
    "client_invalid": _numbered(4704, "Invalid client", "invalid_client"),
    "grant_not_supported": _numbered(4705, "Grant type is not supported", "unsupported_grant_type"),
    "missing_credentials": _numbered(4706, "Missing client credentials or grant type"),
    "redirect_mismatch": _numbered(4709, "Redirect URI mismatch"),
    "scopes_changed": _numbered(4711, "Refresh token invalid", "invalid_grant"),
    "app_disabled": _numbered(4717, "The app has been disabled"),
    "invalid_jwt": _numbered(4724, "Invalid JWT token"),
    "error_4732": _numbered(4732, "Bad Request"),
    "code_expired": _numbered(4733, "The code is expired", "invalid_grant"),
    "invalid_code": _numbered(4734, "Invalid authorization code", "invalid_grant"),
    "owner_gone": _numbered(4735, "The owner of the token does not exist"),
    "error_4737": _numbered(4737, "Bad Request"),
    "disabled_by_admin": _numbered(4738, "The app was disabled by an admin"),
    "index_tolerance": _numbered(4740, "The index is beyond the tolerance"),
    "token_revoked": _numbered(4741, "The token has been revoked", "invalid_grant"),
}
"""Refusals of the token endpoint (HTTP 400) by a short name. The bodies without a number are as Zoom's users
quote them; of the others only the numbers are known, and of 4732 and 4737 not even what they mean."""

USER_GRANTS = ("authorization_code", "refresh_token")

APP_SCOPES = (
    "marketplace:write:websocket_connection marketplace:write:event_subscription "
    "marketplace:read:list_event_subscriptions"
)
"""What every token may do."""
READ_USER = "user:read:user:admin"
"""What all but the tokens of an app that speaks for itself may do besides."""


class Credentials(msgspec.Struct, frozen=True):
    """The app that the pretend Zoom knows. Not a real one."""

    account_id: str = "SimulatedAccountId-000"
    client_id: str = "SimulatedClientId-0000"
    client_secret: str = "SimulatedClientSecret-0000000000"


class Issued(msgspec.Struct, frozen=True):
    """What is remembered of an access token."""

    grant: str
    scopes: tuple[str, ...]
    ends: float


class TokenBook:
    """The tokens that were issued, and what a WebSocket would say to one."""

    def __init__(self, random: Random, credentials: Credentials, *, expires_in_seconds: int) -> None:
        self._random = random
        self._credentials = credentials
        self.secrets = {credentials.client_secret}
        """The client secrets that the app has now."""
        self.expires_in_seconds = expires_in_seconds
        self._tokens: dict[str, Issued] = {}
        self.issued = 0

    def refusal(self, client: tuple[str, str], parameters: Mapping[str, str]) -> str:
        """The name in `ERRORS` with which this request is refused, empty if it is not.

        An `account_id` may be left out of `client_credentials`, which speak for the app alone. A client
        without a secret may ask for tokens of users; whether it may have them is for others to say.
        """
        grant = parameters.get("grant_type", "")
        if not self.knows(client, public=grant in USER_GRANTS):
            return "invalid_client"
        if grant == "client_credentials" or grant in USER_GRANTS:
            return ""
        if grant != "account_credentials":
            return "unsupported_grant_type"
        return "" if parameters.get("account_id") == self._credentials.account_id else "invalid_request"

    def knows(self, client: tuple[str, str], *, public: bool = False) -> bool:
        """Whether these are the app's id and a secret of it; none at all is enough for a `public` client."""
        client_id, secret = client
        return client_id == self._credentials.client_id and (
            secret in self.secrets or (public and not secret)
        )

    def issue(
        self, grant: str, now: float, *, kills_older: bool = False, limit: int = 0, scopes: str = ""
    ) -> dict[str, object]:
        """The body of a successful answer; `now` in seconds since the epoch. With a `limit` no more than
        that many stay valid, the newest."""
        scopes = scopes or (APP_SCOPES if grant == "client_credentials" else f"{APP_SCOPES} {READ_USER}")
        self.issued += 1
        token = self._token(grant, int(now))
        self._tokens[token] = Issued(grant, tuple(scopes.split()), now + self.expires_in_seconds)
        self._keep_newest(1 if kills_older else limit)
        return {
            "access_token": token,
            "token_type": "bearer",
            "expires_in": self.expires_in_seconds,
            "scope": scopes,
            "api_url": "https://api.zoom.us",
        }

    def _keep_newest(self, limit: int) -> None:
        if limit:
            for token in list(self._tokens)[:-limit]:
                del self._tokens[token]

    def find(self, token: str, now: float) -> Issued | None:
        """What is known of a token that is valid now."""
        return None if self.judge(token, now) else self._tokens[token]

    def judge(self, token: str, now: float) -> str:
        """The text with which a connection with this token is refused, empty if it is accepted."""
        if not token:
            return TOKEN_IS_EMPTY
        issued = self._tokens.get(token)
        if issued is None:
            return UNKNOWN_TOKEN
        return EXPIRED_TOKEN if now >= issued.ends else ""

    def revoke(self, token: str) -> bool:
        """Make this one invalid; whether it was valid."""
        return self._tokens.pop(token, None) is not None

    def revoke_all(self) -> None:
        """Make every token issued so far invalid."""
        self._tokens.clear()

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
