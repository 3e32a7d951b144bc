"""JSON in the one spelling that every receiver of Zoom's webhooks can verify. Pure.

Most verify the bytes of the body. Zoom's own Node library (@zoom/rivet 0.4) verifies what
`JSON.stringify(JSON.parse(body))` makes of it: the same, for JSON as Zoom writes it, but not where it has
white space between its tokens, or escapes without need, as of a slash. So these are respelled before signing.
The spelling of numbers and the order of keys are left alone: they would change what the event says.
"""

from __future__ import annotations

import json
import re

import msgspec

_ESCAPE = re.compile(r"\\(?:u([dD][89abAB]..)\\u([dD][c-fC-F]..)|u(....)|(.))")


def as_javascript(content: bytes) -> bytes:
    """`content` without needless escapes and white space; itself where it is not JSON in UTF-8."""
    try:
        compact = _compact(content)
        return _ESCAPE.sub(_respelled, compact.decode()).encode() if b"\\" in compact else compact
    except (ValueError, RecursionError):
        return content


def _compact(content: bytes) -> bytes:
    """Without white space between tokens. Raises ValueError or RecursionError where it is not JSON."""
    try:
        return msgspec.json.format(content, indent=-1)
    except msgspec.DecodeError:
        json.loads(content)  # msgspec does not take an escaped half of a pair
        return content


def _respelled(escape: re.Match[str]) -> str:
    high, low, single, letter = escape.groups()
    if high:
        return chr(0x10000 + (int(high, 16) - 0xD800 << 10) + int(low, 16) - 0xDC00)
    if single:
        return _written(int(single, 16))
    return "/" if letter == "/" else escape[0]


def _written(code: int) -> str:
    """JavaScript escapes what must be, and halves of pairs."""
    if 0xD800 <= code <= 0xDFFF:
        return f"\\u{code:04x}"
    return json.dumps(chr(code), ensure_ascii=False)[1:-1]
