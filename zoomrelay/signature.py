"""Zoom's signature on an event. Pure.

`x-zm-signature` is `v0=` and the hexadecimal HMAC-SHA256, under the app's Secret Token, of
`v0:{x-zm-request-timestamp}:{content}`, as for webhooks. That the WebSocket carries it too is known from
one program of a Zoom engineer; a mismatch is reported for some contents with emoji.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Literal

Result = Literal["valid", "invalid", "missing"]


def verify(secret_token: bytes, header: Mapping[str, str], content: bytes) -> Result:
    """Whether the signature in `header` (keys in lower case) fits `content`, compared in constant time."""
    signature = header.get("x-zm-signature", "")
    timestamp = header.get("x-zm-request-timestamp", "")
    if not signature or not timestamp:
        return "missing"
    # The `=` was seen to arrive still escaped.
    told = signature.replace("\\u003d", "=").replace("\\u003D", "=").encode("utf-8", "replace")
    signed = b"v0:" + timestamp.encode("utf-8", "replace") + b":" + content
    expected = b"v0=" + hmac.new(secret_token, signed, hashlib.sha256).hexdigest().encode()
    return "valid" if hmac.compare_digest(expected, told) else "invalid"
