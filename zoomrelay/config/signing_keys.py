"""Secrets of Standard Webhooks, as they are written down. Pure."""

from __future__ import annotations

import base64
import binascii

PREFIX = "whsec_"


def signing_keys(text: str) -> tuple[bytes, ...]:
    """The keys in `text`, in order: each in base64, with or without `whsec_` before it, between white space.

    Raises ValueError, which never repeats what was given.
    """
    keys = tuple(_key(number, word) for number, word in enumerate(text.split(), 1))
    if not keys:
        raise ValueError("is empty")
    return keys


def _key(number: int, word: str) -> bytes:
    encoded = word.removeprefix(PREFIX).rstrip("=")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise ValueError(f"entry {number} is not a secret of Standard Webhooks, which is {PREFIX} and base64")
    return key
