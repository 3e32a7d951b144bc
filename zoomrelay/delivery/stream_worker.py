"""The worker of a sink that takes batches, one after the other, in order of arrival."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from zoomrelay.delivery.retry import speaks_of_event
from zoomrelay.delivery.router import Route
from zoomrelay.delivery.worker import Worker
from zoomrelay.errors import SinkError, SinkRejected
from zoomrelay.sinks.base import Sink
from zoomrelay.spool.base import Death, Item, Reading, Settlement, Token
from zoomrelay.telemetry.metrics import Metrics


class StreamWorker(Worker):
    """A batch is sent until it is taken; nothing overtakes it. Each failure speaks of the sink."""

    def __init__(self, sink: Sink, route: Route, spool: Reading, random: Random, metrics: Metrics) -> None:
        super().__init__(sink, route, spool, random, metrics, patience=1)
        self._successes_before = 0
        self._delivered: list[Token] = []
        self._dead: list[Death] = []

    async def _work(self) -> None:
        while items := await self._read(self._sink.max_batch):
            wanted, filtered = self._sort(items)
            self._successes_before = self.health.successes
            try:
                if wanted:
                    await self._deliver(wanted)
            finally:
                self._settle(Settlement(delivered=self._delivered, filtered=filtered, dead=self._dead))
                self._delivered, self._dead = [], []

    async def _deliver(self, items: Sequence[Item]) -> None:
        """Send these until they are taken, or until we are to stop."""
        events = [item.event for item in items]
        attempt = 0
        while attempt == 0 or not self._stopping.is_set():
            attempt += 1
            try:
                await self._call(events, items[0].attempts + attempt, first=attempt == 1)
            except SinkRejected as error:
                if await self._refused(items, error, attempt):
                    return
            except SinkError:
                pass  # it was noted; the same again
            else:
                self._delivered += [item.token for item in items]
                self._note_delivered(items)
                return
            await self._pause()

    async def _refused(self, items: Sequence[Item], error: SinkRejected, attempt: int) -> bool:
        """Whether that was the end of these: a batch is halved until it is plain which event is meant."""
        if len(items) > 1:
            middle = len(items) // 2
            await self._deliver(items[:middle])
            if not self._stopping.is_set():
                await self._deliver(items[middle:])
            return True
        if (
            error.final
            or items[0].event.replayed
            or speaks_of_event(attempt, self._successes_before, self.health)
        ):
            attempts = items[0].attempts + attempt
            self._dead.append(Death(items[0], error.reason, attempts, error.status, error.excerpt))
            return True
        return False
