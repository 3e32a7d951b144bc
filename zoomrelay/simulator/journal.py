"""What the pretend Zoom did: the truth against which a relay is judged. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice

import msgspec

from zoomrelay.simulator.wire import Frame

NOBODY = 0
"""Number of the connection of what was sent while nobody was connected."""


class Sent(msgspec.Struct, frozen=True, gc=False):
    """One event (or unreadable frame) that was due on one connection, or on none."""

    number: int
    """Counts from 1, without gaps."""
    at: float
    """Wall clock, seconds since the epoch, when it was handed to the operating system."""
    subscription: str
    connection: int
    """Number of the connection that it went to; `NOBODY` if there was none, and Zoom drops it."""
    heard: bool
    """It was put on a connection that was accepted and open. How that connection ended decides
    whether it can have been lost on the way."""
    kind: str
    """`event`, or the kind of an unreadable frame."""
    content: bytes


class Connection(msgspec.Struct):
    """One socket, from its upgrade on. Times are wall clock, seconds since the epoch."""

    number: int
    subscription: str
    opened_at: float
    accepted_at: float | None = None
    ended_at: float | None = None
    """When it ended, or when it went half-open."""
    ending: str = ""
    """Empty while it is open, else one of:

    `refused`, `closed`, `displaced`: a closing frame was sent; everything before it arrives.
    `reset`: a TCP reset, or nobody answered the closing frame; what was under way may be lost.
    `half-open`: nothing is sent or read any more, and TCP stays up.
    `client-closed`: the other side sent a closing frame.  `client-gone`: it vanished without one.
    `stalled`: the other side did not read for too long and was reset.
    """
    code: int | None = None
    """Of the closing frame, ours or theirs."""
    reason: str = ""
    events: int = 0
    """Events put on it."""
    rubbish: int = 0
    heartbeats: int = 0
    """Heartbeats received."""

    @property
    def open(self) -> bool:
        """Accepted, and as far as Zoom knows still there."""
        return self.accepted_at is not None and not self.ending


class Journal:
    """Keeps the newest `limit` entries; the counters cover everything."""

    def __init__(self, *, limit: int) -> None:
        self._sent: deque[Sent] = deque(maxlen=limit)
        self.connections: list[Connection] = []
        self.count = 0
        self.unheard = 0
        """Entries that went to nobody or into a half-open connection."""

    def connected(self, subscription: str, now: float) -> Connection:
        """A new connection with the next number."""
        connection = Connection(len(self.connections) + 1, subscription, now)
        self.connections.append(connection)
        return connection

    def note(
        self, frames: Sequence[Frame], now: float, subscription: str, connection: int, *, heard: bool
    ) -> None:
        first = self.count + 1
        self.count += len(frames)
        self.unheard += 0 if heard else len(frames)
        self._sent.extend(
            Sent(number, now, subscription, connection, heard, frame.kind, frame.content)
            for number, frame in enumerate(frames, first)
        )

    def since(self, number: int = 0) -> Iterator[Sent]:
        """Entries after `number` that are still kept, oldest first."""
        return islice(self._sent, max(0, number - (self.count - len(self._sent))), None)

    def forget(self) -> None:
        """Drop the entries; numbers and counters go on."""
        self._sent.clear()
