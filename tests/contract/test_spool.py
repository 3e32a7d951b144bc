"""The promises of a spool, kept by every implementation."""

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
    bury,
    check_books,
    deliver,
    event,
    events,
    is_idle,
    number,
    numbers,
    park,
    starts,
    take,
)
from zoomrelay.spool.base import Death, Item, Parked, Quarantined, Settlement, SinkStart

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

DAY_SECONDS = 24 * 3600.0


@pytest.fixture(params=["sqlite", "memory"])
async def spools(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Spools]:
    kind: Kind = request.param
    spools = Spools(kind, tmp_path)
    yield spools
    await spools.close()


def frame(at: int = 1) -> Quarantined:
    return Quarantined("main", "sub", int(WALL * 1000) + at, b"\xff not json", "not JSON")


# --- reading ----------------------------------------------------------------------------------------


async def test_events_come_in_order_and_as_they_were(spools: Spools) -> None:
    spool = await spools.open("a")
    held = events(2500, keys=7)
    for at in range(0, 2500, 500):
        await spool.append(held[at : at + 500])
    items = await take(spool, "a", 2500, max_events=333)
    assert [item.event for item in items] == held
    assert len({item.token for item in items}) == 2500
    assert not any(item.redriven or item.attempts or item.waited_seconds for item in items)
    assert await is_idle(spool, "a")


async def test_a_read_keeps_to_its_bounds_but_gives_at_least_one(spools: Spools) -> None:
    spool = await spools.open("a")
    await spool.append(events(100, size=1000))
    assert len(await spool.read("a", 7, READ_BYTES)) == 7
    assert len(await spool.read("a", 1000, 5500)) == 5
    assert len(await spool.read("a", 1000, 10)) == 1
    assert numbers(await take(spool, "a", 87)) == list(range(14, 101))


async def test_a_reader_waits_until_there_is_something(spools: Spools) -> None:
    spool = await spools.open("a")
    reading = asyncio.ensure_future(spool.read("a", 10, READ_BYTES))
    await asyncio.sleep(100)
    assert not reading.done()
    await spool.append(events(1))
    assert numbers(await reading) == [1]


async def test_a_reader_sees_nothing_before_it_is_held(spools: Spools) -> None:
    spool = await spools.open("a")
    held: list[str] = []

    async def append() -> None:
        await spool.append(events(1))
        held.append("held")

    async def read() -> None:
        await spool.read("a", 10, READ_BYTES)
        held.append("read")

    await asyncio.gather(read(), append())
    assert sorted(held) == ["held", "read"]
    assert spool.stats().events == 1


async def test_cancelling_a_read_loses_nothing(spools: Spools) -> None:
    spool = await spools.open("a")
    got: list[Item] = []
    for at in range(60):
        reading = asyncio.ensure_future(spool.read("a", 10, READ_BYTES))
        appending = asyncio.ensure_future(spool.append([event(at + 1)]))
        for _ in range(at // 3):
            await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait([reading, appending])
        got += [] if reading.cancelled() else reading.result()
    got += await take(spool, "a", 60 - len(got))
    assert numbers(got) == list(range(1, 61))


async def test_cancelling_an_append_harms_no_other(spools: Spools) -> None:
    spool = await spools.open("a")
    for at in range(20):
        first = asyncio.ensure_future(spool.append([event(100 + at)]))
        for _ in range(at % 5):
            await asyncio.sleep(0)
        first.cancel()
        await spool.append([event(at)])
    await spool.flush()
    appended = spool.stats().sinks["a"].appended
    items = await take(spool, "a", appended)
    assert [n for n in numbers(items) if n < 100] == list(range(20))
    assert len({item.token for item in items}) == appended


async def test_every_sink_gets_every_event_at_its_own_pace(spools: Spools) -> None:
    spool = await spools.open("quick", "slow")
    quick: list[Item] = []
    for at in range(0, 3000, 100):
        await spool.append(events(100, start=at + 1, size=1000))
        quick += await take(spool, "quick", 100)
        deliver(spool, "quick", quick[-100:])
        if at % 300 == 0:
            deliver(spool, "slow", await take(spool, "slow", 10))
    assert numbers(quick) == list(range(1, 3001))
    assert numbers(await take(spool, "slow", 2900)) == list(range(101, 3001))
    counts = spool.stats().sinks
    assert (counts["quick"].pending, counts["slow"].pending) == (0, 2900)


# --- settling ---------------------------------------------------------------------------------------


async def test_tokens_may_be_settled_in_any_order(spools: Spools) -> None:
    spool = await spools.open("a")
    await spool.append(events(6))
    items = await take(spool, "a", 6)
    for at in (4, 1, 5, 0):
        deliver(spool, "a", [items[at]])
    spool.settle("a", Settlement(delivered=[items[3].token, items[2].token]))
    counts = spool.stats().sinks["a"]
    assert (counts.delivered, counts.pending) == (6, 0)


async def test_a_settlement_that_looks_like_a_run_but_is_none(spools: Spools) -> None:
    """First and last and length fit; what is between does not."""
    spool = await spools.open("a")
    await spool.append(events(5))
    items = await take(spool, "a", 5)
    spool.settle("a", Settlement(delivered=[items[at].token for at in (0, 4, 1, 3)]))
    spool.release("a")
    assert numbers(await take(spool, "a", 1)) == [3]


async def test_each_outcome_is_counted_once(spools: Spools) -> None:
    spool = await spools.open("a")
    await spool.append(events(10))
    items = await take(spool, "a", 10)
    settlement = Settlement(
        delivered=[items[0].token, items[1].token],
        filtered=[items[2].token],
        expired=[items[3].token],
        dead=[Death(items[4], "HTTP 400", 3, 400)],
    )
    spool.settle("a", settlement)
    spool.settle("a", settlement)
    counts = spool.stats().sinks["a"]
    assert (counts.delivered, counts.filtered, counts.expired, counts.dead) == (2, 1, 1, 1)
    assert (counts.appended, counts.pending) == (10, 5)


async def test_what_was_not_handed_out_is_not_settled(spools: Spools) -> None:
    spool = await spools.open("a", "b")
    await spool.append(events(4))
    items = await take(spool, "a", 4)
    deliver(spool, "b", items)
    assert spool.stats().sinks["b"].pending == 4
    spool.release("a")
    deliver(spool, "a", items)
    assert spool.stats().sinks["a"].pending == 4


async def test_what_was_not_settled_comes_again_after_release(spools: Spools) -> None:
    spool = await spools.open("a")
    await spool.append(events(8))
    items = await take(spool, "a", 8)
    deliver(spool, "a", [items[0], items[3], items[6]])
    assert await is_idle(spool, "a")
    spool.release("a")
    again = await take(spool, "a", 5)
    assert numbers(again) == [2, 3, 5, 6, 8]
    deliver(spool, "a", again)
    assert spool.stats().sinks["a"].delivered == 8


# --- parked lanes -----------------------------------------------------------------------------------


async def test_events_of_a_parked_lane_stay_behind_and_others_go_on(spools: Spools) -> None:
    spool = await spools.open("a")
    await spool.append([event(1, "x"), event(2, "y"), event(3, "x"), event(4, "y")])
    items = await take(spool, "a", 4)
    park(spool, "a", "x", [items[0], items[2]], seconds=30)
    await spool.append([event(5, "x"), event(6, "y")])
    assert numbers(await take(spool, "a", 1)) == [6]
    assert await is_idle(spool, "a", seconds=20)
    assert spool.stats().sinks["a"].parked == 3
    again = await take(spool, "a", 3)
    assert numbers(again) == [1, 3, 5]
    assert [(item.attempts, item.waited_seconds) for item in again] == [(2, 5.0), (0, 0.0), (0, 0.0)]


async def test_a_parked_lane_is_due_when_it_was_said(spools: Spools) -> None:
    spool = await spools.open("a")
    await spool.append([event(1, "x"), event(2, "y")])
    items = await take(spool, "a", 2)
    loop = asyncio.get_running_loop()
    began = loop.time()
    park(spool, "a", "x", items[:1], seconds=60)
    park(spool, "a", "y", items[1:], seconds=20)
    assert numbers(await take(spool, "a", 1)) == [2]
    assert 20 <= loop.time() - began < 21
    assert numbers(await take(spool, "a", 1)) == [1]
    assert 60 <= loop.time() - began < 61


async def test_a_suspended_machine_does_not_delay_a_lane_by_more_than_a_minute(spools: Spools) -> None:
    spool = await spools.open("a")
    await spool.append([event(1, "x")])
    park(spool, "a", "x", await take(spool, "a", 1), seconds=3600)
    began = asyncio.get_running_loop().time()
    reading = asyncio.ensure_future(spool.read("a", 10, READ_BYTES))
    await asyncio.sleep(1)
    spools.clock.skip(3600)
    assert numbers(await reading) == [1]
    assert asyncio.get_running_loop().time() - began < 65


async def test_a_parked_lane_comes_portion_by_portion(spools: Spools) -> None:
    spool = await spools.open("a")
    await spool.append([event(n, "x") for n in range(1, 101)])
    park(spool, "a", "x", await take(spool, "a", 100), seconds=1)
    await spool.append([event(101, "y")])
    await asyncio.sleep(1)
    first = await spool.read("a", 1000, READ_BYTES)
    assert numbers(first) == list(range(1, len(first) + 1))
    assert len(first) < 50
    # While it is out nothing else of this lane comes, and others do.
    assert numbers(await take(spool, "a", 1)) == [101]
    assert await is_idle(spool, "a")
    got = [*first]
    while len(got) < 100:
        deliver(spool, "a", got[-len(first) :])
        got += await spool.read("a", 1000, READ_BYTES)
    assert numbers(got) == list(range(1, 101))
    assert [item.attempts for item in got] == [2] + [0] * 99


async def test_a_head_that_fails_again_goes_back_with_its_history(spools: Spools) -> None:
    spool = await spools.open("a")
    await spool.append([event(n, "x") for n in range(1, 51)])
    park(spool, "a", "x", await take(spool, "a", 50), seconds=1, attempts=1, waited_seconds=1)
    for tries in range(2, 6):
        portion = await spool.read("a", 1000, READ_BYTES)
        assert numbers(portion)[:2] == [1, 2]
        assert (portion[0].attempts, portion[0].waited_seconds) == (tries - 1, tries - 1)
        park(spool, "a", "x", portion, seconds=10, attempts=tries, waited_seconds=tries)
        assert await is_idle(spool, "a", seconds=5)
    portion = await spool.read("a", 1000, READ_BYTES)
    deliver(spool, "a", portion[:1])
    park(spool, "a", "x", portion[1:], seconds=10, attempts=1, waited_seconds=2)
    await spool.append([event(51, "x")])
    got: list[Item] = []
    while len(got) < 50:
        got += await spool.read("a", 1000, READ_BYTES)
        deliver(spool, "a", got)
    assert numbers(got) == list(range(2, 52))
    assert [item.attempts for item in got] == [1] + [0] * 49
    assert spool.stats().sinks["a"].pending == 0


async def test_a_head_may_join_the_tail_that_was_parked_before_it(spools: Spools) -> None:
    spool = await spools.open("a")
    await spool.append([event(n, "x") for n in range(1, 5)])
    items = await take(spool, "a", 4)
    park(spool, "a", "x", items[1:], seconds=5, attempts=0, waited_seconds=0)
    park(spool, "a", "x", items[:1], seconds=5, attempts=7, waited_seconds=6)
    again = await take(spool, "a", 4)
    assert numbers(again) == [1, 2, 3, 4]
    assert [(item.attempts, item.waited_seconds) for item in again] == [(7, 6.0)] + [(0, 0.0)] * 3


async def test_a_tail_may_go_back_while_its_head_is_being_tried(spools: Spools) -> None:
    spool = await spools.open("a")
    await spool.append([event(n, "x") for n in range(1, 5)])
    park(spool, "a", "x", await take(spool, "a", 4), seconds=1)
    items = await take(spool, "a", 4)
    park(spool, "a", "x", items[1:], seconds=1, attempts=0, waited_seconds=0)
    assert await is_idle(spool, "a", seconds=10)
    deliver(spool, "a", items[:1])
    again = await take(spool, "a", 3)
    assert numbers(again) == [2, 3, 4]
    assert [item.attempts for item in again] == [0, 0, 0]


async def test_release_brings_a_lent_lane_back_in_order(spools: Spools) -> None:
    spool = await spools.open("a")
    await spool.append([event(n, "x") for n in range(1, 11)])
    park(spool, "a", "x", await take(spool, "a", 10), seconds=1)
    items = await take(spool, "a", 10)
    deliver(spool, "a", items[:3])
    spool.release("a")
    await spool.append([event(11, "x")])
    assert numbers(await take(spool, "a", 8)) == list(range(4, 12))


async def test_a_lane_does_not_overtake_what_comes_again(spools: Spools) -> None:
    """The head was in delivery, and only what stands behind it was parked, when the reader went."""
    spool = await spools.open("a")
    await spool.append([event(1, "x"), event(2, "y"), event(3, "x"), event(4, "x")])
    items = await take(spool, "a", 4)
    deliver(spool, "a", items[1:2])
    park(spool, "a", "x", items[2:], seconds=1, attempts=0, waited_seconds=0)
    spool.release("a")
    await asyncio.sleep(10)
    assert numbers(await take(spool, "a", 3)) == [1, 3, 4]


async def test_release_leaves_what_is_parked_where_it_is(spools: Spools) -> None:
    spool = await spools.open("a")
    await spool.append([event(1, "x"), event(2, "y")])
    items = await take(spool, "a", 2)
    park(spool, "a", "x", items[:1], seconds=60)
    spool.release("a")
    assert numbers(await take(spool, "a", 1)) == [2]
    assert await is_idle(spool, "a", seconds=50)
    assert numbers(await take(spool, "a", 1)) == [1]


async def test_parked_events_may_die_expire_or_be_unwanted(spools: Spools) -> None:
    spool = await spools.open("a")
    await spool.append([event(n, "x") for n in range(1, 5)])
    park(spool, "a", "x", await take(spool, "a", 4), seconds=1)
    items = await take(spool, "a", 4)
    bury(spool, "a", items[:1])
    spool.settle("a", Settlement(filtered=[items[1].token], expired=[items[2].token]))
    deliver(spool, "a", items[3:])
    counts = spool.stats().sinks["a"]
    assert (counts.dead, counts.filtered, counts.expired, counts.delivered) == (1, 1, 1, 1)
    assert (counts.parked, counts.pending) == (0, 0)
    await spool.append([event(5, "x")])
    assert numbers(await take(spool, "a", 1)) == [5]


async def test_lanes_of_two_sinks_do_not_know_each_other(spools: Spools) -> None:
    spool = await spools.open("a", "b")
    await spool.append([event(1, "x"), event(2, "x")])
    park(spool, "a", "x", await take(spool, "a", 2), seconds=60)
    await spool.append([event(3, "x")])
    assert numbers(await take(spool, "b", 3)) == [1, 2, 3]
    assert await is_idle(spool, "a")


async def test_lanes_with_names_of_their_own(spools: Spools) -> None:
    """Delivery names lanes of keyless events itself, with a control character."""
    spool = await spools.open("a")
    await spool.append(events(3))
    items = await take(spool, "a", 3)
    for item in items:
        park(spool, "a", f"\x00{item.token}", [item], seconds=1 + number(item))
    await spool.append([event(4)])
    assert numbers(await take(spool, "a", 4)) == [4, 1, 2, 3]


async def test_an_event_parked_under_another_name_stays_in_its_lane(spools: Spools) -> None:
    """As after a change of `ordering`: nothing may get stuck."""
    spool = await spools.open("a")
    await spool.append([event(1, "x"), event(2, "x")])
    park(spool, "a", "x", await take(spool, "a", 2), seconds=1)
    items = await take(spool, "a", 2)
    for item in items:
        park(spool, "a", f"\x00{item.token}", [item], seconds=5, attempts=3)
    again = await take(spool, "a", 2)
    assert numbers(again) == [1, 2]
    deliver(spool, "a", again)
    assert spool.stats().sinks["a"].pending == 0


async def test_parked_events_free_the_stream(spools: Spools) -> None:
    spool = await spools.open("a")
    await spool.append([event(1, "x"), *events(999, start=2)])
    items = await take(spool, "a", 1000)
    park(spool, "a", "x", items[:1], seconds=600)
    deliver(spool, "a", items[1:])
    await spool.append([event(1001)])
    await spool.flush()
    stats = spool.stats()
    assert (stats.events, stats.sinks["a"].pending, stats.sinks["a"].parked) == (1, 2, 1)


# --- dead letters -----------------------------------------------------------------------------------


async def test_a_dead_letter_tells_the_whole_story(spools: Spools) -> None:
    spool = await spools.open("a", "b")
    await spool.append(events(3))
    items = await take(spool, "a", 3)
    spool.settle("a", Settlement(dead=[Death(items[1], "HTTP 422 \ud800", 4, 422, "because \udfff")]))
    (letter,) = await spool.dead_letters()
    assert (letter.sink, letter.source, letter.subscription) == ("a", "main", "sub")
    assert (letter.id, letter.name) == (items[1].event.id, "meeting.started")
    assert letter.reason.startswith("HTTP 422")
    assert (letter.attempts, letter.status, letter.redriving, letter.content) == (4, 422, False, b"")
    assert letter.received_ms == items[1].event.received_ms
    whole = await spool.dead_letter(letter.number)
    assert whole is not None
    assert whole.content == items[1].event.content
    assert await spool.dead_letter(letter.number + 1) is None
    assert spool.stats().sinks["a"].dead_letters == 1
    assert spool.stats().sinks["b"].dead_letters == 0


async def test_the_newest_dead_letters_are_listed_oldest_first(spools: Spools) -> None:
    spool = await spools.open("a", "b")
    await spool.append(events(10))
    bury(spool, "a", await take(spool, "a", 10))
    bury(spool, "b", (await take(spool, "b", 10))[:2])
    letters = await spool.dead_letters(sink="a", limit=3)
    assert [int(letter.id[3:], 16) for letter in letters] == [8, 9, 10]
    assert len(await spool.dead_letters()) == 12
    assert len(await spool.dead_letters(limit=0)) == 0
    assert {letter.sink for letter in await spool.dead_letters(limit=2)} == {"b"}


async def test_a_redriven_event_that_is_delivered_is_gone(spools: Spools) -> None:
    spool = await spools.open("a")
    await spool.append(events(3))
    bury(spool, "a", await take(spool, "a", 3), attempts=5)
    letters = [letter.number for letter in await spool.dead_letters()]
    assert await spool.redrive([*letters[:2], 999]) == 2
    assert await spool.redrive(letters[:2]) == 0
    assert [letter.redriving for letter in await spool.dead_letters()] == [True, True, False]
    items = await take(spool, "a", 2)
    assert [(number(item), item.redriven, item.attempts) for item in items] == [(1, True, 5), (2, True, 5)]
    assert await is_idle(spool, "a")
    deliver(spool, "a", items)
    deliver(spool, "a", items)
    await spool.flush()
    assert [letter.number for letter in await spool.dead_letters()] == letters[2:]
    counts = spool.stats().sinks["a"]
    assert (counts.redelivered, counts.dead, counts.delivered, counts.dead_letters) == (2, 3, 0, 1)


async def test_a_redriven_event_that_dies_again_is_kept(spools: Spools) -> None:
    spool = await spools.open("a")
    await spool.append(events(1))
    bury(spool, "a", await take(spool, "a", 1))
    (letter,) = await spool.dead_letters()
    await spool.redrive([letter.number])
    bury(spool, "a", await take(spool, "a", 1), reason="HTTP 410", attempts=6)
    (again,) = await spool.dead_letters()
    assert (again.number, again.reason, again.attempts, again.redriving) == (
        letter.number,
        "HTTP 410",
        6,
        False,
    )
    counts = spool.stats().sinks["a"]
    assert (counts.dead, counts.dead_letters, counts.redelivered) == (1, 1, 0)
    assert await spool.redrive([letter.number]) == 1
    assert numbers(await take(spool, "a", 1)) == [1]


async def test_a_redriven_event_may_be_parked_and_released(spools: Spools) -> None:
    spool = await spools.open("a")
    await spool.append([event(1, "x")])
    bury(spool, "a", await take(spool, "a", 1))
    (letter,) = await spool.dead_letters()
    await spool.redrive([letter.number])
    park(spool, "a", "x", await take(spool, "a", 1), seconds=30)
    await spool.append([event(2, "x")])
    assert numbers(await take(spool, "a", 1)) == [2]
    assert await is_idle(spool, "a", seconds=29)
    items = await take(spool, "a", 1)
    spool.release("a")
    deliver(spool, "a", items)
    again = await take(spool, "a", 2)
    assert sorted(numbers(again)) == [1, 2]
    deliver(spool, "a", again)
    assert spool.stats().sinks["a"].redelivered == 1
    assert await spool.dead_letters() == []


async def test_discarded_dead_letters_are_gone_wherever_they_are(spools: Spools) -> None:
    spool = await spools.open("a")
    await spool.append(events(4))
    bury(spool, "a", await take(spool, "a", 4))
    letters = [letter.number for letter in await spool.dead_letters()]
    await spool.redrive(letters[:2])
    (lent,) = await spool.read("a", 1, READ_BYTES)
    assert await spool.discard([*letters[:3], 999]) == 3
    assert await is_idle(spool, "a")
    deliver(spool, "a", [lent])
    assert [letter.number for letter in await spool.dead_letters()] == letters[3:]
    counts = spool.stats().sinks["a"]
    assert (counts.dead, counts.redelivered, counts.dead_letters) == (4, 0, 1)


async def test_a_redriven_event_comes_back_with_its_history(spools: Spools) -> None:
    """So that whoever delivers gives up in the end."""
    spool = await spools.open("a")
    await spool.append(events(1))
    bury(spool, "a", await take(spool, "a", 1), attempts=3)
    await spool.redrive([1])
    for tries in range(4, 8):
        (item,) = await take(spool, "a", 1)
        assert (item.attempts, item.waited_seconds, item.redriven) == (tries - 1, max(0, tries - 4), True)
        park(spool, "a", "", [item], seconds=1, attempts=tries, waited_seconds=tries - 3)
    bury(spool, "a", await take(spool, "a", 1), attempts=8)
    await spool.redrive([1])
    assert [(i.attempts, i.waited_seconds) for i in await take(spool, "a", 1)] == [(8, 0.0)]


async def test_dead_letters_come_page_by_page(spools: Spools) -> None:
    spool = await spools.open("a")
    await spool.append(events(9))
    bury(spool, "a", await take(spool, "a", 9))
    assert [letter.number for letter in await spool.dead_letters(limit=4)] == [6, 7, 8, 9]
    assert [letter.number for letter in await spool.dead_letters(limit=4, before=6)] == [2, 3, 4, 5]
    assert [letter.number for letter in await spool.dead_letters(limit=4, before=2)] == [1]


async def test_unreadable_frames_are_kept_and_never_redriven(spools: Spools) -> None:
    spool = await spools.open("a")
    await spool.append(events(1), [frame(1), frame(2)])
    await spool.append([], [frame(3)])
    letters = await spool.dead_letters()
    assert [(letter.sink, letter.id, letter.reason) for letter in letters] == [("", "", "not JSON")] * 3
    whole = await spool.dead_letter(letters[0].number)
    assert whole is not None
    assert whole.content == b"\xff not json"
    assert await spool.redrive([letter.number for letter in letters]) == 0
    stats = spool.stats()
    assert (stats.sources["main"].appended, stats.sources["main"].quarantined) == (1, 3)
    assert stats.sinks["a"].appended == 1
    assert await spool.discard([letters[0].number]) == 1
    assert len(await spool.dead_letters()) == 2


async def test_merged_copies_are_counted_by_path(spools: Spools) -> None:
    spool = await spools.open("a")
    await spool.append(events(2))
    spool.count_merged({("main", "sub"): 2, ("main", "twin"): 3})
    await spool.flush()
    stats = spool.stats()
    assert (stats.sources["main"].appended, stats.sources["main"].merged) == (2, 5)
    assert stats.paths["main", "twin"].merged == 3
    assert stats.sinks["a"].appended == 2


async def test_dead_letters_have_a_bound_of_their_own(spools: Spools) -> None:
    spool = await spools.open("a")
    for at in range(1, 61):
        await spool.append([event(at, size=1024 * 1024)])
        bury(spool, "a", await take(spool, "a", 1))
        if at == 1:
            (first,) = await spool.dead_letters()
            await spool.redrive([first.number])
            (lent,) = await take(spool, "a", 1)
    letters = await spool.dead_letters()
    assert 20 <= len(letters) <= 26
    assert letters[-1].id.endswith(f"{60:x}")
    counts = spool.stats().sinks["a"]
    assert (counts.dead, counts.dead_letters) == (60, len(letters))
    # What made way is gone, though its reader still has it.
    deliver(spool, "a", [lent])
    bury(spool, "a", [lent])
    assert await spool.redrive([first.number]) == 0
    assert len(await spool.dead_letters()) == len(letters)


# --- sinks come and go ------------------------------------------------------------------------------


async def test_a_new_sink_starts_now_or_with_the_oldest(spools: Spools) -> None:
    spool = await spools.open("a")
    await spool.append(events(5))
    items = await take(spool, "a", 5)
    deliver(spool, "a", items[:1])
    await spool.set_sinks(starts("a", SinkStart("new", "now"), SinkStart("old", "oldest")))
    await spool.append([event(6)])
    assert numbers(await take(spool, "new", 1)) == [6]
    oldest = await spool.read("old", 1000, READ_BYTES)
    while numbers(oldest)[-1] < 6:
        oldest += await spool.read("old", 1000, READ_BYTES)
    assert numbers(oldest)[-5:] == [2, 3, 4, 5, 6]
    assert spool.stats().sinks["new"].appended == 1


async def test_a_sink_that_is_back_within_the_day_resumes(spools: Spools) -> None:
    spool = await spools.open("a", "b")
    await spool.append([event(1, "x"), event(2, "y"), event(3, "y")])
    items = await take(spool, "b", 3)
    park(spool, "b", "x", items[:1], seconds=1)
    deliver(spool, "b", items[1:2])
    spool.release("b")
    await spool.set_sinks(starts("a"))
    spools.clock.skip(DAY_SECONDS - 100)
    await spool.append([event(4)])
    assert spool.stats().sinks["b"].pending == 3
    await spool.set_sinks(starts("a", "b"))
    assert sorted(numbers(await take(spool, "b", 3))) == [1, 3, 4]


async def test_a_sink_that_stays_away_is_given_up(spools: Spools) -> None:
    spool = await spools.open("a", "b")
    await spool.append([event(1, "x"), *events(99, start=2)])
    deliver(spool, "a", await take(spool, "a", 100))
    park(spool, "b", "x", (await take(spool, "b", 100))[:1])
    spool.release("b")
    await spool.set_sinks(starts("a"))
    spools.clock.skip(DAY_SECONDS + 1)
    await spool.append([event(101)])
    counts = spool.stats().sinks["b"]
    assert (counts.abandoned, counts.pending, counts.parked, counts.appended) == (100, 0, 0, 100)
    deliver(spool, "a", await take(spool, "a", 1))
    await spool.append([event(102)])
    await spool.flush()
    assert spool.stats().events == 1
    # Back after all, it begins where we are now, and the books still balance.
    await spool.set_sinks(starts("a", SinkStart("b", "oldest")))
    counts = spool.stats().sinks["b"]
    assert (counts.abandoned, counts.appended, counts.pending) == (102, 102, 0)
    await spool.append([event(103)])
    assert numbers(await take(spool, "b", 1)) == [103]


async def test_dead_letters_of_a_sink_that_is_away_wait(spools: Spools) -> None:
    spool = await spools.open("a", "b")
    await spool.append(events(1))
    bury(spool, "b", await take(spool, "b", 1))
    await spool.set_sinks(starts("a"))
    (letter,) = await spool.dead_letters()
    assert await spool.redrive([letter.number]) == 0
    await spool.set_sinks(starts("a", "b"))
    assert await spool.redrive([letter.number]) == 1
    assert numbers(await take(spool, "b", 1)) == [1]


# --- space ------------------------------------------------------------------------------------------

TIGHT_BYTES = 1_000_000


async def test_a_sink_that_keeps_up_never_fills_the_spool(spools: Spools) -> None:
    spool = await spools.open("a", max_bytes=TIGHT_BYTES)
    for at in range(100):
        await spool.append(events(50, start=at * 50, size=1000))
        deliver(spool, "a", await take(spool, "a", 50))
    assert spools.shed == []
    assert spool.stats().bytes <= TIGHT_BYTES
    assert spool.stats().sinks["a"].delivered == 5000


async def test_the_oldest_are_shed_for_the_laggard_alone(spools: Spools) -> None:
    spool = await spools.open("quick", "slow", max_bytes=TIGHT_BYTES)
    for at in range(100):
        await spool.append(events(50, start=at * 50 + 1, size=1000))
        deliver(spool, "quick", await take(spool, "quick", 50))
        stats = spool.stats()
        assert stats.bytes <= TIGHT_BYTES
        check_books(spool)
    counts = spool.stats().sinks
    assert (counts["quick"].shed, counts["quick"].delivered) == (0, 5000)
    left = counts["slow"].pending
    assert 500 < left < 1000
    assert counts["slow"].shed == 5000 - left == sum(count for _, count in spools.shed)
    assert {sink for sink, _ in spools.shed} == {"slow"}
    assert numbers(await take(spool, "slow", left)) == list(range(5001 - left, 5001))
    assert await is_idle(spool, "slow")


async def test_many_small_appends_are_shed_as_well(spools: Spools) -> None:
    spool = await spools.open("a", max_bytes=100_000)
    for at in range(300):
        await spool.append([event(at, size=1000)])
    await spool.append(events(60, start=300, size=1000))
    stats = spool.stats()
    assert stats.bytes <= 100_000
    assert stats.sinks["a"].pending >= 60
    assert numbers(await take(spool, "a", stats.sinks["a"].pending))[-60:] == list(range(300, 360))


async def test_what_nobody_wants_goes_before_what_is_pending(spools: Spools) -> None:
    def wants(name: str, _source: str) -> bool:
        return name == "phone.ringing"

    spool = await spools.open(SinkStart("picky", wants=wants), "quick", max_bytes=TIGHT_BYTES)
    wanted = []
    for at in range(100):
        batch = events(50, start=at * 50 + 1, size=1000)
        batch[7] = event(at * 50 + 8, name="phone.ringing", size=1000)
        wanted.append(at * 50 + 8)
        await spool.append(batch)
        deliver(spool, "quick", await take(spool, "quick", 50))
    counts = spool.stats().sinks
    assert counts["picky"].shed == 0 == counts["quick"].shed
    assert counts["picky"].filtered > 3000
    got: list[Item] = []
    while not got or numbers(got)[-1] < 5000:
        got += await spool.read("picky", 1000, READ_BYTES)
    assert [n for n in numbers(got) if n in set(wanted)] == wanted
    deliver(spool, "picky", got)
    assert spool.stats().sinks["picky"].pending == 0


async def test_a_sink_that_comes_to_a_thinned_spool_gets_the_rest(spools: Spools) -> None:
    def wants(_name: str, _source: str) -> bool:
        return False

    spool = await spools.open(SinkStart("picky", wants=wants), SinkStart("all"), max_bytes=TIGHT_BYTES)
    await spool.append(events(10, size=1000))
    held_up = await take(spool, "all", 10)
    deliver(spool, "all", held_up[1:])
    for at in range(40):
        await spool.append(events(50, start=11 + at * 50, size=1000))
        deliver(spool, "all", await take(spool, "all", 50))
    assert not spools.shed
    await spool.set_sinks(starts(SinkStart("picky", wants=wants), "all", SinkStart("late", "oldest")))
    got: list[Item] = []
    while not got or numbers(got)[-1] < 2010:
        got += await spool.read("late", 1000, READ_BYTES)
    assert numbers(got) == sorted(set(numbers(got)))
    deliver(spool, "late", got)
    counts = spool.stats().sinks["late"]
    assert (counts.pending, counts.delivered) == (0, len(got))
    assert counts.shed == counts.appended - len(got) > 0


async def test_a_stuck_lane_cannot_push_out_other_sinks(spools: Spools) -> None:
    spool = await spools.open("stuck", "quick", max_bytes=TIGHT_BYTES)
    await spool.append([event(1, "x", size=1000)])
    park(spool, "stuck", "x", await take(spool, "stuck", 1), seconds=3600, attempts=9)
    deliver(spool, "quick", await take(spool, "quick", 1))
    for at in range(100):
        await spool.append([event(2 + at * 50 + n, "x" if n else "y", size=1000) for n in range(50)])
        going = await take(spool, "stuck", 1)
        assert numbers(going) == [2 + at * 50]
        deliver(spool, "stuck", going)
        deliver(spool, "quick", await take(spool, "quick", 50))
        check_books(spool)
        assert spool.stats().bytes <= TIGHT_BYTES + 50 * 1500
    counts = spool.stats().sinks
    assert counts["quick"].shed == 0
    assert counts["stuck"].parked > 200
    assert counts["stuck"].shed > 3000
    spools.clock.skip(3600)
    portion = await spool.read("stuck", 1000, READ_BYTES)
    assert numbers(portion) == sorted(numbers(portion))
    assert portion[0].attempts == 0  # what was tried so often is not there any more


async def test_a_batch_larger_than_the_spool_is_held_all_the_same(spools: Spools) -> None:
    spool = await spools.open("a", max_bytes=100_000)
    await spool.append(events(10, size=1000))
    await spool.append(events(300, start=11, size=1000))
    assert numbers(await take(spool, "a", 300)) == list(range(11, 311))


async def test_what_is_in_delivery_may_be_shed_and_arrive(spools: Spools) -> None:
    spool = await spools.open("a", max_bytes=100_000)
    await spool.append(events(50, size=1000))
    items = await take(spool, "a", 50)
    for at in range(10):
        await spool.append(events(50, start=51 + at * 50, size=1000))
    deliver(spool, "a", items)
    counts = spool.stats().sinks["a"]
    assert counts.delivered + counts.shed + counts.pending == 550
    assert counts.shed >= 450
    rest = await take(spool, "a", counts.pending)
    assert numbers(rest) == list(range(551 - counts.pending, 551))


async def test_the_space_of_an_orphan_comes_back(spools: Spools) -> None:
    spool = await spools.open("a", "b", max_bytes=TIGHT_BYTES)
    await spool.append([event(n, "x", size=1000) for n in range(1, 301)])
    deliver(spool, "a", await take(spool, "a", 300))
    park(spool, "b", "x", await take(spool, "b", 300), seconds=60)
    await spool.flush()
    assert spool.stats().bytes > 300_000
    await spool.set_sinks(starts("a"))
    spools.clock.skip(DAY_SECONDS + 1)
    await spool.append([event(301)])
    await spool.flush()
    assert spool.stats().bytes < 1500


# --- figures ----------------------------------------------------------------------------------------


async def test_stats_tell_what_is_held(spools: Spools) -> None:
    spool = await spools.open("a", max_bytes=TIGHT_BYTES)
    assert spool.stats().max_bytes == TIGHT_BYTES
    await spool.append(events(10, size=1000))
    stats = spool.stats()
    assert (stats.events, stats.writable, stats.trouble) == (10, True, "")
    assert 10_000 < stats.bytes < 20_000
    items = await take(spool, "a", 10)
    assert spool.stats().sinks["a"].oldest_pending_ms == items[0].event.received_ms
    park(spool, "a", "x", items[2:3], seconds=600)
    deliver(spool, "a", items[:2] + items[3:])
    assert spool.stats().sinks["a"].oldest_pending_ms == items[2].event.received_ms
    await spool.flush()
    stats = spool.stats()
    assert stats.events == 0
    assert 1000 <= stats.bytes < 2000


async def test_what_was_received_last_is_known_per_path(spools: Spools) -> None:
    spool = await spools.open("a")
    one = event(5, source="one", subscription="s1")
    two = [event(6, source="two", subscription="s2"), event(7, source="two", subscription="s3")]
    await spool.append([one, *two, event(8, source="one", subscription="s1")])
    base = int(WALL * 1000)
    assert spool.last_received() == {
        ("one", "s1"): base + 8,
        ("two", "s2"): base + 6,
        ("two", "s3"): base + 7,
    }
    assert {name: counts.appended for name, counts in spool.stats().sources.items()} == {"one": 2, "two": 2}


async def test_odd_events_come_through(spools: Spools) -> None:
    """Half surrogates and huge numbers, which no storage takes; the content is what counts."""
    spool = await spools.open("a")
    plain = event(1)
    odd = [
        plain,
        type(plain)(b"\x01" * 16, "main", "sub", "odd\ud800", 2**70, "k\udfff", 1, b'{"event":"odd\\ud800"}'),
        type(plain)(b"\x02" * 16, "main", "sub", "big", 2**63, "", 1, b"{}"),
        type(plain)(b"\x03" * 16, "main", "sub", "", None, "\x00", 1, b""),
    ]
    await spool.append(odd)
    items = await take(spool, "a", 4)
    assert [item.event.content for item in items] == [one.content for one in odd]
    spool.settle("a", Settlement(parked=[Parked(i.event.key, [i], 1, 1, 1) for i in items[1:3]]))
    await spool.flush()
    again = await take(spool, "a", 2)
    bury(spool, "a", again)
    await spool.flush()
    assert [letter.status for letter in await spool.dead_letters()] == [400, 400]


async def test_closing_twice_and_closing_unopened(spools: Spools) -> None:
    spool = spools.make()
    await spool.close()
    await spool.close()
