"""Headers that a user adds to requests: what is accepted. Pure.

Values are secrets: no ValueError repeats one.
"""

from __future__ import annotations

import re

from pydantic import SecretStr

_OURS = re.compile(
    "connection|content-(encoding|length|type)|expect|host|keep-alive|proxy-(authorization|connection)|te|"
    "trailer|transfer-encoding|upgrade|(ce|webhook|x-zm)-.*"
)


def header_name(text: str) -> str:
    """`text` itself, once it is known to be a field name (RFC 9110) that requests leave to the user."""
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", text):
        raise ValueError("each key must be the name of an HTTP header")
    if _OURS.fullmatch(text.lower()):
        raise ValueError("is a header that the sink sets itself")
    return text


def header_value(secret: SecretStr) -> SecretStr:
    """`secret` itself, once it is known to be printable ASCII without white space at its ends."""
    value = secret.get_secret_value()
    if not re.fullmatch(r"[\t\x20-\x7e]*", value) or value != value.strip():
        raise ValueError("must be one line of plain characters, without spaces at its ends")
    return secret
