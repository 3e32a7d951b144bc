"""How long delivered events stay for replay, and how much that is now. Pure."""

from __future__ import annotations

from zoomrelay.spool.base import Token
from zoomrelay.spool.sqlite_writer import Done, Retain

_LOOK_EVERY_PART = 0.05
_LOOK_EVERY_SECONDS = (1.0, 60.0)


class Retention:
    """Kept up to date by every commit of the spool; `seconds` = 0 retains nothing.

    Ages are by the wall clock, since they outlive the process. Where that was ahead for a while, events stay
    longer, up to the bound of the spool.
    """

    def __init__(self, seconds: float, event_bytes: int) -> None:
        self.seconds = seconds
        self.events = 0
        """Held, and done with by every sink."""
        self.noted_done: Token = 0
        """What the file says of how far every sink is done."""
        self._event_bytes = event_bytes
        self._content_bytes = 0
        self._counted_to: Token = 0
        self._free_bytes = 0

    @property
    def bytes(self) -> int:
        return self._content_bytes + self.events * self._event_bytes

    @property
    def look_every_seconds(self) -> float:
        """How often to look whether some have become too old."""
        least, most = _LOOK_EVERY_SECONDS
        return min(max(self.seconds * _LOOK_EVERY_PART, least), most)

    def free(self, size_bytes: int) -> None:
        """The next commit lets so much go, however young."""
        self._free_bytes = size_bytes

    def order(self, wall: float) -> Retain | None:
        """What the next commit is to keep."""
        if not self.seconds:
            return None
        from_ms = int((wall - self.seconds) * 1000)
        return Retain(from_ms, self._free_bytes, self._event_bytes, self._counted_to)

    def written(self, done: Done) -> None:
        """A commit did this."""
        self._free_bytes = 0
        if self.seconds:
            self.events += done.retained_events - done.dropped_events
            self._content_bytes += done.retained_bytes - done.dropped_bytes
            self._counted_to = max(self._counted_to, done.counted_to)

    def forget(self) -> None:
        """The file is another one: count anew."""
        self.events = self._content_bytes = self._counted_to = self.noted_done = 0
