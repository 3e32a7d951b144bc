"""The promises of a spool about what was delivered: how long it stays, and that it can be had once more."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.unit.spool.spools import (
    READ_BYTES,
    WALL,
    Kind,
    Spools,
    bury,
    check_books,
    deliver,
    event,
    events,
    is_idle,
    number,
    numbers,
    park,
    take,
)
from zoomrelay.errors import ReplayRefused
from zoomrelay.spool.base import Choice, Item, Settlement, SinkStart, Spool
from zoomrelay.spool.replay import WINDOW_EVENTS

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

HOUR = 3600.0
START_MS = int(WALL * 1000)


@pytest.fixture
async def spools(tmp_path: Path) -> AsyncIterator[Spools]:
    spools = Spools("sqlite", tmp_path)
    spools.retain_seconds = HOUR
    yield spools
    await spools.close()


async def delivered(
    spool: Spool, sink: str, count: int, *, start: int = 1, size: int = 40, keys: int = 0
) -> None:
    """Append and deliver so many, in batches of ten."""
    for at in range(start, start + count, 10):
        await spool.append(events(10, start=at, size=size, keys=keys))
        deliver(spool, sink, await take(spool, sink, 10))
    await spool.flush()


async def held(spool: Spool, choice: Choice | None = None) -> list[int]:
    """Numbers of the events that can be had."""
    found = [event async for portion in spool.retained(choice or Choice()) for event in portion]
    return [int.from_bytes(event.digest) for event in found]


async def replayed(spool: Spool, sink: str, count: int) -> list[Item]:
    items: list[Item] = []
    while len(items) < count:
        async with asyncio.timeout(100):
            got = await spool.read(sink, 1000, READ_BYTES)
        assert len(got) <= WINDOW_EVENTS and all(item.event.replayed for item in got)
        deliver(spool, sink, got)
        items += got
    return items


# --- who keeps nothing ------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "words"), [("memory", "in memory"), ("sqlite", "retain_seconds")])
async def test_who_keeps_nothing_says_so(tmp_path: Path, kind: Kind, words: str) -> None:
    spools = Spools(kind, tmp_path)
    spool = await spools.open("a")
    await delivered(spool, "a", 10)
    with pytest.raises(ReplayRefused, match=words):
        await spool.begin_replay("a", Choice())
    with pytest.raises(ReplayRefused, match=words):
        await held(spool)
    assert spool.stats().retained_events == 0
    await spools.close()


# --- retention --------------------------------------------------------------------------------------


async def test_delivered_events_stay_and_are_no_backlog(spools: Spools) -> None:
    spool = await spools.open("a")
    await delivered(spool, "a", 50)
    stats = spool.stats()
    assert (stats.retained_events, stats.events, stats.sinks["a"].pending) == (50, 50, 0)
    assert stats.retained_bytes == stats.bytes > 50 * 40
    assert await held(spool) == list(range(1, 51))
    assert await is_idle(spool, "a")


async def test_they_go_when_they_are_old_enough_even_if_nothing_else_happens(spools: Spools) -> None:
    spool = await spools.open("a")
    await delivered(spool, "a", 50)
    await asyncio.sleep(HOUR - 100)
    assert len(await held(spool)) == 50
    await asyncio.sleep(300)
    stats = spool.stats()
    assert (await held(spool), stats.events, stats.retained_events, stats.retained_bytes) == ([], 0, 0, 0)


async def test_what_somebody_waits_for_never_goes_by_age(spools: Spools) -> None:
    spool = await spools.open("a", "b")
    await delivered(spool, "a", 50)
    await asyncio.sleep(3 * HOUR)
    assert spool.stats().retained_events == 0
    assert numbers(await take(spool, "b", 50)) == list(range(1, 51))


async def test_they_outlive_a_restart_and_are_not_delivered_again(spools: Spools) -> None:
    spool = await spools.open("a")
    await delivered(spool, "a", 50)
    await spool.close()
    spool = await spools.open("a")
    assert await is_idle(spool, "a")
    assert (len(await held(spool)), spool.stats().retained_events) == (50, 50)
    spools.retain_seconds = 0.0
    await spool.close()
    assert (await spools.open("a")).stats().events == 0


async def test_they_are_the_first_to_make_way(spools: Spools) -> None:
    spool = await spools.open("a", "lag", max_bytes=400_000)
    await delivered(spool, "a", 500, size=500)
    deliver(spool, "lag", await take(spool, "lag", 400))
    await delivered(spool, "a", 200, start=501, size=500)
    stats = spool.stats()
    assert spools.shed == [] and stats.bytes <= 400_000
    assert stats.sinks["lag"].pending == 300
    assert 0 < stats.retained_events < 400
    first = (await held(spool))[0]
    assert await held(spool) == list(range(first, 701))
    await delivered(spool, "a", 600, start=701, size=500)
    stats = spool.stats()
    assert sum(count for _, count in spools.shed) == stats.sinks["lag"].shed > 0
    assert (stats.retained_events, stats.bytes <= 400_000) == (0, True)


async def test_a_sink_whose_row_is_damaged_does_not_get_everything_again(
    spools: Spools, tmp_path: Path
) -> None:
    spool = await spools.open("a")
    await delivered(spool, "a", 50)
    await spool.append(events(10, start=51))
    await spool.close()
    with closing(sqlite3.connect(tmp_path / "spool.sqlite")) as file, file:
        file.execute("UPDATE sinks SET crc = crc + 1")
    spool = await spools.open("a")
    assert numbers(await spool.read("a", 1000, READ_BYTES))[0] > 40


async def test_a_new_sink_that_begins_with_the_oldest_gets_them(spools: Spools) -> None:
    spool = await spools.open("a")
    await delivered(spool, "a", 50)
    await spool.set_sinks([SinkStart("a"), SinkStart("b", "oldest")])
    assert numbers(await take(spool, "b", 50)) == list(range(1, 51))


# --- what is chosen ---------------------------------------------------------------------------------


async def test_time_is_exact(spools: Spools) -> None:
    spool = await spools.open("a")
    await delivered(spool, "a", 100)
    assert await held(spool, Choice(START_MS + 25, START_MS + 61)) == list(range(25, 61))
    assert await held(spool, Choice(START_MS + 1000)) == []
    assert await held(spool, Choice(until_ms=START_MS)) == []
    assert await held(spool, Choice(wants=lambda name, _: name == "x")) == []


async def test_what_is_still_to_come_is_in_the_reading_but_not_in_a_replay(spools: Spools) -> None:
    spool = await spools.open("a")
    await delivered(spool, "a", 20)
    await spool.append(events(5, start=21))
    assert await held(spool) == list(range(1, 26))
    live = await take(spool, "a", 5)
    replay = await spool.begin_replay("a", Choice())
    assert numbers(await replayed(spool, "a", 20)) == list(range(1, 21))
    assert replay.ended
    spool.end_replay(replay)
    deliver(spool, "a", live)
    assert (spool.stats().sinks["a"].delivered, spool.stats().sinks["a"].pending) == (25, 0)


# --- replaying --------------------------------------------------------------------------------------


async def test_a_replay_gives_everything_once_more_in_order_and_counts_apart(spools: Spools) -> None:
    spool = await spools.open("a", "b")
    await delivered(spool, "a", 3000)
    deliver(spool, "b", await take(spool, "b", 3000))
    replay = await spool.begin_replay("a", Choice(START_MS + 11))
    items = await replayed(spool, "a", 2990)
    assert numbers(items) == list(range(11, 3001))
    spool.end_replay(replay)
    progress = replay.progress()
    assert (progress.sent, progress.failed, progress.part, progress.ended) == (2990, 0, 1.0, True)
    counts = spool.stats().sinks
    assert (counts["a"].delivered, counts["a"].replayed, counts["b"].replayed) == (3000, 2990, 0)
    assert await is_idle(spool, "a") and await is_idle(spool, "b")
    await spool.close()
    spool = await spools.open("a", "b")
    assert spool.stats().sinks["a"].replayed == 2990


async def test_live_events_go_first(spools: Spools) -> None:
    spool = await spools.open("a")
    await delivered(spool, "a", 500)
    await spool.begin_replay("a", Choice())
    got = 0
    for at in range(501, 521):
        items = await spool.read("a", 10, READ_BYTES)
        assert all(item.event.replayed for item in items)
        got += len(items)
        await spool.append([event(at)])
        live = await spool.read("a", 1000, READ_BYTES)
        assert numbers(live) == [at] and not live[0].event.replayed
        deliver(spool, "a", [*items, *live])
    assert got == 200


async def test_no_more_is_out_than_the_window(spools: Spools) -> None:
    spool = await spools.open("a")
    await delivered(spool, "a", 500)
    await spool.begin_replay("a", Choice())
    items = await take(spool, "a", WINDOW_EVENTS)
    assert await is_idle(spool, "a")
    await spool.append([event(501)])
    assert numbers(await take(spool, "a", 1)) == [501]
    deliver(spool, "a", items[:3])
    assert len(await spool.read("a", 1000, READ_BYTES)) == 3


async def test_what_a_reader_did_not_settle_comes_again_in_order(spools: Spools) -> None:
    spool = await spools.open("a")
    await delivered(spool, "a", 100)
    replay = await spool.begin_replay("a", Choice())
    items = await take(spool, "a", 40)
    deliver(spool, "a", items[10:20])
    assert replay.progress().reached_ms == START_MS + 1
    spool.release("a")
    again = await take(spool, "a", 60, max_events=60)
    assert numbers(again) == [*range(1, 11), *range(21, 71)]
    park(spool, "a", "x", again[5:], seconds=9)
    assert numbers(await take(spool, "a", 3, max_events=3)) == [6, 7, 8]
    deliver(spool, "a", again[:5])
    assert replay.progress().reached_ms == START_MS + 6


async def test_what_dies_in_a_replay_is_counted_there_and_nowhere_else(spools: Spools) -> None:
    spool = await spools.open("a")
    await delivered(spool, "a", 10)
    replay = await spool.begin_replay("a", Choice())
    items = await take(spool, "a", 10)
    bury(spool, "a", items[:4])
    spool.settle("a", Settlement(filtered=[items[4].token], expired=[items[5].token]))
    deliver(spool, "a", items[6:])
    assert (replay.progress().failed, replay.progress().sent, replay.ended) == (4, 4, True)
    counts = spool.stats().sinks["a"]
    assert (counts.dead, counts.dead_letters, counts.filtered, counts.expired, counts.delivered) == (
        0,
        0,
        0,
        0,
        10,
    )


async def test_an_ended_replay_hands_out_nothing_and_its_tokens_mean_nothing(spools: Spools) -> None:
    spool = await spools.open("a")
    await delivered(spool, "a", 100)
    replay = await spool.begin_replay("a", Choice())
    items = await take(spool, "a", 30)
    spool.end_replay(replay)
    bury(spool, "a", items[:5])
    park(spool, "a", "x", items[5:10])
    deliver(spool, "a", items[10:])
    assert await is_idle(spool, "a")
    assert replay.progress().ended and replay.progress().sent == 0
    check_books(spool)
    await spool.begin_replay("a", Choice())
    assert numbers(await take(spool, "a", 5, max_events=5)) == [1, 2, 3, 4, 5]


async def test_one_at_a_time_and_only_to_sinks_that_there_are(spools: Spools) -> None:
    spool = await spools.open("a", "b")
    await delivered(spool, "a", 10)
    replay = await spool.begin_replay("a", Choice())
    with pytest.raises(ReplayRefused, match="under way"):
        await spool.begin_replay("a", Choice())
    with pytest.raises(ReplayRefused, match="no sink"):
        await spool.begin_replay("c", Choice())
    spool.end_replay(replay)
    await spool.begin_replay("a", Choice())


async def test_a_replay_ends_with_its_sink_and_with_the_spool(spools: Spools) -> None:
    spool = await spools.open("a", "b")
    await delivered(spool, "a", 10)
    first = await spool.begin_replay("a", Choice())
    assert not first.ended
    await spool.set_sinks([SinkStart("b")])
    assert first.ended and "configuration" in first.progress().error
    await spool.set_sinks([SinkStart("a"), SinkStart("b")])
    third = await spool.begin_replay("a", Choice())
    await spool.close()
    assert third.ended and "stopped" in third.progress().error


async def test_what_makes_way_during_a_replay_is_left_out(spools: Spools) -> None:
    spool = await spools.open("a", max_bytes=400_000)
    await delivered(spool, "a", 500, size=500)
    replay = await spool.begin_replay("a", Choice())
    got = await replayed(spool, "a", WINDOW_EVENTS)
    await delivered(spool, "a", 1000, start=501, size=500)
    with suppress(TimeoutError):  # it may end in a read, which then waits for something live
        async with asyncio.timeout(100):
            while not replay.ended:
                items = await spool.read("a", 1000, READ_BYTES)
                deliver(spool, "a", items)
                got += items
    assert replay.ended
    assert numbers(got) == sorted(numbers(got)) and max(numbers(got)) <= 500
    assert spool.stats().sinks["a"].replayed == len(got)


async def test_a_rate_is_kept(spools: Spools) -> None:
    spool = await spools.open("a")
    await delivered(spool, "a", 200)
    began = asyncio.get_running_loop().time()
    await spool.begin_replay("a", Choice(), 20)
    await replayed(spool, "a", 200)
    assert 9.5 < asyncio.get_running_loop().time() - began < 10.5


async def test_damaged_events_are_left_out_and_counted(spools: Spools, tmp_path: Path) -> None:
    spool = await spools.open("a")
    await delivered(spool, "a", 100)
    with closing(sqlite3.connect(tmp_path / "spool.sqlite")) as file, file:
        file.execute("UPDATE segments SET content = replace(content, '15}', '16}') WHERE first = 11")
        file.execute("UPDATE segments SET content = CAST(content AS BLOB) WHERE first = 11")
        file.execute("UPDATE segments SET \"index\" = x'00' WHERE first = 51")
    replay = await spool.begin_replay("a", Choice())
    got = await replayed(spool, "a", 89)
    assert {number(item) for item in got} == set(range(1, 101)) - {15} - set(range(51, 61))
    assert replay.ended and replay.progress().damaged == 2
