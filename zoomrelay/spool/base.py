"""The promise of a spool: hold what was appended until every sink has settled it.

Whoever implements this (sqlite, memory, later a broker's consumers) is run through the same contract
suite, `tests/contract/test_spool.py`. Nothing here speaks of positions or cursors: a reader gets
events with opaque tokens and may settle them in any order.

All methods are called on the event loop's thread.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import msgspec

from zoomrelay.event import Event

Token = int
"""Names one event for one sink. Opaque: compare it, hand it back, nothing else."""


class Outcome(StrEnum):
    """How an event ended for a sink. Each event gets exactly one of these per sink."""

    DELIVERED = "delivered"
    DEAD = "dead"
    FILTERED = "filtered"
    SHED = "shed"
    EXPIRED = "expired"


class Failing(msgspec.Struct, frozen=True, gc=False):
    """What a worker knows of an event that fails, for itself: a spool gives it back with the event, and to
    nobody else."""

    since: float
    """When it failed first, in its worker's time."""
    strikes: int
    """How many of its failures came when others had been taken since the failure before."""
    successes: int
    """What the sink had taken at the latest."""
    struck: bool
    """Whether the latest was such a failure."""


class Item(msgspec.Struct, frozen=True, gc=False):
    """An event waiting for a sink."""

    token: Token
    event: Event
    attempts: int = 0
    """Attempts made before it was parked, or before it became a dead letter."""
    waited_seconds: float = 0.0
    """How long it had waited, while its sink was healthy, before it was parked."""
    redriven: bool = False
    """It comes from the dead letters, at somebody's request."""
    failing: Failing | None = None
    """What the same worker noted when it parked it."""


class Death(msgspec.Struct, frozen=True):
    """Why an event became a dead letter."""

    item: Item
    reason: str
    attempts: int
    status: int | None = None
    excerpt: str = ""


class Parked(msgspec.Struct, frozen=True):
    """A lane that is set aside: its head and what stands behind it."""

    lane: str
    """Events whose `key` equals it, and that come later, are set aside behind these by the spool."""
    items: Sequence[Item]
    """In order, head first."""
    retry_in_seconds: float
    """From now; the head is due again then."""
    attempts: int
    """Attempts made on the head."""
    waited_seconds: float
    """How long the head has waited while its sink was healthy."""
    failing: Failing | None = None
    """Of the head; comes back with it, as long as the reader is the same."""


@dataclass(slots=True)
class Settlement:
    """What a worker reports in one go for one sink. Applied as a whole, in one transaction."""

    delivered: Sequence[Token] = ()
    filtered: Sequence[Token] = ()
    expired: Sequence[Token] = ()
    dead: Sequence[Death] = ()
    parked: Sequence[Parked] = ()


class Quarantined(msgspec.Struct, frozen=True, gc=False):
    """A frame in which no event could be read; kept raw as a dead letter of its source."""

    source: str
    subscription: str
    received_ms: int
    raw: bytes
    reason: str


class Remembered(msgspec.Struct, frozen=True):
    """Identities to be committed together with their events, so that a copy which comes after a restart is
    known (see `zoomrelay.intake.merge`)."""

    generation: int
    """Never falls. Of those that were given, the last two generations are kept."""
    digests: bytes
    """16 bytes each."""


class DeadLetter(msgspec.Struct, frozen=True):
    """One entry of the dead letters; `sink` is empty for an unreadable frame of a source."""

    number: int
    sink: str
    source: str
    subscription: str
    id: str
    name: str
    received_ms: int
    died_ms: int
    reason: str
    attempts: int
    status: int | None
    excerpt: str
    redriving: bool
    content: bytes = b""
    """Empty in listings; filled by `dead_letter(number)`."""


def everything(_name: str, _source: str) -> bool:
    """For sinks without a filter."""
    return True


URGENT = "\x00urgent "
"""Begins the names of lanes of urgent events; no key of Zoom's begins so."""


def lane_of(key: str, *, urgent: bool) -> str:
    """The lane of events with this key: urgent ones keep their order among themselves. Empty without one."""
    return URGENT + key if key and urgent else key


@dataclass(frozen=True, slots=True)
class Urgency:
    """Which events of a sink overtake its backlog, and until when."""

    deadline_seconds: Callable[[str], float]
    """Event name -> how long after its receipt it is still of use; infinite: it is not urgent."""
    longest_seconds: float
    """The longest of these that ends."""

    def is_urgent(self, name: str) -> bool:
        return self.deadline_seconds(name) < math.inf


@dataclass(frozen=True, slots=True)
class SinkStart:
    """A sink of the configuration, as the spool must know it."""

    name: str
    start: str = "now"
    """`now` or `oldest`: where a sink begins that the spool has not met before."""
    wants: Callable[[str, str], bool] = everything
    """(event name, source) -> whether it would be delivered; asked only when space is short, and of urgent
    events."""
    urgency: Urgency | None = None
    """For sinks that call `read_urgent`."""


@dataclass(slots=True)
class SinkCounts:
    """Durable counters of one sink, from its start: each event is counted once in one outcome."""

    appended: int = 0
    delivered: int = 0
    dead: int = 0
    filtered: int = 0
    shed: int = 0
    expired: int = 0
    abandoned: int = 0
    pending: int = 0
    redelivered: int = 0
    """Dead letters that were redriven and then delivered; counted apart."""
    replayed: int = 0
    """Events that were replayed and taken; counted apart."""
    oldest_pending_ms: int | None = None
    """About the `received_ms` of the oldest pending event that the sink's reader was given, or that is
    parked; None where there is none."""
    parked: int = 0
    """How many of the pending events are parked."""
    dead_letters: int = 0
    """Dead letters kept now (bounded; not the same as `dead`)."""
    redriving: int = 0
    """How many of these are on their way again."""

    @property
    def conservation_error(self) -> int:
        """Must be 0."""
        ended = self.delivered + self.dead + self.filtered + self.shed + self.expired + self.abandoned
        return self.appended - ended - self.pending


@dataclass(slots=True)
class SourceCounts:
    """Durable counters of one source. Frames = appended + merged + quarantined + unheld."""

    appended: int = 0
    merged: int = 0
    quarantined: int = 0
    unheld: int = 0


@dataclass(slots=True)
class SpoolStats:
    """Figures for metrics and status; cheap enough to ask for every second."""

    events: int = 0
    bytes: int = 0
    max_bytes: int = 0
    wal_bytes: int = 0
    retained_events: int = 0
    """How many of the events no sink waits for: kept for replay, they make way where space is short."""
    retained_bytes: int = 0
    busy_seconds: float = 0.0
    """How long the oldest call that is under way has waited for the disk."""
    writable: bool = True
    trouble: str = ""
    """In words, why it is not writable."""
    sinks: dict[str, SinkCounts] = field(default_factory=dict)
    sources: dict[str, SourceCounts] = field(default_factory=dict)
    paths: dict[tuple[str, str], SourceCounts] = field(default_factory=dict)
    """The same by (source, subscription)."""


FOREVER_MS = 2**53


@dataclass(frozen=True, slots=True)
class Choice:
    """Which events: received from `since_ms` on and before `until_ms`, and wanted."""

    since_ms: int = 0
    until_ms: int = FOREVER_MS
    wants: Callable[[str, str], bool] = everything
    """(event name, source)"""

    def takes(self, event: Event) -> bool:
        return self.since_ms <= event.received_ms < self.until_ms and self.wants(event.name, event.source)


class Progress(msgspec.Struct, frozen=True):
    """How far a replay is."""

    sent: int = 0
    failed: int = 0
    """Refused by the sink for good, or given up; they are counted here and nowhere else."""
    damaged: int = 0
    """Unreadable in the spool, and so not sent."""
    part: float = 0.0
    """About how much of the time was gone through, from 0 to 1."""
    reached_ms: int = 0
    """Everything that was received before this has been dealt with: a replay that was cut off can go on
    from here. 0 if that is nothing yet."""
    ended: bool = False
    error: str = ""
    """Why it ended too soon."""


class Replay(Protocol):
    """A replay that was begun (see `Spool.begin_replay`)."""

    sink: str
    ended: bool
    """Everything was dealt with, or it was cut off."""

    def progress(self) -> Progress: ...


class Reading(Protocol):
    """What feeds a sink's worker."""

    async def read(self, sink: str, max_events: int, max_bytes: int) -> Sequence[Item]:
        """What is due for this sink and was not handed out since it was opened: first parked lanes
        whose time has come, redriven dead letters, then new events in order of arrival, and only where
        there is none of these, what is replayed. Waits until there is something. Cancelling loses
        nothing."""
        ...

    async def read_urgent(self, sink: str, max_events: int) -> Sequence[Item]:
        """Events with a deadline that is still ahead, out of a backlog that is more than `read` is about to
        hand out: in order of arrival, few with the reader at once. `read` leaves out what was handed out
        here. Waits until there is something; for ever where the sink has no `urgency`. May wait at the
        same time as `read`. Cancelling loses nothing."""
        ...

    def settle(self, sink: str, settlement: Settlement) -> None:
        """Note how events ended. Durable with the next commit, at the latest after 100 ms; a crash
        before that hands them out again. Tokens not handed out to this sink are ignored."""
        ...

    def release(self, sink: str) -> None:
        """The sink's reader is gone; what it was handed and did not settle is handed out again to the
        next reader."""
        ...


class Spool(Reading, Protocol):
    """Holds events until every sink has settled them."""

    async def open(self, sinks: Sequence[SinkStart]) -> None:
        """Open or create it, and make the known sinks equal to `sinks`. A sink that is gone from the
        list keeps its backlog for 24 h, then its events count as abandoned. Raises
        `StateDirectoryError`, `SpoolFormatError` or `SpoolError`."""
        ...

    async def set_sinks(self, sinks: Sequence[SinkStart]) -> None:
        """The same on an open spool (reload). The caller has stopped reading for sinks that go."""
        ...

    async def append(
        self,
        events: Sequence[Event],
        quarantined: Sequence[Quarantined] = (),
        remembered: Remembered | None = None,
    ) -> None:
        """Hold these, in order. On return they survive what the spool promises to survive, and readers
        may see them; not earlier. Raises `SpoolError`, then nothing of it is held."""
        ...

    def count_merged(self, merged: Mapping[tuple[str, str], int]) -> None:
        """(source, subscription) -> copies of events that are held, to be counted. Durable like a
        settlement."""
        ...

    def take_remembered(self) -> list[Remembered]:
        """What an earlier process had remembered, oldest first; what does not survive a restart is not in
        it. Handed out once."""
        ...

    async def flush(self) -> None:
        """Return once every settlement given so far is durable."""
        ...

    def stats(self) -> SpoolStats: ...

    def last_received(self) -> dict[tuple[str, str], int]:
        """(source, subscription) -> `received_ms` of the newest event held since the spool was made; what
        does not survive a restart is not in it after one."""
        ...

    async def dead_letters(
        self, *, sink: str | None = None, limit: int = 1000, before: int | None = None
    ) -> list[DeadLetter]:
        """The newest `limit` dead letters, of those with a smaller number than `before`; oldest of them
        first, without content."""
        ...

    async def dead_letter(self, number: int) -> DeadLetter | None: ...

    async def redrive(self, numbers: Sequence[int]) -> int:
        """Hand these dead letters out to their sinks again; how many there were. Frames of a source
        (no sink) are parsed no better the second time and are left alone, and so is what is damaged."""
        ...

    async def discard(self, numbers: Sequence[int]) -> int:
        """Delete these dead letters; how many there were."""
        ...

    async def begin_replay(self, sink: str, choice: Choice, events_per_second: float | None = None) -> Replay:
        """Hand events that are held, and that have ended for this sink, to its reader once more, in order,
        with tokens of their own; those that it is still to get come anyway. What is held now is meant, and
        what has to make way meanwhile is left out. How they end is counted by the replay, and durably in
        `SinkCounts.replayed`; nothing else changes by it. It ends with the process.

        Raises `ReplayRefused` where delivered events are not kept, for a sink that is unknown, or while
        another replay to it is under way."""
        ...

    def end_replay(self, replay: Replay) -> None:
        """To be called for each: nothing more is handed out. Tokens that were are ignored from now on."""
        ...

    def retained(self, choice: Choice) -> AsyncIterator[Sequence[Event]]:
        """Events that are held, delivered or not, in order of arrival, in portions of bounded size (empty
        ones too). Raises `ReplayRefused` where delivered events are not kept."""
        ...

    async def close(self) -> None:
        """Make everything durable and let go. May be called twice."""
        ...
