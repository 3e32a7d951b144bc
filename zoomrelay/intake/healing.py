"""What came by webhook of that which the sockets missed. Pure.

Zoom sends the same events to a webhook, and tries again after 5, 25 and 85 minutes where it had no answer.
So while a subscription is not listened to, and for a while afterwards, its events may come by webhook. Each
that does heals a part of the gap in which it happened, going by its `event_ts`.

That a gap is healed cannot be proved: nobody knows what there would have been. What is known is how many
came, and whether the webhook was closed for so long that Zoom gave up.

Counts are lines of the gap ledger (`gaps`), between its entries; older versions pass over them:

    {"healed": events, "source": …, "subscription": …, "from": …, "to": …, "since": …}

`from` and `to` are the earliest and the latest `event_ts`, both inside of one gap of that subscription. They
are written about once a minute; what is not written yet is in the stamp. `since` is when the count began, and
tells whether a count of the stamp has been written after all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from zoomrelay.event import WEBHOOK, Event
from zoomrelay.intake.gaps import WEBHOOK_RETRIED_SECONDS, Gap, from_iso, iso

MAY_HEAL_SECONDS = 90 * 60.0
"""For so long after a gap its events may still come: the last try, and something to spare."""
WRITE_SECONDS = 60.0
_KEPT = 500
"""Gaps of a source that are looked at when events come."""


class Healing(msgspec.Struct, frozen=True):
    """So many events of one gap of this path came by webhook. Milliseconds since the epoch."""

    source: str
    subscription: str
    since_ms: int
    from_ms: int
    to_ms: int
    events: int

    def and_one(self, event_ts: int) -> Healing:
        return msgspec.structs.replace(
            self,
            from_ms=min(self.from_ms, event_ts),
            to_ms=max(self.to_ms, event_ts),
            events=self.events + 1,
        )

    def line(self) -> bytes:
        """As it stands in the ledger."""
        return msgspec.json.encode(
            {
                "healed": self.events,
                "source": self.source,
                "subscription": self.subscription,
                "from": iso(self.from_ms),
                "to": iso(self.to_ms),
                "since": iso(self.since_ms),
            }
        )

    def told(self) -> dict[str, object]:
        """For the log."""
        return {
            "source": self.source,
            "subscription": self.subscription,
            "from_event": iso(self.from_ms),
            "to_event": iso(self.to_ms),
            "events": self.events,
        }

    def heals(self, gap: Gap) -> bool:
        """Its events happened in this gap; where somebody set the clock meanwhile, at least the first."""
        same = (self.source, self.subscription) == (gap.source, gap.subscription)
        return same and gap.from_ms <= self.from_ms and (gap.to_ms is None or self.from_ms <= gap.to_ms)


class _Line(msgspec.Struct, rename={"from_": "from"}):
    healed: int
    source: str
    subscription: str
    from_: str
    to: str
    since: str


_decode = msgspec.json.Decoder(_Line).decode


def read_healings(ledger: bytes) -> list[Healing]:
    """Every count in the ledger's text."""
    return [healing for line in ledger.splitlines() if b'"healed"' in line and (healing := _parse(line))]


def _parse(line: bytes) -> Healing | None:
    try:
        it = _decode(line)
        return Healing(
            it.source, it.subscription, from_iso(it.since), from_iso(it.from_), from_iso(it.to), it.healed
        )
    except (msgspec.MsgspecError, ValueError):
        return None


def left_over(written: Iterable[Healing], stamped: Iterable[Healing]) -> list[Healing]:
    """Those of a stamp that were not written after all before the process was killed."""
    known = {(one.source, one.subscription, one.since_ms) for one in written}
    return [one for one in stamped if (one.source, one.subscription, one.since_ms) not in known]


class Healings:
    """Counts what comes by webhook of the gaps of one relay's sources."""

    def __init__(self, unwritten: Iterable[Healing] = ()) -> None:
        """`unwritten`: what an earlier process left."""
        self._gaps: dict[str, list[Gap]] = {}
        """Source -> its latest gaps that have ended."""
        self._counts = {(one.source, one.subscription, one.since_ms): one for one in unwritten}
        """(source, subscription, beginning of the gap, or 0 while it lasts) -> what is not written yet."""
        self._written: deque[Healing] = deque(maxlen=_KEPT)
        self._last_since_ms = max((one.since_ms for one in self._counts.values()), default=0)

    def ended(self, gap: Gap) -> None:
        """From now on this gap is known; those that can be healed no more are forgotten."""
        if not gap.subscription or gap.subscription == WEBHOOK or gap.to_ms is None:
            return
        reach_ms = gap.to_ms - int(MAY_HEAL_SECONDS * 1000)
        kept = [one for one in self._gaps.get(gap.source, ()) if (one.to_ms or 0) >= reach_ms]
        self._gaps[gap.source] = [*kept, gap][-_KEPT:]
        lasting = self._counts.pop((gap.source, gap.subscription, 0), None)
        if lasting is not None:
            self._counts[gap.source, gap.subscription, gap.from_ms] = lasting

    def note(self, event: Event, lasting: Mapping[str, int]) -> list[str]:
        """An event that the webhook brought first is durable. `lasting`: subscriptions of its source that
        are not listened to, and since when. Returns the subscriptions whose gaps it heals."""
        moment = event.event_ts
        if moment is None:
            return []
        found = [(subscription, 0) for subscription, since_ms in lasting.items() if since_ms <= moment]
        found += [
            (gap.subscription, gap.from_ms)
            for gap in self._gaps.get(event.source, ())
            if gap.from_ms <= moment <= (gap.to_ms or 0)
        ]
        for subscription, begun in found:
            key = event.source, subscription, begun
            before = self._counts.get(key) or self._new(*key[:2], event.received_ms, moment, 0)
            self._counts[key] = before.and_one(moment)
        return [subscription for subscription, _ in found]

    def _new(self, source: str, subscription: str, now_ms: int, event_ts: int, events: int) -> Healing:
        """With a `since` of its own, by which it is known."""
        self._last_since_ms = max(now_ms, self._last_since_ms + 1)
        return Healing(source, subscription, self._last_since_ms, event_ts, event_ts, events)

    def heal(self, gap: Gap) -> bool:
        """Whether anything of this gap has come lately."""
        return any(healing.heals(gap) for healing in (*self._counts.values(), *self._written))

    def unwritten(self) -> list[Healing]:
        return list(self._counts.values())

    def due(self, now_ms: int, *, finish: bool) -> list[Healing]:
        """Those that are to be written; `written` must follow when they are."""
        oldest = now_ms - int(WRITE_SECONDS * 1000)
        return [one for one in self._counts.values() if finish or one.since_ms <= oldest]

    def written(self, healings: Iterable[Healing]) -> None:
        """What came meanwhile counts anew."""
        done = {(one.source, one.subscription, one.since_ms): one for one in healings}
        self._written += done.values()
        for key, one in list(self._counts.items()):
            before = done.get((one.source, one.subscription, one.since_ms))
            if before is not None:
                del self._counts[key]
                if rest := one.events - before.events:
                    new = self._new(one.source, one.subscription, one.since_ms, one.from_ms, rest)
                    self._counts[key] = msgspec.structs.replace(new, to_ms=one.to_ms)


def healed(
    gaps: Sequence[Gap], healings: Sequence[Healing], open_webhooks: set[str], now_ms: int
) -> list[Gap]:
    """The same entries, those of sockets with what came by webhook, and until when more may come.
    `open_webhooks`: sources whose webhook is listened to."""
    too_long = [gap for gap in gaps if gap.subscription == WEBHOOK and gap.seconds >= WEBHOOK_RETRIED_SECONDS]
    return [_healed(gap, healings, too_long, open_webhooks, now_ms) for gap in gaps]


def _healed(
    gap: Gap, healings: Sequence[Healing], too_long: Sequence[Gap], open_webhooks: set[str], now_ms: int
) -> Gap:
    if not gap.subscription or gap.subscription == WEBHOOK:
        return gap
    events = sum(healing.events for healing in healings if healing.heals(gap))
    missed = any(_meet(gap, other) for other in too_long)
    until_ms = (now_ms if gap.to_ms is None else gap.to_ms) + int(MAY_HEAL_SECONDS * 1000)
    waits = gap.source in open_webhooks and not gap.lossless and now_ms < until_ms
    return msgspec.structs.replace(
        gap,
        healed_events=events,
        healed=bool(events) and gap.to_ms is not None and not missed,
        may_heal_until_ms=until_ms if waits else None,
    )


def _meet(gap: Gap, other: Gap) -> bool:
    if gap.source != other.source:
        return False
    return other.from_ms <= (gap.to_ms or other.from_ms) and gap.from_ms <= (other.to_ms or gap.from_ms)
