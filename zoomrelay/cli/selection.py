"""Which dead letters a command speaks of. Pure but for usage errors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Protocol

import typer

from zoomrelay.cli.moments import milliseconds
from zoomrelay.delivery.router import Route
from zoomrelay.spool.base import DeadLetter

EventsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--events",
        metavar="GLOB",
        help='Only these events: "meeting.*", or several by comma; the last match wins, "!" excludes.',
        show_default=False,
    ),
]
_GLOB = re.compile(r"!?[A-Za-z0-9_.*?-]+")


@dataclass(frozen=True, slots=True)
class Selection:
    """Every condition that was given must hold."""

    sink: str | None = None
    route: Route | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    reason: str = ""

    def takes(self, letter: DeadLetter) -> bool:
        """Its time is that of its death. A frame in which no event could be read has no name, so a glob
        never takes it."""
        return (
            (self.sink is None or letter.sink == self.sink)
            and (self.route is None or (letter.name != "" and self.route.wants(letter.name, letter.source)))
            and (self.since_ms is None or letter.died_ms >= self.since_ms)
            and (self.until_ms is None or letter.died_ms < self.until_ms)
            and self.reason.lower() in letter.reason.lower()
        )

    @property
    def is_all(self) -> bool:
        """No condition was given."""
        return self == Selection()


def selection(
    sink: str | None, events: Sequence[str] | None, since: str, until: str, reason: str
) -> Selection:
    """What the options mean."""
    now = datetime.now(UTC)
    return Selection(
        sink=sink,
        route=route(events),
        since_ms=milliseconds(since, now, "--since") if since else None,
        until_ms=milliseconds(until, now, "--until") if until else None,
        reason=reason,
    )


def globs(events: Sequence[str] | None) -> list[str]:
    """What `--events` means, given several times or with commas; a usage error for what is no glob."""
    found = [glob.strip() for part in events or () for glob in part.split(",") if glob.strip()]
    for glob in found:
        if not _GLOB.fullmatch(glob):
            raise typer.BadParameter(
                'must be event names like "meeting.started", "meeting.*" or "!meeting.ended"',
                param_hint="--events",
            )
    return found


def route(events: Sequence[str] | None) -> Route | None:
    """The same as a rule; None where everything is meant."""
    found = globs(events)
    return Route(found, gap_events=True) if found else None


class Pages(Protocol):
    """Where dead letters can be listed."""

    page_size: int
    """How many to ask for at once."""

    def listed(self, sink: str | None, limit: int, before: int | None) -> Sequence[DeadLetter]:
        """The newest with a smaller number than `before`, oldest of them first."""
        ...


def newest(pages: Pages, wanted: Selection, limit: int) -> list[DeadLetter]:
    """The newest `limit` that are wanted, oldest of them first."""
    return list(islice(_backwards(pages, wanted), limit))[::-1]


def _backwards(pages: Pages, wanted: Selection) -> Iterator[DeadLetter]:
    before: int | None = None
    while page := pages.listed(wanted.sink, pages.page_size, before):
        yield from (letter for letter in reversed(page) if wanted.takes(letter))
        if len(page) < pages.page_size:
            return
        before = page[0].number
