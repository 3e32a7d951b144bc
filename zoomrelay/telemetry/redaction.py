"""Secrets out of text, whatever put them there.

Redaction works on what is about to leave the process, after rendering: so it reaches tracebacks,
exceptions of libraries and their own log lines (websockets at DEBUG prints the URL with its token).
"""

from __future__ import annotations

import base64
import json
import re
from collections import deque
from collections.abc import Iterator
from threading import Lock
from urllib.parse import quote, quote_plus

MASK = "***"
SHORTEST = 6
"""Shorter texts are not protected: they occur everywhere."""
ROTATING_KEPT = 64
"""How many of the secrets that come and go are remembered."""

_NAMES = r"(?:access_token|refresh_token|download_token|client_secret|secret_token)"
_VALUE = r"""[^\s&"'\\<>,;)}\]]+"""
_PATTERNS = (
    re.compile(rf"({_NAMES}(?:=|%3D)){_VALUE}", re.IGNORECASE),
    re.compile(rf"""({_NAMES}\\*["']\s*:\s*\\*["']){_VALUE}""", re.IGNORECASE),
    re.compile(r"(://)[^/\s'\"@]+(?=@)"),
    re.compile(r"(\b(?:bearer|basic)(?:\s+|%20|\+))[A-Za-z0-9+/=._~-]{6,}", re.IGNORECASE),
)


class Redactor:
    """Knows secrets and replaces them. Safe to use from any thread; memory is bounded."""

    def __init__(self) -> None:
        self._fixed: dict[str, tuple[str, ...]] = {}
        self._rotating: deque[tuple[str, ...]] = deque(maxlen=ROTATING_KEPT)
        self._forms: tuple[str, ...] = ()
        self._lock = Lock()

    def protect(self, *secrets: str) -> None:
        """From now on none of `secrets` gets through. For what the configuration holds."""
        with self._lock:
            self._fixed |= {secret: _forms(secret) for secret in secrets}
            self._refresh()

    def protect_pair(self, user: str, secret: str) -> None:
        """Protects `secret`, also where it is sent with `user` as HTTP Basic credentials."""
        pair = base64.b64encode(f"{user}:{secret}".encode(errors="surrogatepass")).decode()
        self.protect(secret, pair)

    def protect_rotating(self, secret: str) -> None:
        """Protects a secret that will be replaced, such as a token; the last 64 are remembered."""
        forms = _forms(secret)
        with self._lock:
            if forms not in self._rotating:
                self._rotating.append(forms)
                self._refresh()

    def redact(self, text: str) -> str:
        """`text` with every known secret, and whatever looks like a token, replaced by `***`."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, MASK)
        for pattern in _PATTERNS:
            text = pattern.sub(rf"\1{MASK}", text)
        return text

    def _refresh(self) -> None:
        """Longest first: a secret may be part of another one's form."""
        known = {form for forms in (*self._fixed.values(), *self._rotating) for form in forms}
        self._forms = tuple(sorted(known, key=len, reverse=True))


def _forms(secret: str) -> tuple[str, ...]:
    """Every spelling of `secret` that rendering may produce: quoted in URLs, and escaped once by each
    layer of JSON or repr around it (a traceback inside a JSON line has two). Its lines count each by
    itself, for tracebacks indent them."""
    spellings = [part for part in (secret, *secret.splitlines()) if len(part) >= SHORTEST]
    forms = {form for spelling in spellings for form in (spelling, *_quoted(spelling))}
    for _ in range(3):
        forms |= {escaped for form in forms for escaped in _escaped(form)}
    return tuple(sorted(forms))


def _quoted(text: str) -> Iterator[str]:
    for way, safe in ((quote, ""), (quote, "/"), (quote_plus, "")):
        form = way(text, safe, errors="surrogatepass")
        yield form
        yield re.sub(r"%[0-9A-F]{2}", lambda match: match[0].lower(), form)


def _escaped(text: str) -> Iterator[str]:
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    yield repr(text)[1:-1]
    # repr chooses its quotes by all that it quotes: beside both kinds, single ones are escaped.
    yield repr("\"'" + text)[4:-1]
    yield repr(text.encode(errors="surrogatepass"))[2:-1]


_process = Redactor()
protect = _process.protect
protect_pair = _process.protect_pair
protect_rotating = _process.protect_rotating
redact = _process.redact
