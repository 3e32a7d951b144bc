"""One entry of the gap ledger, and the append-only file of those that have ended.

`gaps.ndjson` in the state directory, one line per entry, in the order in which they ended:

    {"from": …, "to": …, "seconds": …, "cause": …, "detail": …, "source": …, "subscription": …,
     "paths": ["source/subscription", …], "covered": …
     [, "covered_by": [subscription, …]] [, "estimated_events": …] [, "events": …] [, "sink": …]}

Times are UTC to the millisecond. `seconds` was measured without the wall clock wherever that was possible:
where somebody set the clock meanwhile it differs from `to` - `from`, which is then the longer of the two.

An entry with a `subscription` is an interval without an accepted socket. One without is a `Trouble`; its
`source` is empty where it concerns the relay as a whole. `paths` and what follows may be missing: lines of
older versions have none of it.

`covered_by` is what was known when the entry was written. A twin that had been deaf just then is found out
later, and has an entry of its own: `cover.corrected` takes both together.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from zoomrelay.event import WEBHOOK

GAPS = "gaps.ndjson"


class Trouble(StrEnum):
    """Causes beside those of sockets, which are the session's words."""

    PAUSED = "paused"
    """Sockets were not read, for too much was not yet durable. Nothing is lost: Zoom's side is held back."""
    SPOOL_UNWRITABLE = "spool_unwritable"
    """The spool took nothing. Nothing is lost while the process lives: what comes waits."""
    SPOOL_SET_ASIDE = "spool_set_aside"
    """A damaged spool was replaced; `events`: pending ones that could not be recovered."""
    SHED = "shed"
    """`max_bytes` was reached; `events` were given up for `sink`."""
    SIGNATURE_REFUSED = "signature_refused"
    """`events` whose signature does not fit were kept as dead letters of the source."""


LOSSLESS = frozenset({Trouble.PAUSED, Trouble.SPOOL_UNWRITABLE})
WEBHOOK_RETRIED_SECONDS = 85 * 60.0
"""So long after the first try Zoom's last one comes: what a webhook missed in a shorter time comes again."""


class Gap(msgspec.Struct, frozen=True, omit_defaults=True):
    """One interval in which something was missed, or could have been. Milliseconds since the epoch."""

    source: str
    subscription: str
    from_ms: int
    to_ms: int | None
    """None while it lasts."""
    seconds: float
    cause: str
    detail: str = ""
    sink: str = ""
    paths: tuple[str, ...] = ()
    """`source/subscription` of those that it concerns, where it has no `subscription`."""
    events: int | None = None
    """Counted; None where that is impossible."""
    estimated_events: float | None = None
    """How many Zoom would have sent on this path, going by the rate before; None where none was known."""
    covered_by: tuple[str, ...] = ()
    """Subscriptions of the same source that were listened to all the time."""
    healed_events: int = 0
    """So many of its events came by webhook. This and what follows is found when the ledger is read
    (`healing`)."""
    healed: bool = False
    """They came, and the webhook was never closed for so long that Zoom gave up."""
    may_heal_until_ms: int | None = None
    """More may come until then."""

    @property
    def lossless(self) -> bool:
        """Nothing is lost by it, as far as is known: a twin has everything, it came by webhook, or it was
        only delayed. Zoom itself sends again what a webhook did not answer, for a while."""
        retried = self.subscription == WEBHOOK and self.seconds < WEBHOOK_RETRIED_SECONDS
        return bool(self.covered_by) or self.healed or retried or self.cause in LOSSLESS

    @property
    def name(self) -> str:
        """What it concerns, the same from the beginning of a gap to its end."""
        parts = (self.source or "zoomrelay", self.subscription or self.cause, self.sink)
        return "/".join(part for part in parts if part)

    def as_json(self) -> dict[str, Any]:
        """The line in the ledger, and what `zoomrelay gaps --json` prints."""
        optional = {
            "covered_by": list(self.covered_by) or None,
            "estimated_events": self.estimated_events,
            "events": self.events,
            "sink": self.sink or None,
            "healed": self.healed or None,
            "healed_events": self.healed_events or None,
            "may_heal_until": None if self.may_heal_until_ms is None else iso(self.may_heal_until_ms),
        }
        return {
            "from": iso(self.from_ms),
            "to": None if self.to_ms is None else iso(self.to_ms),
            "seconds": round(self.seconds, 3),
            "cause": self.cause,
            "detail": self.detail,
            "source": self.source,
            "subscription": self.subscription,
            "paths": list(self.paths) if not self.subscription else [f"{self.source}/{self.subscription}"],
            "covered": bool(self.covered_by),
            **{name: value for name, value in optional.items() if value is not None},
        }


def append(file: Path, gaps: Sequence[Gap], more: Sequence[bytes] = ()) -> None:
    """Append these gaps, and other lines, and make them durable. Raises `OSError`; then none of them was
    written."""
    written = [json.dumps(gap.as_json()).encode() for gap in gaps]
    lines = b"".join(line + b"\n" for line in (*written, *more))
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        try:
            while lines:
                lines = lines[os.write(descriptor, lines) :]
            os.fdatasync(descriptor)
        except OSError:
            # Half a line would spoil the next one.
            with suppress(OSError):
                os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)


def mend(file: Path) -> None:
    """End a last line that a crash cut short, so that the next one begins on a line of its own."""
    try:
        with file.open("rb+") as ledger:
            if ledger.seek(0, os.SEEK_END) and ledger.seek(-1, os.SEEK_END) >= 0 and ledger.read(1) != b"\n":
                ledger.write(b"\n")
    except FileNotFoundError:
        pass


def read_text(directory: Path) -> bytes:
    """The file as it is; empty where there is none."""
    try:
        return (directory / GAPS).read_bytes()
    except FileNotFoundError:
        return b""


def read_ended(directory: Path) -> list[Gap]:
    """Every entry that has ended."""
    return entries(read_text(directory))


def entries(ledger: bytes) -> list[Gap]:
    """Those in the ledger's text. Lines that a crash cut short are left out, and those that are no entries
    (`healing`)."""
    return [gap for line in ledger.splitlines() if (gap := _parse(line))]


class _Line(msgspec.Struct, rename={"from_": "from"}):
    from_: str
    to: str
    seconds: float
    cause: str
    detail: str
    source: str
    subscription: str
    paths: tuple[str, ...] = ()
    covered_by: tuple[str, ...] = ()
    estimated_events: float | None = None
    events: int | None = None
    sink: str = ""


_decode = msgspec.json.Decoder(_Line).decode


def _parse(line: bytes) -> Gap | None:
    try:
        entry = _decode(line)
        return Gap(
            entry.source,
            entry.subscription,
            from_iso(entry.from_),
            from_iso(entry.to),
            entry.seconds,
            entry.cause,
            entry.detail,
            entry.sink,
            () if entry.subscription else entry.paths,
            entry.events,
            entry.estimated_events,
            entry.covered_by,
        )
    except (msgspec.MsgspecError, ValueError):
        return None


def iso(milliseconds: int) -> str:
    """UTC, to the millisecond: `2026-01-31T12:00:00.000Z`."""
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def from_iso(text: str) -> int:
    """The inverse of `iso`."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)
