"""Whose events go when space is short. Pure: storage asks here, and frees what was ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from heapq import nlargest

from zoomrelay.spool.base import Outcome, SinkStart, Token, everything
from zoomrelay.spool.marks import SinkMarks

OnShed = Callable[[str, int], None]
"""(sink, how many of its events were shed): for the ledger."""


_VICTIMS_AT_ONCE = 16
SHED_AT_ONCE = 32
"""Events of one parked lane that are given up before the next lane is looked at."""


def dead_limit_bytes(max_bytes: int) -> int:
    """The bound of the dead letters, which have one of their own."""
    return max(16 * 1024 * 1024, max_bytes // 10)


class Eviction:
    """The rules; `marks` and `starts` are the spool's own, and live.

    First go events that every sink is done with. Then those that no lagging sink wants: `is_wanted`. Then
    the oldest pending ones of the sink that lags most: where these wait in parked lanes, `parked_victims`
    says in which, otherwise everything up to the end of the oldest stretch goes: `shed_to`.
    """

    def __init__(
        self, marks: Mapping[str, SinkMarks], starts: Mapping[str, SinkStart], on_shed: OnShed
    ) -> None:
        self._marks = marks
        self._starts = starts
        self._on_shed = on_shed

    def done_to(self, last: Token) -> Token:
        """The newest number that no sink needs any more, `last` being the newest of all."""
        return min((marks.low for marks in self._marks.values() if not marks.given_up), default=last)

    def thin_to(self, last: Token, events: int) -> Token:
        """Up to here it is worth asking `is_wanted` once and for all, `events` being how many are in the
        stream: sinks that keep up are done. What they still have to do keeps an event for a moment only."""
        if all(start.wants is everything for start in self._starts.values()):
            return 0
        held = [marks for marks in self._marks.values() if not marks.given_up]
        quick = [marks for marks in held if 2 * (marks.pending(last) - marks.lanes.events) < events]
        return min((marks.known_to() for marks in quick), default=last)

    def is_wanted(self, token: Token, name: str, source: str) -> bool:
        """Whether any sink still waits for this event. Ends it, as filtered, for sinks that have not been
        given it and do not want it. What an orphan wants nobody knows: everything."""
        wanted = False
        for marks in self._marks.values():
            if marks.given_up or marks.has_ended(token):
                continue
            start = self._starts.get(marks.name)
            if start is None or token <= marks.handed or start.wants(name, source):
                wanted = True
            else:
                marks.end_range(token, token, Outcome.FILTERED)
        return wanted

    def parked_victims(self, last: Token) -> tuple[SinkMarks, list[str]] | None:
        """The sink that lags most and its fullest parked lanes that are not in delivery, if it has any."""
        laggard = max(self._marks.values(), key=lambda marks: marks.pending(last), default=None)
        if laggard is None or laggard.given_up:
            return None
        ready = [(lane.waiting, name) for name, lane in laggard.lanes.by_name.items() if lane.ready]
        return (laggard, [name for _, name in nlargest(_VICTIMS_AT_ONCE, ready)]) if ready else None

    def shed_to(self, token: Token) -> None:
        """End every number up to this for the sinks that still wait for it. What is in delivery just
        then may arrive all the same; it counts as shed."""
        for marks in self._marks.values():
            if not marks.given_up:
                self.tell(marks, marks.end_to(token, Outcome.SHED))

    def tell(self, marks: SinkMarks, count: int) -> None:
        if count:
            self._on_shed(marks.name, count)
