"""A receiver that follows a script, and a spool in memory on virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from random import Random

from prometheus_client import CollectorRegistry

from zoomrelay.delivery.batching import Batching
from zoomrelay.delivery.deadlines import Deadlines
from zoomrelay.delivery.lane_worker import LaneWorker
from zoomrelay.delivery.lanes import Ordering
from zoomrelay.delivery.router import Route
from zoomrelay.delivery.stream_worker import StreamWorker
from zoomrelay.delivery.worker import Worker
from zoomrelay.errors import SinkError
from zoomrelay.event import Event
from zoomrelay.spool.base import SinkCounts, SinkStart, Urgency
from zoomrelay.spool.memory import MemorySpool
from zoomrelay.telemetry.metrics import Metrics

WALL = 1_700_000_000.0

Answer = Callable[[Event, int], SinkError | None]
"""(event, attempt) -> what the receiver says to it; None takes it."""


class LoopClock:
    """Follows the (virtual) loop."""

    def wall(self) -> float:
        return WALL + self.elapsed()

    def elapsed(self) -> float:
        return asyncio.get_running_loop().time()


def event(number: int, key: str = "", *, name: str = "meeting.started", source: str = "main") -> Event:
    content = b'{"event":"%s","event_ts":%d}' % (name.encode(), number)
    return Event(number.to_bytes(16), source, "sub", name, number, key, int(WALL * 1000) + number, content)


def events(count: int, *, keys: int = 0, start: int = 1) -> list[Event]:
    """Numbered from `start`; with `keys`, they take turns."""
    return [event(n, f"key{n % keys}" if keys else "") for n in range(start, start + count)]


class FakeSink:
    """Takes `seconds` for each call and then answers what `answer` says. Fields may change any time."""

    def __init__(
        self,
        answer: Answer = lambda _event, _attempt: None,
        *,
        name: str = "sink",
        concurrency: int = 4,
        max_batch: int = 1,
        seconds: float = 0.001,
    ) -> None:
        self.name = name
        self.concurrency = concurrency
        self.max_batch = max_batch
        self.answer = answer
        self.seconds: float | Callable[[Event], float] = seconds
        self.opening: list[SinkError] = []
        """What the next calls of `open` raise."""
        self.reopening: SinkError | None = None
        self.taken: list[Event] = []
        self.calls: list[tuple[float, int, int]] = []
        """(loop time at the start, number of the first event, attempt)"""
        self.sizes: list[int] = []
        """Of every call, in the same order."""
        self.under_way = 0
        self.most_under_way = 0
        self.closed = 0

    @property
    def numbers(self) -> list[int]:
        return [number(taken) for taken in self.taken]

    async def open(self) -> None:
        if self.opening:
            raise self.opening.pop(0)

    async def send(self, batch: Sequence[Event], attempt: int) -> None:
        assert batch and len(batch) <= self.max_batch
        assert len({one.replayed for one in batch}) == 1
        self.calls.append((asyncio.get_running_loop().time(), number(batch[0]), attempt))
        self.sizes.append(len(batch))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            seconds = self.seconds
            await asyncio.sleep(seconds(batch[0]) if callable(seconds) else seconds)
        finally:
            self.under_way -= 1
        for one in batch:
            if (error := self.answer(one, attempt)) is not None:
                raise error
        self.taken += batch

    async def reopen(self) -> None:
        if self.reopening is not None:
            raise self.reopening

    async def close(self) -> None:
        self.closed += 1

    def calls_of(self, wanted: int) -> list[float]:
        """When the calls for this event began."""
        return [time for time, first, _ in self.calls if first == wanted]


def number(one: Event) -> int:
    return int.from_bytes(one.digest)


def by_key(taken: Sequence[Event]) -> dict[str, list[int]]:
    """Numbers of the first arrival of each event, by key, in order."""
    found: dict[str, dict[int, None]] = {}
    for one in taken:
        found.setdefault(one.key, {})[number(one)] = None
    return {key: list(numbers) for key, numbers in found.items()}


class House:
    """One sink with its worker and a spool. `async with` runs the worker, and checks the books."""

    def __init__(
        self,
        sink: FakeSink,
        *,
        ordering: Ordering | None = "key",
        give_up_after_seconds: float = 259200.0,
        route: Route | None = None,
        seed: int = 1,
        spool: MemorySpool | None = None,
        batch_seconds: float = 0.1,
        batch_bytes: int = 2**20,
        max_rate: float = 0.0,
        deadlines: Mapping[str, float] | None = None,
    ) -> None:
        """`ordering` None is a sink that takes batches, one after the other."""
        self.sink = sink
        self.spool = spool or MemorySpool(max_bytes=2**30, clock=LoopClock())
        self.ordering = ordering
        self.give_up_after_seconds = give_up_after_seconds
        self.route = route or Route()
        self.batching = Batching(sink.max_batch, batch_bytes, batch_seconds)
        self.max_rate = max_rate
        self.deadlines = Deadlines(deadlines)
        self.random = Random(seed)
        self.metrics = Metrics(CollectorRegistry())
        self.worker = self.new_worker()

    def new_worker(self) -> Worker:
        parts = (self.sink, self.route, self.spool, self.random, self.metrics)
        if self.ordering is None:
            return StreamWorker(*parts)
        return LaneWorker(
            *parts,
            ordering=self.ordering,
            give_up_after_seconds=self.give_up_after_seconds,
            batching=self.batching,
            max_rate=self.max_rate,
            deadlines=self.deadlines,
            clock=LoopClock(),
        )

    @property
    def start(self) -> SinkStart:
        """As the spool must know the sink."""
        overtakes = self.deadlines and self.ordering != "strict"
        urgency = Urgency(self.deadlines.seconds, self.deadlines.longest_seconds) if overtakes else None
        return SinkStart(self.sink.name, wants=self.route.wants, urgency=urgency)

    async def __aenter__(self) -> House:
        if self.sink.name not in self.spool.stats().sinks:
            await self.spool.open([self.start])
        self.task = asyncio.create_task(self.worker.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])
        if not self.task.cancelled():
            await self.task
        assert self.counts.conservation_error == 0

    async def restart(self) -> None:
        """The worker is cut off, and another takes its place."""
        self.task.cancel()
        await asyncio.wait([self.task])
        self.metrics = Metrics(CollectorRegistry())
        self.worker = self.new_worker()
        self.task = asyncio.create_task(self.worker.run())

    @property
    def counts(self) -> SinkCounts:
        return self.spool.stats().sinks[self.sink.name]

    async def until(self, holds: Callable[[], bool], *, seconds: float = 3600.0) -> float:
        """Wait in virtual time; the loop time at which it held."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(seconds):
            while not holds():
                if self.task.done():
                    await self.task
                await asyncio.sleep(0.02)
        return loop.time()

    async def until_ended(self, *, seconds: float = 3600.0) -> float:
        """Until nothing is pending; the loop time then."""
        return await self.until(lambda: self.counts.pending == 0, seconds=seconds)


def seen_once(taken: Sequence[Event]) -> bool:
    return all(count == 1 for count in Counter(taken).values())
