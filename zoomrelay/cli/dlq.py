"""`zoomrelay dlq`: events that a sink would not take, and frames in which no event could be read."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import msgspec
import typer

from zoomrelay.cli import exits
from zoomrelay.cli.columns import aligned, printable
from zoomrelay.cli.dead_letters import DeadLetters, dead_letters
from zoomrelay.cli.options import ConfigOption, load_config, load_state_dir
from zoomrelay.config.models import Config
from zoomrelay.errors import ControlRefused, RelayNotRunning, SpoolError
from zoomrelay.intake.gaps import iso
from zoomrelay.spool.base import DeadLetter
from zoomrelay.telemetry.logs import protect_config, redact

NOT_DONE = 1
_ALL = 10**9
_COLUMNS = ("number", "died", "sink", "event", "attempts", "reason")

app = typer.Typer(
    no_args_is_help=True,
    help="Dead letters: events that a sink would not take, and frames in which no event could be read."
    " Works with a running relay and with a stopped one.",
)

SinkOption = Annotated[
    str | None, typer.Option("--sink", metavar="NAME", help="Only those of this sink.", show_default=False)
]
AllOption = Annotated[bool, typer.Option("--all", help="All of them (or all of --sink).")]
JsonLines = Annotated[bool, typer.Option("--json", help="One JSON object per line.")]
Numbers = Annotated[list[int] | None, typer.Argument(metavar="NUMBER...", help="As listed.")]


@app.command("list")
def list_(
    config: ConfigOption = None,
    sink: SinkOption = None,
    limit: Annotated[int, typer.Option(min=1, help="Only the newest so many.")] = 1000,
    as_json: JsonLines = False,
) -> None:
    """List dead letters, oldest first, without their content."""
    with _known_errors():
        letters = _letters(config).listed(sink, limit)
    if as_json:
        for letter in letters:
            typer.echo(json.dumps(_document(letter), ensure_ascii=False))
        return
    for line in aligned([_COLUMNS, *map(_row, letters)]) if letters else ["no dead letters"]:
        typer.echo(line)


@app.command()
def show(
    number: Annotated[int, typer.Argument(help="As listed.")],
    config: ConfigOption = None,
    raw: Annotated[bool, typer.Option("--raw", help="Only the content, byte for byte.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show one dead letter: why it is one, and its content."""
    with _known_errors():
        letter = _letters(config).one(number)
    if letter is None:
        typer.echo(f"zoomrelay: there is no dead letter {number}", err=True)
        raise typer.Exit(NOT_DONE)
    if raw:
        sys.stdout.buffer.write(letter.content)
        sys.stdout.buffer.flush()
    elif as_json:
        typer.echo(json.dumps(_document(letter) | _content(letter), indent=2, ensure_ascii=False))
    else:
        for line in _details(letter):
            typer.echo(line)


@app.command()
def redrive(
    numbers: Numbers = None, config: ConfigOption = None, sink: SinkOption = None, every: AllOption = False
) -> None:
    """Deliver dead letters once more: now, or at the next start where no relay is running."""
    with _known_errors():
        letters = _letters(config)
        chosen = _chosen(letters, numbers, sink, every)
        done = letters.redrive(chosen) if chosen else 0
    typer.echo(f"{done} to be delivered again, {letters.when}")
    why = "not there, already on their way, of a sink that is not configured, or no events"
    _account_for(len(chosen) - done, why, every)


@app.command()
def discard(
    numbers: Numbers = None, config: ConfigOption = None, sink: SinkOption = None, every: AllOption = False
) -> None:
    """Delete dead letters for good."""
    with _known_errors():
        letters = _letters(config)
        chosen = _chosen(letters, numbers, sink, every)
        done = letters.discard(chosen) if chosen else 0
    typer.echo(f"{done} discarded")
    _account_for(len(chosen) - done, "not there", every)


def _letters(config: Any) -> DeadLetters:
    return dead_letters(load_state_dir(config), lambda: _whole_config(config))


def _whole_config(path: Any) -> Config:
    loaded = load_config(path)
    protect_config(loaded.config)
    return loaded.config


@contextmanager
def _known_errors() -> Iterator[None]:
    try:
        yield
    except (RelayNotRunning, ControlRefused, SpoolError) as error:
        typer.echo(f"zoomrelay: {error}", err=True)
        raise typer.Exit(exits.CRASH) from error


def _chosen(letters: DeadLetters, numbers: list[int] | None, sink: str | None, every: bool) -> Sequence[int]:
    if bool(numbers) == every:
        raise typer.BadParameter("give numbers, or --all")
    if numbers and sink is not None:
        raise typer.BadParameter("--sink goes with --all")
    return list(dict.fromkeys(numbers)) if numbers else [one.number for one in letters.listed(sink, _ALL)]


def _account_for(left: int, why: str, every: bool) -> None:
    """Numbers that were named and not found are an error; with --all there is nothing to miss."""
    if left:
        typer.echo(f"zoomrelay: {left} left as they are: {why}", err=True)
        raise typer.Exit(exits.OK if every else NOT_DONE)


# --- how they look ----------------------------------------------------------------------------------


def _row(letter: DeadLetter) -> tuple[str, ...]:
    sink = letter.sink or f"(source {letter.source})"
    reason = redact(letter.reason) + (" (on its way again)" if letter.redriving else "")
    name = letter.name or "(no event)"
    words = (str(letter.number), iso(letter.died_ms), sink, name, str(letter.attempts), reason)
    return tuple(map(printable, words))


def _details(letter: DeadLetter) -> Iterator[str]:
    facts = _document(letter)
    width = max(map(len, facts))
    for name, value in facts.items():
        if value not in (None, "", False):
            yield f"{name.ljust(width)}  {printable(str(value))}"
    yield ""
    yield printable(letter.content.decode(errors="backslashreplace"))


def _document(letter: DeadLetter) -> dict[str, Any]:
    facts = msgspec.structs.asdict(letter)
    del facts["content"], facts["received_ms"], facts["died_ms"]
    times = {"received": iso(letter.received_ms), "died": iso(letter.died_ms)}
    return facts | times | {"reason": redact(letter.reason), "excerpt": redact(letter.excerpt)}


def _content(letter: DeadLetter) -> dict[str, str]:
    """As text where it is text, else in base64."""
    try:
        return {"content": letter.content.decode()}
    except UnicodeDecodeError:
        return {"content_base64": msgspec.to_builtins(letter.content)}
