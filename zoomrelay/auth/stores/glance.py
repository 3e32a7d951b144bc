"""A look at the token cache on disk by who only wants to know whether there is a token.

Apart from `stores.file`, and importing next to nothing: a script that asks for a token a thousand times
should find it in milliseconds. Whatever is not plainly in order is left to `stores.file`, which explains
and mends it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec

from zoomrelay.auth.record import VERSION, Moment, Record, app_id
from zoomrelay.auth.token import Instant, Token
from zoomrelay.clock import Clock, boot_id
from zoomrelay.config.models import SourceConfig

_MAX_BYTES = 1024 * 1024
_OTHERS = 0o077


def glance(
    state_dir: Path, source: SourceConfig, clock: Clock, min_life_seconds: float, share: float
) -> Token | None:
    """The cached token of this source, if it `serves`; None where that cannot be told.

    Takes no lock and changes nothing. The `issued` of the token counts from `clock.elapsed()` on both clocks.
    """
    app = app_id(source)
    content = _read(state_dir / "tokens" / f"{app}.json")
    try:
        record = msgspec.json.decode(content, type=Record)
    except (msgspec.DecodeError, RecursionError):
        return None
    if record.version != VERSION or record.app != app or record.access is None:
        return None
    elapsed = clock.elapsed()
    now = Instant(elapsed, elapsed)
    token = record.access.revived(Moment(clock.wall(), elapsed, boot_id()), now)
    return token if token is not None and token.serves(now, min_life_seconds, share) else None


def _read(path: Path) -> bytes:
    """What is in a regular file that nobody else may read or write; nothing if it is any other."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        status = os.fstat(descriptor)
        ours = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
        return os.read(descriptor, _MAX_BYTES) if ours and not status.st_mode & _OTHERS else b""
    except OSError:
        return b""
    finally:
        os.close(descriptor)
