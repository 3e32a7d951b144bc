"""Bodies made smaller: pure."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable

from zoomrelay.config.models import Compression

GZIP_LEVEL = 4
"""Of JSON, the levels above take away little more, at several times the cost."""


def compressor(kind: Compression) -> Callable[[bytes], bytes] | None:
    """What makes a body of this `content-encoding`; None for bodies as they are."""
    match kind:
        case "gzip":
            return lambda body: gzip.compress(body, GZIP_LEVEL, mtime=0)
        case "zstd":
            return _zstd()
    return None


def _zstd() -> Callable[[bytes], bytes]:
    # Imported where it is wanted, as every part of a sink.
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd

    def compressed(body: bytes) -> bytes:
        made: bytes = zstd.compress(body)
        return made

    return compressed
