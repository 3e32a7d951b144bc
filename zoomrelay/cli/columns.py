"""Rows for files, pipes and logs, in columns. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """One line per row, columns as wide as their widest word."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()


def printable(text: str) -> str:
    """What others sent must not move the cursor or begin a line of its own on somebody's terminal."""
    return text if text.isprintable() else repr(text)[1:-1]
