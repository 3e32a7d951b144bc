"""Notices when the event loop stands still, and writes down what it was doing.

    state_dir/stalls/20260101T000000Z.txt   stacks of all threads and tasks; the newest ten are kept

The loop beats; a thread of its own listens. So it is seen, and written, while it lasts: a loop that never
turns again leaves its stack behind all the same.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import structlog

from zoomrelay.telemetry.metrics import Metrics
from zoomrelay.telemetry.redaction import redact
from zoomrelay.telemetry.stacks import place, stacks

log = structlog.get_logger()

DIRECTORY = "stalls"
STALL_SECONDS = 1.0
KEPT = 10
DUMP_EVERY_SECONDS = 60.0
_BEAT_SECONDS = 0.1
_NOT_SEEN = "it was over before its stacks could be taken: process or machine paused, or one long call in C"


class StallWatch:
    """Watches the loop that awaits `run`. Counts every stall; tells of at most one a minute."""

    def __init__(
        self,
        state_dir: Path,
        metrics: Metrics,
        *,
        stall_seconds: float = STALL_SECONDS,
        every_seconds: float = DUMP_EVERY_SECONDS,
    ) -> None:
        self._directory = state_dir / DIRECTORY
        self._metrics = metrics
        self._stall_seconds = stall_seconds
        self._every_seconds = every_seconds
        self._over = threading.Event()
        self._telling = threading.Lock()
        self._quiet_until = float("-inf")
        self._beat = self._cpu = 0.0
        self._told = False
        """The stall that lasts has its line."""

    async def run(self) -> None:
        """For ever."""
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        self._set_beat()
        self._over.clear()
        listener = threading.Thread(target=self._listen, name="stalls", daemon=True)
        listener.start()
        try:
            while True:
                await asyncio.sleep(_BEAT_SECONDS)
                seconds = self._stalled_seconds()
                if seconds >= self._stall_seconds:
                    self._note(seconds)
                self._set_beat()
        finally:
            self._over.set()

    # --- on the loop --------------------------------------------------------------------------------

    def _set_beat(self) -> None:
        self._beat, self._cpu, self._told = time.monotonic(), time.process_time(), False

    def _note(self, seconds: float) -> None:
        """It turns again."""
        self._metrics.loop_stalls.inc()
        self._metrics.loop_stall_seconds.inc(seconds)
        if self._may_tell():
            log.warning("loop.stalled", **self._figures(seconds), hint=_NOT_SEEN)
        elif self._told:
            log.info("loop.turns_again", **self._figures(seconds))

    # --- on the listening thread --------------------------------------------------------------------

    def _listen(self) -> None:
        while not self._over.wait(_BEAT_SECONDS):
            seconds = self._stalled_seconds()
            if seconds >= self._stall_seconds and self._may_tell():
                # The file first: it may be standard error that does not take anything.
                where, figures = place(self._thread), self._figures(seconds)
                file = self._write(where, figures)
                log.warning("loop.stalled", **figures, where=where, file=file)

    def _write(self, where: str, figures: dict[str, float]) -> str | None:
        """The file, unless the disk does not take it."""
        head = f"The event loop has stood still for {figures['seconds']} s: {where}\n\n"
        text = redact(head + stacks(self._loop))
        file = self._directory / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.txt"
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as opened:
                opened.write(text)
            for old in sorted(set(self._directory.glob("*.txt")) - {file})[: 1 - KEPT]:
                old.unlink(missing_ok=True)
        except OSError:
            return None
        return str(file)

    # --- both ---------------------------------------------------------------------------------------

    def _stalled_seconds(self) -> float:
        """For how long, at least."""
        return time.monotonic() - self._beat - _BEAT_SECONDS

    def _figures(self, seconds: float) -> dict[str, float]:
        """Little processor time: it waits for something, or was paused; much: it computes."""
        return {"seconds": round(seconds, 1), "cpu_seconds": round(time.process_time() - self._cpu, 1)}

    def _may_tell(self) -> bool:
        """Once per stall, and once a minute. The next caller is answered no."""
        with self._telling:
            now = time.monotonic()
            if self._told or now < self._quiet_until:
                return False
            self._told, self._quiet_until = True, now + self._every_seconds
            return True
