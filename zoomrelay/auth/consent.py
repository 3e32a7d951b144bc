"""A person's consent, by the authorization-code flow with PKCE: what is asked, and what comes back. Pure;
chance is passed in.

RFC 6749 4.1, RFC 7636, RFC 8252. Zoom takes redirect addresses with https, and since 2026-09-28 plain http
to 127.0.0.1, whatever the port, for requests with a code challenge; all others it answers with "Invalid
redirect (4700)", as it does where the address is not in the app's list.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from dataclasses import dataclass, field
from random import Random
from urllib.parse import parse_qs, urlencode, urlsplit

from zoomrelay.errors import ConsentError, StrangeRedirect

LOOPBACK = "127.0.0.1"
CALLBACK = f"http://{LOOPBACK}/callback"
"""The redirect address that is used unless another is given; Zoom ignores its port."""
REDIRECT_RULES = (
    "Zoom takes redirect addresses with https://, and http://127.0.0.1 with any port and none of the name"
    ' "localhost". The address must stand in the app\'s "OAuth Redirect URL" and in its allow list.'
)

_BARE_CODE = re.compile(r"[A-Za-z0-9._~+/=-]+")
_DENIED = "the request was declined on Zoom's page; open the address again and allow it"


@dataclass(frozen=True, slots=True)
class Consent:
    """One attempt to get it. `state` and `verifier` are its secrets and never show in `repr`."""

    client_id: str
    redirect_uri: str
    state: str = field(repr=False)
    verifier: str = field(repr=False)

    def address(self, authorize_url: str) -> str:
        """What the person's browser has to open. Holds no secret but the `state`."""
        query = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.redirect_uri,
            "state": self.state,
            "code_challenge": _challenge(self.verifier),
            "code_challenge_method": "S256",
        }
        return f"{authorize_url}?{urlencode(query)}"

    def code_in(self, query: str) -> str:
        """The code in what Zoom sent the browser back with. Raises `StrangeRedirect` where this is not the
        answer to this attempt, and `ConsentError` where the answer is no."""
        given = {name: values[-1] for name, values in parse_qs(query).items()}
        if not secrets.compare_digest(given.get("state", "").encode(), self.state.encode()):
            raise StrangeRedirect(
                "this answer belongs to another login, or to an earlier one (its state does not fit)"
            )
        if error := given.get("error"):
            raise ConsentError(_DENIED if error == "access_denied" else _refused(error, given))
        if not given.get("code"):
            raise StrangeRedirect("there is no code in this answer")
        return given["code"]

    def code_pasted(self, text: str) -> str:
        """The code in a pasted redirect address, or in what is pasted as the code alone, which cannot be
        checked for its `state`; the verifier protects it. Raises as `code_in` does."""
        text = text.strip()
        if "?" in text or "code=" in text or "error=" in text:
            return self.code_in(text.partition("?")[2].partition("#")[0] or text)
        if not _BARE_CODE.fullmatch(text) or "://" in text:
            raise StrangeRedirect("this is neither a code nor the address of a redirect")
        return text


def begin(client_id: str, redirect_uri: str, random: Random) -> Consent:
    """A new attempt; `random` must be one that nobody can foresee."""
    return Consent(client_id, redirect_uri, _unguessable(random), _unguessable(random))


def is_loopback(redirect_uri: str) -> bool:
    """Whether a browser on this machine comes back to this machine. Raises `ValueError`, in words, for an
    address that Zoom does not take."""
    try:
        parts = urlsplit(redirect_uri)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError("is no URL") from None
    if parts.scheme == "https" and host and not parts.fragment:
        return False
    if parts.scheme == "http" and host == LOOPBACK and not parts.fragment:
        return True
    raise ValueError(f"would be refused as an invalid redirect (4700). {REDIRECT_RULES}")


def _unguessable(random: Random) -> str:
    return base64.urlsafe_b64encode(random.randbytes(48)).decode()


def _challenge(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


def _refused(error: str, given: dict[str, str]) -> str:
    words = " ".join(f"{error} {given.get('error_description', '')}".split())[:200]
    return f"Zoom refused: {words}. {REDIRECT_RULES if '47' in words else ''}".rstrip()
