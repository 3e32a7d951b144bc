"""Exit codes, and which error becomes which."""

from __future__ import annotations

import math

from zoomrelay.errors import (
    ConfigError,
    ConsentError,
    SpoolError,
    SpoolFormatError,
    StateDirectoryError,
    TakeoverRefused,
    TokenError,
    TokenStoreError,
)

OK = 0
CRASH = 1
USAGE = 2
CONFIG = 78
"""Bad configuration or a state directory that is not ours to use (sysexits' EX_CONFIG): a supervisor
must not start us again before somebody has acted."""

NEEDS_SOMEBODY = (ConfigError, StateDirectoryError, SpoolFormatError, TakeoverRefused)
"""Errors that end a command with `CONFIG`."""
RETRY = (SpoolError, TokenError, TokenStoreError, ConsentError)
"""Errors that end a command with `CRASH`, in words: a full disk needs no other start than the next."""


def in_words(error: Exception) -> str:
    """What standard error shows for one of `NEEDS_SOMEBODY` or `RETRY`; it holds no secret."""
    if isinstance(error, TokenError):
        return "\n".join([f"zoomrelay: {error}", *_what_next(error)])
    if not isinstance(error, ConfigError):
        return f"zoomrelay: {error}"
    count = len(error.problems)
    head = f"zoomrelay: the configuration has {count} problem{'s' if count != 1 else ''}"
    return "\n".join([head, *(f"  {problem}" for problem in error.problems)])


def _what_next(error: TokenError) -> list[str]:
    wait_seconds = math.ceil(error.retry_after or 0)
    rest = f"Zoom is not asked again for {wait_seconds} s; `zoomrelay token --forget` lifts that"
    return [f"  {line}" for line in (error.cure, rest if wait_seconds > 0 else "") if line]
