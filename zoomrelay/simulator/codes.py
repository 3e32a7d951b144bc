"""Authorization codes: which redirects Zoom allows, and what a code is good for. Pure; chance and time are
passed in."""

from __future__ import annotations

import base64
import hashlib
from random import Random
from urllib.parse import urlsplit

import msgspec

CODE_LIFE_SECONDS = 300.0
"""As Zoom documents it."""


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What an app asks for at the authorize page."""

    client_id: str = ""
    redirect_uri: str = ""
    state: str = ""
    code_challenge: str = ""
    code_challenge_method: str = ""


def redirect_allowed(uri: str, *, pkce: bool) -> bool:
    """Zoom takes https addresses, and plain http to 127.0.0.1 with any port where the request has a code
    challenge. `localhost` is refused."""
    try:
        parts = urlsplit(uri)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    if parts.fragment:
        return False
    return bool(host) and (
        parts.scheme == "https" or (parts.scheme == "http" and pkce and host == "127.0.0.1")
    )


class Codes:
    """The codes that were handed out; each is good for one attempt to redeem it."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._open: dict[str, tuple[Ask, float]] = {}

    def grant(self, ask: Ask, now: float) -> str:
        """A code for this request."""
        code = base64.urlsafe_b64encode(self._random.randbytes(33)).decode()
        self._open[code] = (ask, now + CODE_LIFE_SECONDS)
        return code

    def redeem(self, code: str, *, redirect_uri: str, verifier: str, public: bool, now: float) -> str:
        """The name in `tokens.ERRORS` with which this is refused, empty if it is not. Either way the code is
        used up. `public` is a client without a secret, which needs a code challenge."""
        ask, ends = self._open.pop(code, (None, 0.0))
        if ask is None:
            return "invalid_code"
        if now >= ends:
            return "code_expired"
        if redirect_uri != ask.redirect_uri:
            return "redirect_mismatch"
        if public and not ask.code_challenge:
            return "missing_credentials"
        return "" if _proves(verifier, ask) else "invalid_grant"


def _proves(verifier: str, ask: Ask) -> bool:
    """RFC 7636, 4.6. A verifier without a challenge proves nothing and harms nothing."""
    if not ask.code_challenge:
        return True
    if ask.code_challenge_method == "S256":
        digest = hashlib.sha256(verifier.encode()).digest()
        verifier = base64.urlsafe_b64encode(digest).decode().rstrip("=")
    return verifier == ask.code_challenge
