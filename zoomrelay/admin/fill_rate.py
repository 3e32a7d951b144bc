"""How long until the spool is full, judged by how it grew lately. Pure."""

from __future__ import annotations

from collections import deque

WINDOW_SECONDS = 300.0
_SPACING_SECONDS = 5.0
_LEAST_SECONDS = 30.0
"""Over less than this, what has just come in and not yet gone out would look like growth."""
_FULL = 0.99
"""A full spool makes room in steps, so it is mostly a little below its limit."""


class FillRate:
    """Remembers some minutes of a level."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def seconds_until_full(self, now: float, level_bytes: int, max_bytes: int) -> float | None:
        """Note the level at `now` (seconds that never jump back); None while it does not grow, and in the
        first half minute. Call it as often as you like."""
        self._note(now, level_bytes)
        if level_bytes >= _FULL * max_bytes:
            return 0.0
        since, before_bytes = self._seen[0]
        if now - since < _LEAST_SECONDS or level_bytes <= before_bytes:
            return None
        return (max_bytes - level_bytes) * (now - since) / (level_bytes - before_bytes)

    def _note(self, now: float, level_bytes: int) -> None:
        if not self._seen or now - self._seen[-1][0] >= _SPACING_SECONDS:
            self._seen.append((now, level_bytes))
        while now - self._seen[0][0] > WINDOW_SECONDS and len(self._seen) > 1:
            self._seen.popleft()
