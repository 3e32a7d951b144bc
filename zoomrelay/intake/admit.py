"""From frames to held events: identity, then the gate, then one commit for whatever has gathered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from random import Random

import structlog

from zoomrelay.backoff import full_jitter
from zoomrelay.clock import Clock
from zoomrelay.errors import SpoolError
from zoomrelay.event import Event
from zoomrelay.intake.gaps import Trouble
from zoomrelay.intake.gate import Batch, Gate
from zoomrelay.intake.merge import Identities
from zoomrelay.intake.troubles import Troubles
from zoomrelay.spool.base import Quarantined, Remembered, Spool
from zoomrelay.telemetry.lags import EventLag
from zoomrelay.telemetry.metrics import Metrics

log = structlog.get_logger()

MAX_EVENTS = 500
MAX_BYTES = 16 * 1024 * 1024
"""Bounds of what gathers while as much is being committed: small enough that under a flood an event waits
some tens of milliseconds here, and the rest in the socket."""
_COUNT_PAUSE_SECONDS = 1.0
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
        troubles: Troubles | None = None,
        on_held: Callable[[Sequence[Event]], None] = lambda _events: None,
    ) -> None:
        """`on_held` gets the events of each commit, after it; it must not wait."""
        self.troubles = troubles or Troubles(clock)
        self._spool = spool
        self._on_held = on_held
        self.clock = clock
        self._metrics = metrics
        self.identities = Identities(clock.elapsed())
        """Of the events of sources with several subscriptions."""
        self._random = random
        self._gate = Gate(max_events, max_bytes)
        self._arrived = asyncio.Event()
        self._emptied = asyncio.Event()
        self._turn = asyncio.Lock()
        """Whoever has it is the next reader that is let in; others get it in the order of asking."""
        self._committed = asyncio.Event()
        self._commits = 0
        self._stopping = False
        metrics.merge_identities.set_function(lambda: len(self.identities))
        metrics.merge_window.set_function(lambda: self.identities.window_seconds(clock.elapsed()))
        self._gathering_since: float | None = None
        """`Clock.elapsed` when the oldest of what gathers came."""
        self._taken_since: float | None = None
        """The same for what is being committed."""
        self._hurry = asyncio.Event()
        self.unwritable = False
        """The spool took nothing the last time."""
        metrics.intake_events.set_function(lambda: self._gate.events)
        metrics.intake_bytes.set_function(lambda: self._gate.bytes)

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
        self._note_arrival()
        self._gate.push(events)
        self._arrived.set()

    def push_merging(self, events: Sequence[Event], path: tuple[str, str], path_bit: int) -> list[Event]:
        """Let in those of which no copy came before, and count the others; returns the former."""
        now = self.clock.elapsed()
        self.identities.age(now)
        is_first, is_first_timeless = self.identities.is_first, self.identities.is_first_timeless
        firsts = [
            event
            for event in events
            if (
                is_first_timeless(event.digest, path_bit, now)
                if event.event_ts is None
                else is_first(event.digest, path_bit)
            )
        ]
        self._note_arrival()
        self._gate.push(firsts)
        self._gate.remember([event.digest for event in firsts if event.event_ts is not None])
        if len(firsts) < len(events):
            self._gate.push_merged(path, len(events) - len(firsts))
        self._arrived.set()
        return firsts

    def push_quarantined(self, frame: Quarantined) -> None:
        self._note_arrival()
        self._gate.push_quarantined(frame)
        self._arrived.set()

    def lag_of(self, source: str) -> EventLag:
        """Where the lag of this source's events is counted."""
        return EventLag(self._metrics.event_lag.of(source), self._metrics.event_ts_odd, source)

    def waiting_of(self, source: str) -> tuple[int, int]:
        """See `Gate.waiting_of`."""
        return self._gate.waiting_of(source)

    def now_ms(self) -> int:
        return int(self.clock.wall() * 1000)

    async def room(self) -> None:
        """Return when there is room again, to one reader after the other: under a flood, the one that was
        just let in would otherwise always be the next. The time spent is counted, about every second."""
        counted = self.clock.elapsed()
        self.troubles.begin(Trouble.PAUSED)
        turn = asyncio.create_task(self._its_turn())
        try:
            while not turn.done():
                await asyncio.wait([turn], timeout=_COUNT_PAUSE_SECONDS)
                now = self.clock.elapsed()
                self._metrics.intake_paused.inc(now - counted)
                counted = now
        finally:
            turn.cancel()
            self.troubles.end(Trouble.PAUSED)

    async def _its_turn(self) -> None:
        async with self._turn:
            while self._gate.full:
                self._emptied.clear()
                await self._emptied.wait()

    def held_until_ms(self, last_frame_ms: int) -> int:
        """Everything received up to this wall time is durable: the last frame's time, or that of the
        oldest event which is not, as the wall clock that is now in force names it."""
        since = self._taken_since if self._taken_since is not None else self._gathering_since
        if since is None:
            return last_frame_ms
        return min(last_frame_ms, self.now_ms() - int((self.clock.elapsed() - since) * 1000))

    def _note_arrival(self) -> None:
        if self._gathering_since is None:
            self._gathering_since = self.clock.elapsed()

    async def held(self) -> None:
        """Return when everything that was received until now is durable, whatever comes meanwhile; copies are
        when their originals are."""
        due = self._commits + (self._taken_since is not None) + self._gate.gathers
        while self._commits < due:
            self._committed.clear()
            await self._committed.wait()

    # --- committing ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Commit what gathers, until `stop` was called and nothing is left. Tries until it succeeds: the
        readers wait meanwhile."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while batch := self._gate.take():
                self._taken_since, self._gathering_since = self._gathering_since, None
                self._emptied.set()
                await self._hold(batch)
                if batch.merged:
                    self._spool.count_merged(batch.merged)
                self._gate.done()
                self._taken_since = None
                self._commits += 1
                self._committed.set()
            if self._stopping:
                return

    def stop(self) -> None:
        """No more will come: `run` returns after the last commit."""
        self._stopping = True
        self._hurry.set()
        self._arrived.set()

    def open(self) -> None:
        """Take back what the spool, which is open now, remembers of earlier processes."""
        for known in self._spool.take_remembered():
            digests = (known.digests[at : at + 16] for at in range(0, len(known.digests), 16))
            self.identities.restore(known.generation, digests)

    async def _hold(self, batch: Batch) -> None:
        if not batch.events and not batch.quarantined:
            return
        start = self.clock.elapsed()
        attempt = 1
        while not await self._append(batch, attempt):
            await self._rest(full_jitter(attempt, base=0.5, cap=5, random=self._random))
            attempt += 1
        self._metrics.commits.note(batch.events)
        self._on_held(batch.events)
        if attempt > 1:
            self.troubles.end(Trouble.SPOOL_UNWRITABLE)
            log.info("intake.spool_available", unavailable_seconds=round(self.clock.elapsed() - start, 1))
        if batch.events and self._taken_since is not None:
            self._metrics.received_to_durable.observe(self.clock.elapsed() - self._taken_since)

    def _remembered(self, batch: Batch) -> Remembered | None:
        if not batch.remembered:
            return None
        return Remembered(self.identities.generation, b"".join(batch.remembered))

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
            await self._spool.append(batch.events, batch.quarantined, self._remembered(batch))
        except SpoolError as error:
            self.unwritable = True
            if attempt == 1:
                self.troubles.begin(Trouble.SPOOL_UNWRITABLE, str(error))
                hint = "nothing is lost: reading pauses when the intake is full, and it is tried again"
                log.error("intake.spool_unavailable", error=str(error), waiting=self.waiting, hint=hint)
            return False
        self.unwritable = False
        return True
