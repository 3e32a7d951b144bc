"""Which requests are Zoom's, and what is answered to its challenge. Pure.

Each request carries `x-zm-request-timestamp` (seconds) and `x-zm-signature` over it and the body
(`zoomrelay.signature`). A new endpoint, and every 72 hours an old one, is challenged:

    {"event": "endpoint.url_validation", "payload": {"plainToken": …}, "event_ts": …}

wants `{"plainToken": …, "encryptedToken": HMAC-SHA256(secret, plainToken)}` within 3 s. Whoever could choose
the token freely would have us sign whatever he likes, so a token that could be read as a signed text (it
would begin with `v0:`) is no token.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from enum import StrEnum

import msgspec

from zoomrelay import signature

OLD_SECONDS = 90 * 60.0
"""A request may have been signed so long ago. Zoom tries for 85 minutes, and nobody says whether a later try
is signed anew. Whoever repeats a request gains nothing: it is merged, as copies are for two hours."""
AHEAD_SECONDS = 300.0
"""It may be so far ahead of our clock."""
CHALLENGE_BYTES = 4096
"""No challenge is longer."""
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,128}")


class Verdict(StrEnum):
    GENUINE = "genuine"
    STALE = "stale"
    """Zoom's, but signed too long ago, or ahead of our clock: somebody repeats it, or a clock is wrong."""
    INVALID = "invalid"
    MISSING = "missing"


def judge(secret: bytes, headers: Mapping[str, str], body: bytes, now: float) -> Verdict:
    """`headers` in lower case; `now` is wall time. The signature is compared in constant time."""
    match signature.verify(secret, headers, body):
        case "missing":
            return Verdict.MISSING
        case "invalid":
            return Verdict.INVALID
    age_seconds = now - _seconds(headers)
    return Verdict.GENUINE if -AHEAD_SECONDS <= age_seconds <= OLD_SECONDS else Verdict.STALE


def _seconds(headers: Mapping[str, str]) -> float:
    text = headers["x-zm-request-timestamp"]
    return float(text) if text.isascii() and text.isdigit() and len(text) <= 13 else 0.0


class _Payload(msgspec.Struct):
    plainToken: str


class _Challenge(msgspec.Struct):
    event: str
    payload: _Payload


_decode = msgspec.json.Decoder(_Challenge).decode


def answer_to_challenge(secret: bytes, body: bytes) -> bytes | None:
    """What the challenge in `body` wants; None where there is none, or none that is safe to answer."""
    if len(body) > CHALLENGE_BYTES or b"url_validation" not in body:
        return None
    try:
        challenge = _decode(body)
    except msgspec.MsgspecError:
        return None
    token = challenge.payload.plainToken
    if challenge.event != "endpoint.url_validation" or not _TOKEN.fullmatch(token):
        return None
    encrypted = hmac.new(secret, token.encode(), hashlib.sha256).hexdigest()
    return msgspec.json.encode({"plainToken": token, "encryptedToken": encrypted})
