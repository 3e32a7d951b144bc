"""One worker per sink: reads from the spool, sends, retries, settles. A slow sink holds up nobody else.

`StreamWorker` feeds sinks that take batches one after the other (stdout, file): strict order, and a batch
is sent until it is taken. `LaneWorker` (in `lane_worker`) feeds sinks that take events one by one, several
at a time.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from random import Random

import structlog

from zoomrelay.delivery.retry import TRIES_WHEN_REJECTED, Health
from zoomrelay.delivery.router import Route
from zoomrelay.errors import SinkError, SinkRejected, SpoolError
from zoomrelay.event import Event
from zoomrelay.sinks.base import Sink
from zoomrelay.spool.base import Death, Item, Settlement, Spool
from zoomrelay.telemetry.metrics import Metrics

log = structlog.get_logger()

READ_BYTES = 4 * 1024 * 1024
_SPOOL_RETRY_SECONDS = 1.0


class Worker(ABC):
    """What every worker has. `run` ends after `stop`, or when it is cancelled; what was handed out and
    not settled then is handed out again to the next worker of that name."""

    def __init__(self, sink: Sink, route: Route, spool: Spool, random: Random, metrics: Metrics) -> None:
        self.name = sink.name
        self.health = Health(sink.concurrency, random)
        self._sink = sink
        self._route = route
        self._spool = spool
        self._stopping = asyncio.Event()
        self._reading: asyncio.Task[Sequence[Item]] | None = None
        self._sent = metrics.sink_attempts.labels(self.name, "sent")
        self._failed = metrics.sink_attempts.labels(self.name, "failed")
        self._rejected = metrics.sink_attempts.labels(self.name, "rejected")
        self._seconds = metrics.sink_send_seconds.labels(self.name)
        self._healthy = metrics.sink_healthy.labels(self.name)
        self._healthy.set(1)

    async def run(self) -> None:
        try:
            if await self._open():
                await self._work()
        finally:
            self._spool.release(self.name)
            await self._sink.close()

    def stop(self) -> None:
        """Finish what is under way, and read no more."""
        self._stopping.set()
        if self._reading is not None:
            self._reading.cancel()

    async def reopen(self) -> None:
        """See `Sink.reopen`."""
        await self._sink.reopen()

    @abstractmethod
    async def _work(self) -> None:
        """Deliver until `_stopping` is set."""

    async def _open(self) -> bool:
        """Open the sink, however long it takes; False if we are to stop before."""
        while not self._stopping.is_set():
            try:
                await self._sink.open()
            except SinkError as error:
                self._note_failure(error)
                await self._pause()
            else:
                self._note_success()
                return True
        return False

    async def _read(self, max_events: int) -> Sequence[Item]:
        """What is due next; empty only if we are to stop."""
        while not self._stopping.is_set():
            reading = asyncio.ensure_future(self._spool.read(self.name, max_events, READ_BYTES))
            self._reading = reading
            try:
                return await reading
            except SpoolError as error:
                log.error("sink.spool_unreadable", sink=self.name, error=str(error))
                await self._rest(_SPOOL_RETRY_SECONDS)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if not self._stopping.is_set() or (task is not None and task.cancelling()):
                    raise
        return []

    async def _rest(self, seconds: float) -> None:
        """Wait, but not beyond `stop`."""
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._stopping.wait()
        except TimeoutError:
            pass

    async def _pause(self) -> None:
        """Wait until the sink may be called again."""
        await self._rest(self.health.paused_until - asyncio.get_running_loop().time())

    async def _call(self, batch: Sequence[Event], attempt: int) -> None:
        """One call of the sink, measured and noted. Raises what it raises."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        try:
            await self._sink.send(batch, attempt)
        except SinkError as error:
            (self._rejected if isinstance(error, SinkRejected) else self._failed).inc()
            self._note_failure(error)
            raise
        self._seconds.observe(loop.time() - start)
        self._sent.inc()
        self._note_success()

    def _note_failure(self, error: SinkError) -> None:
        if self.health.failed(error, asyncio.get_running_loop().time()):
            self._healthy.set(0)
            log.warning(
                "sink.failing",
                sink=self.name,
                error=error.reason,
                hint="it answers but takes nothing: is it configured right?"
                if self.health.misconfigured
                else "",
            )

    def _note_success(self) -> None:
        if self.health.succeeded(asyncio.get_running_loop().time()):
            self._healthy.set(1)
            log.info("sink.recovered", sink=self.name)


class StreamWorker(Worker):
    """Batches, one after the other, in order of arrival."""

    _taken_before_batch = 0

    async def _work(self) -> None:
        while not self._stopping.is_set():
            items = await self._read(self._sink.max_batch)
            if not items:
                return
            self._taken_before_batch = self.health.successes
            settlement = await self._deliver(items)
            if settlement is None:
                return
            self._spool.settle(self.name, settlement)

    async def _deliver(self, items: Sequence[Item]) -> Settlement | None:
        """Send what is wanted of these until it is taken; None if we are to stop before."""
        wanted, filtered = self._sort(items)
        dead: list[Death] = []
        if wanted:
            taken = await self._send(wanted, dead)
            if taken is None:
                return None
            wanted = taken
        return Settlement(delivered=[item.token for item in wanted], filtered=filtered, dead=dead)

    def _sort(self, items: Sequence[Item]) -> tuple[Sequence[Item], list[int]]:
        if self._route.takes_everything:
            return items, []
        wants = self._route.wants
        flags = [wants(item.event.name, item.event.source) for item in items]
        wanted = [item for item, flag in zip(items, flags, strict=True) if flag]
        return wanted, [item.token for item, flag in zip(items, flags, strict=True) if not flag]

    async def _send(self, items: Sequence[Item], dead: list[Death]) -> Sequence[Item] | None:
        """Those that were taken; None if we are to stop before that is known."""
        events = [item.event for item in items]
        attempt = 0
        while attempt == 0 or not self._stopping.is_set():
            attempt += 1
            before = self.health.successes
            try:
                await self._call(events, attempt)
                return items
            except SinkRejected as error:
                if len(items) > 1:
                    return await self._send_halves(items, dead)
                if error.final or (attempt >= TRIES_WHEN_REJECTED and before > self._taken_before_batch):
                    dead.append(Death(items[0], error.reason, attempt, error.status, error.excerpt))
                    return []
            except SinkError:
                pass
            await self._pause()
        return None

    async def _send_halves(self, items: Sequence[Item], dead: list[Death]) -> Sequence[Item] | None:
        """One of these is not wanted: find it."""
        middle = len(items) // 2
        first = await self._send(items[:middle], dead)
        second = None if first is None else await self._send(items[middle:], dead)
        return None if first is None or second is None else [*first, *second]
