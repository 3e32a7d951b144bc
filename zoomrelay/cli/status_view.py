"""A status as `zoomrelay status` prints it: plain lines, or tables on a terminal. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from zoomrelay.admin import words
from zoomrelay.admin.health import PathStatus, SinkStatus, Status

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table


def plain(status: Status) -> str:
    """For files, pipes and logs."""
    return "\n".join([_about(status), words.headline(status), *_plain_rest(status)])


def _plain_rest(status: Status) -> Iterator[str]:
    for source in status.sources:
        yield f"source {source.name}: {words.source_counts(source)}"
        for path in source.paths:
            yield from _plain_path(path, status.now)
            if len(source.paths) > 1:
                yield f"    {words.path_counts(path)}"
        if trouble := words.token_trouble(source):
            yield f"  token: {trouble}"
    for sink in status.sinks:
        yield f"sink {sink.name} ({sink.type}): {words.sink_state(sink)}"
        yield "  " + _figures(sink)
    yield f"spool ({status.spool.type}): {words.spool_state(status.spool)}"


def _plain_path(path: PathStatus, now: float) -> Iterator[str]:
    yield f"  {path.subscription}: {words.path_state(path, now)}"
    if trouble := words.path_trouble(path, now):
        yield f"    {trouble}"


def _about(status: Status) -> str:
    running = words.duration(status.now - status.started)
    return f"zoomrelay {status.version}, process {status.pid}, running for {running}"


def _figures(sink: SinkStatus) -> str:
    figures = [f"{name} {count:,}" for name, count in words.sink_figures(sink).items()]
    return ", ".join([*figures, f"unaccounted for {sink.conservation_error:,}"])


def tables(status: Status) -> RenderableType:
    """For people. Everything goes in as text, so that no word of others is taken for markup."""
    from rich.console import Group
    from rich.text import Text

    headline = Text(words.headline(status), _colour(status.ready))
    spool = Text(
        f"Spool ({status.spool.type}): {words.spool_state(status.spool)}",
        "" if status.spool.writable else "red",
    )
    return Group(Text(_about(status), "dim"), headline, _source_table(status), _sink_table(status), spool)


def _source_table(status: Status) -> Table:
    from rich.text import Text

    table = _table("Source", "Subscription", "State", "Counts")
    for source in status.sources:
        for path in source.paths:
            state = Text(words.path_state(path, status.now), _colour(path.works))
            if len(source.paths) > 1:
                state.append("\n" + words.path_counts(path), "default")
            if trouble := words.path_trouble(path, status.now):
                state.append("\n" + trouble, "default")
            counts = words.source_counts(source) if path is source.paths[0] else ""
            table.add_row(Text(source.name), Text(path.subscription), state, Text(counts))
        if not source.paths:
            table.add_row(Text(source.name), "", "tokens only", "")
        if trouble := words.token_trouble(source):
            table.add_row(Text(source.name), "", Text(trouble, "red"), "")
    return table


def _sink_table(status: Status) -> Table:
    from rich.text import Text

    table = _table("Sink", "Type", "State", "Counts")
    for sink in status.sinks:
        counts = Text(_figures(sink), "red" if sink.conservation_error else "")
        table.add_row(Text(sink.name), sink.type, Text(words.sink_state(sink), _colour(sink.ok)), counts)
    return table


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    return Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")


def _colour(good: bool) -> str:
    return "green" if good else "red"
