"""The gap ledger: every interval in which a subscription had no accepted socket, with its cause.

It is kept in two files of the state directory (`gaps`, `stamp`), independent of the spool, which they must
outlive. A gap begins at the last moment until which everything was received and held, not where the trouble
was noticed, and a little before: what the other side had sent just then may have been under way. It ends
with acceptance. A gap may therefore be longer than the loss it stands for, never shorter; where the wall
clock was set back meanwhile, its beginning is moved back so that it is as long as it was.

Before the very first acceptance of a path there is no gap: nothing was listened to yet.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import structlog

from zoomrelay.clock import Clock, SystemClock
from zoomrelay.intake import stamp
from zoomrelay.intake.gaps import GAPS, Gap, append, mend, read_ended
from zoomrelay.intake.path_ledger import CRASH, UNCLEAN_MARGIN_SECONDS, PathLedger
from zoomrelay.intake.stamp import Stamp
from zoomrelay.telemetry.metrics import Metrics

__all__ = ["Gap", "Ledger", "PathLedger", "append", "read"]

log = structlog.get_logger()

_STAMP_SECONDS = 1.0
_STALE_SECONDS = 10.0
"""A stamp older than this was left behind by a process that is gone."""
_NO_STOP = "the process ended without a stop"
_NO_STAMP = "there is no record of what happened after the last event"


class Ledger:
    """Owns both files. `run` is the service that stamps and writes."""

    def __init__(
        self,
        directory: Path,
        clock: Clock,
        metrics: Metrics,
        held_until_ms: Callable[[int], int] = lambda last_frame_ms: last_frame_ms,
        *,
        boot_id: Callable[[], str] = stamp.boot_id,
    ) -> None:
        """`held_until_ms`: given until when everything was heard, until when it is durable."""
        self.clock = clock
        self._held_until_ms = held_until_ms
        self._directory = directory
        self._metrics = metrics
        self._boot = boot_id()
        self._paths: dict[tuple[str, str], PathLedger] = {}
        self._unwritten: list[Gap] = []
        self._wake = asyncio.Event()
        self._stopping = False
        self._in_trouble = False

    def open(self, paths: Sequence[tuple[str, str]], last_received: Mapping[tuple[str, str], int]) -> None:
        """Begin with these paths; what the last process left behind becomes their open gaps.
        `last_received` is what the spool knows, for a path without a stamp. It is not to be preferred to
        one: an event may be received long after it came, while others still wait in the socket."""
        left = stamp.read(self._directory)
        written = {(gap.source, gap.subscription): gap for gap in read_ended(self._directory)}
        for key in paths:
            self._paths[key] = path = PathLedger(self, *key)
            self._resume(path, left, last_received.get(key), written.get(key))
        try:
            mend(self._directory / GAPS)
            stamp.write(self._directory, self._stamp(), sync=True)
            _sync_directory(self._directory)
        except OSError as error:
            self._note_trouble(error)

    def _resume(
        self, path: PathLedger, left: Stamp, last_received_ms: int | None, written: Gap | None
    ) -> None:
        """Open the gap that the last process left behind."""
        known = left.paths.get(_name(path))
        away = left.age_seconds(self.clock, self._boot)
        if known is None:
            if last_received_ms is not None:
                path.crashed(last_received_ms, _NO_STAMP, age_seconds=None)
        elif known.held_ms is not None:
            path.crashed(
                known.held_ms, _NO_STOP, age_seconds=_plus(away, _lasted_seconds(left, known.held_ms))
            )
        elif known.from_ms is not None and (ended_ms := _ended_ms(written, known.from_ms)):
            # It was accepted, wrote the gap, and was killed before it stamped that.
            path.crashed(ended_ms, _NO_STOP, age_seconds=None)
        elif known.from_ms is not None:
            age = _plus(away, _lasted_seconds(left, known.from_ms, known.age_seconds))
            path.begin(known.from_ms, known.cause, known.detail, age_seconds=age)

    def path(self, source: str, subscription: str) -> PathLedger:
        return self._paths[source, subscription]

    def held_until_ms(self, heard_ms: int) -> int:
        """Given until when everything was heard, until when it is durable."""
        return self._held_until_ms(heard_ms)

    def ended(self, gap: Gap) -> None:
        """A gap has ended: count it, and write it soon."""
        log.info("gap.ended", **{name: value for name, value in gap.as_json().items() if value != ""})
        self._metrics.gaps.labels(gap.source, gap.cause).inc()
        self._metrics.gap_seconds.labels(gap.source, gap.cause).inc(gap.seconds)
        self._unwritten.append(gap)

    # --- the service --------------------------------------------------------------------------------

    def stamp_soon(self) -> None:
        self._wake.set()

    def stop(self) -> None:
        """`run` returns after a last write."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Stamp every second, and at once when something changed."""
        while not self._stopping:
            try:
                async with asyncio.timeout(_STAMP_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            await self.write()

    async def write(self) -> None:
        """Write what there is. Trouble with the disk is logged once; nothing is forgotten meanwhile."""
        # Taken together: a stamp must not say that a gap has ended which is not written yet.
        gaps, now = self._unwritten[:], self._stamp()
        try:
            if gaps:
                await asyncio.to_thread(append, self._directory / GAPS, gaps)
                del self._unwritten[: len(gaps)]
            await asyncio.to_thread(stamp.write, self._directory, now)
        except OSError as error:
            self._note_trouble(error)
        else:
            if self._in_trouble:
                log.info("ledger.write_recovered", directory=str(self._directory))
            self._in_trouble = False

    def _note_trouble(self, error: OSError) -> None:
        if not self._in_trouble:
            log.error("ledger.write_failed", directory=str(self._directory), error=error.strerror)
        self._in_trouble = True

    def _stamp(self) -> Stamp:
        paths = {_name(path): path.stamp() for path in self._paths.values()}
        return Stamp(int(self.clock.wall() * 1000), self._boot, round(self.clock.elapsed(), 3), paths)


def read(
    directory: Path, clock: Clock | None = None, *, boot_id: Callable[[], str] = stamp.boot_id
) -> list[Gap]:
    """Every gap, ended ones first, then those that last (`to_ms` is None): also where the relay was
    stopped, or killed and not started again. Raises `OSError`."""
    return read_ended(directory) + _still_open(stamp.read(directory), clock or SystemClock(), boot_id())


def _still_open(left: Stamp, clock: Clock, boot: str) -> list[Gap]:
    age = left.age_seconds(clock, boot)
    age = age if age is not None else clock.wall() - left.at / 1000
    gaps = []
    for name, known in left.paths.items():
        source, _, subscription = name.partition("/")
        from_ms, cause, detail = known.from_ms, known.cause, known.detail
        if known.held_ms is not None and age > _STALE_SECONDS:
            from_ms, cause, detail = known.held_ms - int(UNCLEAN_MARGIN_SECONDS * 1000), CRASH, _NO_STOP
        if from_ms is not None:
            lasted = _lasted_seconds(left, from_ms, known.age_seconds)
            seconds = round(max(0.0, lasted + max(0.0, age)), 3)
            gaps.append(Gap(source, subscription, from_ms, None, seconds, cause, detail))
    return gaps


def _ended_ms(written: Gap | None, from_ms: int) -> int | None:
    """When the gap that is said to be open has ended, if the last written one of its path is the same."""
    if written is None or written.to_ms is None or not written.from_ms <= from_ms < written.to_ms:
        return None
    return written.to_ms


def _lasted_seconds(left: Stamp, from_ms: int, age_seconds: float | None = None) -> float:
    """From then to the stamp; where the wall clock was set back between the two, at least nothing."""
    return age_seconds if age_seconds is not None else max(0.0, (left.at - from_ms) / 1000)


def _plus(seconds: float | None, more: float) -> float | None:
    return None if seconds is None else max(0.0, seconds + more)


def _name(path: PathLedger) -> str:
    return f"{path.source}/{path.subscription}"


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
