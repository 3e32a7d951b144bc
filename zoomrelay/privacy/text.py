"""Personal data in words that somebody else wrote: what can be known by its looks. Pure.

Mail addresses, and telephone numbers with a country code. Names look like any other word.
"""

from __future__ import annotations

import re

MASK = "***"
_ADDRESS = re.compile(r"(?<![\w.+%-])[\w.+%-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+")
_NUMBER = re.compile(r"(?<![\w+.])\+\d[\d ().-]{5,20}\d")


def without_contacts(text: str) -> str:
    """`text` with `***` in place of addresses and numbers."""
    return _NUMBER.sub(MASK, _ADDRESS.sub(MASK, text))
