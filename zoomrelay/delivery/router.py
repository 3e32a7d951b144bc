"""Which events a sink wants. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

_MAX_REMEMBERED = 4096
"""Event names come from outside: the memory of answers is bounded."""


class Route:
    """Globs over event names, and names of sources.

    Globs are looked at in order and the last match wins; `!` makes one negative. A list starts from
    nothing, or from everything if its first glob is negative; an empty list takes everything. `*` stands
    for any run of characters, dots included, and `?` for one. No sources means all of them.
    """

    def __init__(self, events: Sequence[str] = (), sources: Sequence[str] = ()) -> None:
        self._start = not events or events[0].startswith("!")
        self._rules = [(not glob.startswith("!"), _compile(glob.removeprefix("!"))) for glob in events]
        self._sources = frozenset(sources)
        self._answers: dict[tuple[str, str], bool] = {}

    @property
    def takes_everything(self) -> bool:
        return self._start and not self._rules and not self._sources

    def wants(self, name: str, source: str) -> bool:
        """Whether an event of this name and source goes to the sink."""
        answer = self._answers.get((name, source))
        if answer is None:
            answer = self._decide(name, source)
            if len(self._answers) >= _MAX_REMEMBERED:
                self._answers.clear()
            self._answers[name, source] = answer
        return answer

    def _decide(self, name: str, source: str) -> bool:
        if self._sources and source not in self._sources:
            return False
        wanted = self._start
        for positive, pattern in self._rules:
            if pattern.fullmatch(name):
                wanted = positive
        return wanted


def _compile(glob: str) -> re.Pattern[str]:
    return re.compile(re.escape(glob).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL)
