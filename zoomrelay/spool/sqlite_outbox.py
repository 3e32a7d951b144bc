"""What waits to be written with the next commit of the sqlite spool. No I/O."""

from __future__ import annotations

from collections.abc import Sequence

from zoomrelay.spool.base import Item, Token
from zoomrelay.spool.segment import plain_text

Statement = tuple[str, Sequence[object]]
LaneName = tuple[str, str]
"""(sink, lane)"""


class Outbox:
    """Taken as a whole for a commit, and put back as a whole where that failed."""

    def __init__(self) -> None:
        self.statements: list[Statement] = []
        self.sinks: set[str] = set()
        """Sinks whose marks and counters changed; they are written as they stand at the commit."""
        self.dead_changed = False
        """Dead letters came or went: enforce their bound and count what is left."""
        self.totals_lost = False
        """The file may have lost the totals of the paths: they are written as they stand at the commit."""
        self.joining: dict[LaneName, dict[Token, Item]] = {}
        """Parked events whose rows are not in the file yet."""
        self.leaving: dict[LaneName, set[Token]] = {}
        """Events that left their lanes and whose rows may still be in the file."""

    def __bool__(self) -> bool:
        return bool(self.statements or self.sinks or self.dead_changed or self.totals_lost)

    def add(self, statement: str, *parameters: object) -> None:
        tidy = [plain_text(value) if type(value) is str else value for value in parameters]
        self.statements.append((statement, tidy))

    def put_back(self, taken: Outbox) -> None:
        """What was taken did not get written: it comes before what has gathered since."""
        self.statements[:0] = taken.statements
        self.sinks |= taken.sinks
        self.dead_changed = self.dead_changed or taken.dead_changed
        self.totals_lost = self.totals_lost or taken.totals_lost
        for lane, items in taken.joining.items():
            self.joining[lane] = items | self.joining.get(lane, {})
        for lane, tokens in taken.leaving.items():
            self.leaving[lane] = tokens | self.leaving.get(lane, set())
