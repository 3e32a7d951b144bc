"""How long until a sink has caught up with its backlog, judged by the latest seconds. Pure."""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

WINDOW_SECONDS = 20.0
_SPACING_SECONDS = 1.0
_NO_BACKLOG_SECONDS = 2.0
"""What a sink takes in so long is not a backlog: it is under way."""
_QUIET_SECONDS = 5.0
"""Nor is what came since nothing was pending, if that is not longer ago."""


class _Seen(NamedTuple):
    at: float
    pending: int
    ended: int


class DrainRate:
    """Remembers some seconds of one sink. Ask about once a second."""

    def __init__(self) -> None:
        self._seen: deque[_Seen] = deque()

    def seconds_until_drained(self, now: float, pending: int, ended: int) -> float:
        """Note at `now` (seconds that never jump back) how many events are pending, and how many have ended
        in all. 0 without a backlog; infinite while it does not shrink."""
        self._note(_Seen(now, pending, ended))
        if self._is_under_way(now, pending):
            return 0.0
        since, pending_then, ended_then = self._seen[0]
        passed, shrunk = now - since, pending_then - pending
        if passed > 0 and pending <= _NO_BACKLOG_SECONDS * (ended - ended_then) / passed:
            return pending * passed / (ended - ended_then)
        return pending * passed / shrunk if shrunk > 0 and passed > 0 else math.inf

    def _is_under_way(self, now: float, pending: int) -> bool:
        return pending == 0 or any(
            seen.pending == 0 and now - seen.at < _QUIET_SECONDS for seen in self._seen
        )

    def _note(self, seen: _Seen) -> None:
        if not self._seen or seen.at - self._seen[-1].at >= _SPACING_SECONDS:
            self._seen.append(seen)
        while seen.at - self._seen[0].at > WINDOW_SECONDS and len(self._seen) > 1:
            self._seen.popleft()
