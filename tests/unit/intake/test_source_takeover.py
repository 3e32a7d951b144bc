"""One source, before and after a takeover: what came to another process is merged with what is held."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.unit.intake.test_source import House, content
from zoomrelay.clock import SystemClock
from zoomrelay.spool.base import SinkStart
from zoomrelay.spool.sqlite import SqliteSpool
from zoomrelay.takeover.journal import Record

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime(noop_cycles=1)]


def journaled(*numbers: int, timed: bool = True, received_ms: int = 5) -> Record:
    return Record("main", "a", received_ms, [content(number, timed=timed) for number in numbers])


async def test_a_single_subscription_remembers_while_it_must() -> None:
    async with House("a") as house:
        house.push("a", 1, 1)
        house.source.merge_for(10)
        house.push("a", 2, 3)
        house.source.earlier(journaled(2, 3, 4))
        house.push("a", 4)
        await asyncio.sleep(11)
        house.push("a", 4)
        await house.intake.held()
        assert [event.content for event in house.fake.held] == [content(n) for n in (1, 1, 2, 3, 4, 4)]
        assert house.fake.held[4].received_ms == 5
        assert (house.counts.appended, house.counts.merged) == (6, 3)


async def test_of_events_without_a_time_too() -> None:
    async with House("a") as house:
        house.source.earlier(journaled(1, timed=False))
        house.source.earlier(journaled(1, timed=False))
        await house.intake.held()
        assert len(house.fake.held) == 1
        digests = house.intake.identities.timeless()
    async with House("a") as other:
        other.intake.identities.restore_timeless(digests, other.intake.clock.elapsed())
        other.source.earlier(journaled(1, timed=False))
        await asyncio.sleep(0.1)
        assert other.fake.held == []


async def test_what_was_unreadable_or_refused() -> None:
    async with House("a") as house:
        house.source.earlier(Record("main", "a", 5, [b"?"], "unreadable", "why"))
        house.source.earlier(Record("main", "a", 6, [b"!"], "refused"))
        house.source.earlier(Record("main", "unknown", 7, [b"[]"]))
        await house.intake.held()
        kept = [(one.subscription, one.received_ms, one.raw, one.reason) for one in house.fake.kept]
        assert kept == [
            ("a", 5, b"?", "why"),
            ("a", 6, b"!", "signature"),
            ("unknown", 7, b"[]", "the content is a JSON list, not an object"),
        ]


@pytest.mark.looptime(False)
async def test_a_journal_that_is_imported_again(tmp_path: Path) -> None:
    """By another process, since the first died in the middle of it."""
    for appended, merged in ((3, 0), (5, 3)):
        spool = SqliteSpool(tmp_path, max_bytes=2**20, clock=SystemClock())
        await spool.open([SinkStart("sink")])
        async with House("a", spool=spool) as house:
            house.source.earlier(journaled(*range(appended)))
            await house.intake.held()
        await spool.flush()
        assert (house.counts.appended, house.counts.merged) == (appended, merged)
        await spool.close()
