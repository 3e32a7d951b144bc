"""Delivery under random failures: each event ends once, order holds per key, the books balance."""

from __future__ import annotations

import asyncio
from random import Random

import looptime
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.delivery.fakes import FakeSink, House, by_key, event, number
from zoomrelay.delivery.lanes import Ordering
from zoomrelay.errors import SinkError, SinkRejected, SinkUnavailable
from zoomrelay.event import Event

OUTCOMES = ("taken", "down", "timeout", "busy", "refused", "final")


class Script:
    """A receiver whose answers are drawn from weights; in the end it takes everything."""

    def __init__(self, weights: list[int], seed: int, poison: frozenset[int]) -> None:
        self._random = Random(seed)
        self._weights = weights
        self._poison = poison
        self.kind = False

    def answer(self, one: Event, _attempt: int) -> SinkError | None:
        if number(one) in self._poison:
            return SinkRejected("HTTP 400", status=400)
        if self.kind:
            return None
        (outcome,) = self._random.choices(OUTCOMES, self._weights)
        match outcome:
            case "down":
                return SinkUnavailable("HTTP 503", status=503)
            case "timeout":
                return SinkUnavailable("timed out")
            case "busy":
                return SinkUnavailable("HTTP 429", status=429, retry_after=self._random.uniform(0, 20))
            case "refused":
                return SinkRejected("HTTP 400", status=400)
            case "final":
                return SinkRejected("HTTP 422", status=422, final=True)
        return None

    def seconds(self, _one: Event) -> float:
        return self._random.choice((0.001, 0.01, 0.1, 0.1, 16.0))


async def story(
    ordering: Ordering | None,
    script: Script,
    seed: int,
    keys: int,
    count: int,
    cuts: list[float],
    batch: int = 1,
) -> tuple[House, FakeSink]:
    random = Random(seed)
    sink = FakeSink(script.answer, concurrency=4 if ordering else 1, max_batch=batch)
    sink.seconds = script.seconds
    async with House(sink, ordering=ordering, seed=seed, give_up_after_seconds=500) as house:
        numbers = iter(range(1, count + 1))
        while portion := [n for _, n in zip(range(random.randint(1, 40)), numbers, strict=False)]:
            await house.spool.append(
                [event(n, random.choice([""] + [f"key{k}" for k in range(keys)])) for n in portion]
            )
            await asyncio.sleep(random.uniform(0, 20))
        for seconds in cuts:
            await asyncio.sleep(seconds)
            if random.random() < 0.5:
                house.worker.stop()
                await house.until(house.task.done, seconds=60)
            await house.restart()
            assert house.counts.conservation_error == 0
        script.kind = True
        await ended(house, count)
    return house, sink


async def ended(house: House, count: int) -> None:
    """Until nothing is pending; meanwhile events come which are taken for sure, for those show whose fault
    a refusal is."""
    loop = asyncio.get_running_loop()
    until = loop.time() + 50_000
    last = count
    while house.counts.pending or last == count:
        assert loop.time() < until
        last += 1
        await house.spool.append([event(last)])
        await asyncio.sleep(300)


def run(coroutine: object) -> tuple[House, FakeSink]:
    loop = looptime.patch_event_loop(asyncio.new_event_loop(), noop_cycles=1)
    try:
        return loop.run_until_complete(coroutine)  # type: ignore[no-any-return]
    finally:
        loop.close()


weights = st.lists(st.integers(0, 5), min_size=len(OUTCOMES), max_size=len(OUTCOMES)).filter(any)


@settings(max_examples=25, deadline=None)
@given(
    ordering=st.sampled_from(["key", "none", "strict"]),
    weights=weights,
    seed=st.integers(0, 2**32),
    keys=st.integers(0, 6),
    count=st.integers(1, 150),
    poison=st.frozensets(st.integers(1, 150), max_size=3),
    cuts=st.lists(st.floats(0, 60), max_size=3),
    batch=st.sampled_from([1, 2, 7, 64]),
)
def test_lanes(
    ordering: Ordering,
    weights: list[int],
    seed: int,
    keys: int,
    count: int,
    poison: frozenset[int],
    cuts: list[float],
    batch: int,
) -> None:
    if ordering == "strict":
        poison = frozenset()  # it holds up everything, by definition
    house, sink = run(story(ordering, Script(weights, seed, poison), seed, keys, count, cuts, batch))
    check(house, sink, count, restarts=len(cuts))
    for key, numbers in by_key(sink.taken).items():
        if ordering == "strict" or (ordering == "key" and key):
            assert numbers == sorted(numbers)
    if ordering == "strict":
        firsts = list(dict.fromkeys(sink.numbers))
        assert firsts == sorted(firsts)


@settings(max_examples=25, deadline=None)
@given(
    weights=weights,
    seed=st.integers(0, 2**32),
    count=st.integers(1, 150),
    cuts=st.lists(st.floats(0, 60), max_size=3),
)
def test_streams(weights: list[int], seed: int, count: int, cuts: list[float]) -> None:
    house, sink = run(story(None, Script(weights, seed, frozenset()), seed, 3, count, cuts, batch=16))
    check(house, sink, count, restarts=len(cuts))
    firsts = list(dict.fromkeys(sink.numbers))
    assert firsts == sorted(firsts)


def check(house: House, sink: FakeSink, count: int, *, restarts: int) -> None:
    """Each event ended exactly once, as delivered or dead; delivered ones reached the sink, and twice
    only where a worker was cut off."""
    counts = house.counts
    assert counts.conservation_error == 0 and counts.pending == 0
    assert counts.delivered + counts.dead == counts.appended > count
    taken = set(sink.numbers)
    assert len(taken) >= counts.delivered
    if not restarts:
        assert len(sink.numbers) == len(taken) == counts.delivered
