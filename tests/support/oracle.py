"""The judge: what the pretend Zoom did against what reached the sinks and the gap ledger. Pure.

The rule: every event that was sent is delivered, or was sent inside an interval of the ledger; of what was
sent on a socket that ended with a proper close nothing at all is lost; bytes are what they were.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from zoomrelay.intake.ledger import Gap
from zoomrelay.simulator.journal import NOBODY, Connection, Sent

_ORDERLY = ("closed", "displaced", "refused")
_ROUNDING_SECONDS = 0.002
"""The ledger's times are whole milliseconds."""
_SHOWN = 5


@dataclass(frozen=True)
class Truth:
    """Everything that happened."""

    sent: Sequence[Sent]
    connections: Sequence[Connection]
    gaps: Sequence[Gap]
    kills: Sequence[float] = ()
    """When the relay was killed; wall clock, seconds."""

    @property
    def events(self) -> list[Sent]:
        return [sent for sent in self.sent if sent.kind == "event"]

    def excused(self, sent: Sent) -> bool:
        """It was sent inside an interval of the ledger."""
        return any(
            _covers(gap, sent.at, sent.at) for gap in self.gaps if gap.subscription == sent.subscription
        )

    def must_arrive(self, sent: Sent) -> bool:
        """Whatever the ledger says: its socket ended properly, or did not end, and nobody was killed."""
        if not sent.heard or sent.connection == NOBODY:
            return False
        connection = self.connections[sent.connection - 1]
        if connection.ending and connection.ending not in _ORDERLY:
            return False
        # A kill soon after the close may find some of it on the way to the disk.
        return not any(sent.at <= kill <= (connection.ended_at or kill) + 1.0 for kill in self.kills)


def lost(truth: Truth, delivered: Iterable[bytes]) -> list[Sent]:
    """Events that never arrived, for whatever reason."""
    arrived = set(delivered)
    return [sent for sent in truth.events if sent.content not in arrived]


def problems(truth: Truth, sink: str, delivered: Sequence[bytes], *, ordered: bool) -> list[str]:
    """What breaks the rule at one sink, in words; empty if nothing does."""
    missing = lost(truth, delivered)
    invented = Counter(delivered).keys() - {sent.content for sent in truth.events}
    found = [
        _words(sink, "lost, and in no interval of the ledger", [s for s in missing if not truth.excused(s)]),
        _words(sink, "lost from a socket that ended properly", [s for s in missing if truth.must_arrive(s)]),
        f"{sink}: {len(invented)} that nobody sent, such as {min(invented)[:200]!r}" if invented else "",
        _disorder(truth, sink, delivered) if ordered else "",
    ]
    return [problem for problem in found if problem]


def uncovered(truth: Truth, subscription: str) -> list[str]:
    """Times between two accepted sockets that no interval of the ledger covers, in words."""
    accepted = [c for c in truth.connections if c.accepted_at is not None and c.subscription == subscription]
    listed = _joined([gap for gap in truth.gaps if gap.subscription == subscription])
    return [
        f"deaf from {before.ended_at:.3f} ({before.ending}) to {after.accepted_at:.3f}, ledger: {listed}"
        for before, after in pairwise(accepted)
        if before.ended_at is not None
        and after.accepted_at is not None
        and before.ended_at < after.accepted_at
        and not any(
            start <= before.ended_at + _ROUNDING_SECONDS and after.accepted_at <= end + _ROUNDING_SECONDS
            for start, end in listed
        )
    ]


def repeated(delivered: Iterable[bytes]) -> Counter[bytes]:
    """How often more than once each event arrived, of those that did."""
    return Counter({content: count - 1 for content, count in Counter(delivered).items() if count > 1})


def _covers(gap: Gap, start: float, end: float) -> bool:
    until = float("inf") if gap.to_ms is None else gap.to_ms / 1000
    return gap.from_ms / 1000 <= start + _ROUNDING_SECONDS and end <= until + _ROUNDING_SECONDS


def _joined(gaps: Iterable[Gap]) -> list[tuple[float, float]]:
    """The intervals in order, those that touch each other as one."""
    joined: list[tuple[float, float]] = []
    for start, end in sorted(
        (gap.from_ms / 1000, float("inf") if gap.to_ms is None else gap.to_ms / 1000) for gap in gaps
    ):
        if joined and start <= joined[-1][1] + _ROUNDING_SECONDS:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined


def _words(sink: str, what: str, sent: Sequence[Sent]) -> str:
    if not sent:
        return ""
    shown = [(s.number, round(s.at, 3), s.connection) for s in sent[:_SHOWN]]
    return f"{sink}: {len(sent)} events {what}; (number, at, connection): {shown}"


def _disorder(truth: Truth, sink: str, delivered: Sequence[bytes]) -> str:
    """First arrivals must come in the order in which they were sent."""
    number: dict[bytes, int] = {}
    for sent in truth.events:
        number.setdefault(sent.content, sent.number)
    firsts = [number[content] for content in dict.fromkeys(delivered) if content in number]
    for before, after in pairwise(firsts):
        if after < before:
            return f"{sink}: out of order, {after} came after {before}"
    return ""
