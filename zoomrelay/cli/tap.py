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
from zoomrelay.privacy import MASK, masked

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
    bool, typer.Option("--redact", help="Mask names, e-mail addresses, phone numbers, tokens, join URLs.")
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
    shown = _shown(_words(fields), redact=redact)
    raise typer.Exit(_follow(client.stream("/tap", query), shown, _printer(pretty)))


def _follow(
    lines: Iterable[bytes], shown: Callable[[dict[str, Any]], Any], show: Callable[[Any], None]
) -> int:
    """The exit code."""
    try:
        for line in lines:
            _show(line, shown, show)
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


def _show(line: bytes, shown: Callable[[dict[str, Any]], Any], show: Callable[[Any], None]) -> None:
    try:
        document = json.loads(line)
        if "dropped" in document:
            typer.echo(f"zoomrelay: {document['dropped']} events left out here", err=True)
        else:
            show(shown(document))
    except (RecursionError, ValueError) as error:  # Python reads neither depth nor digits without end
        typer.echo(f"zoomrelay: an event cannot be shown ({type(error).__name__})", err=True)


def _words(given: Sequence[str] | None) -> list[str]:
    return [word.strip() for entry in given or () for word in entry.split(",") if word.strip()]


# --- what is shown ----------------------------------------------------------------------------------


def _shown(fields: Sequence[str], *, redact: bool) -> Callable[[dict[str, Any]], Any]:
    """From the relay's document of an event to what is printed."""

    def shown(document: dict[str, Any]) -> Any:
        event = document["event"]
        if redact:
            event = masked(event) if isinstance(event, dict | list) else MASK
        if not fields:
            return event
        about = {name: value for name, value in document.items() if name != "event"}
        whole = about | event if isinstance(event, dict) else about
        return {field: _at(whole, field) for field in fields}

    return shown


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
