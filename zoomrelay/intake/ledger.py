"""The gap ledger: every interval in which a subscription had no accepted socket, with its cause.

Two files in the state directory, both independent of the spool, which they must outlive:

    gaps.ndjson   append-only, one line per gap that has ended:
                  {"from": …, "to": …, "seconds": …, "cause": …, "detail": …, "source": …, "subscription": …}
    alive.json    rewritten every second: for each path until when everything was held, or since when and
                  why it is not listening. What a crash leaves behind becomes a gap at the next start.

A gap begins where the last frame was received and held while the socket was surely whole
(`session.hearing`), not where the trouble was noticed, and a little before: what the other side had sent
just then may have been under way. It ends with acceptance. A gap may
therefore be longer than the loss it stands for, never shorter.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import structlog

from zoomrelay.clock import Clock
from zoomrelay.telemetry.metrics import Metrics

log = structlog.get_logger()

GAPS = "gaps.ndjson"
ALIVE = "alive.json"

CLEAN_MARGIN_SECONDS = 0.25
"""Before a proper close: the way from there to us."""
UNCLEAN_MARGIN_SECONDS = 1.0
"""Before the last frame of a socket that broke, or of a process that was killed."""
_STAMP_SECONDS = 1.0
_STAMP_WIDTH = 512


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


class PathLedger:
    """The ledger's view of one subscription; a session's `PathListener`."""

    def __init__(self, ledger: Ledger, source: str, subscription: str) -> None:
        self._ledger = ledger
        self.source = source
        self.subscription = subscription
        self.listening = False
        self.held_ms = 0
        self.open_from_ms: int | None = None
        """Start of the open gap; None while listening, and before the very first acceptance."""
        self.cause = ""
        self.detail = ""
        self._open_since: float | None = None

    def accepted(self, wall: float) -> None:
        self.listening = True
        self.held_ms = int(wall * 1000)
        if self.open_from_ms is not None:
            self._ledger.ended(self._gap(self.open_from_ms, self.held_ms))
            self.open_from_ms = None
        self._ledger.stamp_soon()

    def lost(self, cause: str, detail: str, *, clean: bool, heard_until: float) -> None:
        wall = self._ledger.clock.wall()
        start = heard_until - (CLEAN_MARGIN_SECONDS if clean else UNCLEAN_MARGIN_SECONDS)
        self.listening = False
        self.begin(int(start * 1000), cause, detail, age=max(0.0, wall - start))
        self._ledger.stamp_soon()

    def alive(self, heard_until: float) -> None:
        self.held_ms = self._ledger.held_until_ms(int(heard_until * 1000))

    def begin(self, from_ms: int, cause: str, detail: str, *, age: float | None = None) -> None:
        """Open a gap; `age` is for how many seconds it has lasted, where the clocks of this boot know."""
        self.open_from_ms, self.cause, self.detail = from_ms, cause, detail
        self._open_since = None if age is None else self._ledger.clock.elapsed() - age

    def open_gap(self) -> Gap | None:
        """The gap that lasts, if there is one."""
        if self.open_from_ms is None:
            return None
        now_ms = int(self._ledger.clock.wall() * 1000)
        return msgspec.structs.replace(self._gap(self.open_from_ms, now_ms), to_ms=None)

    def _gap(self, from_ms: int, to_ms: int) -> Gap:
        """Measured in elapsed time where that is known: the wall clock may have been set meanwhile."""
        seconds = max(0.0, (to_ms - from_ms) / 1000)
        if self._open_since is not None:
            seconds = self._ledger.clock.elapsed() - self._open_since
            if to_ms < from_ms:
                from_ms = to_ms - int(seconds * 1000)
        return Gap(
            self.source, self.subscription, min(from_ms, to_ms), to_ms, seconds, self.cause, self.detail
        )


class Ledger:
    """Owns both files. `run` is the service that stamps and writes."""

    def __init__(
        self,
        directory: Path,
        clock: Clock,
        metrics: Metrics,
        held_until_ms: Callable[[int], int] = lambda last_frame_ms: last_frame_ms,
    ) -> None:
        self._directory = directory
        self.clock = clock
        self._metrics = metrics
        self.held_until_ms = held_until_ms
        """Given when the last frame came, until when everything received is durable."""
        self._paths: dict[tuple[str, str], PathLedger] = {}
        self._unwritten: list[Gap] = []
        self._wake = asyncio.Event()
        self._failed = False

    def open(self, paths: Sequence[tuple[str, str]], last_received: Mapping[tuple[str, str], int]) -> None:
        """Begin with these paths; what the last process left behind becomes their open gaps.
        `last_received` is what the spool knows, for when the stamp was lost."""
        before = _read_stamp(self._directory)
        for source, subscription in paths:
            path = PathLedger(self, source, subscription)
            self._paths[source, subscription] = path
            left = before.get("paths", {}).get(_name(source, subscription))
            if left is None and (source, subscription) in last_received:
                left = {"held_ms": last_received[source, subscription]}
            _resume(path, left or {})
        mend(self._directory / GAPS)
        self._stamp()

    def path(self, source: str, subscription: str) -> PathLedger:
        return self._paths[source, subscription]

    def gaps_open(self) -> list[Gap]:
        return [gap for path in self._paths.values() if (gap := path.open_gap())]

    def ended(self, gap: Gap) -> None:
        """A gap has ended: count it, and write it soon."""
        log.info("gap.ended", **gap.as_json())
        self._metrics.gaps.labels(gap.source, gap.cause).inc()
        self._metrics.gap_seconds.labels(gap.source, gap.cause).inc(gap.seconds)
        self._unwritten.append(gap)

    def stamp_soon(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        """Stamp every second, and at once when something changed."""
        while True:
            try:
                async with asyncio.timeout(_STAMP_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            await self.write()

    async def write(self) -> None:
        """Write what there is. Trouble with the disk is logged once; nothing is forgotten meanwhile."""
        gaps, self._unwritten = self._unwritten, []
        try:
            if gaps:
                await asyncio.to_thread(append, self._directory / GAPS, gaps)
                gaps = []
            self._stamp()
            self._failed = False
        except OSError as error:
            self._unwritten = gaps + self._unwritten
            if not self._failed:
                log.error("ledger.write_failed", directory=str(self._directory), error=error.strerror)
            self._failed = True

    def _stamp(self) -> None:
        """One small write in place, not synced: a kill loses nothing of it, a power cut some seconds, by
        which the gap is then longer."""
        paths = {_name(*key): _stamp_of(path) for key, path in self._paths.items()}
        line = json.dumps({"at": int(self.clock.wall() * 1000), "paths": paths}).encode()
        width = -(-len(line) // _STAMP_WIDTH) * _STAMP_WIDTH
        descriptor = os.open(self._directory / ALIVE, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(descriptor, line.ljust(width), 0)
            os.ftruncate(descriptor, width)
        finally:
            os.close(descriptor)


def _stamp_of(path: PathLedger) -> dict[str, Any]:
    if path.listening:
        return {"held_ms": path.held_ms}
    if path.open_from_ms is None:
        return {}
    return {"from_ms": path.open_from_ms, "cause": path.cause, "detail": path.detail}


def _resume(path: PathLedger, left: dict[str, Any]) -> None:
    """Open the gap that the last process left behind."""
    if "from_ms" in left:
        path.begin(left["from_ms"], left.get("cause", "stopped"), left.get("detail", ""))
    elif "held_ms" in left:
        from_ms = left["held_ms"] - int(UNCLEAN_MARGIN_SECONDS * 1000)
        path.begin(from_ms, "crash", "the process ended without a stop")


def _name(source: str, subscription: str) -> str:
    return f"{source}/{subscription}"


def _read_stamp(directory: Path) -> dict[str, Any]:
    try:
        stamp = json.loads((directory / ALIVE).read_bytes())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def append(file: Path, gaps: Sequence[Gap]) -> None:
    """Append these gaps and make them durable. Raises `OSError`; then none counts as written."""
    lines = b"".join(json.dumps(gap.as_json()).encode() + b"\n" for gap in gaps)
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, lines)
        os.fdatasync(descriptor)
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


def read(directory: Path) -> list[Gap]:
    """Every gap, ended ones first, then those that were open when the last stamp was made (`to_ms` is
    None). Lines that a crash cut short are left out."""
    try:
        lines = (directory / GAPS).read_bytes().splitlines()
    except FileNotFoundError:
        lines = []
    return [gap for line in lines if (gap := _parse(line))] + _still_open(directory)


def _parse(line: bytes) -> Gap | None:
    try:
        entry = json.loads(line)
        return Gap(
            entry["source"], entry["subscription"], from_iso(entry["from"]), from_iso(entry["to"]),
            float(entry["seconds"]), entry["cause"], entry["detail"],
        )  # fmt: skip
    except (ValueError, KeyError, TypeError):
        return None


def _still_open(directory: Path) -> list[Gap]:
    stamp = _read_stamp(directory)
    gaps = []
    for name, left in stamp.get("paths", {}).items():
        source, _, subscription = name.partition("/")
        if "from_ms" in left:
            seconds = max(0.0, (stamp["at"] - left["from_ms"]) / 1000)
            gaps.append(
                Gap(source, subscription, left["from_ms"], None, seconds, left["cause"], left["detail"])
            )
    return gaps


def iso(milliseconds: int) -> str:
    """UTC, to the millisecond: `2026-01-31T12:00:00.000Z`."""
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def from_iso(text: str) -> int:
    """The inverse of `iso`."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)
