"""Which events a sink wants. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from zoomrelay.event import GAP_EVENTS, RELAY_SOURCE

MAX_REMEMBERED = 4096
"""Event names come from outside: the memory of answers is bounded."""


class Route:
    """Globs over event names, and names of sources.

    Globs are looked at in order and the last match wins; `!` makes one negative. A list starts from
    nothing, or from everything if its first glob is negative; an empty list takes everything. `*` stands
    for any run of characters, dots included, and `?` for one. No sources means all of them.

    For the relay's own gap events the globs do not count: `gap_events` decides, and the sources; what
    concerns the relay as a whole passes whatever the sources are.
    """

    def __init__(
        self, events: Sequence[str] = (), sources: Sequence[str] = (), *, gap_events: bool = False
    ) -> None:
        self._start = not events or events[0].startswith("!")
        self._rules = [(not glob.startswith("!"), pattern(glob.removeprefix("!"))) for glob in events]
        self._sources = frozenset(sources)
        self._gap_events = gap_events
        self._answers: dict[tuple[str, str], bool] = {}

    @property
    def takes_everything(self) -> bool:
        """Every event of Zoom's; gap events are to be asked for."""
        return self._start and not self._rules and not self._sources

    def wants(self, name: str, source: str) -> bool:
        """Whether an event of this name and source goes to the sink."""
        answer = self._answers.get((name, source))
        if answer is None:
            answer = self._decide(name, source)
            if len(self._answers) >= MAX_REMEMBERED:
                self._answers.clear()
            self._answers[name, source] = answer
        return answer

    def _decide(self, name: str, source: str) -> bool:
        if name in GAP_EVENTS:
            return self._gap_events and (
                not self._sources or source in self._sources or source == RELAY_SOURCE
            )
        if self._sources and source not in self._sources:
            return False
        wanted = self._start
        for positive, glob in self._rules:
            if glob.fullmatch(name):
                wanted = positive
        return wanted


def pattern(glob: str) -> re.Pattern[str]:
    """What `fullmatch` is asked of."""
    return re.compile(re.escape(glob).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL)
