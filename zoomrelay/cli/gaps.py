"""`zoomrelay gaps`: what was missed. Reads the ledger's files; a relay may run or not."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from zoomrelay.cli.columns import aligned, printable
from zoomrelay.cli.moments import milliseconds
from zoomrelay.cli.options import ConfigOption, load_state_dir
from zoomrelay.errors import StateDirectoryError
from zoomrelay.event import WEBHOOK
from zoomrelay.intake import ledger
from zoomrelay.intake.gaps import Gap, iso

ANY = 1
_COLUMNS = ("from", "to", "seconds", "cause", "source", "subscription", "missed", "detail")

SinceOption = Annotated[
    str,
    typer.Option(
        metavar="TIME",
        help='Only gaps that lasted after this: "2h", "7d", or an ISO time (UTC unless it says otherwise).',
        show_default=False,
    ),
]
JsonLines = Annotated[bool, typer.Option("--json", help="One JSON object per line, no summary.")]
Loss = Annotated[
    bool,
    typer.Option(
        "--loss", help="Leave out what a second subscription covered or a webhook healed, and mere delays."
    ),
]
FailIfAny = Annotated[bool, typer.Option("--fail-if-any", help="Exit with 1 if any is listed.")]


def command(
    config: ConfigOption = None,
    since: SinceOption = "",
    loss: Loss = False,
    as_json: JsonLines = False,
    fail_if_any: FailIfAny = False,
) -> None:
    """List every interval in which a subscription was not listened to, with its cause, and what else kept
    events from their receivers.

    One that lasts has no end yet. What Zoom sends while no subscription is listened to is lost, unless it
    comes by webhook: then the gap is healed. "missed" is a count, an estimate (~) from the rate before, or
    why nothing is lost.
    """
    after_ms = milliseconds(since, datetime.now(UTC), "--since") if since else None
    gaps = _read(load_state_dir(config))
    gaps = [gap for gap in gaps if after_ms is None or gap.to_ms is None or gap.to_ms > after_ms]
    gaps = [gap for gap in gaps if not (loss and gap.lossless)]
    gaps.sort(key=lambda gap: gap.from_ms)
    _print(gaps, as_json)
    raise typer.Exit(ANY if gaps and fail_if_any else 0)


def _read(state_dir: Path) -> list[Gap]:
    try:
        if not state_dir.is_dir():
            raise StateDirectoryError(f"there is no state directory {state_dir}; has the relay run here?")
        return ledger.read(state_dir)
    except OSError as error:
        raise StateDirectoryError(f"the ledger in {state_dir} cannot be read: {error.strerror}") from error


def _print(gaps: Sequence[Gap], as_json: bool) -> None:
    if as_json:
        for gap in gaps:
            typer.echo(json.dumps(gap.as_json(), ensure_ascii=False))
    elif sys.stdout.isatty():
        _print_table(gaps)
    else:
        for line in aligned([_COLUMNS, *map(_row, gaps)]) if gaps else ():
            typer.echo(line)
        typer.echo(summary(gaps))


def _print_table(gaps: Sequence[Gap]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if gaps:
        table = Table(*_COLUMNS, box=None, header_style="bold")
        for gap in gaps:
            table.add_row(*map(Text, _row(gap)), style="yellow" if gap.to_ms is None else "")
        console.print(table)
    console.print(Text(summary(gaps), "bold"))


def _row(gap: Gap) -> tuple[str, ...]:
    end = "lasts" if gap.to_ms is None else iso(gap.to_ms)
    where = gap.subscription or (f"sink {gap.sink}" if gap.sink else "")
    words = (
        iso(gap.from_ms),
        end,
        f"{gap.seconds:.1f}",
        gap.cause,
        gap.source,
        where,
        _missed(gap),
        gap.detail,
    )
    return tuple(map(printable, words))


def _missed(gap: Gap) -> str:
    if gap.covered_by:
        return "covered"
    if gap.healed:
        return f"healed: {_came(gap)}"
    if gap.lossless:
        return "comes again" if gap.subscription == WEBHOOK else "nothing"
    if gap.events is not None:
        return f"{gap.events:,}"
    words = ["unknown" if gap.estimated_events is None else f"~{gap.estimated_events:,.0f}"]
    words += [_came(gap)] if gap.healed_events else []
    if gap.may_heal_until_ms is not None:
        more = "more may come" if gap.healed_events else "may come by webhook"
        words.append(more if gap.to_ms is None else f"{more} until {iso(gap.may_heal_until_ms)[11:16]}Z")
    return ", ".join(words)


def _came(gap: Gap) -> str:
    return f"{gap.healed_events:,} came by webhook"


def summary(gaps: Sequence[Gap]) -> str:
    """How many, how long, and why, in one line."""
    if not gaps:
        return "no gaps"
    by_cause: dict[str, list[Gap]] = {}
    for gap in gaps:
        by_cause.setdefault(gap.cause, []).append(gap)
    ordered = sorted(by_cause.items(), key=lambda item: -_seconds(item[1]))
    causes = ", ".join(f"{cause} {len(of_it)} ({_seconds(of_it):,.1f} s)" for cause, of_it in ordered)
    return f"{len(gaps)} gap{'s' if len(gaps) != 1 else ''}, {_seconds(gaps):,.1f} s: {causes}"


def _seconds(gaps: Iterable[Gap]) -> float:
    return sum(gap.seconds for gap in gaps)
