"""`zoomrelay check`: is the configuration right? Nothing is connected to, nothing is created."""

from __future__ import annotations

import json
from collections.abc import Iterator

import typer

from zoomrelay.cli.options import ConfigOption, JsonOption, load_config
from zoomrelay.config.load import Loaded
from zoomrelay.config.schema import dotted
from zoomrelay.config.show import Shown, outage_hours, settings
from zoomrelay.config.sizes import size_text
from zoomrelay.errors import ConfigError


def command(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Print the effective configuration, secrets masked, and where each value came from."""
    try:
        loaded = load_config(config)
    except ConfigError as error:
        if as_json:
            typer.echo(json.dumps(_problems(error), indent=2, ensure_ascii=False))
        raise
    typer.echo(json.dumps(_document(loaded), indent=2, ensure_ascii=False) if as_json else text(loaded))


def _problems(error: ConfigError) -> dict[str, object]:
    problems = [{"where": p.where, "what": p.what, "cure": p.cure} for p in error.problems]
    return {"valid": False, "problems": problems}


def _document(loaded: Loaded) -> dict[str, object]:
    return {
        "valid": True,
        "file": str(loaded.file) if loaded.file else None,
        "settings": {dotted(s.path): {"value": s.value, "origin": s.origin} for s in settings(loaded)},
        "outage_hours": {str(rate): round(hours, 2) for rate, hours in outage_hours(loaded.config).items()},
    }


def text(loaded: Loaded) -> str:
    """Every setting with its origin, as TOML with comments."""
    shown = list(settings(loaded))
    width = min(max(len(one.line) for one in shown), 60)
    return "\n".join([*_tables(shown, width), "", *_coverage(loaded)])


def _tables(shown: list[Shown], width: int) -> Iterator[str]:
    table: tuple[str, ...] = ()
    for one in shown:
        if one.path[:-1] != table:
            table = one.path[:-1]
            yield f"\n[{dotted(table)}]"
        yield f"{one.line:{width}}  # {one.origin}"


def _coverage(loaded: Loaded) -> Iterator[str]:
    hours = ", ".join(f"{time:,.1f} h at {rate}/s" for rate, time in outage_hours(loaded.config).items())
    size = size_text(loaded.config.spool.max_bytes)
    yield f"# The configuration is valid. {size} of spool, with events of about 1 KiB,"
    yield f"# cover a sink's outage of {hours}."
