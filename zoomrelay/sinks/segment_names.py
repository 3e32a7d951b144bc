"""What the files of a rotating file sink are called. Pure.

For the path `events.ndjson`:

| name | what it is |
|---|---|
| `events.ndjson.part` | the segment that is being written |
| `events-20260131T120000.123Z.ndjson` | one that has ended, at that moment (UTC), without compression |
| `events-20260131T120000.123Z.ndjson.full` | one that has ended and is still to be compressed |
| `events-20260131T120000.123Z.ndjson.gz.1234-1.tmp` | the same, half compressed |
| `events-20260131T120000.123Z.ndjson.gz` | the same, compressed |

So what ends in `.part`, `.full` or `.tmp` is not for others, and everything else is whole and stays as it is.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from zoomrelay.config.path_template import part_pattern

PART, FULL, TMP = ".part", ".full", ".tmp"
ENDINGS = {"none": "", "gzip": ".gz", "zstd": ".zst"}
"""By the sink's `compression`."""

_STAMP = r"-[0-9]{8}T[0-9]{6}\.[0-9]{3}Z"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def part(path: Path) -> Path:
    """The segment of `path` that is being written."""
    return path.with_name(path.name + PART)


def finished(path: Path, wall_ms: int) -> Path:
    """A segment of `path` that ended at this moment, milliseconds since the epoch."""
    moment = _EPOCH + timedelta(milliseconds=wall_ms)
    stamp = f"{moment:%Y%m%dT%H%M%S}.{wall_ms % 1000:03d}Z"
    return path.with_name(f"{path.stem}-{stamp}{path.suffix}")


def is_part(name: str, last: str) -> bool:
    """Whether `name` is the open segment of some path whose last part is from this part of a template."""
    return _matches(part_pattern(last) + re.escape(PART), name)


def is_full(name: str, last: str) -> bool:
    """Whether `name` is a segment that waits to be compressed."""
    return _matches(_finished_pattern(last) + re.escape(FULL), name)


def is_tmp(name: str, last: str) -> bool:
    """Whether `name` is what somebody was compressing."""
    return _matches(_finished_pattern(last) + r"\.(gz|zst)\.[0-9]+-[0-9]+" + re.escape(TMP), name)


def _finished_pattern(last: str) -> str:
    # What fills a placeholder holds no dot, so the template is taken apart where its outcome is.
    whole = Path(last)
    return part_pattern(whole.stem) + _STAMP + part_pattern(whole.suffix)


def compiled(pattern: str) -> re.Pattern[str]:
    """`re` keeps those that it has compiled."""
    return re.compile(pattern)


def _matches(pattern: str, name: str) -> bool:
    return re.fullmatch(pattern, name) is not None
