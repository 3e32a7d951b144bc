"""The judge: what the pretend Zoom did against what reached the sinks and the gap ledger. Pure.

The rule:

* Every event that was sent is delivered, or was sent inside an interval of the ledger, on each of its paths.
* Of what was sent on a socket that ended with a proper close, or did not end, nothing at all is lost.
* Every time without an accepted socket is in the ledger, and the ledger has no more beyond it than 2 s per
  fault and what it takes to notice.
* Nothing comes twice to a sink that took it, unless the relay was cut off before it could note that.
* Bytes are what they were.
* What was held is lost only with a damaged spool, and told; the end of its log alone leaves no trace.

All times are of one clock: where the relay's own was wrong, whoever asks has put its ledger right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from zoomrelay.intake.identity import Identifier
from zoomrelay.intake.ledger import Gap
from zoomrelay.intake.path_ledger import CRASH
from zoomrelay.session.endings import Cause
from zoomrelay.session.hearing import BACKLOG_BYTES
from zoomrelay.simulator.journal import NOBODY, Connection, Sent
from zoomrelay.simulator.webhooks import Posted

_SOCKET_CAUSES = {*Cause, CRASH}
_ORDERLY = ("closed", "displaced", "refused")
_ROUNDING_SECONDS = 0.002
"""The ledger's times are whole milliseconds."""
_HELD_SECONDS = 1.0
"""What has come is on the disk after this, unless the relay is blind."""
_NOTED_SECONDS = 0.6
"""What a sink took is durably noted after this, unless the relay is blind."""
_READ_ON_SECONDS = 0.5
"""So long after a kill a receiver may take what was sent before."""
_EXCESS_SECONDS = 2.0
"""By so much for each fault an interval may be longer than the outage."""
_PULSE_SECONDS = 2.0
"""A kill is seen in the last stamp: one a second, of what is looked at once a second."""
_LOOK_SECONDS = 1.0
"""That a connection was whole shows when it is looked at again, once a second."""
_ONE_READ_SECONDS = 0.1
"""What is sent with pauses no longer than this may be read at once."""
_SHOWN = 5

Interval = tuple[float, float]


@dataclass(frozen=True)
class Taken:
    """One event that a receiver took."""

    at: float
    content: bytes
    acknowledged: bool = True
    """The relay was told so."""
    earliest: float | None = None
    """It may have been so early, where nobody looked at the clock."""


@dataclass(frozen=True)
class Damage:
    """Somebody damaged the spool."""

    at: float
    silent: bool
    """Nobody can tell what is missing: the end of its log is."""


@dataclass(frozen=True)
class Truth:
    """Everything that happened."""

    sent: Sequence[Sent]
    connections: Sequence[Connection]
    gaps: Sequence[Gap]
    kills: Sequence[float] = ()
    """When the relay was killed; wall clock, seconds."""
    blind: Sequence[Interval] = ()
    """When the relay could not look or hold: it stood still, or its disk took nothing."""
    dead_after_seconds: float = 75.0
    """A connection may have been silent for so long before it was given up."""
    damages: Sequence[Damage] = ()
    amnesia: Sequence[float] = ()
    """When the relay was killed after somebody had removed its ledger, and before it wrote another."""

    @property
    def events(self) -> list[Sent]:
        return [sent for sent in self.sent if sent.kind == "event"]

    def excused(self, sent: Sent) -> bool:
        """It was sent inside an interval of the ledger, or before the very first acceptance of its path."""
        return sent.at < self.first(sent.subscription) or any(
            _covers(gap, sent.at, sent.at) for gap in self.gaps if gap.subscription == sent.subscription
        )

    def first(self, subscription: str) -> float:
        """The first acceptance that the relay can know of."""
        known = max(self.amnesia, default=0.0)
        accepted = [c.accepted_at for c in self._accepted(subscription) if c.accepted_at is not None]
        return min((at for at in accepted if at >= known), default=float("inf"))

    def _accepted(self, subscription: str) -> list[Connection]:
        return [c for c in self.connections if c.accepted_at is not None and c.subscription == subscription]

    def must_arrive(self, sent: Sent) -> bool:
        """Whatever the ledger says: its socket ended properly, or did not end, and nobody was killed."""
        if not sent.heard or sent.connection == NOBODY:
            return False
        connection = self.connections[sent.connection - 1]
        if connection.ending and connection.ending not in _ORDERLY:
            return False
        if self.damaged(sent):
            return False
        # A kill soon after the close may find some of it on the way to the disk; and nobody heard what was
        # sent after a kill, before that showed, or on the last dial of the killed.
        return not any(
            connection.opened_at - _READ_ON_SECONDS
            <= kill
            <= self.sighted(connection.ended_at or kill) + _HELD_SECONDS
            for kill in self.kills
        )

    def damaged(self, sent: Sent) -> list[Damage]:
        """What may have destroyed it: whatever happened to the spool after it had come."""
        return [damage for damage in self.damages if sent.heard and sent.at <= damage.at]

    def sighted(self, moment: float) -> float:
        """This moment, or the end of the blindness around it and soon after."""
        for start, end in sorted(self.blind):
            if start - _HELD_SECONDS <= moment < end:
                moment = end
        return moment

    def blind_seconds(self, start: float, end: float) -> float:
        """How much of that time the relay was blind."""
        return sum(_overlap(part, (start, end)) for part in united(self.blind))

    def listed(self, subscription: str) -> list[Interval]:
        """The ledger's times without an accepted socket."""
        return united(
            _times(gap)
            for gap in self.gaps
            if gap.subscription == subscription and gap.cause in _SOCKET_CAUSES
        )

    def outages(self, subscription: str) -> list[Interval]:
        """Times after the first acceptance in which no socket of this path was accepted and whole."""
        heard = united(
            (c.accepted_at, c.ended_at if c.ended_at is not None else float("inf"))
            for c in self.connections
            if c.accepted_at is not None and c.subscription == subscription
        )
        return [(before[1], after[0]) for before, after in pairwise(heard)] + [
            (end, float("inf")) for _, end in heard[-1:] if end != float("inf")
        ]


def lost(truth: Truth, delivered: Iterable[bytes]) -> list[Sent]:
    """Events that never arrived, for whatever reason."""
    arrived = set(delivered)
    return [sent for sent in truth.events if sent.content not in arrived]


def problems(
    truth: Truth, sink: str, delivered: Sequence[bytes], *, ordered: bool, told: float = 0
) -> list[str]:
    """What breaks the rule at one sink, in words; empty if nothing does. `told`: of how many events the relay
    said that they were lost with a damaged spool."""
    missing = lost(truth, delivered)
    unlisted = [sent for sent in missing if not truth.excused(sent)]
    destroyed = {
        sent.content for sent in unlisted if (by := truth.damaged(sent)) and not any(d.silent for d in by)
    }
    invented = Counter(delivered).keys() - {sent.content for sent in truth.events}
    found = [
        _words(sink, "lost, and in no interval of the ledger", [s for s in unlisted if not truth.damaged(s)]),
        f"{sink}: {len(destroyed)} lost with a damaged spool, {told} told" if len(destroyed) > told else "",
        _words(sink, "lost from a socket that ended properly", [s for s in missing if truth.must_arrive(s)]),
        f"{sink}: {len(invented)} that nobody sent, such as {min(invented)[:200]!r}" if invented else "",
        _disorder(truth, sink, delivered) if ordered else "",
    ]
    return [problem for problem in found if problem]


def uncovered(truth: Truth, subscription: str) -> list[str]:
    """Times between accepted sockets that no interval of the ledger covers, in words."""
    listed = truth.listed(subscription)
    return [
        f"deaf from {start:.3f} ({_ending(truth, start)}) to {end:.3f}, ledger: {listed}"
        for start, end in truth.outages(subscription)
        if end != float("inf")
        and truth.first(subscription) < end
        and not any(
            begin <= start + _ROUNDING_SECONDS and end <= until + _ROUNDING_SECONDS for begin, until in listed
        )
    ]


def _ending(truth: Truth, moment: float) -> str:
    return next((each.ending for each in truth.connections if each.ended_at == moment), "")


def excessive(truth: Truth, subscription: str) -> list[str]:
    """Intervals of the ledger that are longer than outage, detection and margin together, in words."""
    outages = truth.outages(subscription)
    found = []
    for start, end in truth.listed(subscription):
        around = (start - _ROUNDING_SECONDS, end + _ROUNDING_SECONDS)
        inside = [outage for outage in outages if outage[0] <= around[1] and around[0] <= outage[1]]
        excess = end - start - sum(_overlap(outage, around) for outage in inside)
        allowed = _EXCESS_SECONDS * max(1, len(inside)) + truth.blind_seconds(start, end)
        moments = [at for at, _ in inside] + [at for at, until in truth.blind if at <= end and start <= until]
        ended = [c.ended_at for c in truth.connections if c.ended_at and c.subscription == subscription]
        moments += [at for at in ended if start <= at <= end and at not in moments]
        allowed += sum(_detection_seconds(truth, subscription, moment) for moment in moments)
        if excess > allowed + 2 * _ROUNDING_SECONDS:
            found.append(
                f"ledger too long: {start:.3f} to {end:.3f}, outages {inside},"
                f" excess {excess:.3f} s, allowed {allowed:.3f}"
            )
    return found


def twins(truth: Truth, sink: str, taken: Sequence[Taken]) -> list[str]:
    """Events that came more often than a path brought them, in words. A repetition is excused where the relay
    was not told that the event was taken, or was killed before it could note it."""
    copies = Counter((sent.content, sent.subscription) for sent in truth.events if sent.heard)
    most: dict[bytes, int] = {}
    for (content, _), count in copies.items():
        most[content] = max(count, most.get(content, 0))
    times: dict[bytes, list[Taken]] = {}
    for one in sorted(taken, key=lambda one: one.at):
        times.setdefault(one.content, []).append(one)
    too_often = [
        (content[:80], [round(one.at, 3) for one in each])
        for content, each in times.items()
        if max(_runs(truth, each)) > max(1, most.get(content, 0))
    ]
    return [f"{sink}: {len(too_often)} came again although taken: {too_often[:_SHOWN]}"] if too_often else []


def _runs(truth: Truth, taken: Sequence[Taken]) -> list[int]:
    """How often in a row it came without an excuse for the next time."""
    lengths = [1]
    for before, after in pairwise(taken):
        if _excused_again(truth, before, after):
            lengths.append(1)
        else:
            lengths[-1] += 1
    return lengths


def _excused_again(truth: Truth, before: Taken, after: Taken) -> bool:
    noted = truth.sighted(before.at) + _NOTED_SECONDS
    # A receiver reads on in what a killed relay had sent.
    sent = before.at - _READ_ON_SECONDS
    earliest = before.at if before.earliest is None else before.earliest
    if any(earliest <= damage.at <= after.at for damage in truth.damages):
        return True
    return not before.acknowledged or any(sent <= kill <= min(after.at, noted) for kill in truth.kills)


def _detection_seconds(truth: Truth, subscription: str, moment: float) -> float:
    """How old the last proof may be, at this moment, that the connection was whole: the frame before the last
    one; and the last stamp where somebody killed the relay."""
    killed = any(abs(kill - moment) < _EXCESS_SECONDS for kill in truth.kills)
    ended = [c for c in truth.connections if c.ended_at == moment and c.subscription == subscription]
    if ended and not killed and all(c.ending in _ORDERLY for c in ended):
        return _LOOK_SECONDS
    looked = moment - _PULSE_SECONDS * killed
    arrived = looked - _ONE_READ_SECONDS
    reads = _reads(s for s in truth.sent if s.heard and s.subscription == subscription and s.at <= arrived)
    return (
        _LOOK_SECONDS
        + moment
        - max(
            [
                looked - truth.dead_after_seconds - 1.0,
                *(at for at, size in reads[:-1] if size < BACKLOG_BYTES / 2),
            ]
        )
    )


def _reads(sent: Iterable[Sent]) -> list[tuple[float, int]]:
    """When how many bytes may have been read at once, at most."""
    reads: list[tuple[float, int]] = []
    last = float("-inf")
    for one in sorted(sent, key=lambda one: one.at):
        if one.at - last > _ONE_READ_SECONDS:
            reads.append((one.at, 0))
        reads[-1] = reads[-1][0], reads[-1][1] + len(one.content)
        last = one.at
    return reads


def united(intervals: Iterable[Interval]) -> list[Interval]:
    """The same times in order, those that touch each other as one."""
    joined: list[Interval] = []
    for start, end in sorted(intervals):
        if joined and start <= joined[-1][1] + _ROUNDING_SECONDS:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _overlap(one: Interval, other: Interval) -> float:
    return max(0.0, min(one[1], other[1]) - max(one[0], other[0]))


def _times(gap: Gap) -> Interval:
    return gap.from_ms / 1000, float("inf") if gap.to_ms is None else gap.to_ms / 1000


def repeated(delivered: Iterable[bytes]) -> Counter[bytes]:
    """How often more than once each event arrived, of those that did."""
    return Counter({content: count - 1 for content, count in Counter(delivered).items() if count > 1})


def _covers(gap: Gap, start: float, end: float) -> bool:
    until = float("inf") if gap.to_ms is None else gap.to_ms / 1000
    return gap.from_ms / 1000 <= start + _ROUNDING_SECONDS and end <= until + _ROUNDING_SECONDS


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


def by_webhook(posts: Iterable[Posted], delivered: Iterable[bytes], source: str, *, once: bool) -> list[str]:
    """What breaks the rule for a webhook, in words: whatever was acknowledged is delivered, as one of its
    copies; and `once`, each event comes but once, whichever copies there were."""
    read = Identifier(source).read
    arrived = Counter(read(content, "", 0).digest for content in delivered)
    missing = [post.number for post in posts if post.taken and not arrived[read(post.content, "", 0).digest]]
    twice = [digest.hex() for digest, count in arrived.items() if count > 1] if once else []
    found = [f"{len(missing)} acknowledged and not delivered, such as {missing[:_SHOWN]}"] if missing else []
    return found + ([f"{len(twice)} delivered twice, such as {twice[:_SHOWN]}"] if twice else [])
