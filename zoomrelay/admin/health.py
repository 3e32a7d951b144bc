"""How the relay is doing, as values, and what follows from them. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from zoomrelay.event import WEBHOOK
from zoomrelay.spool.base import SinkCounts, SourceCounts


class PathStatus(msgspec.Struct, frozen=True):
    """One subscription, or the webhook."""

    subscription: str
    state: str
    """`dialling`, `upgraded`, `accepted`, `receiving` or `closed`; of a webhook `listening` or `closed`."""
    accepted: bool
    accepted_since: float | None
    """Wall time, seconds since the epoch."""
    last_error: str
    cure: str
    attempt: int
    next_attempt_at: float | None
    gap_since: float | None
    """Wall time since when nothing is listened to; None while accepted, and before the first acceptance."""
    first: int = 0
    """Events that it brought first, since the spool was made."""
    merged: int = 0
    """Copies that it brought of events which came before."""
    missed: int = 0
    """Events that another subscription brought and it did not, since the start of the process."""
    deaf: bool = False
    """It is accepted, and misses what others bring."""
    quiet: bool = False
    """It is accepted, and brought no event for `quiet_after_seconds`."""
    trouble: str = ""
    """`deaf` or `quiet` in words, with what would help."""
    contested: bool = False
    """Another consumer seems to use the subscription."""

    @property
    def is_webhook(self) -> bool:
        """Zoom comes to us: that it is listened to does not say that anybody sends."""
        return self.subscription == WEBHOOK

    @property
    def works(self) -> bool:
        return self.accepted and not self.trouble


class SourceStatus(msgspec.Struct, frozen=True):
    """One Zoom app."""

    name: str
    paths: list[PathStatus]
    counts: SourceCounts
    conservation_error: int = 0
    """Frames received that are not accounted for; must be 0."""
    merge_ratio: float | None = None
    """Share of the latest events that every subscription brought; None while nothing was judged."""
    inversions: int = 0
    """Events that came after one of a later `event_ts`, where several subscriptions are merged."""
    token_usable: bool = True
    """A token with life left is at hand."""
    token_refused: bool = False
    """Somebody must act before there can be another."""
    token_error: str = ""
    """Why the last try brought none, in words."""
    token_cure: str = ""

    @property
    def sockets(self) -> list[PathStatus]:
        return [path for path in self.paths if not path.is_webhook]

    @property
    def listening(self) -> bool:
        """A webhook counts where there is nothing else."""
        return any(path.works for path in self.sockets or self.paths)

    @property
    def ready(self) -> bool:
        return (self.listening if self.paths else self.token_usable) and not self.token_refused


class SinkStatus(msgspec.Struct, frozen=True):
    """One sink."""

    name: str
    type: str
    ok: bool
    last_error: str
    misconfigured: bool
    counts: SinkCounts
    conservation_error: int
    backlog_seconds: float | None = 0.0
    """Until what is pending and not parked is delivered, at the rate of the latest seconds; 0 without a
    backlog, None while it does not shrink."""


class SpoolStatus(msgspec.Struct, frozen=True):
    """The spool."""

    type: str
    events: int
    bytes: int
    max_bytes: int
    wal_bytes: int
    writable: bool
    trouble: str
    seconds_until_full: float | None = None
    """At the growth of the last minutes; None while it does not grow."""
    retained_events: int = 0
    """How many of the events are kept for replay only."""
    retained_bytes: int = 0


class Status(msgspec.Struct, frozen=True):
    """Everything that `/readyz`, `/` and `zoomrelay status` show. Holds no secret."""

    version: str
    pid: int
    started: float
    """Wall time."""
    now: float
    starting: bool
    stopping: bool
    sources: list[SourceStatus]
    sinks: list[SinkStatus]
    spool: SpoolStatus
    stuck: list[str] = []
    """Parts that make no progress and never will, in words: only a new process helps."""
    successor: int = 0
    """The process id of a relay that takes over from this one just now."""

    @property
    def ready(self) -> bool:
        return not self.not_ready_because

    @property
    def unwell_because(self) -> list[str]:
        """In words, why nobody should believe that all is well: it is not ready, something is stuck, or
        events are not accounted for."""
        stuck = [f"{part} is stuck" for part in self.stuck]
        sinks = [f"sink {sink.name}" for sink in self.sinks if sink.conservation_error]
        sources = [f"source {source.name}" for source in self.sources if source.conservation_error]
        unaccounted = [f"{name}: events are not accounted for" for name in sinks + sources]
        return self.not_ready_because + stuck + unaccounted

    @property
    def not_ready_because(self) -> list[str]:
        """In words, why the relay is not ready; empty if it is. Ready means: at least one subscription of
        each source is accepted and neither deaf nor quiet (a source without any has a token, or listens for
        webhooks and is not quiet), Zoom refuses
        nobody's credentials, and the spool can be written."""
        reasons = [_why_source(source) for source in self.sources if not source.ready]
        if not self.spool.writable:
            reasons.append(f"the spool cannot be written: {self.spool.trouble}")
        if self.starting:
            reasons.append("the relay is starting")
        if self.stopping:
            reasons.append("the relay is stopping")
        return reasons


def document(status: Status) -> dict[str, Any]:
    """`status` for JSON, with what follows from it: `ready` and `not_ready_because`."""
    reasons = status.not_ready_because
    return {"ready": not reasons, "not_ready_because": reasons, **msgspec.structs.asdict(status)}


def readiness(status: Status) -> dict[str, Any]:
    """What `/readyz` answers: the reasons in words, and each source by itself."""
    return {
        "ready": status.ready,
        "not_ready_because": status.not_ready_because,
        "sources": {source.name: _source_readiness(source) for source in status.sources},
        "spool": {"writable": status.spool.writable, "trouble": status.spool.trouble},
    }


def _source_readiness(source: SourceStatus) -> dict[str, Any]:
    return {
        "ready": source.ready,
        "token": {
            "usable": source.token_usable,
            "refused": source.token_refused,
            "last_error": source.token_error,
            "cure": source.token_cure,
        },
        "subscriptions": {
            path.subscription: {
                "accepted": path.accepted,
                "state": path.state,
                "last_error": path.last_error,
                "cure": path.cure,
                "trouble": path.trouble,
                "contested": path.contested,
            }
            for path in source.paths
        },
    }


def _why_source(source: SourceStatus) -> str:
    if source.listening or not source.paths:
        cure = f" ({source.token_cure})" if source.token_cure else ""
        return f"source {source.name}: no token can be had: {source.token_error or 'not yet'}{cure}"
    paths = source.sockets or source.paths
    troubled = [path for path in paths if path.accepted]
    if troubled:
        what = "the webhook" if troubled[0].is_webhook else f"subscription {troubled[0].subscription}"
        return f"source {source.name}: {what} is {troubled[0].trouble}"
    path = paths[0]
    if path.is_webhook:
        return f"source {source.name}: the webhook is closed"
    why = path.last_error or f"still {path.state}"
    cure = f" ({path.cure})" if path.cure else ""
    return f"source {source.name}: no subscription is accepted: {why}{cure}"
