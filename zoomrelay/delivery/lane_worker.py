"""The worker of a sink that takes events one by one, several at a time, in lanes."""

from __future__ import annotations

import asyncio
from collections import deque
from random import Random

import structlog

from zoomrelay.delivery.lanes import Lane, Lanes, Ordering
from zoomrelay.delivery.retry import Dead, decide, waited
from zoomrelay.delivery.router import Route
from zoomrelay.delivery.worker import Worker
from zoomrelay.errors import SinkError
from zoomrelay.sinks.base import Sink
from zoomrelay.spool.base import Death, Parked, Settlement, Spool
from zoomrelay.telemetry.metrics import Metrics

log = structlog.get_logger()

READ_AHEAD = 2048
"""Events in the lanes at most, or a read more."""
_READ_PORTION = 1024
_PARK_AFTER_SECONDS = 5.0
"""A head that has failed for so long leaves the read-ahead, with what stands behind it."""
_SETTLE_SECONDS = 0.02
_REPORT_SECONDS = 10.0


class LaneWorker(Worker):
    """Keeps `sink.concurrency` calls under way as long as there are lanes to serve."""

    def __init__(
        self,
        sink: Sink,
        route: Route,
        spool: Spool,
        random: Random,
        metrics: Metrics,
        *,
        ordering: Ordering,
        give_up_after_seconds: float,
    ) -> None:
        super().__init__(sink, route, spool, random, metrics)
        self._ordering = ordering
        self._give_up_after = give_up_after_seconds
        self._lanes = Lanes(ordering)
        self._idle: deque[asyncio.Future[Lane | None]] = deque()
        self._busy = 0
        self._room = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._delivered: list[int] = []
        self._filtered: list[int] = []
        self._dead: list[Death] = []
        self._parked: list[Parked] = []
        self._settle_timer: asyncio.TimerHandle | None = None
        self._unreported = 0
        self._report_again = 0.0

    async def _work(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(self._sink.concurrency):
                    group.create_task(self._serve(), name=f"{self.name}-{number}")
                await self._fill()
        finally:
            self._stop_timer()
            self._settle()

    async def _fill(self) -> None:
        """Read ahead, within bounds, until we are to stop."""
        while items := await self._read(_READ_PORTION):
            wants = self._route.wants
            wanted = items
            if not self._route.takes_everything:
                wanted = [item for item in items if wants(item.event.name, item.event.source)]
                self._note_filtered([i.token for i in items if not wants(i.event.name, i.event.source)])
            self._lanes.push(wanted)
            self._dispatch()
            await self._wait_for_room()
        self._dispatch()

    async def _wait_for_room(self) -> None:
        while len(self._lanes) >= READ_AHEAD and not self._stopping.is_set():
            self._room.clear()
            await self._room.wait()

    def stop(self) -> None:
        super().stop()
        self._room.set()
        self._dispatch()

    # --- handing out lanes --------------------------------------------------------------------------

    async def _serve(self) -> None:
        while (lane := await self._next_lane()) is not None:
            await self._attempt(lane)
            self._busy -= 1
            if len(self._lanes) < READ_AHEAD // 2:
                self._room.set()
            self._dispatch()

    async def _next_lane(self) -> Lane | None:
        """The next lane to serve; None if we are to stop."""
        future: asyncio.Future[Lane | None] = asyncio.get_running_loop().create_future()
        self._idle.append(future)
        self._dispatch()
        return await future

    def _dispatch(self) -> None:
        """Give ready lanes to idle servers, as far as the sink's health allows."""
        now = asyncio.get_running_loop().time()
        while self._idle:
            if self._idle[0].done():  # its server was cancelled
                self._idle.popleft()
                continue
            if self._stopping.is_set():
                self._idle.popleft().set_result(None)
                continue
            if now < self.health.paused_until or (not self.health.ok and self._busy):
                break
            lane = self._lanes.pop(now)
            if lane is None:
                break
            self._busy += 1
            self._idle.popleft().set_result(lane)
        self._set_timer(now)

    def _set_timer(self, now: float) -> None:
        """Come back when the next lane, or the sink, may be tried."""
        self._stop_timer()
        due = self._lanes.next_due()
        if now < self.health.paused_until and (due is not None or len(self._lanes)):
            due = self.health.paused_until
        if due is not None and self._idle and due > now:
            self._timer = asyncio.get_running_loop().call_at(due, self._dispatch)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- one attempt --------------------------------------------------------------------------------

    async def _attempt(self, lane: Lane) -> None:
        item = lane.head
        lane.attempts += 1
        try:
            await self._call((item.event,), lane.attempts)
        except SinkError as error:
            self._judge(lane, error)
        else:
            self._lanes.done(lane)
            self._delivered.append(item.token)
            self._settle_soon()

    def _judge(self, lane: Lane, error: SinkError) -> None:
        now = asyncio.get_running_loop().time()
        if lane.failed_at is None:
            lane.failed_at = now
            lane.healthy_at_failure = self.health.healthy_seconds(now)
            lane.successes_at_failure = self.health.successes
        decision = decide(lane, error, self.health, self._give_up_after, now)
        if isinstance(decision, Dead):
            self._bury(lane, decision, error)
        elif self._should_park(lane, now + decision.after_seconds):
            self._park(lane, decision.after_seconds, now)
        else:
            self._lanes.retry(lane, now + decision.after_seconds)

    def _should_park(self, lane: Lane, again: float) -> bool:
        since = again if lane.failed_at is None else lane.failed_at
        return self.health.ok and self._ordering != "strict" and again - since > _PARK_AFTER_SECONDS

    def _bury(self, lane: Lane, decision: Dead, error: SinkError) -> None:
        item = lane.head
        death = Death(item, decision.reason, lane.attempts, error.status, error.excerpt)
        self._dead.append(death)
        self._lanes.done(lane)
        self._settle_soon()

    def _park(self, lane: Lane, seconds: float, now: float) -> None:
        parked = Parked(
            lane=lane.name,
            items=self._lanes.take(lane),
            retry_in_seconds=seconds,
            attempts=lane.attempts,
            waited_seconds=waited(lane, self.health, now),
        )
        self._parked.append(parked)
        # At once: events of this lane that are read from now on must find it parked.
        self._settle()

    # --- settling -----------------------------------------------------------------------------------

    def _note_filtered(self, tokens: list[int]) -> None:
        if tokens:
            self._filtered.extend(tokens)
            self._settle_soon()

    def _report_dead(self, latest: Death) -> None:
        """One line now and then, however many there are."""
        now = asyncio.get_running_loop().time()
        self._unreported += len(self._dead)
        if now >= self._report_again:
            log.warning(
                "sink.dead_letters",
                sink=self.name,
                count=self._unreported,
                latest_id=latest.item.event.id,
                latest_reason=latest.reason,
            )
            self._unreported, self._report_again = 0, now + _REPORT_SECONDS

    def _settle_soon(self) -> None:
        if self._settle_timer is None:
            self._settle_timer = asyncio.get_running_loop().call_later(_SETTLE_SECONDS, self._settle)

    def _settle(self) -> None:
        if self._settle_timer is not None:
            self._settle_timer.cancel()
            self._settle_timer = None
        if self._dead:
            self._report_dead(self._dead[-1])
        self._delivered.sort()
        settlement = Settlement(self._delivered, self._filtered, dead=self._dead, parked=self._parked)
        self._delivered, self._filtered, self._dead, self._parked = [], [], [], []
        self._spool.settle(self.name, settlement)
