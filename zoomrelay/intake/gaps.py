"""One gap, and the append-only file of those that have ended.

`gaps.ndjson` in the state directory, one line per gap, in the order in which they ended:

    {"from": …, "to": …, "seconds": …, "cause": …, "detail": …, "source": …, "subscription": …}

Times are UTC to the millisecond. `seconds` was measured without the wall clock wherever that was possible:
where somebody set the clock meanwhile it differs from `to` - `from`, which is then the longer of the two.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

GAPS = "gaps.ndjson"


class Gap(msgspec.Struct, frozen=True):
    """One interval in which a path was not listening. Times are milliseconds since the epoch."""

    source: str
    subscription: str
    from_ms: int
    to_ms: int | None
    """None while it lasts."""
    seconds: float
    cause: str
    detail: str = ""

    def as_json(self) -> dict[str, Any]:
        """The line in the ledger, and what `zoomrelay gaps --json` prints."""
        return {
            "from": iso(self.from_ms),
            "to": None if self.to_ms is None else iso(self.to_ms),
            "seconds": round(self.seconds, 3),
            "cause": self.cause,
            "detail": self.detail,
            "source": self.source,
            "subscription": self.subscription,
        }


def append(file: Path, gaps: Sequence[Gap]) -> None:
    """Append these gaps and make them durable. Raises `OSError`; then none of them was written."""
    lines = b"".join(json.dumps(gap.as_json()).encode() + b"\n" for gap in gaps)
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


def read_ended(directory: Path) -> list[Gap]:
    """Every gap that has ended. Lines that a crash cut short are left out."""
    try:
        lines = (directory / GAPS).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    return [gap for line in lines if (gap := _parse(line))]


def _parse(line: bytes) -> Gap | None:
    try:
        entry = json.loads(line)
        return Gap(
            entry["source"], entry["subscription"], from_iso(entry["from"]), from_iso(entry["to"]),
            float(entry["seconds"]), entry["cause"], entry["detail"],
        )  # fmt: skip
    except (ValueError, KeyError, TypeError):
        return None


def iso(milliseconds: int) -> str:
    """UTC, to the millisecond: `2026-01-31T12:00:00.000Z`."""
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def from_iso(text: str) -> int:
    """The inverse of `iso`."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)
