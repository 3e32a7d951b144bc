"""One worker per sink: reads from the spool, sends, retries, settles. A slow sink holds up nobody else.

What every worker does is here. `StreamWorker` (in `stream_worker`) feeds sinks that take batches one after
the other (stdout, file); `LaneWorker` (in `lane_worker`) feeds sinks that take events one by one or in
batches, several calls at a time.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from random import Random

import structlog

from zoomrelay.delivery.health import Health
from zoomrelay.delivery.obituaries import Obituaries
from zoomrelay.delivery.router import Route
from zoomrelay.errors import SinkError, SinkRejected, SpoolError
from zoomrelay.event import GAP_EVENTS, Event
from zoomrelay.sinks.base import Sink
from zoomrelay.spool.base import Item, Reading, Settlement, Token
from zoomrelay.telemetry.metrics import Metrics

log = structlog.get_logger()

READ_BYTES = 4 * 1024 * 1024
_SPOOL_RETRY_SECONDS = 1.0


class Worker(ABC):
    """Call `run` once: it ends after `stop`, or when it is cancelled. What was handed out and not settled
    then is handed out again to the next worker of that name."""

    def __init__(
        self, sink: Sink, route: Route, spool: Reading, random: Random, metrics: Metrics, *, patience: int
    ) -> None:
        """`patience`: see `Health`."""
        self.name = sink.name
        self.health = Health(random, patience=patience)
        self._sink = sink
        self._route = route
        self._spool = spool
        self._obituaries = Obituaries(sink.name)
        self._stopping = asyncio.Event()
        self._reading: set[asyncio.Timeout] = set()
        self._unreadable = False
        self._sent = metrics.sink_attempts.labels(self.name, "sent")
        self._failed = metrics.sink_attempts.labels(self.name, "failed")
        self._rejected = metrics.sink_attempts.labels(self.name, "rejected")
        self._seconds = metrics.sink_send_seconds.labels(self.name)
        self._commits = metrics.commits
        self._durable_to_delivered = metrics.durable_to_delivered.of(self.name)
        self._healthy = metrics.sink_healthy.labels(self.name)
        self._healthy.set(1)

    async def run(self) -> None:
        try:
            if await self._open():
                await self._work()
        finally:
            self._spool.release(self.name)
            self._obituaries.close()
            await self._sink.close()

    def stop(self) -> None:
        """Finish what is under way, and read no more."""
        self._stopping.set()
        for scope in self._reading:
            scope.reschedule(asyncio.get_running_loop().time())

    def drop_replays(self) -> None:  # noqa: B027 - only those that read ahead have something to do
        """A replay was cancelled: send nothing more of it, but for what is under way."""

    async def reopen(self) -> None:
        """See `Sink.reopen`; never raises, for the next `send` tries again by itself."""
        try:
            await self._sink.reopen()
        except SinkError as error:
            log.warning("sink.reopen_failed", sink=self.name, error=error.reason)

    @abstractmethod
    async def _work(self) -> None:
        """Deliver until `_stopping` is set."""

    # --- from the spool, and back -------------------------------------------------------------------

    async def _read(self, max_events: int) -> Sequence[Item]:
        """What is due next; empty only if we are to stop. Nothing waits between the spool's handing out
        and the return: a lane that is parked meanwhile could be overtaken."""
        return await self._patiently(lambda: self._spool.read(self.name, max_events, READ_BYTES))

    async def _patiently(self, read: Callable[[], Awaitable[Sequence[Item]]]) -> Sequence[Item]:
        """What this reads, as `_read` says."""
        while not self._stopping.is_set():
            # A scope without a limit of its own: `stop` ends it.
            scope = asyncio.timeout(None)
            try:
                async with scope:
                    self._reading.add(scope)
                    items = await read()
                self._unreadable = False
                return items
            except TimeoutError:
                if not self._stopping.is_set():
                    raise
            except SpoolError as error:
                if not self._unreadable:
                    log.error("sink.spool_unreadable", sink=self.name, error=str(error))
                self._unreadable = True
                await self._rest(_SPOOL_RETRY_SECONDS)
            finally:
                self._reading.discard(scope)
        return []

    def _sort(self, items: Sequence[Item]) -> tuple[Sequence[Item], list[Token]]:
        """Those that the sink wants, and the tokens of those that it does not."""
        if self._route.takes_everything and GAP_EVENTS.isdisjoint([item.event.name for item in items]):
            return items, []
        wanted: list[Item] = []
        filtered: list[Token] = []
        wants = self._route.wants
        for item in items:
            if wants(item.event.name, item.event.source):
                wanted.append(item)
            else:
                filtered.append(item.token)
        return wanted, filtered

    def _settle(self, settlement: Settlement) -> None:
        self._spool.settle(self.name, settlement)
        self._obituaries.add([death for death in settlement.dead if not death.item.event.replayed])

    def _note_delivered(self, items: Sequence[Item]) -> None:
        """These were taken just now. What was sent once more at somebody's request has waited for that."""
        live = [item.event for item in items if not (item.redriven or item.event.replayed)]
        self._commits.tell(self._durable_to_delivered, live)

    # --- calling the sink ---------------------------------------------------------------------------

    async def _open(self) -> bool:
        """Open the sink, however long it takes; False if we are to stop before."""
        while not self._stopping.is_set():
            started = self._now()
            try:
                await self._sink.open()
            except SinkError as error:
                self._note_failure(error, started, first=True, whole=True)
                await self._pause()
            else:
                self._note_recovery(self.health.answered(self._now()))
                return True
        return False

    async def _call(self, batch: Sequence[Event], attempt: int, *, first: bool, splits: bool = False) -> None:
        """One call of the sink, measured and noted; `first`: nothing of it has failed before, `splits`: a
        refusal says nothing yet, for these will be sent apart. Raises what it raises."""
        started = self._now()
        try:
            await self._sink.send(batch, attempt)
        except SinkError as error:
            if splits and isinstance(error, SinkRejected):
                self._rejected.inc()
            else:
                self._note_failure(error, started, first=first, replayed=batch[0].replayed)
            raise
        now = self._now()
        self._seconds.observe(now - started)
        self._sent.inc()
        self._note_recovery(self.health.succeeded(now))

    def _note_failure(
        self, error: SinkError, started: float, *, first: bool, whole: bool = False, replayed: bool = False
    ) -> None:
        """What a receiver refuses of a replay says nothing of what it does with live events."""
        rejected = isinstance(error, SinkRejected)
        (self._rejected if rejected else self._failed).inc()
        if isinstance(error, SinkRejected) and (error.final or replayed):
            self._note_recovery(self.health.answered(self._now()))
        elif self.health.failed(error, self._now(), started=started, first=first, whole=whole):
            self._healthy.set(0)
            hint = "it answers but takes nothing: is it configured right?" if rejected else None
            log.warning("sink.failing", sink=self.name, error=error.reason, hint=hint)

    def _note_recovery(self, failed_seconds: float | None) -> None:
        if failed_seconds is not None:
            self._healthy.set(1)
            log.info("sink.recovered", sink=self.name, failed_seconds=round(failed_seconds, 1))

    # --- waiting ------------------------------------------------------------------------------------

    async def _rest(self, seconds: float) -> None:
        """Wait, but not beyond `stop`."""
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._stopping.wait()
        except TimeoutError:
            pass

    async def _pause(self) -> None:
        """Wait until the sink may be called again."""
        await self._rest(self.health.paused_until - self._now())

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
