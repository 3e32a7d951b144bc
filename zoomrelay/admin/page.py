"""The page at `/`: the status in words, one HTML text that needs nothing else. Pure.

Everything that is not written here goes through `escape`: names, and words of other programs.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from html import escape

from zoomrelay.admin import words
from zoomrelay.admin.health import PathStatus, SinkStatus, SourceStatus, Status

REFRESH_SECONDS = 5
_STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#8882;--good:#1a7f37;--bad:#cf222e}
@media(prefers-color-scheme:dark){:root{--good:#3fb950;--bad:#ff7b72}}
body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:0 auto;padding:1rem;overflow-wrap:anywhere}
h1{font-size:1.4rem;margin:.5rem 0}h2{font-size:1.1rem;margin:1.8rem 0 .5rem}
p{margin:.3rem 0}.soft{opacity:.75;font-size:.9rem}.good{color:var(--good)}.bad{color:var(--bad)}
.headline{padding:.7rem 1rem;border-left:.4rem solid;background:var(--soft);border-radius:.3rem}
.card{border:1px solid var(--line);border-radius:.5rem;padding:.7rem 1rem;margin:.6rem 0}
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(7rem,1fr));gap:.4rem 1rem;margin:.6rem 0 0}
dt{font-size:.8rem;opacity:.75}dd{margin:0;font-variant-numeric:tabular-nums}
code{font-size:.9em}a{color:inherit}
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
SECURITY_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)
"""Allows this page its own style and nothing else."""


def page(status: Status) -> str:
    """The whole document. Its author is this program alone: no part of a status becomes markup."""
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width,initial-scale=1">',
            f'<meta http-equiv="refresh" content="{REFRESH_SECONDS}">',
            f"<title>{'' if status.ready else '(!) '}zoomrelay</title><style>{_STYLE}</style></head><body>",
            *_body(status),
            "</body></html>",
        ]
    )


def _body(status: Status) -> Iterator[str]:
    yield "<h1>zoomrelay</h1>"
    yield _line("headline " + _grade(status.ready), words.headline(status))
    yield "<h2>Sources</h2>"
    for source in status.sources:
        yield from _source(source, status.now)
    yield "<h2>Sinks</h2>"
    for sink in status.sinks:
        yield from _sink(sink)
    yield "<h2>Spool</h2>"
    grade = "" if status.spool.writable else "bad"
    yield _card([_line(grade, f"{status.spool.type}: {words.spool_state(status.spool)}")])
    yield _line(
        "soft",
        f"Version {status.version}, process {status.pid}, running for"
        f" {words.duration(status.now - status.started)}. As of {words.moment(status.now)}.",
    )
    links = (f'<a href="/{name}">/{name}</a>' for name in ("readyz", "livez", "metrics"))
    yield f'<p class="soft">{" ".join(links)}</p>'


def _source(source: SourceStatus, now: float) -> Iterator[str]:
    parts = [f"<p><strong>{escape(source.name)}</strong></p>"]
    for path in source.paths:
        parts += _path(path, now)
        if len(source.paths) > 1:
            parts.append(_line("soft", words.path_counts(path)))
    if not source.paths:
        parts.append(_line("", "no subscription: tokens only"))
    if trouble := words.token_trouble(source):
        parts.append(_line("bad", trouble))
    yield _card([*parts, _line("soft", words.source_counts(source))])


def _path(path: PathStatus, now: float) -> Iterator[str]:
    state = escape(words.path_state(path, now))
    yield f'<p class="{_grade(path.works)}"><code>{escape(path.subscription)}</code> {state}</p>'
    if trouble := words.path_trouble(path, now):
        yield _line("", trouble)


def _sink(sink: SinkStatus) -> Iterator[str]:
    grade = "bad" if sink.conservation_error else ""
    yield _card(
        [
            f"<p><strong>{escape(sink.name)}</strong> {escape(sink.type)},"
            f' <span class="{_grade(sink.ok)}">{escape(words.sink_state(sink))}</span></p>',
            "<dl>" + "".join(_figure(name, f"{count:,}") for name, count in words.sink_figures(sink).items()),
            _figure("unaccounted for", f"{sink.conservation_error:,}", grade) + "</dl>",
        ]
    )


def _figure(name: str, value: str, grade: str = "") -> str:
    return f'<div><dt>{escape(name)}</dt><dd class="{grade}">{escape(value)}</dd></div>'


def _card(parts: Iterable[str]) -> str:
    return '<div class="card">' + "".join(parts) + "</div>"


def _line(grade: str, text: str) -> str:
    return f'<p class="{grade}">{escape(text)}</p>'


def _grade(good: bool) -> str:
    return "good" if good else "bad"
