"""The tables of docs/troubleshooting.md, out of the table of causes: `make docs` writes them, and a test
holds the file to them."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from zoomrelay.causes import SECTIONS, Cause, Section

MARK = "<!-- What follows is made by `make docs` out of zoomrelay/causes.py; change it there. -->"


def written(document: str) -> str:
    """`document` with what stands below the mark made anew."""
    return f"{document.partition(MARK)[0]}{MARK}\n\n{render()}"


def render() -> str:
    """The tables."""
    return "\n".join(part for section in SECTIONS for part in _section(section))


def _section(section: Section) -> Iterator[str]:
    yield f"## {section.title}\n\n{textwrap.fill(section.head, 120, break_on_hyphens=False)}\n"
    yield "| key | seen as | what it means | what to do | |"
    yield "|---|---|---|---|---|"
    for cause in section.causes:
        lasting = "lasting" if cause.permanent else ""
        yield f"| `{cause.key}` | {_seen(cause)} | {cause.meaning} | {_sentence(cause.cure)} | {lasting} |"
    yield ""


def _seen(cause: Cause) -> str:
    numbers = [str(code) for code in cause.codes]
    statuses = [f"HTTP {status}" for status in cause.statuses]
    words = [f"`{word}`" for word in cause.words]
    said = [f'"{text}"' for text in cause.says]
    return ", ".join([*numbers, *statuses, *words, *said])


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.write_text(written(file.read_text(encoding="utf-8")), encoding="utf-8")
