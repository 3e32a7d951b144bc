"""`zoomrelay dlq`: events that a sink would not take, and frames in which no event could be read."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, NamedTuple

import msgspec
import typer

from zoomrelay.cli import exits
from zoomrelay.cli.columns import aligned, printable
from zoomrelay.cli.dead_letters import DeadLetters, dead_letters
from zoomrelay.cli.options import ConfigOption, load_state_dir, load_whole
from zoomrelay.cli.portions import in_portions
from zoomrelay.cli.selection import EventsOption, Selection, newest, selection
from zoomrelay.errors import ControlRefused, RelayNotRunning, SpoolError
from zoomrelay.intake.gaps import iso
from zoomrelay.spool.base import DeadLetter
from zoomrelay.telemetry.logs import redact

NOT_DONE = 1
_ALL = 10**9
_COLUMNS = ("number", "died", "sink", "event", "attempts", "reason")


class Chosen(NamedTuple):
    """A dead letter that a command is to deal with; where only its number was given, that is all."""

    number: int
    letter: DeadLetter | None = None


app = typer.Typer(
    no_args_is_help=True,
    help="Dead letters: events that a sink would not take, and frames in which no event could be read."
    " Works with a running relay and with a stopped one.",
)

SinkOption = Annotated[
    str | None, typer.Option("--sink", metavar="NAME", help="Only those of this sink.", show_default=False)
]
SinceOption = Annotated[
    str,
    typer.Option(
        metavar="TIME",
        help='Only what died since this time: "2h", "7d", or an ISO time (UTC unless it says otherwise).',
        show_default=False,
    ),
]
UntilOption = Annotated[
    str, typer.Option(metavar="TIME", help="Only what died before this time.", show_default=False)
]
ReasonOption = Annotated[
    str,
    typer.Option(metavar="TEXT", help="Only those whose reason contains this.", show_default=False),
]
AllOption = Annotated[bool, typer.Option("--all", help="All of them, or all that --sink, --events, … mean.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="List them, and change nothing.")]
JsonLines = Annotated[bool, typer.Option("--json", help="One JSON object per line.")]
Numbers = Annotated[list[int] | None, typer.Argument(metavar="NUMBER...", help="As listed.")]


@app.command("list")
def list_(
    config: ConfigOption = None,
    sink: SinkOption = None,
    events: EventsOption = None,
    since: SinceOption = "",
    until: UntilOption = "",
    reason: ReasonOption = "",
    limit: Annotated[int, typer.Option(min=1, help="Only the newest so many.")] = 1000,
    as_json: JsonLines = False,
) -> None:
    """List dead letters, oldest first, without their content."""
    wanted = selection(sink, events, since, until, reason)
    with _known_errors():
        letters = newest(_letters(config), wanted, limit)
    _print(letters, as_json)


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
    numbers: Numbers = None,
    config: ConfigOption = None,
    sink: SinkOption = None,
    events: EventsOption = None,
    since: SinceOption = "",
    until: UntilOption = "",
    reason: ReasonOption = "",
    every: AllOption = False,
    rate: Annotated[
        float | None,
        typer.Option(min=0.001, help="At most so many per second.", show_default=False),
    ] = None,
    dry_run: DryRun = False,
    as_json: JsonLines = False,
) -> None:
    """Deliver dead letters once more: now, or at the next start where no relay is running."""
    wanted = selection(sink, events, since, until, reason)
    with _known_errors():
        letters = _letters(config)
        if rate is not None and not letters.running:
            raise typer.BadParameter("needs a running relay", param_hint="--rate")
        chosen = _chosen(letters, numbers, wanted, every, dry_run=dry_run, as_json=as_json)
        done = in_portions(letters.redrive, [letter.number for letter in chosen], rate, "redriving")
    _say(done, f"{done} to be delivered again, {letters.when}", as_json)
    why = "not there, damaged, already on their way, of a sink that is not configured, or no events"
    _account_for(len(chosen) - done, why, named=bool(numbers))


@app.command()
def discard(
    numbers: Numbers = None,
    config: ConfigOption = None,
    sink: SinkOption = None,
    events: EventsOption = None,
    since: SinceOption = "",
    until: UntilOption = "",
    reason: ReasonOption = "",
    every: AllOption = False,
    dry_run: DryRun = False,
    as_json: JsonLines = False,
) -> None:
    """Delete dead letters for good."""
    wanted = selection(sink, events, since, until, reason)
    with _known_errors():
        letters = _letters(config)
        chosen = _chosen(letters, numbers, wanted, every, dry_run=dry_run, as_json=as_json)
        done = in_portions(letters.discard, [letter.number for letter in chosen], None, "discarding")
    _say(done, f"{done} discarded", as_json)
    _account_for(len(chosen) - done, "not there", named=bool(numbers))


def _letters(config: Any) -> DeadLetters:
    return dead_letters(load_state_dir(config), lambda: load_whole(config))


@contextmanager
def _known_errors() -> Iterator[None]:
    try:
        yield
    except (RelayNotRunning, ControlRefused, SpoolError) as error:
        typer.echo(f"zoomrelay: {error}", err=True)
        raise typer.Exit(exits.CRASH) from error


def _chosen(
    letters: DeadLetters,
    numbers: list[int] | None,
    wanted: Selection,
    every: bool,
    *,
    dry_run: bool,
    as_json: bool,
) -> Sequence[Chosen]:
    """Those that were named, there or not; or those that the conditions mean. A dry run ends here, with
    their list."""
    if bool(numbers) == every:
        raise typer.BadParameter("give numbers, or --all (of those that --sink, --events, … mean)")
    if numbers and not wanted.is_all:
        raise typer.BadParameter("--sink, --events, --since, --until and --reason go with --all")
    if numbers:
        chosen = [Chosen(number) for number in dict.fromkeys(numbers)]
    else:
        chosen = [Chosen(letter.number, letter) for letter in newest(letters, wanted, _ALL)]
    if dry_run:
        _print(_looked_up(letters, chosen), as_json)
        raise typer.Exit(exits.OK)
    return chosen


def _looked_up(letters: DeadLetters, chosen: Sequence[Chosen]) -> list[DeadLetter]:
    found = [one.letter or letters.one(one.number) for one in chosen]
    return [letter for letter in found if letter is not None]


def _account_for(left: int, why: str, *, named: bool) -> None:
    """Numbers that were named and not found are an error; otherwise there is nothing to miss."""
    if left:
        typer.echo(f"zoomrelay: {left} left as they are: {why}", err=True)
        raise typer.Exit(NOT_DONE if named else exits.OK)


def _say(done: int, words: str, as_json: bool) -> None:
    typer.echo(json.dumps({"count": done}) if as_json else words)


def _print(letters: Sequence[DeadLetter], as_json: bool) -> None:
    if as_json:
        for letter in letters:
            typer.echo(json.dumps(_document(letter), ensure_ascii=False))
        return
    for line in aligned([_COLUMNS, *map(_row, letters)]) if letters else ["no dead letters"]:
        typer.echo(line)


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
