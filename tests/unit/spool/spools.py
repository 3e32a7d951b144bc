"""Spools to test: of either kind, on a clock that follows the (virtual) loop and can be put forward."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from zoomrelay.event import Event
from zoomrelay.spool.base import Death, Item, Parked, Settlement, SinkStart, Spool
from zoomrelay.spool.memory import MemorySpool
from zoomrelay.spool.sqlite import SqliteSpool

Kind = Literal["sqlite", "memory"]
WALL = 1_700_000_000.0
ROOMY_BYTES = 256 * 1024 * 1024
READ_BYTES = 16 * 1024 * 1024


class LoopClock:
    """Follows the loop; `skip` is a suspended machine."""

    def __init__(self) -> None:
        self._skipped = 0.0

    def wall(self) -> float:
        return WALL + self.elapsed()

    def elapsed(self) -> float:
        return asyncio.get_running_loop().time() + self._skipped

    def skip(self, seconds: float) -> None:
        self._skipped += seconds


class Spools:
    """Opens spools over one place and closes what is left open."""

    def __init__(self, kind: Kind, path: Path) -> None:
        self.kind = kind
        self.path = path
        self.clock = LoopClock()
        self.shed: list[tuple[str, int]] = []
        self.set_aside: list[int | None] = []
        self.retain_seconds = 0.0
        self._open: list[Spool] = []

    def make(self, max_bytes: int = ROOMY_BYTES) -> Spool:
        def on_shed(sink: str, count: int) -> None:
            self.shed.append((sink, count))

        if self.kind == "memory":
            return MemorySpool(max_bytes=max_bytes, clock=self.clock, on_shed=on_shed)
        return SqliteSpool(
            self.path,
            max_bytes=max_bytes,
            clock=self.clock,
            on_shed=on_shed,
            on_set_aside=self.set_aside.append,
            retain_seconds=self.retain_seconds,
        )

    async def open(self, *sinks: str | SinkStart, max_bytes: int = ROOMY_BYTES) -> Spool:
        spool = self.make(max_bytes)
        await spool.open(starts(*sinks))
        self._open.append(spool)
        return spool

    async def close(self) -> None:
        """Close everything; nothing may have gone missing from the books."""
        for spool in self._open:
            check_books(spool)
            await spool.close()
            check_books(spool)


def check_books(spool: Spool) -> None:
    for name, counts in spool.stats().sinks.items():
        assert counts.conservation_error == 0, (name, counts)
        assert counts.pending >= counts.parked >= 0, (name, counts)


def starts(*sinks: str | SinkStart) -> list[SinkStart]:
    return [SinkStart(sink) if isinstance(sink, str) else sink for sink in sinks]


# --- events -----------------------------------------------------------------------------------------


def event(
    number: int,
    key: str = "",
    *,
    name: str = "meeting.started",
    source: str = "main",
    subscription: str = "sub",
    size: int = 40,
) -> Event:
    content = b'{"event":"%s","n":%d}' % (name.encode(), number)
    content += b" " * (size - len(content))
    received_ms = int(WALL * 1000) + number
    return Event(number.to_bytes(16), source, subscription, name, number, key, received_ms, content)


def events(count: int, *, start: int = 1, keys: int = 0, size: int = 40) -> list[Event]:
    """Numbered from `start`; with `keys`, they take turns."""
    return [event(n, f"key{n % keys}" if keys else "", size=size) for n in range(start, start + count)]


def number(item: Item) -> int:
    return int.from_bytes(item.event.digest)


def numbers(items: Sequence[Item]) -> list[int]:
    return [number(item) for item in items]


# --- what a reader does -----------------------------------------------------------------------------


async def take(spool: Spool, sink: str, count: int, *, max_events: int = 1000) -> list[Item]:
    """Read until there are so many; more would be a fault."""
    items: list[Item] = []
    while len(items) < count:
        items += await spool.read(sink, min(max_events, count - len(items)), READ_BYTES)
    assert len(items) == count
    return items


async def is_idle(spool: Spool, sink: str, *, seconds: float = 0.3) -> bool:
    """Whether nothing is due for so long."""
    try:
        async with asyncio.timeout(seconds):
            await spool.read(sink, 1000, READ_BYTES)
    except TimeoutError:
        return True
    return False


def deliver(spool: Spool, sink: str, items: Sequence[Item]) -> None:
    spool.settle(sink, Settlement(delivered=[item.token for item in items]))


def bury(spool: Spool, sink: str, items: Sequence[Item], reason: str = "HTTP 400", attempts: int = 3) -> None:
    deaths = [Death(item, reason, attempts, 400, "no") for item in items]
    spool.settle(sink, Settlement(dead=deaths))


def park(
    spool: Spool,
    sink: str,
    lane: str,
    items: Sequence[Item],
    *,
    seconds: float = 30.0,
    attempts: int = 2,
    waited_seconds: float = 5.0,
) -> None:
    parked = Parked(lane, items, seconds, attempts, waited_seconds)
    spool.settle(sink, Settlement(parked=[parked]))
