"""From frames to held events: identity, then the gate, then one commit for whatever has gathered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Protocol

import structlog

from zoomrelay.backoff import full_jitter
from zoomrelay.clock import Clock
from zoomrelay.errors import SpoolError
from zoomrelay.event import Event
from zoomrelay.intake.gate import Batch, Gate
from zoomrelay.intake.identity import Identifier, Unidentifiable
from zoomrelay.spool.base import Quarantined, Spool
from zoomrelay.telemetry.metrics import Metrics

log = structlog.get_logger()

MAX_EVENTS = 500
MAX_BYTES = 16 * 1024 * 1024
"""Bounds of what gathers while as much is being committed: small enough that under a flood an event waits
some tens of milliseconds here, and the rest in the socket."""

_HURRY_SECONDS = 0.1


class Intake:
    """Admits the frames of every source and commits them. `run` is the committing service."""

    def __init__(
        self,
        spool: Spool,
        clock: Clock,
        random: Random,
        metrics: Metrics,
        *,
        max_events: int = MAX_EVENTS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._spool = spool
        self._clock = clock
        self._random = random
        self._metrics = metrics
        self._gate = Gate(max_events, max_bytes)
        self._arrived = asyncio.Event()
        self._emptied = asyncio.Event()
        self._stopping = False
        self._hurry = asyncio.Event()
        metrics.intake_events.set_function(lambda: self._gate.events)
        metrics.intake_bytes.set_function(lambda: self._gate.bytes)

    def source(self, name: str) -> SourceIntake:
        """The door for one source's sessions."""
        return SourceIntake(self, name)

    # --- receiving (every event comes through here) -------------------------------------------------

    @property
    def full(self) -> bool:
        """Readers should call `room` before they go on."""
        return self._gate.full

    @property
    def waiting(self) -> int:
        """Events that were received and are not durable."""
        return self._gate.events

    def push(self, events: Sequence[Event]) -> None:
        self._gate.push(events)
        self._arrived.set()

    def push_quarantined(self, frame: Quarantined) -> None:
        self._gate.push_quarantined(frame)
        self._arrived.set()

    def now_ms(self) -> int:
        return int(self._clock.wall() * 1000)

    async def room(self) -> None:
        """Return when there is room again; the time spent is counted."""
        start = self._clock.elapsed()
        while self._gate.full:
            self._emptied.clear()
            await self._emptied.wait()
        self._metrics.intake_paused.inc(self._clock.elapsed() - start)

    def held_until_ms(self, last_frame_ms: int) -> int:
        """Everything received up to this wall time is durable: the last frame's time, or that of the
        oldest event which is not."""
        oldest = self._gate.oldest_ms()
        return last_frame_ms if oldest is None else min(last_frame_ms, oldest)

    # --- committing ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Commit what gathers, until `stop` was called and nothing is left. Tries until it succeeds: the
        readers wait meanwhile."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while batch := self._gate.take():
                self._emptied.set()
                await self._hold(batch)
                self._gate.done()
            if self._stopping:
                return

    def stop(self) -> None:
        """No more will come: `run` returns after the last commit."""
        self._stopping = True
        self._hurry.set()
        self._arrived.set()

    async def _hold(self, batch: Batch) -> None:
        start = self._clock.elapsed()
        attempt = 1
        while not await self._append(batch, attempt):
            await self._rest(full_jitter(attempt, base=0.5, cap=5, random=self._random))
            attempt += 1
        if attempt > 1:
            log.info("intake.spool_available", unavailable_seconds=round(self._clock.elapsed() - start, 1))
        if batch.events:
            age_ms = self.now_ms() - batch.events[0].received_ms
            self._metrics.received_to_durable.observe(max(0, age_ms) / 1000)

    async def _rest(self, seconds: float) -> None:
        """Between two tries; once there is a stop, little time is left for them."""
        if self._stopping:
            await asyncio.sleep(min(seconds, _HURRY_SECONDS))
            return
        try:
            async with asyncio.timeout(seconds):
                await self._hurry.wait()
        except TimeoutError:
            pass

    async def _append(self, batch: Batch, attempt: int) -> bool:
        try:
            await self._spool.append(batch.events, batch.quarantined)
        except SpoolError as error:
            if attempt == 1:
                hint = "nothing is lost: reading pauses when the intake is full, and it is tried again"
                log.error("intake.spool_unavailable", error=str(error), waiting=self.waiting, hint=hint)
            return False
        return True


class _Frame(Protocol):
    @property
    def content(self) -> bytes: ...


class SourceIntake:
    """What a session of one source talks to: a `FrameConsumer`."""

    def __init__(self, intake: Intake, source: str) -> None:
        self._intake = intake
        self._source = source
        self._read = Identifier(source).read

    @property
    def full(self) -> bool:
        return self._intake.full

    async def room(self) -> None:
        await self._intake.room()

    def events(self, subscription: str, frames: Sequence[_Frame]) -> None:
        """Admit events; what cannot be read is kept as a dead letter of the source."""
        read, now_ms = self._read, self._intake.now_ms()
        events = []
        for frame in frames:
            try:
                events.append(read(frame.content, subscription, now_ms))
            except Unidentifiable as error:
                self.unreadable(subscription, frame.content, str(error))
        self._intake.push(events)

    def unreadable(self, subscription: str, raw: bytes, reason: str) -> None:
        """Keep a frame in which no event could be read."""
        frame = Quarantined(self._source, subscription, self._intake.now_ms(), raw, reason)
        self._intake.push_quarantined(frame)
