"""Sizes as people write them. Pure."""

from __future__ import annotations

import re

_POWERS = {"B": 0, "K": 1, "M": 2, "G": 3, "T": 4}
_SIZE = re.compile(r"\s*(\d{1,18}(?:\.\d{1,6})?)\s*(?:B|([KMGT])(I?)B)?\s*", re.IGNORECASE)
EXPECTED = 'must be a size like "64MiB", or a number of bytes'


def size_bytes(value: object) -> int:
    """Bytes from an integer or from text like `16MiB` (binary), `64KB` (decimal) or `1048576`.

    Raises ValueError with a sentence that says what was expected; the value itself is not in it.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(EXPECTED)
    number, prefix, binary = match.groups()
    base = 1024 if binary else 1000
    return round(float(number) * float(base ** _POWERS[(prefix or "B").upper()]))


def size_text(count_bytes: int) -> str:
    """The shortest exact form with a binary unit, for instance `16MiB`; `size_bytes` reads it back."""
    for prefix in "TGMK":
        whole, rest = divmod(count_bytes, 1024 ** _POWERS[prefix])
        if whole and not rest:
            return f"{whole}{prefix}iB"
    return f"{count_bytes}B"
