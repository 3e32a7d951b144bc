"""Until when a connection was surely listened to. Pure: the time is passed in (event loop's seconds).

The end of a socket is noticed when it is read, which may be long after it happened: the machine was busy,
the process stood still, or so much had come that its reading took time. What was sent meanwhile, to nobody,
must be in the gap ledger too. So a gap begins at the last moment at which we know that everything which had
come was read and that the socket was whole:

* A read that brought little has emptied the socket; one that brought much may have left more behind.
* That the socket was whole at that moment shows only afterwards, in that it went on.
* What is read after a standstill may have come at its beginning, and the socket may have died since.
* When nobody reads for long, the buffers on the way fill and the other side keeps what it has. That follows a
  round trip after the first reads have made room, so a small read in between has emptied nothing.
"""

from __future__ import annotations

from math import inf

BACKLOG_BYTES = 16 * 1024
"""A read of so many bytes may have left more behind: well below what one read takes, and below the
smallest window by which TCP would make the other side wait."""

STANDSTILL_SECONDS = 1.2
"""Time passes once a second; where it took longer, nobody looked at the socket meanwhile."""

CATCH_UP_SECONDS = 1.0
"""After a pause or a standstill, the other side sends on within this of a large read."""


class Hearing:
    """Told of every read, and about once a second that time has passed."""

    def __init__(self, now: float) -> None:
        self.received_until = now
        """Everything that was sent before has come, and so had something sent by the other side: what to go
        by when a connection broke, for it may have been dead for as long as it was silent."""
        self.whole_until = now
        """The same, silence included: what to go by when a connection was closed properly, for then it
        was alive to its end."""
        self._latest = now
        self._full = False
        """The last read may have left more in the socket."""
        self._behind = False
        """There may be more, in the socket or held back on the way."""
        self._held_back_until = -inf
        """The other side may have been unable to send, until some time before this."""
        self._second = now
        self._was_reading = True
        self._stood_still_since: float | None = None

    def read(self, size: int, now: float) -> None:
        """So many bytes came in one read."""
        if not self._behind:
            self.received_until = self._latest
            self.whole_until = max(self.whole_until, self._latest)
        stood_still_since = self._second if self._is_late(now) else self._stood_still_since
        self._full = size >= BACKLOG_BYTES
        if self._is_late(now) or (self._full and now < self._held_back_until):
            self._held_back_until = now + CATCH_UP_SECONDS
        self._behind = self._full or (self._behind and now < self._held_back_until)
        self._latest = now if stood_still_since is None else max(self._latest, stood_still_since)

    def second(self, now: float, *, reading: bool) -> None:
        """The connection is still there. `reading`: nobody has paused it."""
        if self._is_late(now) or not reading:
            self._held_back_until = now + CATCH_UP_SECONDS
        elif now >= self._held_back_until:
            self._behind = self._full
        if reading and self._was_reading and not self._behind:
            # Since the second before, the socket was looked at, and it was neither at its end nor full.
            self.whole_until = max(self.whole_until, self._second)
            if self._latest < self._second:
                self.received_until = self._latest
        self._was_reading = reading
        # Whether this comes before the reads that were due, or after them, is the event loop's affair.
        self._stood_still_since = self._second if self._is_late(now) else None
        self._second = now

    def _is_late(self, now: float) -> bool:
        return now - self._second > STANDSTILL_SECONDS
