"""What a durable spool promises beyond the rest: everything is there again."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.unit.spool.spools import (
    READ_BYTES,
    Spools,
    bury,
    deliver,
    event,
    events,
    is_idle,
    numbers,
    park,
    starts,
    take,
)
from zoomrelay.errors import SpoolError
from zoomrelay.spool import sqlite_store
from zoomrelay.spool.base import Quarantined, Remembered, Settlement, SinkStart
from zoomrelay.spool.sqlite_questions import ROWS_AT_ONCE
from zoomrelay.spool.sqlite_writer import Done, Job, run_job

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

DAY_SECONDS = 24 * 3600.0


@pytest.fixture
async def spools(tmp_path: Path) -> AsyncIterator[Spools]:
    spools = Spools("sqlite", tmp_path)
    yield spools
    await spools.close()


def copy_as_after_a_kill(source: Path, target: Path) -> Path:
    """The files as they are now; whoever has them open keeps the rest to itself."""
    target.mkdir()
    for file in source.glob("spool.sqlite*"):
        shutil.copy(file, target)
    return target


async def test_everything_is_there_again(spools: Spools) -> None:
    spool = await spools.open("a", "b")
    await spool.append([event(n, "x" if n % 2 else "y") for n in range(1, 21)])
    await spool.append(
        [event(21, source="two", subscription="s2")], [Quarantined("two", "s2", 5, b"?", "odd")]
    )
    items = await take(spool, "a", 21)
    park(spool, "a", "x", items[0:20:2], seconds=600, attempts=4, waited_seconds=9)
    deliver(spool, "a", [items[3], items[5]])
    bury(spool, "a", items[7:10:2])
    spool.settle("a", Settlement(filtered=[items[1].token], expired=[items[11].token]))
    (first, *_) = [letter for letter in await spool.dead_letters() if letter.sink]
    await spool.redrive([first.number])
    before = spool.stats()
    letters = await spool.dead_letters()
    received = spool.last_received()
    await spool.close()

    spool = await spools.open("a", "b")
    after = spool.stats()
    assert after.sources == before.sources
    assert (after.events, after.bytes) == (before.events, before.bytes)
    for sink, counts in before.sinks.items():
        counts.oldest_pending_ms = after.sinks[sink].oldest_pending_ms
    assert after.sinks == before.sinks
    assert await spool.dead_letters() == letters
    assert spool.last_received() == received
    (redriven,) = await take(spool, "a", 1)
    assert (redriven.redriven, redriven.event, redriven.attempts) == (True, items[7].event, 3)
    rest = await take(spool, "a", 5)
    assert [item.event for item in rest] == [items[at].event for at in (13, 15, 17, 19, 20)]
    assert await is_idle(spool, "a", seconds=500)
    lane = await take(spool, "a", 10)
    assert [item.event for item in lane] == [items[at].event for at in range(0, 20, 2)]
    assert [(item.attempts, item.waited_seconds) for item in lane] == [(4, 9.0)] + [(0, 0.0)] * 9
    assert numbers(await take(spool, "b", 21)) == list(range(1, 22))


async def test_a_lane_waits_no_longer_than_an_hour_for_a_clock_that_was_set_back(spools: Spools) -> None:
    spool = await spools.open("a")
    await spool.append([event(1, "x")])
    park(spool, "a", "x", await take(spool, "a", 1), seconds=600)
    await spool.close()
    set_back = spools.clock.wall
    spools.clock.wall = lambda: set_back() - 90 * DAY_SECONDS  # type: ignore[method-assign]
    spool = await spools.open("a")
    began = asyncio.get_running_loop().time()
    await take(spool, "a", 1)
    assert 3000 < asyncio.get_running_loop().time() - began < 3700


async def test_numbers_are_never_used_twice(spools: Spools) -> None:
    """Were they, a new sink could not tell old marks from new events."""
    spool = await spools.open("a")
    await spool.append(events(100))
    items = await take(spool, "a", 100)
    deliver(spool, "a", items)
    await spool.flush()
    await spool.flush()
    assert spool.stats().events == 0
    await spool.close()
    spool = await spools.open("a", "b")
    await spool.append([event(101)])
    (next_item,) = await take(spool, "a", 1)
    assert next_item.token > items[-1].token
    assert numbers(await take(spool, "b", 1)) == [101]


async def test_numbers_of_dead_letters_are_never_used_twice(spools: Spools) -> None:
    spool = await spools.open("a")
    await spool.append(events(2))
    bury(spool, "a", await take(spool, "a", 2))
    old = [letter.number for letter in await spool.dead_letters()]
    await spool.discard(old)
    await spool.close()
    spool = await spools.open("a")
    await spool.append([event(3)])
    bury(spool, "a", await take(spool, "a", 1))
    (letter,) = await spool.dead_letters()
    assert letter.number > max(old)


async def test_settlements_become_durable_by_themselves(
    spools: Spools, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within 100 ms, with no further event."""
    spool = await spools.open("a")
    await spool.append(events(10))
    items = await take(spool, "a", 10)
    loop = asyncio.get_running_loop()
    begun: list[float] = []

    def watched(connection: sqlite3.Connection, job: Job) -> Done:
        begun.append(loop.time())
        return run_job(connection, job)

    monkeypatch.setattr(sqlite_store, "run_job", watched)
    now = loop.time()
    deliver(spool, "a", items)
    for _ in range(1000):
        if spool.stats().events:
            await asyncio.sleep(0.01)
    assert spool.stats().events == 0
    assert begun[0] - now < 0.1
    # And as nothing is left to write, nothing is written.
    await asyncio.sleep(60)
    assert len(begun) <= 2


async def test_settlements_ride_on_the_next_commit(spools: Spools, tmp_path: Path) -> None:
    spool = await spools.open("a")
    await spool.append(events(10))
    deliver(spool, "a", (await take(spool, "a", 10))[:7])
    await spool.append(events(5, start=11))
    spools.path = copy_as_after_a_kill(tmp_path, tmp_path / "copy")
    copy = await spools.open("a")
    assert copy.stats().sinks["a"].delivered == 7
    assert numbers(await take(copy, "a", 8)) == list(range(8, 16))


async def test_a_kill_takes_back_whole_settlements_only(spools: Spools, tmp_path: Path) -> None:
    """Event, dead letter, lane and counters move in one transaction."""
    spool = await spools.open("a", "b")
    for at in range(30):
        batch = [event(at * 10 + n, "xyz"[n % 3]) for n in range(1, 11)]
        await spool.append(batch)
        items = await spool.read("a", 10, READ_BYTES)
        bury(spool, "a", items[:1])
        if len(items) > 2:
            park(spool, "a", items[1].event.key, items[1:2], seconds=0.01)
        deliver(spool, "a", items[2:])
        if at % 7 == 0:
            # No pause: the commit that the timer begins may be anywhere.
            spools.path = copy_as_after_a_kill(tmp_path, tmp_path / f"copy{at}")
            copy = await spools.open("a", "b")
            counts = copy.stats().sinks["a"]
            assert counts.conservation_error == 0
            assert counts.appended == (at + 1) * 10
            assert counts.dead == counts.dead_letters == len(await copy.dead_letters())
            assert copy.stats().sinks["b"].pending == (at + 1) * 10
            await copy.close()


async def test_a_new_sink_is_known_at_once(spools: Spools, tmp_path: Path) -> None:
    """Else a kill would move its beginning."""
    spool = await spools.open("a")
    await spool.append(events(3))
    await spool.set_sinks(starts("a", "new"))
    spools.path = copy_as_after_a_kill(tmp_path, tmp_path / "copy")
    copy = await spools.open("a", "new")
    await copy.append([event(4)])
    assert copy.stats().sinks["new"].appended == 1


async def test_an_orphan_ages_across_restarts(spools: Spools) -> None:
    spool = await spools.open("a", "b")
    await spool.append(events(5))
    deliver(spool, "a", await take(spool, "a", 5))
    await spool.set_sinks(starts("a"))
    for _ in range(5):
        await spool.close()
        # Time in which no relay runs does not count.
        spools.clock.skip(10 * DAY_SECONDS)
        spool = await spools.open("a")
        assert spool.stats().sinks["b"].pending == 5
        spools.clock.skip(DAY_SECONDS / 6)
    spools.clock.skip(DAY_SECONDS / 3)
    await spool.close()
    spool = await spools.open("a", SinkStart("b", "oldest"))
    counts = spool.stats().sinks["b"]
    assert (counts.abandoned, counts.pending) == (5, 0)


async def test_the_file_is_readable_with_a_shell(spools: Spools, tmp_path: Path) -> None:
    spool = await spools.open("a")
    held = events(30, keys=3)
    await spool.append(held)
    with closing(sqlite3.connect(tmp_path / "spool.sqlite")) as shell:
        rows = shell.execute(
            "SELECT seq, id, source, subscription, event, event_ts, key, received_ms, content FROM events"
        ).fetchall()
    assert rows == [
        (
            at,
            one.id,
            one.source,
            one.subscription,
            one.name,
            one.event_ts,
            one.key,
            one.received_ms,
            one.content.decode(),
        )
        for at, one in enumerate(held, 1)
    ]


async def test_a_closed_spool_says_so(spools: Spools) -> None:
    spool = await spools.open("a")
    await spool.append(events(1))
    await spool.close()
    with pytest.raises(SpoolError, match="closed"):
        await spool.append(events(1))
    with pytest.raises(SpoolError, match="closed"):
        await spool.dead_letters()


async def test_closing_waits_for_what_is_under_way(spools: Spools) -> None:
    spool = await spools.open("a")
    appending = [asyncio.ensure_future(spool.append([event(n)])) for n in range(1, 6)]
    await asyncio.sleep(0)
    await spool.close()
    await asyncio.gather(*appending)
    spool = await spools.open("a")
    assert numbers(await take(spool, "a", 5)) == [1, 2, 3, 4, 5]


async def test_what_is_settled_last_is_kept_by_close(spools: Spools) -> None:
    spool = await spools.open("a")
    await spool.append(events(5))
    items = await take(spool, "a", 5)
    spool.settle("a", Settlement(delivered=[item.token for item in items[:4]]))
    await spool.close()
    spool = await spools.open("a")
    assert numbers(await take(spool, "a", 1)) == [5]


def remembered(generation: int, *numbers: int) -> Remembered:
    return Remembered(generation, b"".join(number.to_bytes(16, "big") for number in numbers))


async def test_identities_of_two_generations_are_there_again(spools: Spools) -> None:
    spool = await spools.open("a")
    for generation, number in ((1, 1), (1, 2), (2, 3), (3, 4)):
        await spool.append([event(number)], remembered=remembered(generation, number))
    await spool.append([], remembered=remembered(4, 5))  # nothing was held with it
    await spool.close()
    spool = await spools.open("a")
    assert spool.take_remembered() == [remembered(2, 3), remembered(3, 4)]
    assert spool.take_remembered() == []
    await spool.append([event(6)], remembered=remembered(4, 6))
    await spool.close()
    spool = await spools.open("a")
    assert spool.take_remembered() == [remembered(3, 4), remembered(4, 6)]


async def test_what_was_not_held_is_not_remembered(spools: Spools, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = await spools.open("a")

    def refuse(_connection: sqlite3.Connection, _job: Job) -> Done:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as broken:
        broken.setattr(sqlite_store, "run_job", refuse)
        with pytest.raises(SpoolError):
            await spool.append([event(1)], remembered=remembered(1, 1))
    await spool.close()
    spool = await spools.open("a")
    assert spool.take_remembered() == [] and spool.stats().events == 0


async def test_merged_counts_are_there_again(spools: Spools) -> None:
    spool = await spools.open("a")
    spool.count_merged({("main", "twin"): 3})
    await spool.close()
    spool = await spools.open("a")
    assert spool.stats().paths["main", "twin"].merged == 3


async def test_a_damaged_run_of_identities_is_left_out(spools: Spools, tmp_path: Path) -> None:
    spool = await spools.open("a")
    await spool.append([event(1)], remembered=remembered(1, 1))
    await spool.append([event(2)], remembered=remembered(1, 2))
    await spool.close()
    with closing(sqlite3.connect(tmp_path / "spool.sqlite")) as file, file:
        file.execute("UPDATE identities SET digests = zeroblob(16) WHERE number = 1")
    spool = await spools.open("a")
    assert spool.take_remembered() == [remembered(1, 2)]


async def test_a_damaged_dead_letter_is_never_redriven(spools: Spools, tmp_path: Path) -> None:
    spool = await spools.open("a")
    await spool.append(events(3))
    bury(spool, "a", await take(spool, "a", 3))
    await spool.redrive([1])
    await spool.close()
    with closing(sqlite3.connect(tmp_path / "spool.sqlite")) as file, file:
        file.execute("UPDATE dead SET content = x'7b7d' WHERE number < 3")
    spool = await spools.open("a")
    assert await is_idle(spool, "a")
    assert await spool.redrive([1, 2, 3]) == 1
    assert numbers(await take(spool, "a", 1)) == [3]
    letters = await spool.dead_letters()
    assert [(letter.redriving, "checksum" in letter.reason) for letter in letters] == [
        (False, True), (False, True), (True, False),
    ]  # fmt: skip
    assert spool.stats().sinks["a"].dead == 3


async def test_a_backlog_of_small_commits_is_read_a_little_at_a_time(spools: Spools) -> None:
    spool = await spools.open("a")
    for number in range(1, 2 * ROWS_AT_ONCE + 2):
        await spool.append([event(number)])
    await spool.close()
    spool = await spools.open("a")
    portions = [await spool.read("a", 1000, READ_BYTES) for _ in range(3)]
    assert [len(portion) for portion in portions] == [ROWS_AT_ONCE, ROWS_AT_ONCE, 1]
    assert [number for portion in portions for number in numbers(portion)] == [
        *range(1, 2 * ROWS_AT_ONCE + 2)
    ]


@pytest.mark.parametrize("row", [ROWS_AT_ONCE - 1, ROWS_AT_ONCE, ROWS_AT_ONCE + 1])
async def test_a_damaged_run_at_the_end_of_a_portion_takes_nothing_else_with_it(
    spools: Spools, row: int
) -> None:
    count = 4 * ROWS_AT_ONCE
    spool = await spools.open("a")
    for number in range(1, count + 1):
        await spool.append([event(number)])
    await spool.close()
    with closing(sqlite3.connect(spools.path / "spool.sqlite")) as connection:
        connection.execute("UPDATE segments SET last = last | 64 WHERE first = ?", (row,))
        connection.commit()
    spool = await spools.open("a")
    got: list[int] = []
    while len(got) < count - 1:
        items = await spool.read("a", 1000, READ_BYTES)
        got += numbers(items)
        deliver(spool, "a", items)
    assert got == [number for number in range(1, count + 1) if number != row]
    assert (spool.stats().sinks["a"].dead, spool.stats().sinks["a"].pending) == (1, 0)
