"""The access token as a value, and the reading of Zoom's answer. Pure."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

DEFAULT_LIFE_SECONDS = 3600.0
"""Life of a token whose answer does not tell; what Zoom documents for every grant used here."""

SHARE = 0.25
"""Of a token's life: with less left it is no longer good enough for a new connection."""


class Instant(NamedTuple):
    """A moment on two clocks: the event loop's, and the one that also counts suspended time."""

    loop: float
    elapsed: float

    def since(self, earlier: Instant) -> float:
        """Seconds from `earlier` to now, on whichever clock says more: a machine that slept aged too."""
        return max(self.loop - earlier.loop, self.elapsed - earlier.elapsed)


@dataclass(frozen=True, slots=True)
class Token:
    """An access token. Its value never shows in `repr`."""

    value: str = field(repr=False)
    grant: str
    """The grant it was asked for with."""
    issued: Instant
    """Just before it was asked for, so that its life is never overrated."""
    life_seconds: float
    scopes: tuple[str, ...] = ()
    api_url: str = ""
    """Zoom's regional REST base for this account, where the answer named one."""
    refresh_token: str = field(default="", repr=False)
    """What came with it, where the grant is authorization_code."""
    refresh_life_seconds: float | None = None
    """As the answer told it; Zoom's does not."""

    def life_left(self, now: Instant) -> float:
        """Seconds it may still be used; not positive once it is over."""
        return self.life_seconds - now.since(self.issued)

    def serves(self, now: Instant, min_life_seconds: float, share: float = SHARE) -> bool:
        """Whether it has that life left; of a short-lived one, this `share` of its life will do."""
        return self.life_left(now) >= min(min_life_seconds, self.life_seconds * share)


def read_token(answer: Mapping[str, object], *, grant: str, issued: Instant) -> Token | None:
    """The token in a decoded answer of the token endpoint, or None where there is none.

    Tolerant, because Zoom's own pages spell the keys `Access_token` and `Expire_in`: keys in any case,
    life as number or string, scopes as string or list.
    """
    fields = {key.lower(): value for key, value in answer.items()}
    value = fields.get("access_token")
    if not isinstance(value, str) or not value.strip():
        return None
    value = value.strip()
    api_url, refresh = fields.get("api_url"), fields.get("refresh_token")
    return Token(
        value=value,
        grant=grant,
        issued=issued,
        life_seconds=_life_seconds(fields, value),
        scopes=_scopes(fields.get("scope")),
        api_url=api_url if isinstance(api_url, str) else "",
        refresh_token=refresh.strip() if isinstance(refresh, str) else "",
        refresh_life_seconds=_positive(fields.get("refresh_token_expires_in")),
    )


def _life_seconds(fields: Mapping[str, object], value: str) -> float:
    told = _positive(fields.get("expires_in")) or _positive(fields.get("expire_in"))
    return told or _jwt_life_seconds(value) or DEFAULT_LIFE_SECONDS


def _positive(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def _jwt_life_seconds(value: str) -> float | None:
    """`exp` minus `iat` of a JWT: both are Zoom's clock, so ours need not be right. Nothing is verified."""
    parts = value.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = msgspec.json.decode(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, msgspec.DecodeError, ValueError, RecursionError):
        return None
    if not isinstance(claims, dict):
        return None
    expiry, issue = _positive(claims.get("exp")), _positive(claims.get("iat"))
    return _positive(expiry - issue) if expiry and issue else None


def _scopes(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(value.replace(",", " ").split())
    if isinstance(value, list):
        return tuple(item for item in value if isinstance(item, str))
    return ()
