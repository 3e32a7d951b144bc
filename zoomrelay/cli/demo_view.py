"""What the demo prints: events in columns, happenings in words. Pure, but for rich's markup."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rich.markup import escape

_WHO = ("user_name", "name", "display_name", "email", "phone_number")
_WHAT = ("topic", "uuid", "call_id", "engagement_id", "id")
_STYLES = {
    "meeting": "cyan",
    "webinar": "cyan",
    "phone": "magenta",
    "recording": "yellow",
    "contact_center": "green",
    "user": "blue",
}


def event_line(line: bytes) -> str:
    """One event as it left the relay: time, name, what it is about, and who."""
    event = json.loads(line)
    name = str(event.get("event", "?"))
    payload = event.get("payload")
    body = payload.get("object", payload) if isinstance(payload, dict) else {}
    about = _first(body, _WHAT)
    who = _first(_person(body), _WHO)
    style = _STYLES.get(name.partition(".")[0], "white")
    return (
        f"{_clock(event.get('event_ts'))}  [{style}]{escape(name):44}[/] {escape(about):26.26} {escape(who)}"
    )


def _clock(event_ts: object) -> str:
    if not isinstance(event_ts, int):
        return " " * 12
    return datetime.fromtimestamp(event_ts / 1000, UTC).strftime("%H:%M:%S.%f")[:12]


def _person(body: object) -> object:
    if not isinstance(body, dict):
        return {}
    people = ("participant", "callee", "caller", "consumer", "user", "operator")
    return next((body[key] for key in people if isinstance(body.get(key), dict)), body)


def _first(body: object, keys: tuple[str, ...]) -> str:
    if not isinstance(body, dict):
        return ""
    return next((str(body[key]) for key in keys if isinstance(body.get(key), (str, int))), "")


def happening(record: Mapping[str, Any]) -> str:
    """One line of the relay's log, if it is worth telling; else empty."""
    match record.get("event"):
        case "session.accepted":
            return "[bold green]relay: accepted by Zoom, listening[/]"
        case "session.closed":
            return f"[bold red]relay: socket lost[/] ({escape(_why(record))}); reconnecting at once"
        case "session.attempt_failed":
            return f"[red]relay: refused[/] ({escape(_why(record))}); again in {record['retry_seconds']} s"
        case "gap.ended":
            return f"[yellow]relay: the ledger has a gap of {record['seconds']} s, cause {record['cause']}[/]"
        case "auth.token_issued":
            return f"[dim]relay: got a token for {record['life_seconds']} s[/]"
    if record.get("level") in ("error", "critical"):
        more = record.get("error") or record.get("exception") or ""
        return f"[bold red]relay: {escape(str(record.get('event')))} {escape(str(more))}[/]"
    return ""


def _why(record: Mapping[str, Any]) -> str:
    return ", ".join(str(record[key]) for key in ("cause", "detail") if record.get(key))


def going_on(sent: int, delivered: int, connections: int, families: Counter[str]) -> str:
    """The line that says every few seconds how it stands."""
    most = ", ".join(f"{count} {name}" for name, count in families.most_common(3))
    return f"[dim]-- {sent} sent, {delivered} delivered, connection {connections}; most: {escape(most)}[/]"


def summary(sent: int, unheard: int, delivered: int, gaps: list[tuple[float, str]]) -> list[str]:
    """What it came to."""
    lines = [f"{sent} events sent by the simulator, {delivered} delivered, each at least once."]
    if gaps:
        seconds = sum(seconds for seconds, _ in gaps)
        causes = ", ".join(f"{cause} {seconds:.2f} s" for seconds, cause in gaps)
        lines.append(f"Nobody was listening for {seconds:.2f} s in {len(gaps)} intervals ({escape(causes)});")
        lines.append(f"{unheard} events fell into them. The ledger lists each: `zoomrelay gaps` shows it.")
    else:
        lines.append("The relay was listening all the time.")
    return lines
