"""Refresh tokens, which are replaced at each use. Pure; chance and time are passed in."""

from __future__ import annotations

import base64
from random import Random

import msgspec

REFRESH_LIFE_SECONDS = 90 * 86400
"""As Zoom documents it."""


class _Issued(msgspec.Struct):
    ends: float
    superseded: bool = False


class RefreshTokens:
    """Those that can be used. A superseded one works once more, as has been seen at Zoom, unless told
    otherwise."""

    def __init__(self, random: Random, *, expires_in_seconds: float = REFRESH_LIFE_SECONDS) -> None:
        self.expires_in_seconds = expires_in_seconds
        self._random = random
        self._known: dict[str, _Issued | None] = {}

    def issue(self, now: float, *, kills_older: bool = False) -> str:
        """A new one; where it kills, all before it are dead."""
        if kills_older:
            self.revoke_all()
        value = base64.urlsafe_b64encode(self._random.randbytes(96)).decode()
        self._known[value] = _Issued(now + self.expires_in_seconds)
        return value

    def use(self, value: str, now: float) -> str:
        """The name in `tokens.ERRORS` with which its use is refused, empty if it is not."""
        if value not in self._known:
            return "invalid_token"
        issued = self._known[value]
        if issued is None:
            return "token_revoked"
        if now >= issued.ends:
            return "invalid_token"
        if issued.superseded:
            self._known[value] = None
        issued.superseded = True
        return ""

    def revoke(self, value: str) -> bool:
        """Make this one invalid; whether it was known."""
        if value not in self._known:
            return False
        self._known[value] = None
        return True

    def revoke_all(self) -> None:
        """Make every one issued so far invalid."""
        self._known = dict.fromkeys(self._known)
