"""`zoomrelay doctor`: walks the whole way from this machine to Zoom and to the sinks, and says what to do."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from zoomrelay import causes
from zoomrelay.cli import exits
from zoomrelay.cli.columns import printable
from zoomrelay.cli.options import ConfigOption, load_config
from zoomrelay.config.load import Loaded
from zoomrelay.config.secret_files import secret_files
from zoomrelay.doctor.examination import Examination
from zoomrelay.doctor.finding import Report, Verdict, any_failed
from zoomrelay.errors import ConfigError
from zoomrelay.telemetry.logs import configure_logging, protect_config

FAILED = 1
_COLORS = {
    Verdict.PASS: "green",
    Verdict.WARN: "yellow",
    Verdict.FAIL: "red",
    Verdict.SKIPPED: "bright_black",
}

SourceOption = Annotated[
    str | None,
    typer.Option("--source", metavar="NAME", help="Only this source, and no sinks.", show_default=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print a list of steps as JSON, at the end.")]
SendTestOption = Annotated[
    bool, typer.Option("--send-test", help="POST an event zoomrelay.test to every HTTP sink.")
]


def command(
    config: ConfigOption = None,
    source: SourceOption = None,
    as_json: JsonOption = False,
    send_test: SendTestOption = False,
) -> None:
    """Look at every step between this machine, Zoom and the sinks: pass, warn, fail or skipped, and the cure.

    Where no relay runs, each subscription's socket is opened for a moment, which takes the subscription from
    any other program that has it. While a relay runs on the state directory it is asked instead. Exits
    with 0 if nothing failed, with 1 if something did, with 78 if the configuration is invalid.
    """
    try:
        loaded = load_config(config)
    except ConfigError as error:
        if as_json:
            typer.echo(_as_json(_invalid(error)))
        raise
    if source is not None and source not in loaded.config.sources:
        known = ", ".join(loaded.config.sources)
        raise typer.BadParameter(f"there is no source {source} (known: {known})", param_hint="--source")
    reports = asyncio.run(_examine(loaded, source, as_json, send_test))
    if as_json:
        typer.echo(_as_json(reports))
    else:
        typer.echo(_summary(reports))
    raise typer.Exit(FAILED if any_failed(reports) else exits.OK)


async def _examine(loaded: Loaded, source: str | None, as_json: bool, send_test: bool) -> list[Report]:
    quiet(loaded)
    first = Report("configuration", "", "", "", Verdict.PASS, _where(loaded), "", "", 0.0)
    examination = Examination(
        loaded.config,
        secret_files=secret_files(loaded),
        sources=[source] if source else [],
        send_test=send_test,
        before_sockets=_announce,
    )
    reports = [first]
    if not as_json:
        _show(first)
    async for report in examination.run():
        reports.append(report)
        if not as_json:
            _show(report)
    return reports


def quiet(loaded: Loaded) -> None:
    """What the rooms would log stands in the reports."""
    protect_config(loaded.config)
    configure_logging(loaded.config.log)
    logging.getLogger("zoomrelay").setLevel(logging.CRITICAL)


def _where(loaded: Loaded) -> str:
    return f"valid, from {loaded.file or 'the environment'}"


# --- what is shown ------------------------------------------------------------------------------------


def _announce(subscriptions: Sequence[str]) -> None:
    typer.echo(
        "No relay holds this state directory, so a socket will be opened for a moment on "
        f"{', '.join(subscriptions)}. Another program that has it is displaced, and events that come"
        " meanwhile are not kept.",
        err=True,
    )


def as_text(reports: Sequence[Report]) -> str:
    """What is printed, without colours."""
    lines = [line for report in reports for line in _lines(report, f"{report.verdict.value:8}")]
    return "\n".join([*lines, _summary(reports)]) + "\n"


def _show(report: Report) -> None:
    for line in _lines(report, typer.style(f"{report.verdict.value:8}", _COLORS[report.verdict])):
        typer.echo(line)


def _lines(report: Report, head: str) -> Iterator[str]:
    about = " ".join(part for part in (report.source or report.sink, report.target) if part)
    what = f"{report.step} {about}".strip()
    yield f"{head} {printable(f'{what}: {report.detail}')}"
    if report.cure:
        yield f"{'':8}   {report.reason}: {report.cure}"


def _summary(reports: Sequence[Report]) -> str:
    counts = {verdict: sum(report.verdict is verdict for report in reports) for verdict in Verdict}
    return ", ".join(f"{count} {verdict.value}" for verdict, count in counts.items() if count)


def _as_json(reports: Sequence[Report]) -> str:
    return json.dumps([asdict(report) for report in reports], indent=2, ensure_ascii=False)


def _invalid(error: ConfigError) -> list[Report]:
    cause = causes.CONFIGURATION
    return [
        Report(
            "configuration", "", "", one.where, Verdict.FAIL, one.what, cause.key, one.cure or cause.cure, 0.0
        )
        for one in error.problems
    ]
