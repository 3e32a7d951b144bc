"""A relay without a relay: something to ask and to tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from zoomrelay.admin.health import PathStatus, SinkStatus, SourceStatus, SpoolStatus, Status
from zoomrelay.admin.tapping import Feed
from zoomrelay.app.changes import Changes
from zoomrelay.delivery.router import Route
from zoomrelay.delivery.taps import Taps
from zoomrelay.errors import ConfigError, ControlRefused, Problem
from zoomrelay.spool.base import DeadLetter, SinkCounts, SourceCounts

START = 1_767_225_600.0
"""2026-01-01T00:00:00Z"""


def path(**changes: Any) -> PathStatus:
    """An accepted subscription."""
    given: dict[str, Any] = {
        "subscription": "Sub0",
        "state": "receiving",
        "accepted": True,
        "accepted_since": START + 2,
        "last_error": "",
        "cure": "",
        "attempt": 0,
        "next_attempt_at": None,
        "gap_since": None,
    }
    return PathStatus(**given | changes)


def lost_path(**changes: Any) -> PathStatus:
    """One that Zoom refuses."""
    given: dict[str, Any] = {
        "state": "closed",
        "accepted": False,
        "accepted_since": None,
        "last_error": "no_token: the client secret is wrong",
        "cure": "copy the secret from the app's page",
        "attempt": 3,
        "next_attempt_at": START + 90,
        "gap_since": START + 30,
    }
    return path(**given | changes)


def source(*paths: PathStatus, name: str = "main") -> SourceStatus:
    counts = SourceCounts(appended=12, merged=1)
    return SourceStatus(name, list(paths or (path(),)), counts, merge_ratio=0.98)


def sink(**changes: Any) -> SinkStatus:
    given: dict[str, Any] = {
        "name": "crm",
        "type": "http",
        "ok": True,
        "last_error": "",
        "misconfigured": False,
        "counts": SinkCounts(appended=12, delivered=9, dead=1, pending=2, dead_letters=1),
        "conservation_error": 0,
    }
    return SinkStatus(**given | changes)


def spool(**changes: Any) -> SpoolStatus:
    given: dict[str, Any] = {
        "type": "sqlite",
        "events": 12,
        "bytes": 12_000,
        "max_bytes": 1024**3,
        "wal_bytes": 4096,
        "writable": True,
        "trouble": "",
    }
    return SpoolStatus(**given | changes)


def status(**changes: Any) -> Status:
    """A relay that is well, 60 s old."""
    given: dict[str, Any] = {
        "version": "1.2.3",
        "pid": 4711,
        "started": START,
        "now": START + 60,
        "starting": False,
        "stopping": False,
        "sources": [source()],
        "sinks": [sink()],
        "spool": spool(),
    }
    return Status(**given | changes)


def dead_letter(number: int, **changes: Any) -> DeadLetter:
    given: dict[str, Any] = {
        "number": number,
        "sink": "crm",
        "source": "main",
        "subscription": "Sub0",
        "id": f"z1_{number:032x}",
        "name": "meeting.started",
        "received_ms": 1000 * number,
        "died_ms": 1000 * number + 500,
        "reason": "HTTP 422",
        "attempts": 3,
        "status": 422,
        "excerpt": "no such meeting",
        "redriving": False,
        "content": b'{"event":"meeting.started","payload":"\xe2\x82\xac"}',
    }
    return DeadLetter(**given | changes)


class FakeRelay:
    """A `ControlTarget` with some dead letters and a configuration file that may be invalid."""

    def __init__(self, *letters: DeadLetter) -> None:
        self.now = status()
        self.letters = {letter.number: letter for letter in letters}
        self.problems: list[Problem] = []
        self.changes = Changes()
        self.reloads = 0
        self.taps = Taps()
        self.log = '{"event": "relay.started"}\n'

    def status(self) -> Status:
        return self.now

    def metrics(self) -> bytes:
        return b"zoomrelay_ready 1.0\n"

    def stacks(self) -> str:
        return "task intake\n"

    def recent_log(self) -> str:
        return self.log

    async def gaps(self) -> Sequence[dict[str, Any]]:
        return [{"from": "2026-01-01T00:00:00.000Z", "to": None, "seconds": 1.5, "cause": "closed"}]

    async def upgrade(self) -> None:
        raise ControlRefused("one is under way", status=409)

    async def reload(self) -> Changes:
        if self.problems:
            raise ConfigError(self.problems)
        self.reloads += 1
        return self.changes

    def privacy_fields(self) -> Mapping[str, str | None]:
        return {}

    @contextmanager
    def tap(self, events: Sequence[str], sources: Sequence[str]) -> Iterator[Feed]:
        tap = self.taps.open(Route(events, sources))
        if tap is None:
            raise ControlRefused("too many are tapping already", status=503)
        try:
            yield tap
        finally:
            self.taps.close(tap)

    async def dead_letters(self, *, sink: str | None, limit: int, before: int | None) -> Sequence[DeadLetter]:
        wanted = [letter for letter in self.letters.values() if sink is None or letter.sink == sink]
        wanted = [letter for letter in wanted if before is None or letter.number < before]
        return [msgspec.structs.replace(letter, content=b"") for letter in wanted[-limit:]] if limit else []

    async def dead_letter(self, number: int) -> DeadLetter | None:
        return self.letters.get(number)

    async def redrive(self, numbers: Sequence[int]) -> int:
        return sum(number in self.letters for number in numbers)

    async def discard(self, numbers: Sequence[int]) -> int:
        return sum(self.letters.pop(number, None) is not None for number in numbers)
