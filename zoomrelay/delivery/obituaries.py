"""Says in the log that events became dead letters: the first at once, then one line now and then."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from zoomrelay.spool.base import Death

log = structlog.get_logger()

EVERY_SECONDS = 10.0


class Obituaries:
    """One per sink."""

    def __init__(self, sink: str) -> None:
        self._sink = sink
        self._count = 0
        self._latest: Death | None = None
        self._timer: asyncio.TimerHandle | None = None

    def add(self, deaths: Sequence[Death]) -> None:
        """Tell of these, now or with others within `EVERY_SECONDS`."""
        if not deaths:
            return
        self._count += len(deaths)
        self._latest = deaths[-1]
        if self._timer is None:
            self._tell()

    def close(self) -> None:
        """Tell of what was kept back."""
        if self._timer is not None:
            self._timer.cancel()
        self._say()
        self._timer = None

    def _tell(self) -> None:
        self._timer = None
        if self._say():
            self._timer = asyncio.get_running_loop().call_later(EVERY_SECONDS, self._tell)

    def _say(self) -> bool:
        latest, count = self._latest, self._count
        self._latest, self._count = None, 0
        if latest is None:
            return False
        log.warning(
            "sink.dead_letters",
            sink=self._sink,
            count=count,
            latest_id=latest.item.event.id,
            latest_event=latest.item.event.name,
            latest_reason=latest.reason,
            latest_attempts=latest.attempts,
            hint="see zoomrelay dlq list",
        )
        return True
