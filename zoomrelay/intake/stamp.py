"""The last sign of life: what a crash leaves behind, so that the next start knows the gap.

`alive.json` in the state directory, rewritten in place every second:

    {"at": wall ms, "boot": id of this boot, "elapsed": seconds of this boot,
     "paths": {"source/subscription": {"held_ms": …}                          listening; all held until then
                                    | {"from_ms": …, "age_seconds": …, "cause": …, "detail": …,
                                       "covered_by": [subscription, …]        not listening
                                       [, "heard_ms": …]}                     surely heard until then
                                    | {}}                                     never accepted
                                     each with "rate": events per second of the last minutes, if known
     [, "troubles": [gap, …]]           episodes that last, beside the sockets
     [, "healings": [healing, …]]       counts that are not in the ledger yet (see `healing`)
     [, "unwritten": [gap, …]]          entries that the ledger's disk did not take yet
     [, "announcing": [[source, content], …]]}   gap events on their way to the spool

It is not synced: a kill loses nothing of it; a power cut may lose it, and then the spool's newest event says
from when on nothing is known. `boot` and `elapsed` tell how long ago it was made, whatever the wall clock
was set to since; `age_seconds` does so for the gap.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec

from zoomrelay.clock import Clock
from zoomrelay.intake.gaps import Gap
from zoomrelay.intake.healing import Healing

ALIVE = "alive.json"
_BLOCK_BYTES = 512


class PathStamp(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of one path; see above."""

    held_ms: int | None = None
    from_ms: int | None = None
    age_seconds: float | None = None
    """How long the gap had lasted; None where only the wall clock could tell."""
    cause: str = ""
    detail: str = ""
    rate: float | None = None
    covered_by: tuple[str, ...] = ()
    heard_ms: int | None = None
    """The socket was closed properly, and everything until then was heard and is held. `from_ms` is earlier,
    by a margin for what was under way; to somebody who was accepted by then nothing is missing."""


class Stamp(msgspec.Struct, frozen=True, omit_defaults=True):
    """One sign of life."""

    at: int = 0
    boot: str = ""
    elapsed: float = 0.0
    paths: dict[str, PathStamp] = {}
    troubles: tuple[Gap, ...] = ()
    healings: tuple[Healing, ...] = ()
    unwritten: tuple[Gap, ...] = ()
    announcing: tuple[tuple[str, str], ...] = ()

    def lasted_seconds(self, from_ms: int, age_seconds: float | None = None) -> float:
        """From then to the stamp; where the wall clock was set back between the two, at least nothing."""
        return age_seconds if age_seconds is not None else max(0.0, (self.at - from_ms) / 1000)

    def age_seconds(self, clock: Clock, boot: str) -> float | None:
        """How long ago it was made; None where only the wall clock could tell."""
        seconds = clock.elapsed() - self.elapsed
        return seconds if boot and boot == self.boot and seconds >= 0 else None


def write(directory: Path, stamp: Stamp, *, sync: bool = False) -> None:
    """One small write over the last stamp. Raises `OSError`; where it needs more space than there is, the
    last stamp is whole."""
    content = msgspec.json.encode(stamp)
    width = -(-len(content) // _BLOCK_BYTES) * _BLOCK_BYTES
    descriptor = os.open(directory / ALIVE, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if width > os.fstat(descriptor).st_size:
            _reserve(descriptor, width)
        os.pwrite(descriptor, content.ljust(width), 0)
        os.ftruncate(descriptor, width)
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reserve(descriptor: int, width: int) -> None:
    """Raises `OSError` where the disk has no room, before anything was written."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, width)


def read(directory: Path) -> Stamp:
    """The last stamp; an empty one where there is none, or none that can be read."""
    try:
        content = (directory / ALIVE).read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return Stamp()
    try:
        # What follows the first value is left of a longer stamp, whose end is about to be cut off.
        document: Any = json.JSONDecoder().raw_decode(content)[0]
        return msgspec.convert(document, Stamp)
    except (ValueError, msgspec.ValidationError):
        return Stamp()
