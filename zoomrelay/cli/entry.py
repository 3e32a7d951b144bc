"""The console entry. Only the command that is called gets imported: `--help` must answer at once."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from types import TracebackType
from typing import Annotated, Any

import typer

from zoomrelay import __version__
from zoomrelay.cli import exits
from zoomrelay.cli.commands import COMMANDS


def main() -> None:
    """Runs the command line and exits."""
    sys.excepthook = _crashed
    code = run(sys.argv[1:])
    gc.freeze()  # what is left ends with the process; looking for cycles in it takes a tenth of a command
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Runs one command; returns its exit code. What is not a known error is raised."""
    try:
        typer.main.get_command(_app(arguments)).main(list(arguments), prog_name="zoomrelay")
    except exits.NEEDS_SOMEBODY as error:
        typer.echo(exits.in_words(error), err=True)
        return exits.CONFIG
    except exits.RETRY as error:
        typer.echo(exits.in_words(error), err=True)
        return exits.CRASH
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else exits.OK
    return exits.OK


def _app(arguments: Sequence[str]) -> typer.Typer:
    """All commands; those that are not called are only their help lines."""
    app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)
    app.callback(help="Hold Zoom's event WebSocket open and deliver every event at least once.")(_common)
    called = next((word for word in arguments if not word.startswith("-")), None)
    for name, entry in COMMANDS.items():
        target = _imported(entry.target) if name == called else _not_called
        if isinstance(target, typer.Typer):
            app.add_typer(target, name=name, help=entry.help)
        else:
            app.command(name, help=entry.help)(target)
    return app


def _imported(target: str) -> Callable[..., Any] | typer.Typer:
    module, _, attribute = target.partition(":")
    found: Callable[..., Any] | typer.Typer = getattr(import_module(module), attribute)
    return found


def _not_called() -> None:
    """Stands in the help for a command that was not imported."""


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"zoomrelay {__version__}")
        raise typer.Exit


def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before any command."""


def _crashed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The last resort until the logs are set up; importing them is left to the moment of need."""
    from zoomrelay.telemetry.logs import crashed

    crashed(kind, error, trace)
