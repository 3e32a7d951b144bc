"""The worker of a sink that takes events one by one or in batches, several calls at a time, in lanes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from itertools import islice
from random import Random

from zoomrelay.clock import Clock, SystemClock
from zoomrelay.delivery.batching import UNBOUNDED, Batching
from zoomrelay.delivery.courtesy import Courtesy
from zoomrelay.delivery.deadlines import Deadlines
from zoomrelay.delivery.lanes import ONE_BY_ONE, STRICT, Lane, Lanes, Ordering
from zoomrelay.delivery.pace import Pace
from zoomrelay.delivery.retry import Dead, decide
from zoomrelay.delivery.router import Route
from zoomrelay.delivery.settling import Settling
from zoomrelay.delivery.worker import Worker
from zoomrelay.errors import SinkError, SinkRejected, SinkUnavailable
from zoomrelay.sinks.base import Sink
from zoomrelay.spool.base import Death, Item, Parked, Reading
from zoomrelay.telemetry.metrics import Metrics

READ_AHEAD = 2048
"""Events in the lanes at most, or a read more; or as many as four batches hold."""
READ_PORTION = 1024
ROOM = 128
"""For so many more there must be room before it is read on: a little at a time, since a spool that has to
decode what it reads takes the interpreter's time from everything else."""
LATE = "deadline"
"""Why a late event is a dead letter."""
NO_WAIT_SECONDS = 0.001
"""What a wait in the sink's own outage counts for: it was parked, and that is all."""
PARK_AFTER_SECONDS = 5.0
"""A head that has been tried for so long leaves the read-ahead, with what stands behind it."""
REPLAY_PART = 4
"""At most one call in so many is for replayed events."""
REPLAY_PACE_SECONDS = 0.1
"""Where `max_rate` is set, live events wait no longer than about this for a batch of replayed ones."""
REPLAY_GIVE_UP_SECONDS = 60.0
"""A replayed event that is not taken for so long, while the sink is healthy, counts as failed."""


class LaneWorker(Worker):
    """Keeps `sink.concurrency` calls under way as long as there are lanes to serve; with a backlog fewer,
    where others would have to wait for it (see `Courtesy`).

    A head that fails holds up its own lane only: that waits, then it is parked in the spool, and other
    lanes go on. While the sink fails as a whole nothing is parked, and one call at a time is made. A batch
    that fails, while the sink does not, is sent again in halves: at once where it was refused.
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
        batching: Batching = ONE_BY_ONE,
        max_rate: float = 0.0,
        deadlines: Deadlines | None = None,
        clock: Clock | None = None,
    ) -> None:
        """`max_rate`: events per second; 0 is no bound. `clock` tells the age of events with a deadline."""
        super().__init__(sink, route, spool, random, metrics, patience=max(8, 2 * sink.concurrency))
        self._give_up_after_seconds = give_up_after_seconds
        self._lanes = Lanes(
            ordering,
            batching,
            replays_at_once=max(1, sink.concurrency // REPLAY_PART),
            replays_per_call=max(1, int(max_rate * REPLAY_PACE_SECONDS)) if max_rate else UNBOUNDED,
            is_urgent=deadlines.has if deadlines else None,
        )
        self._deadlines = deadlines or Deadlines()
        self._has_deadlines = bool(deadlines)
        self._overtakes = bool(deadlines) and ordering != "strict"
        self._clock = clock or SystemClock()
        self._pace = Pace(max_rate)
        self._read_ahead = max(READ_AHEAD, 4 * batching.events)
        self._settling = Settling(self._settle)
        self._idle: deque[asyncio.Future[list[Lane]]] = deque()
        self._busy = 0
        self._courtesy = Courtesy(sink.concurrency)
        self._room = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0

    async def _work(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(self._sink.concurrency):
                    group.create_task(self._serve(), name=f"sink.{self.name}.{number}")
                if self._overtakes:
                    group.create_task(self._fill_urgent(), name=f"sink.{self.name}.urgent")
                await self._fill()
        finally:
            self._stop_timer()
            self._settling.close()

    def stop(self) -> None:
        super().stop()
        self._room.set()
        self._dispatch()

    def drop_replays(self) -> None:
        self._lanes.drop_replays()

    # --- reading ahead ------------------------------------------------------------------------------

    async def _fill(self) -> None:
        """Read ahead, within bounds, until we are to stop."""
        while items := await self._read(READ_PORTION):
            self._take_in(items)
            self._note_age(items[-1])
            await self._wait_for_room()

    async def _fill_urgent(self) -> None:
        """Read what overtakes a backlog: the spool lets only so much of it be here at once."""
        while items := await self._patiently(lambda: self._spool.read_urgent(self.name, READ_PORTION)):
            self._take_in(items)

    def _note_age(self, item: Item) -> None:
        """Of the newest item of the stream; what comes again, for whatever reason, is always old."""
        if not (item.redriven or item.event.replayed or item.attempts):
            self._courtesy.read(self._clock.wall() - item.event.received_ms / 1000, self._now())

    def _take_in(self, items: Sequence[Item]) -> None:
        wanted, filtered = self._sort(items)
        self._settling.filtered(filtered)
        self._lanes.push(wanted, self._now())
        self._dispatch()

    async def _wait_for_room(self) -> None:
        while len(self._lanes) >= self._read_ahead and not self._stopping.is_set():
            self._room.clear()
            try:
                async with asyncio.timeout(PARK_AFTER_SECONDS):
                    await self._room.wait()
            except TimeoutError:
                self._park_tails()

    def _note_room(self) -> None:
        if len(self._lanes) <= self._read_ahead - ROOM:
            self._room.set()

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
        while lanes := await self._next_lanes():
            await self._attempt(lanes)
            self._busy -= 1
            self._note_room()

    async def _next_lanes(self) -> list[Lane]:
        """The lanes of the next call; none if we are to stop."""
        lanes = [] if self._idle else self._lanes_now(self._now())
        if not lanes:
            future: asyncio.Future[list[Lane]] = asyncio.get_running_loop().create_future()
            self._idle.append(future)
            self._dispatch()
            lanes = await future
        if self._courtesy.behind:
            await self._give_way()
        return lanes

    async def _give_way(self) -> None:
        if not self.health.ok:
            self._courtesy.forget()
            return
        before = self._now()
        await asyncio.sleep(0)
        self._courtesy.note(self._now() - before)

    def _lanes_now(self, now: float) -> list[Lane]:
        """Those of a call that may be made at once; none where there is nothing, or we are to stop."""
        if self._stopping.is_set() or not self._may_call(now):
            return []
        lanes = self._pop(now)
        self._busy += bool(lanes)
        return lanes

    def _dispatch(self) -> None:
        """Give ready lanes to idle servers, as far as the sink's health allows."""
        now = self._now()
        while self._idle:
            future = self._idle[0]
            if future.done():  # its server was cancelled
                self._idle.popleft()
                continue
            lanes = self._lanes_now(now)
            if not lanes and not self._stopping.is_set():
                break
            self._idle.popleft()
            future.set_result(lanes)
        self._set_timer(now)

    def _pop(self, now: float) -> list[Lane]:
        """A sink that answers no to everything is asked with single events, old ones and new: some may be to
        blame."""
        doubtful = self.health.misconfigured
        while lanes := self._lanes.pop_batch(now, 1 if doubtful else UNBOUNDED, searching=doubtful):
            if self._has_deadlines:
                lanes = self._without_late(lanes)
            if lanes:
                self._pace.called(sum([lane.taken for lane in lanes]), now)
                return lanes
        return []

    def _without_late(self, lanes: list[Lane]) -> list[Lane]:
        """Bury what is of no use any more."""
        wall = self._clock.wall()
        left = []
        for lane in lanes:
            for item, attempts, error in self._lanes.drop_late(lane, lambda item: self._is_late(item, wall)):
                self._bury_late(item, attempts, error)
            if lane.taken:
                left.append(lane)
        self._note_room()
        return left

    def _is_late(self, item: Item, wall: float) -> bool:
        return not item.redriven and self._deadlines.is_late(item.event, wall)

    def _bury_late(self, item: Item, attempts: int, error: SinkError | None) -> None:
        if error is None:
            self._settling.dead(Death(item, LATE, attempts))
        else:
            detail = _joined(error.reason, error.excerpt)
            self._settling.dead(Death(item, LATE, attempts, error.status, detail))

    def _may_call(self, now: float) -> bool:
        """A sink that fails is called once at a time."""
        if self._busy >= self._courtesy.calls:
            return False
        return now >= self._blocked_until and not (self.health.probing and self._busy)

    @property
    def _blocked_until(self) -> float:
        return max(self.health.paused_until, self._pace.free_at)

    def _set_timer(self, now: float) -> None:
        """Come back when the next lane, or the sink, may be tried."""
        due = self._lanes.next_due()
        if now < self._blocked_until and not self._lanes.is_empty:
            due = self._blocked_until
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

    async def _attempt(self, lanes: list[Lane]) -> None:
        items = _taken(lanes)
        now = self._now()
        healthy_seconds = self.health.healthy_seconds(now)
        first = not _several_replayed(lanes, len(items)) and not any(lane.is_known for lane in lanes)
        for lane in lanes:
            lane.try_(now, healthy_seconds)
        attempt = max(lane.attempts for lane in lanes)
        try:
            events = [item.event for item in items]
            await self._call(events, attempt, first=first, splits=len(items) > 1)
        except SinkError as error:
            self._failed_attempt(lanes, len(items), error)
        else:
            for item in items:
                self._settling.delivered(item.token)
            self._note_delivered(items)
            for lane in lanes:
                self._lanes.done(lane)

    def _failed_attempt(self, lanes: list[Lane], events: int, error: SinkError) -> None:
        sent_apart = events > 1 and isinstance(error, SinkRejected)
        several_replayed = _several_replayed(lanes, events)
        for lane in lanes:
            lane.error = error
            lane.fail(self.health.successes, says_nothing=sent_apart or several_replayed)
            if events == 1:
                lane.fail_alone(self._now(), self.health.successes, self.health.ill_at)
            if several_replayed and not sent_apart:
                lane.most = 1
            elif sent_apart or (events > 1 and self.health.ok):
                lane.most = events // 2
        if sent_apart:
            self._lanes.retry_first(lanes)
        else:
            self._judge(lanes, error, self._now())

    def _judge(self, lanes: list[Lane], error: SinkError, now: float) -> None:
        """What becomes of each head. Lanes that failed together come back together."""
        parked: list[Parked] = []
        wait_seconds: float | None = None
        for lane in lanes:
            decision = decide(lane, error, self.health, self._patience_seconds(lane), now)
            if isinstance(decision, Dead):
                self._bury(lane, decision, error)
                continue
            wait_seconds = decision.after_seconds if wait_seconds is None else wait_seconds
            if self._should_park(lane, error, now, wait_seconds):
                parked.append(self._park(lane, wait_seconds, now))
            else:
                self._lanes.retry(lane, now + wait_seconds)
        if parked:
            self._settling.parked(parked)

    def _patience_seconds(self, lane: Lane) -> float:
        most = REPLAY_GIVE_UP_SECONDS if lane.replayed else self._give_up_after_seconds
        return min(most, self._give_up_after_seconds)

    def _bury(self, lane: Lane, decision: Dead, error: SinkError) -> None:
        """Only the head: what else was in the call has not had its time."""
        excerpt = _joined(decision.detail, error.excerpt)
        self._settling.dead(Death(lane.head, decision.reason, lane.attempts, error.status, excerpt))
        lane.taken = 1
        self._lanes.done(lane)

    def _should_park(self, lane: Lane, error: SinkError, now: float, wait_seconds: float) -> bool:
        """Refusals are decided soon, and need to know what was taken meanwhile."""
        if (
            lane.replayed
            or lane.name == STRICT
            or not isinstance(error, SinkUnavailable)
            or not self._others_may_go(now)
        ):
            return False
        since = now if lane.tried_at is None else lane.tried_at
        return lane.was_parked or now + wait_seconds - since > PARK_AFTER_SECONDS

    def _others_may_go(self, now: float) -> bool:
        """Parking is for the sake of other lanes: a sink that waits as a whole would park everything."""
        return now >= self.health.paused_until and (self.health.ok or self.health.one_event)

    def _park(self, lane: Lane, wait_seconds: float, now: float) -> Parked:
        # The wait that begins counts in advance: nobody looks at a clock while it is parked.
        counted = wait_seconds if self.health.ok else NO_WAIT_SECONDS
        waited = lane.waited_seconds_at(self.health.healthy_seconds(now)) + counted
        failing = lane.failing
        return Parked(lane.name, self._lanes.take(lane), wait_seconds, lane.attempts, waited, failing)


def _several_replayed(lanes: list[Lane], events: int) -> bool:
    """Nothing but one of these alone tells whether it or the sink is ill: otherwise a sink that is down would
    look like one bad event, and these would be given up."""
    return events > 1 and lanes[0].replayed


def _joined(*words: str) -> str:
    return ": ".join(filter(None, words))


def _taken(lanes: list[Lane]) -> list[Item]:
    """What is taken of these lanes: their events in order, lane by lane."""
    return [item for lane in lanes for item in islice(lane.items, lane.taken)]
