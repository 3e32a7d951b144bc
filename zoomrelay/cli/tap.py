"""`zoomrelay tap`: what passes through the running relay, as it comes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Any

import typer

from zoomrelay.admin.client import ControlClient
from zoomrelay.cli import exits
from zoomrelay.cli.options import ConfigOption, load_state_dir
from zoomrelay.errors import ControlRefused, RelayNotRunning
from zoomrelay.privacy.fields import Kind
from zoomrelay.privacy.shield import Shield, Treatment

_TIMEOUT_SECONDS = 30.0
"""The relay says something every five seconds."""

EventsOption = Annotated[
    list[str] | None,
    typer.Option("--events", metavar="GLOB", help='As a sink has them: "meeting.*,!meeting.ended".'),
]
SourceOption = Annotated[
    list[str] | None, typer.Option("--source", metavar="NAME", help="Only events of this source.")
]
FieldsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--fields",
        metavar="PATH",
        help='Only these: "event,payload.object.id"; also id, source, subscription, received_at.',
    ),
]
Pretty = Annotated[bool, typer.Option("--pretty", help="Over several lines, in colour on a terminal.")]
Redact = Annotated[
    bool, typer.Option("--redact", help='Mask what is personal, as a sink with privacy = "mask".')
]


def command(
    config: ConfigOption = None,
    events: EventsOption = None,
    source: SourceOption = None,
    fields: FieldsOption = None,
    pretty: Pretty = False,
    redact: Redact = False,
) -> None:
    """Show events as they come, one line of JSON each, until Ctrl-C.

    The relay does not wait for this: what comes too fast for the reader is left out here, and its number is
    told on standard error. Sinks get everything all the same. --events, --source and --fields may be given
    several times, or separated by commas.
    """
    query = [("events", glob) for glob in _words(events)] + [("source", name) for name in _words(source)]
    client = ControlClient(load_state_dir(config), timeout_seconds=_TIMEOUT_SECONDS)
    screen = Screen(_printer(pretty), fields=_words(fields), redact=redact)
    raise typer.Exit(_follow(client.stream("/tap", query=query), screen))


def _follow(lines: Iterable[bytes], screen: Screen) -> int:
    """The exit code."""
    try:
        for line in lines:
            screen.take(line)
    except KeyboardInterrupt:
        return exits.OK
    except BrokenPipeError:
        # Python would complain about standard output once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.OK
    except (RelayNotRunning, ControlRefused) as error:
        typer.echo(f"zoomrelay: {error}", err=True)
        return exits.CRASH
    typer.echo("zoomrelay: the relay has ended", err=True)
    return exits.OK


def _words(given: Sequence[str] | None) -> list[str]:
    return [word.strip() for entry in given or () for word in entry.split(",") if word.strip()]


# --- what is shown ----------------------------------------------------------------------------------


class Screen:
    """Takes the relay's lines (`zoomrelay.admin.tapping`) and prints what was asked for."""

    def __init__(self, show: Callable[[Any], None], *, fields: Sequence[str], redact: bool) -> None:
        self._show = show
        self._fields = fields
        self._redact = redact
        self._shield = Shield(Treatment.MASK)

    def take(self, line: bytes) -> None:
        try:
            document = json.loads(line)
            if "privacy" in document:
                own = {name: kind and Kind(kind) for name, kind in document["privacy"].items()}
                self._shield = Shield(Treatment.MASK, fields=own)
            elif "dropped" in document:
                typer.echo(f"zoomrelay: {document['dropped']} events left out here", err=True)
            else:
                self._show(self._shown(document))
        except (RecursionError, ValueError) as error:  # Python reads neither depth nor digits without end
            typer.echo(f"zoomrelay: an event cannot be shown ({type(error).__name__})", err=True)

    def _shown(self, document: dict[str, Any]) -> Any:
        event = self._masked(document["event"]) if self._redact else document["event"]
        if not self._fields:
            return event
        about = {name: value for name, value in document.items() if name != "event"}
        whole = about | event if isinstance(event, dict) else about
        return {field: _at(whole, field) for field in self._fields}

    def _masked(self, event: Any) -> Any:
        name = event.get("event") if isinstance(event, dict) else None
        content = self._shield.content(
            json.dumps(event).encode(), name if isinstance(name, str) else "", None
        )
        return json.loads(content)


def _at(value: Any, path: str) -> Any:
    """What stands at a path like `payload.object.participants.0.id`; None where there is nothing."""
    for step in path.split("."):
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


def _printer(pretty: bool) -> Callable[[Any], None]:
    if not pretty:
        return lambda value: _write(text(value))
    if not sys.stdout.isatty():
        return lambda value: _write(text(value, indent=2))
    from rich.console import Console
    from rich.highlighter import JSONHighlighter

    console, colours = Console(highlight=False), JSONHighlighter()
    return lambda value: console.print(colours(text(value, indent=2)), soft_wrap=True)


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def text(value: Any, indent: int | None = None) -> str:
    """JSON in which nothing moves a cursor: what cannot be printed is written as its escape."""
    separators = None if indent else (",", ":")
    written = json.dumps(value, ensure_ascii=False, indent=indent, separators=separators)
    return "".join(_safe(written))


def _safe(written: str) -> Iterator[str]:
    if written.isprintable():
        yield written
        return
    for character in written:
        yield character if character.isprintable() or character == "\n" else json.dumps(character)[1:-1]
