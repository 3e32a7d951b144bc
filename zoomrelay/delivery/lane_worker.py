"""The worker of a sink that takes events one by one, several at a time, in lanes."""

from __future__ import annotations

import asyncio
from collections import deque
from random import Random

from zoomrelay.delivery.lanes import STRICT, Lane, Lanes, Ordering
from zoomrelay.delivery.retry import Dead, decide
from zoomrelay.delivery.router import Route
from zoomrelay.delivery.settling import Settling
from zoomrelay.delivery.worker import Worker
from zoomrelay.errors import SinkError, SinkUnavailable
from zoomrelay.sinks.base import Sink
from zoomrelay.spool.base import Death, Parked, Reading
from zoomrelay.telemetry.metrics import Metrics

READ_AHEAD = 2048
"""Events in the lanes at most, or a read more."""
READ_PORTION = 1024
PARK_AFTER_SECONDS = 5.0
"""A head that has been tried for so long leaves the read-ahead, with what stands behind it."""


class LaneWorker(Worker):
    """Keeps `sink.concurrency` calls under way as long as there are lanes to serve.

    A head that fails holds up its own lane only: that waits, then it is parked in the spool, and other
    lanes go on. While the sink fails as a whole nothing is parked, and one call at a time is made.
    """

    def __init__(
        self,
        sink: Sink,
        route: Route,
        spool: Reading,
        random: Random,
        metrics: Metrics,
        *,
        ordering: Ordering,
        give_up_after_seconds: float,
    ) -> None:
        super().__init__(sink, route, spool, random, metrics, patience=max(8, 2 * sink.concurrency))
        self._give_up_after_seconds = give_up_after_seconds
        self._lanes = Lanes(ordering)
        self._settling = Settling(self._settle)
        self._idle: deque[asyncio.Future[Lane | None]] = deque()
        self._busy = 0
        self._room = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0

    async def _work(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(self._sink.concurrency):
                    group.create_task(self._serve(), name=f"sink.{self.name}.{number}")
                await self._fill()
        finally:
            self._stop_timer()
            self._settling.close()

    def stop(self) -> None:
        super().stop()
        self._room.set()
        self._dispatch()

    # --- reading ahead ------------------------------------------------------------------------------

    async def _fill(self) -> None:
        """Read ahead, within bounds, until we are to stop."""
        while items := await self._read(READ_PORTION):
            wanted, filtered = self._sort(items)
            self._settling.filtered(filtered)
            self._lanes.push(wanted)
            self._dispatch()
            await self._wait_for_room()

    async def _wait_for_room(self) -> None:
        while len(self._lanes) >= READ_AHEAD and not self._stopping.is_set():
            self._room.clear()
            try:
                async with asyncio.timeout(PARK_AFTER_SECONDS):
                    await self._room.wait()
            except TimeoutError:
                self._park_tails()

    def _park_tails(self) -> None:
        """No room for long: what stands behind heads that are stuck, even in a call, makes way."""
        if not self._others_may_go(self._now()):
            return
        tails = self._lanes.take_tails(self._now() - PARK_AFTER_SECONDS)
        self._settling.parked(
            [Parked(name, tail, PARK_AFTER_SECONDS, attempts=0, waited_seconds=0.0) for name, tail in tails]
        )

    # --- handing out lanes --------------------------------------------------------------------------

    async def _serve(self) -> None:
        while (lane := await self._next_lane()) is not None:
            await self._attempt(lane)
            self._busy -= 1
            if len(self._lanes) < READ_AHEAD // 2:
                self._room.set()

    async def _next_lane(self) -> Lane | None:
        """The next lane to serve; None if we are to stop."""
        future: asyncio.Future[Lane | None] = asyncio.get_running_loop().create_future()
        self._idle.append(future)
        self._dispatch()
        return await future

    def _dispatch(self) -> None:
        """Give ready lanes to idle servers, as far as the sink's health allows."""
        now = self._now()
        while self._idle:
            future = self._idle[0]
            if future.done():  # its server was cancelled
                self._idle.popleft()
                continue
            lane = None
            if not self._stopping.is_set():
                lane = self._lanes.pop(now) if self._may_call(now) else None
                if lane is None:
                    break
                self._busy += 1
            self._idle.popleft()
            future.set_result(lane)
        self._set_timer(now)

    def _may_call(self, now: float) -> bool:
        """A sink that fails is called once at a time."""
        return now >= self.health.paused_until and (self.health.ok or not self._busy)

    def _set_timer(self, now: float) -> None:
        """Come back when the next lane, or the sink, may be tried."""
        due = self._lanes.next_due()
        if now < self.health.paused_until and len(self._lanes):
            due = self.health.paused_until
        if self._timer is not None and self._timer_due == due:
            return
        self._stop_timer()
        if due is not None and due > now and self._idle:
            # Not asked of the timer: for a delay below a millisecond uvloop gives a handle without `when`.
            self._timer_due = due
            self._timer = asyncio.get_running_loop().call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._dispatch()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- one attempt --------------------------------------------------------------------------------

    async def _attempt(self, lane: Lane) -> None:
        item = lane.head
        now = self._now()
        lane.try_(now, self.health.healthy_seconds(now))
        try:
            await self._call((item.event,), lane.attempts, first=not lane.failed)
        except SinkError as error:
            lane.fail(self.health.successes)
            self._judge(lane, error)
        else:
            self._lanes.done(lane)
            self._settling.delivered(item.token)

    def _judge(self, lane: Lane, error: SinkError) -> None:
        now = self._now()
        decision = decide(lane, error, self.health, self._give_up_after_seconds, now)
        if isinstance(decision, Dead):
            death = Death(lane.head, decision.reason, lane.attempts, error.status, error.excerpt)
            self._lanes.done(lane)
            self._settling.dead(death)
        elif self._should_park(lane, error, now, decision.after_seconds):
            self._park(lane, decision.after_seconds, now)
        else:
            self._lanes.retry(lane, now + decision.after_seconds)

    def _should_park(self, lane: Lane, error: SinkError, now: float, wait_seconds: float) -> bool:
        """Refusals are decided soon, and need to know what was taken meanwhile."""
        if lane.name == STRICT or not isinstance(error, SinkUnavailable) or not self._others_may_go(now):
            return False
        since = now if lane.tried_at is None else lane.tried_at
        return lane.was_parked or now + wait_seconds - since > PARK_AFTER_SECONDS

    def _others_may_go(self, now: float) -> bool:
        """Parking is for the sake of other lanes: a sink that waits as a whole would park everything."""
        return now >= self.health.paused_until and (self.health.ok or self.health.one_event)

    def _park(self, lane: Lane, wait_seconds: float, now: float) -> None:
        # The wait that begins counts in advance: nobody looks at a clock while it is parked.
        waited = lane.waited_seconds_at(self.health.healthy_seconds(now)) + wait_seconds
        parked = Parked(lane.name, self._lanes.take(lane), wait_seconds, lane.attempts, waited)
        self._settling.parked([parked])
