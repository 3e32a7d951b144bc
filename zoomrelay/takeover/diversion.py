"""Leads what the sockets bring into a journal, until the spool is ours; then into intake."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from zoomrelay.clock import Clock
from zoomrelay.takeover.journal import Journal, Record


class Frame(Protocol):
    """An event as it came."""

    @property
    def content(self) -> bytes: ...


class FrameConsumer(Protocol):
    """See `zoomrelay.session.ports`."""

    def events(self, subscription: str, frames: Sequence[Frame]) -> None: ...

    def unreadable(self, subscription: str, raw: bytes, reason: str) -> None: ...

    def refused(self, subscription: str, raw: bytes) -> None: ...

    @property
    def full(self) -> bool: ...

    async def room(self) -> None: ...


class PathListener(Protocol):
    """See `zoomrelay.session.ports`."""

    def accepted(self, wall: float) -> None: ...

    def lost(self, cause: str, detail: str, *, clean: bool, heard_until: float) -> None: ...

    def alive(self, heard_until: float) -> None: ...


class PathBook(Protocol):
    """What `zoomrelay.intake.path_ledger` takes of what happened before it was there."""

    def accepted(self, wall: float, *, at: float | None = None) -> None: ...

    def lost(self, cause: str, detail: str, *, clean: bool, heard_until: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Acceptance:
    """A socket was accepted."""

    wall: float
    elapsed: float
    """The same moment by `Clock.elapsed`."""


@dataclass(frozen=True, slots=True)
class Loss:
    """It ended."""

    cause: str
    detail: str
    clean: bool
    heard_until: float


class DivertedSource:
    """The consumer of one source's sessions."""

    def __init__(self, name: str, journal: Journal, clock: Clock) -> None:
        self._name = name
        self._journal = journal
        self._clock = clock
        self._inner: FrameConsumer | None = None
        self._held = False
        self._opened = asyncio.Event()

    def hold(self) -> None:
        """Nothing more is to be read, until `lead_to`."""
        self._held = True

    def lead_to(self, inner: FrameConsumer) -> None:
        """From now on everything goes there."""
        self._inner = inner
        self._opened.set()

    def events(self, subscription: str, frames: Sequence[Frame]) -> None:
        if self._inner is not None:
            self._inner.events(subscription, frames)
        else:
            self._journal.add(self._record(subscription, [frame.content for frame in frames]))

    def unreadable(self, subscription: str, raw: bytes, reason: str) -> None:
        if self._inner is not None:
            self._inner.unreadable(subscription, raw, reason)
        else:
            self._journal.add(Record(self._name, subscription, self._now_ms(), [raw], "unreadable", reason))

    def refused(self, subscription: str, raw: bytes) -> None:
        if self._inner is not None:
            self._inner.refused(subscription, raw)
        else:
            self._journal.add(Record(self._name, subscription, self._now_ms(), [raw], "refused"))

    @property
    def full(self) -> bool:
        return self._inner.full if self._inner is not None else self._held or self._journal.full

    async def room(self) -> None:
        while self._inner is None and self.full:
            await (self._opened.wait() if self._held else self._room_or_hold())
        if self._inner is not None and self._inner.full:
            await self._inner.room()

    async def _room_or_hold(self) -> None:
        """A journal at its bound has no room ever; then it is the import that ends the wait."""
        waits = [asyncio.create_task(self._journal.room()), asyncio.create_task(self._opened.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _record(self, subscription: str, contents: list[bytes]) -> Record:
        return Record(self._name, subscription, self._now_ms(), contents)

    def _now_ms(self) -> int:
        return int(self._clock.wall() * 1000)


class DivertedPath:
    """The listener of one session: remembers what the ledger is to be told later."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._history: list[Acceptance | Loss] = []
        self._inner: PathListener | None = None

    @property
    def first_accepted(self) -> tuple[float, float] | None:
        """Wall time, and `Clock.elapsed`."""
        accepted = (each for each in self._history if isinstance(each, Acceptance))
        return next(((each.wall, each.elapsed) for each in accepted), None)

    def tell(self, book: PathBook) -> float | None:
        """Tell everything so far; since when (wall) it is accepted, None if it is not."""
        accepted = None
        for each in self._history:
            if isinstance(each, Acceptance):
                book.accepted(each.wall, at=each.elapsed)
                accepted = each.wall
            else:
                book.lost(each.cause, each.detail, clean=each.clean, heard_until=each.heard_until)
                accepted = None
        return accepted

    def lead_to(self, inner: PathListener) -> None:
        """From now on everything is told there."""
        self._inner = inner

    def accepted(self, wall: float) -> None:
        if self._inner is not None:
            self._inner.accepted(wall)
        else:
            self._history.append(Acceptance(wall, self._clock.elapsed()))

    def lost(self, cause: str, detail: str, *, clean: bool, heard_until: float) -> None:
        if self._inner is not None:
            self._inner.lost(cause, detail, clean=clean, heard_until=heard_until)
        else:
            self._history.append(Loss(cause, detail, clean, heard_until))

    def alive(self, heard_until: float) -> None:
        if self._inner is not None:
            self._inner.alive(heard_until)


class Diversion:
    """Of all sources of a relay."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self.journal = journal
        self.sources: dict[str, DivertedSource] = {}
        self.paths: dict[tuple[str, str], DivertedPath] = {}
        self._clock = clock

    def source(self, name: str) -> DivertedSource:
        if name not in self.sources:
            self.sources[name] = DivertedSource(name, self.journal, self._clock)
        return self.sources[name]

    def path(self, source: str, subscription: str) -> DivertedPath:
        return self.paths.setdefault((source, subscription), DivertedPath(self._clock))

    def hold(self) -> None:
        """Nothing more is to be read, and the journal is to come to its end."""
        for source in self.sources.values():
            source.hold()
        self.journal.stop()
