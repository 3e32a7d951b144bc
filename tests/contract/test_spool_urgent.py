"""The promises of a spool about urgent events: they overtake a backlog while they are in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.spool.spools import (
    READ_BYTES,
    WALL,
    Kind,
    Spools,
    deliver,
    event,
    events,
    numbers,
    park,
    take,
)
from zoomrelay.event import Event
from zoomrelay.spool.base import Item, SinkStart, Spool, Urgency
from zoomrelay.spool.marks import MOST_RANGES
from zoomrelay.spool.urgent import WINDOW_EVENTS

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

DEADLINE = 60.0
URGENCY = Urgency(lambda name: DEADLINE if name == "rtms" else float("inf"), DEADLINE)
SINK = SinkStart("a", urgency=URGENCY)


@pytest.fixture(params=["memory", "sqlite"])
async def spools(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Spools]:
    kind: Kind = request.param
    spools = Spools(kind, tmp_path)
    yield spools
    await spools.close()


def urgent(number: int, key: str = "", *, age: float = 0.0) -> Event:
    """Received now, or so long ago."""
    received_ms = int((WALL + asyncio.get_running_loop().time() - age) * 1000)
    one = event(number, key, name="rtms")
    return Event(one.digest, "main", "sub", "rtms", number, key, received_ms, one.content)


async def overtaking(spool: Spool, *, seconds: float = 5.0) -> list[Item]:
    """What is handed out before its turn; nothing if that takes long."""
    try:
        async with asyncio.timeout(seconds):
            return list(await spool.read_urgent("a", 1000))
    except TimeoutError:
        return []


async def rest(spool: Spool) -> list[int]:
    """Deliver all that comes in its turn."""
    found: list[int] = []
    while spool.stats().sinks["a"].pending:
        async with asyncio.timeout(100):
            items = await spool.read("a", 1000, READ_BYTES)
        deliver(spool, "a", items)
        found += numbers(items)
    return found


async def test_they_come_before_a_backlog_and_not_again(spools: Spools) -> None:
    spool = await spools.open(SINK)
    await spool.append(events(3000))
    await spool.append([urgent(5000), event(5001), urgent(5002)])
    first = await overtaking(spool)
    assert numbers(first) == [5000, 5002]
    assert await overtaking(spool) == []
    deliver(spool, "a", first)
    assert spool.stats().sinks["a"].pending == 3001
    assert await rest(spool) == [*range(1, 3001), 5001]
    assert spool.stats().sinks["a"].delivered == 3003


async def test_what_is_late_or_is_not_urgent_waits_for_its_turn(spools: Spools) -> None:
    spool = await spools.open(SINK)
    await asyncio.sleep(1000)
    late = [urgent(n, age=DEADLINE + 1) for n in range(1, 3)]
    await spool.append([*late, urgent(3, age=DEADLINE - 1), *events(2000, start=10)])
    assert numbers(await overtaking(spool)) == [3]


async def test_without_a_backlog_everything_has_its_turn(spools: Spools) -> None:
    spool = await spools.open(SINK)
    await spool.append(events(10))
    first = asyncio.create_task(overtaking(spool, seconds=1))
    deliver(spool, "a", await take(spool, "a", 10))
    reading = asyncio.create_task(spool.read("a", 100, READ_BYTES))
    await asyncio.sleep(0.1)
    await spool.append([urgent(11), event(12)])
    assert numbers(await reading) == [11, 12]
    assert await first == []


async def test_a_reader_that_does_not_read_is_a_backlog(spools: Spools) -> None:
    spool = await spools.open(SINK)
    await spool.append([event(1), event(2)])
    await take(spool, "a", 2)
    waiting = asyncio.create_task(overtaking(spool, seconds=10))
    await asyncio.sleep(1)
    await spool.append([event(3), urgent(4)])
    assert numbers(await waiting) == [4]
    assert numbers(await take(spool, "a", 1)) == [3]


async def test_few_are_out_at_once_and_what_ends_makes_room(spools: Spools) -> None:
    spool = await spools.open(SINK)
    many = 3 * WINDOW_EVENTS
    await spool.append([*events(2000), *(urgent(5000 + n) for n in range(many))])
    out: list[int] = []
    while len(out) < many:
        items: list[Item] = []
        while more := await overtaking(spool):
            items += more
        assert len(items) == WINDOW_EVENTS
        deliver(spool, "a", items)
        out += numbers(items)
    assert out == list(range(5000, 5000 + many))
    assert await rest(spool) == list(range(1, 2001))


async def test_a_reader_that_is_gone_had_them_in_vain(spools: Spools) -> None:
    spool = await spools.open(SINK)
    await spool.append([*events(2000), urgent(5000), urgent(5001)])
    items = await overtaking(spool)
    deliver(spool, "a", items[:1])
    spool.release("a")
    again = await overtaking(spool)
    assert numbers(again) == [5001]
    deliver(spool, "a", items[1:])
    assert await rest(spool) == list(range(1, 2001))
    assert spool.stats().sinks["a"].delivered == 2002


async def test_what_ended_before_its_turn_outlives_a_restart(tmp_path: Path) -> None:
    spools = Spools("sqlite", tmp_path)
    spool = await spools.open(SINK)
    await spool.append([*events(2000), urgent(5000), urgent(5001), urgent(5002)])
    items = await overtaking(spool)
    deliver(spool, "a", items[:2])
    await spool.close()
    spool = await spools.open(SINK)
    assert numbers(await overtaking(spool)) == [5002]
    deliver(spool, "a", [])
    spool.release("a")
    assert await rest(spool) == [*range(1, 2001), 5002]
    assert spool.stats().sinks["a"].delivered == 2003
    await spools.close()


async def test_only_what_may_be_in_time_is_looked_at(tmp_path: Path) -> None:
    """After an outage of hours nothing is read twice but the last minute."""
    spools = Spools("sqlite", tmp_path)
    spool = await spools.open(SINK)
    for start in range(0, 20_000, 1000):
        await spool.append([urgent(n) for n in range(start, start + 1000)])
        await asyncio.sleep(100)
    await spool.append([urgent(50_000)])
    await spool.close()
    spool = await spools.open(SINK)
    reads = 0
    original = spool._read_ahead  # type: ignore[attr-defined]

    async def counted(after: int, since_ms: int) -> tuple[list[Item], int]:
        nonlocal reads
        reads += 1
        found: tuple[list[Item], int] = await original(after, since_ms)
        return found

    spool._read_ahead = counted  # type: ignore[attr-defined]
    assert numbers(await overtaking(spool)) == [50_000]
    assert reads == 1
    await spools.close()


async def test_behind_a_parked_urgent_one_of_the_same_key_they_wait(spools: Spools) -> None:
    spool = await spools.open(SINK)
    await spool.append([*events(2000), urgent(5000, "k"), urgent(5001, "other")])
    first = await overtaking(spool)
    park(spool, "a", "\x00urgent k", first[:1], seconds=30)
    await spool.append([urgent(5002, "k"), event(5003, "k"), urgent(5004)])
    assert numbers(await overtaking(spool)) == [5004]
    assert spool.stats().sinks["a"].parked == 2
    await asyncio.sleep(31)
    assert numbers(list(await spool.read("a", 10, READ_BYTES))) == [5000, 5002]


async def test_other_parked_lanes_do_not_wait_for_the_whole_backlog(spools: Spools) -> None:
    """What ended before its turn says nothing of how far the reader was."""
    spool = await spools.open(SINK)
    await spool.append([event(1, "k"), *events(3000, start=2), urgent(5000)])
    deliver(spool, "a", await overtaking(spool))
    head = await take(spool, "a", 10)
    park(spool, "a", "k", head[:1], seconds=5)
    deliver(spool, "a", head[1:])
    spool.release("a")
    await asyncio.sleep(6)
    assert numbers(list(await spool.read("a", 10, READ_BYTES))) == [1]


async def test_a_sink_that_wants_nothing_urgent_waits_for_ever(spools: Spools) -> None:
    spool = await spools.open(
        "a", SinkStart("b", urgency=URGENCY, wants=lambda name, _source: name != "rtms")
    )
    await spool.append([*events(2000), urgent(5000)])
    assert await overtaking(spool) == []
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5):
            await spool.read_urgent("b", 10)


async def test_what_is_shed_meanwhile_counts_as_shed(spools: Spools) -> None:
    spool = await spools.open(SINK, max_bytes=400_000)
    await spool.append([*(event(n, size=100) for n in range(1200)), urgent(5000)])
    items = await overtaking(spool)
    assert numbers(items) == [5000]
    for start in range(10_000, 20_000, 500):
        await spool.append([event(n, size=100) for n in range(start, start + 500)])
    deliver(spool, "a", items)
    counts = spool.stats().sinks["a"]
    assert (counts.delivered, counts.conservation_error) == (0, 0)
    await rest(spool)


async def test_what_ended_out_of_order_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_RANGES > 1000
    monkeypatch.setattr("zoomrelay.spool.marks.MOST_RANGES", 20)
    spools = Spools("memory", tmp_path)
    spool = await spools.open(SINK)
    await spool.append(events(2000))
    out = 0
    for n in range(50):
        await spool.append([urgent(5000 + 2 * n), event(5001 + 2 * n)])
        items = await overtaking(spool)
        out += len(items)
        deliver(spool, "a", items)
    assert out == 20
    assert len(await rest(spool)) == 2000 + 100 - 20
    await spools.close()
