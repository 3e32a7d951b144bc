"""Random lives of a spool that retains and replays: live events never notice, and the books balance."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from tests.unit.spool.spools import READ_BYTES, WALL, Spools, check_books, event, number
from zoomrelay.spool.base import Choice, Item, Replay, Settlement, Spool

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

START_MS = int(WALL * 1000)
SIZE = 400
MAX_BYTES = 150_000
"""Some 270 events."""


class Life:
    """One spool with a quick sink, which replays, and one that lags."""

    def __init__(self, spools: Spools, random: Random) -> None:
        self.spools, self.random = spools, random
        self.spool: Spool
        self.appended = 0
        self.live: dict[str, list[int]] = {"quick": [], "lag": []}
        self.out: dict[str, list[Item]] = {"quick": [], "lag": []}
        self.replay: Replay | None = None
        self.choice = Choice()
        self.replayed: list[int] = []
        self.total = self.first_live = 0

    async def open(self) -> None:
        self.spool = await self.spools.open("quick", "lag", max_bytes=MAX_BYTES)

    async def append(self) -> None:
        count = self.random.randint(1, 30)
        batch = [event(self.appended + n, f"k{n % 5}", size=SIZE) for n in range(1, count + 1)]
        self.appended += count
        await self.spool.append(batch)

    async def read(self) -> None:
        sink = self.random.choice(["quick", "quick", "quick", "lag"])
        pending = self.spool.stats().sinks[sink].pending - len(
            [i for i in self.out[sink] if not i.event.replayed]
        )
        try:
            async with asyncio.timeout(0.5):
                items = list(await self.spool.read(sink, self.random.choice([5, 50, 500]), READ_BYTES))
        except TimeoutError:
            assert pending <= 0 or sink == "lag"
            return
        replays = {item.event.replayed for item in items}
        assert len(replays) == 1
        if replays == {True}:
            assert sink == "quick" and self.replay is not None and not self.replay.ended
            assert pending <= 0, "a replayed event came before a live one"
            self.replayed += [number(item) for item in items]
            assert all(self.choice.takes(item.event) for item in items)
        else:
            self.live[sink] += [number(item) for item in items]
        self.out[sink] += items

    async def settle(self) -> None:
        for sink, items in self.out.items():
            self.random.shuffle(items)
            count = self.random.randint(0, len(items))
            before = self.spool.stats().sinks[sink].replayed
            self.spool.settle(sink, Settlement(delivered=[item.token for item in items[:count]]))
            done = sum(item.event.replayed for item in items[:count])
            self.total += done if self.replay else 0
            assert self.spool.stats().sinks[sink].replayed - before == (done if self.replay else 0)
            del items[:count]

    async def begin_or_end(self) -> None:
        if self.replay is None:
            since = START_MS + self.random.randint(0, self.appended + 1)
            self.choice = Choice(since, since + self.random.choice([20, 500, 10_000]))
            self.replay, self.replayed = await self.spool.begin_replay("quick", self.choice), []
        elif self.replay.ended or self.random.random() < 0.2:
            self.forget()

    def forget(self) -> None:
        assert self.replay is not None
        assert self.replayed == sorted(set(self.replayed)), "out of order, or twice"
        self.spool.end_replay(self.replay)
        self.replay = None
        self.out["quick"] = [item for item in self.out["quick"] if not item.event.replayed]

    async def wait(self) -> None:
        await asyncio.sleep(self.random.choice([1, 10, 200]))

    async def reopen(self) -> None:
        if self.replay is not None:
            self.forget()
        for sink, items in self.out.items():
            self.spool.settle(sink, Settlement(delivered=[item.token for item in items]))
            items.clear()
        await self.spool.close()
        await self.open()

    async def check(self) -> None:
        check_books(self.spool)
        stats = self.spool.stats()
        assert stats.bytes <= MAX_BYTES and 0 <= stats.retained_events <= stats.events
        assert stats.sinks["quick"].replayed == self.total
        for sink, got in self.live.items():
            assert got == sorted(set(got)), sink
            counts = stats.sinks[sink]
            assert counts.delivered + counts.shed + counts.pending == counts.appended == self.appended

    async def count(self, path: Path) -> None:
        """What the spool says of the retained is what stands in the file."""
        await self.spool.flush()
        await asyncio.sleep(2)
        await self.append()  # a commit, which counts
        stats = self.spool.stats()
        done = min(self.appended - counts.pending for counts in stats.sinks.values())
        with closing(sqlite3.connect(path / "spool.sqlite")) as file:
            row = file.execute(
                "SELECT coalesce(sum(events), 0) FROM segments WHERE last <= ?", (done,)
            ).fetchone()
        if all(not items for items in self.out.values()):
            assert stats.retained_events == row[0]


@pytest.mark.parametrize("seed", range(6))
async def test_a_life(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    spools = Spools("sqlite", tmp_path)
    spools.retain_seconds = 600.0
    life = Life(spools, random)
    await life.open()
    steps = [life.append] * 6 + [life.read] * 8 + [life.settle] * 6
    steps += [life.begin_or_end] * 2 + [life.wait, life.reopen]
    for _ in range(150):
        await random.choice(steps)()
        await life.check()
    await life.reopen()
    await life.count(tmp_path)
    await spools.close()
