"""What a sink with privacy gets of an event instead of its own bytes. Pure.

Applied twice it changes nothing more, so an event that was set aside and comes again keeps its form.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from zoomrelay.privacy.fields import Kind, kind_of, normal

HIDDEN = "***"
_GONE = object()


class Treatment(StrEnum):
    """What becomes of a personal field."""

    DROP = "drop"
    """It is not there."""
    MASK = "mask"
    """Its form is there: `j***@example.com`, `***42`, `203.0.113.0/24`."""
    PSEUDONYM = "pseudonym"
    """The same value becomes the same word, `p_` and 26 characters, wherever it stands; only who has the key
    can find out which. Links, texts and secrets are masked."""


class Shield:
    """Hides personal data in the content of events.

    `treatment` is for what `fields` and the built-in map name, the former first. Beyond these, whatever looks
    like an e-mail address, or like a link with a key in it, is masked in every text. `key` is for
    pseudonyms only.
    """

    def __init__(
        self, treatment: Treatment, key: bytes = b"", fields: Mapping[str, Kind | None] | None = None
    ) -> None:
        """`fields`: own names, or names of Zoom's that hold something else than the map says; None: nothing
        personal."""
        self._own = {normal(name): kind for name, kind in (fields or {}).items()}
        self._key = key
        self._treat = {
            Treatment.DROP: _drop,
            Treatment.MASK: _mask,
            Treatment.PSEUDONYM: self._pseudonym_or_mask,
        }[treatment]

    def content(self, content: bytes, name: str, event_ts: int | None) -> bytes:
        """The JSON to send instead. Of content that cannot be read as JSON only name and time are left: what
        cannot be looked through is not shown."""
        try:
            event = json.loads(content)
            if isinstance(event, dict):
                return _encode(self._walk(event, None))
        except (ValueError, RecursionError):
            pass
        return _encode({"event": name} if event_ts is None else {"event": name, "event_ts": event_ts})

    # --- the tree -----------------------------------------------------------------------------------

    def _walk(self, value: Any, kind: Kind | None) -> Any:
        if isinstance(value, dict):
            around = None if kind is Kind.PERSON else kind
            parts = {name: self._walk(part, self._kind(name, around)) for name, part in value.items()}
            return {_looked_through(name): part for name, part in parts.items() if part is not _GONE}
        if isinstance(value, list):
            return [part for item in value if (part := self._walk(item, kind)) is not _GONE]
        if value is None or isinstance(value, bool) or value == "":
            return value
        if kind is None:
            return _looked_through(value) if isinstance(value, str) else value
        return self._treat(kind, str(value))

    def _kind(self, name: str, around: Kind | None) -> Kind | None:
        """What a field holds: by its name, or as a part of what stands around it, unless it is an id."""
        if self._own and (own := normal(name)) in self._own:
            return self._own[own]
        kind = kind_of(name)
        if kind is None and around is not None and not normal(name).endswith(_NEVER_PERSONAL):
            return around
        return kind

    # --- the leaves ---------------------------------------------------------------------------------

    def _pseudonym_or_mask(self, kind: Kind, text: str) -> str:
        if kind in _MASKED_ANYWAY:
            return _mask(kind, text)
        if _PSEUDONYM.fullmatch(text):
            return text
        same = Kind.NAME if kind is Kind.PERSON else kind
        message = f"{same}:{text.strip().casefold()}".encode(errors="surrogatepass")
        digest = hmac.digest(self._key, message, hashlib.sha256)
        return "p_" + base64.b32encode(digest[:16]).decode().rstrip("=").lower()


_MASKED_ANYWAY = frozenset({Kind.LINK, Kind.TEXT, Kind.SECRET})
_NEVER_PERSONAL = (
    "id",
    "ids",
    "uuid",
    "type",
    "time",
    "date",
    "status",
    "timestamp",
    "duration",
    "size",
    "count",
)
"""How names end that are not personal inside of something that is."""
_PSEUDONYM = re.compile(r"p_[a-z2-7]{26}")
# Each begins where a run of its characters does, and gives nothing back: a text of megabytes without a space
# is looked through once.
_EMAIL = re.compile(
    r"(?<![\w.!#$%&'*+/=?^`{|}~-])[\w.!#$%&'*+/=?^`{|}~-]++@(?!xmpp\.zoom\.us)[\w-]++(?:\.[\w-]++)+"
)
_LINK = re.compile(r"(?<!\w)\w++://\S*+")
_key = re.compile(r"[?&/](?:pwd|tk|token|access_token|zak|passcode|code)=", re.IGNORECASE).search


def _looked_through(text: str) -> str:
    """A text of any other field, without addresses and links that stand in it."""
    if "@" in text:
        text = _EMAIL.sub(lambda found: _mask_email(found[0]), text)
    if "://" in text:
        text = _LINK.sub(lambda found: _mask_link(found[0]) if _key(found[0]) else found[0], text)
    return text


def _drop(_kind: Kind, _text: str) -> object:
    return _GONE


def _mask(kind: Kind, text: str) -> str:
    return _MASKS.get(kind, _mask_all)(text)


def _mask_all(_text: str) -> str:
    return HIDDEN


def _mask_name(text: str) -> str:
    return text if text.endswith(HIDDEN) and len(text) <= len(HIDDEN) + 1 else text[0] + HIDDEN


def _mask_email(text: str) -> str:
    """First letter and domain; of several, and of what is no address, nothing."""
    local, at, domain = text.rpartition("@")
    if not at or not local or any(mark in text for mark in ",; "):
        return HIDDEN
    return f"{local[0]}{HIDDEN}@{domain}"


def _mask_phone(text: str) -> str:
    """The last two digits, of a number that has many more."""
    digits = [letter for letter in text if letter.isdigit()]
    if text.startswith(HIDDEN) or len(digits) < 6:
        return text if re.fullmatch(r"\*\*\*\d\d", text) else HIDDEN
    return HIDDEN + "".join(digits[-2:])


def _mask_network(text: str) -> str:
    """The network: /24 or /48."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        try:
            network = ipaddress.ip_network(text)
        except ValueError:
            return HIDDEN
        return text if network.prefixlen == (24 if network.version == 4 else 48) else HIDDEN
    return str(ipaddress.ip_network(f"{address}/{24 if address.version == 4 else 48}", strict=False))


def _mask_link(text: str) -> str:
    """Scheme and host."""
    try:
        parts = urlsplit(text)
        host = parts.hostname
    except ValueError:
        return HIDDEN
    return f"{parts.scheme}://{host}/{HIDDEN}" if parts.scheme and host else HIDDEN


_MASKS: Mapping[Kind, Callable[[str], str]] = {
    Kind.NAME: _mask_name,
    Kind.PERSON: _mask_name,
    Kind.EMAIL: _mask_email,
    Kind.PHONE: _mask_phone,
    Kind.NETWORK: _mask_network,
    Kind.LINK: _mask_link,
}


def _encode(event: dict[str, Any]) -> bytes:
    """Raises ValueError for numbers that JSON has no form for."""
    try:
        text = json.dumps(event, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()
    except UnicodeEncodeError:  # halves of characters, which JSON can only hold in ASCII
        return json.dumps(event, separators=(",", ":"), allow_nan=False).encode()
