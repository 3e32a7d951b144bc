"""A status in words, the same for the page, the terminal and the service manager. Pure.

What other programs said stands in these words as one line, without anything that moves a cursor.
"""

from __future__ import annotations

from datetime import UTC, datetime

from zoomrelay.admin.health import PathStatus, SinkStatus, SourceStatus, SpoolStatus, Status

_DOING = {
    "dialling": "connecting",
    "upgraded": "connected, waiting for Zoom to accept",
    "closed": "closed",
}
_SOON_SECONDS = 7 * 86400.0
"""A spool that would be full later than this is not worth a word."""


_BACKLOG_SECONDS = 5.0
"""A backlog that is gone sooner is not worth a word."""


def headline(status: Status) -> str:
    """One line: is all well, and if not, where to look. The reasons stand with the part that has them."""
    if status.successor:
        return f"Handing over: process {status.successor} takes the place of this one"
    if status.ready:
        return "Ready: every source is listened to and the spool can be written"
    troubles = [f"source {source.name} {_lacks(source)}" for source in status.sources if not source.ready]
    troubles += [] if status.spool.writable else ["the spool cannot be written"]
    troubles += ["the relay is starting"] if status.starting else []
    troubles += ["the relay is stopping"] if status.stopping else []
    return "Not ready: " + "; ".join(troubles)


def _lacks(source: SourceStatus) -> str:
    return "gets no token" if source.listening or not source.paths else "is not listened to"


def token_trouble(source: SourceStatus) -> str:
    """Why there is no token, or will be none, and what would help; empty where a subscription says so."""
    if source.token_usable and not source.token_refused:
        return ""
    if source.paths and not source.listening:
        return ""
    return _printable(
        "; ".join(part for part in (source.token_error or "no token yet", source.token_cure) if part)
    )


def summary(status: Status) -> str:
    """One line for a service manager, which shows nothing else."""
    if status.starting or status.stopping:
        return "Stopping" if status.stopping else "Starting"
    paths = [path for source in status.sources for path in source.sockets]
    accepted = sum(path.accepted for path in paths)
    line = f"{accepted} of {_count(len(paths), 'subscription')} accepted"
    webhooks = [path for source in status.sources for path in source.paths if path.is_webhook]
    if webhooks:
        opened = f"{sum(path.accepted for path in webhooks)} of {_count(len(webhooks), 'webhook')} open"
        line = f"{line}, {opened}" if paths else opened
    return line if status.ready else _printable(f"{line}; {'; '.join(status.not_ready_because)}")


def path_state(path: PathStatus, now: float) -> str:
    """What a subscription is doing."""
    if path.accepted_since is not None:
        doubt = "; another program seems to use this subscription too" if path.contested else ""
        return f"listening for {duration(now - path.accepted_since)}{doubt}"
    doing = _DOING.get(path.state, path.state)
    if path.next_attempt_at is not None:
        return f"{doing}; attempt {path.attempt + 1} in {duration(max(0.0, path.next_attempt_at - now))}"
    return f"{doing}, attempt {path.attempt}" if path.attempt else doing


def path_trouble(path: PathStatus, now: float) -> str:
    """Why it does not listen, since when, and what would help; empty while it does."""
    if path.accepted:
        return path.trouble
    gap = f"gap of {duration(now - path.gap_since)} so far" if path.gap_since is not None else ""
    return _printable("; ".join(part for part in (gap, path.last_error, path.cure) if part))


def path_counts(path: PathStatus) -> str:
    """What a subscription of several brought."""
    return f"{_count(path.first, 'event')} first, {path.merged:,} merged, {path.missed:,} missed"


def source_counts(source: SourceStatus) -> str:
    counts = source.counts
    parts = [f"{_count(counts.appended, 'event')} held", f"{counts.merged:,} merged"]
    parts += [f"{counts.quarantined:,} unreadable"] if counts.quarantined else []
    parts += [f"{counts.unheld:,} not held"] if counts.unheld else []
    parts += [f"unaccounted for {source.conservation_error:,}"]
    return ", ".join(parts)


def sink_state(sink: SinkStatus) -> str:
    """How a sink is doing, and what is wrong with it."""
    if sink.ok:
        progress = sink_progress(sink)
        return f"ok, {progress}" if progress else "ok"
    doubt = "; it takes nothing: is it configured right?" if sink.misconfigured else ""
    return _printable(f"failing: {sink.last_error}{doubt}")


def sink_progress(sink: SinkStatus) -> str:
    """How far it is with its backlog; empty without one worth a word."""
    if sink.backlog_seconds is None:
        return "its backlog does not shrink"
    if sink.backlog_seconds < _BACKLOG_SECONDS:
        return ""
    return f"through its backlog in {duration(sink.backlog_seconds)} at this rate"


def sink_figures(sink: SinkStatus) -> dict[str, int]:
    """Counts by their names: those that one always wants to see, and those that are not 0."""
    counts = sink.counts
    always = {"delivered": counts.delivered, "pending": counts.pending, "dead": counts.dead}
    some = {
        "parked": counts.parked,
        "dead letters kept": counts.dead_letters,
        "redelivered": counts.redelivered,
        "replayed": counts.replayed,
        "filtered": counts.filtered,
        "shed": counts.shed,
        "expired": counts.expired,
        "abandoned": counts.abandoned,
    }
    return {**always, **{name: count for name, count in some.items() if count}}


def spool_state(spool: SpoolStatus) -> str:
    used = f"{_count(spool.events, 'event')}, {size(spool.bytes)} of {size(spool.max_bytes)} used"
    if spool.retained_events:
        used += f" ({size(spool.retained_bytes)} for replay)"
    full = spool.seconds_until_full
    if full == 0:
        used += ", full"
    elif full is not None and full < _SOON_SECONDS:
        used += f", full in {duration(full)} at this rate"
    return used if spool.writable else _printable(f"cannot be written: {spool.trouble}; {used}")


def duration(seconds: float) -> str:
    """Its two largest units: `4 s`, `3 min 5 s`, `2 h 5 min`, `3 d 4 h`."""
    whole = max(0, round(seconds))
    for length, unit, next_length, next_unit in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= length:
            rest = whole % length // next_length
            return f"{whole // length:,} {unit}" + (f" {rest} {next_unit}" if rest else "")
    return f"{whole} s"


def size(count_bytes: int) -> str:
    """About three digits and a binary unit."""
    amount, unit = float(count_bytes), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if amount < 1000:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.3g} {unit}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def moment(wall: float) -> str:
    """UTC, to the second."""
    return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
