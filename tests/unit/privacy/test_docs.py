"""The map in docs/privacy.md is the one in the code."""

from __future__ import annotations

import os
from pathlib import Path

from zoomrelay.privacy.fields import _ENDINGS, _NAMES

DOCUMENT = Path(__file__).parents[3] / "docs" / "privacy.md"


def written() -> str:
    """A table: each kind with its names, those that are endings with a star before them."""
    rows = ["| kind | fields |", "|---|---|"]
    for kind, names in _NAMES.items():
        shown = [f"`{name}`" for name in sorted(names.split())]
        shown += [f"`*{end}`" for end in _ENDINGS.get(kind, "").split()]
        rows.append(f"| `{kind}` | {', '.join(shown)} |")
    return "\n".join(rows)


def test_the_map_is_documented() -> None:
    """ZOOMRELAY_TEST_WRITE=1 writes it."""
    text = DOCUMENT.read_text()
    start, end = "<!-- map -->\n", "<!-- end of map -->"
    before, rest = text.split(start)
    after = rest.split(end)[1]
    expected = f"{before}{start}{written()}\n{end}{after}"
    if os.environ.get("ZOOMRELAY_TEST_WRITE"):
        DOCUMENT.write_text(expected)
    assert text == expected
