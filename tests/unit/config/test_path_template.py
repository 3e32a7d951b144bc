"""Paths with placeholders: what they may become, whatever an event is called."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoomrelay.config.path_template import PathTemplate, may_meet, part_pattern, path_template
from zoomrelay.sinks import segment_names as names

TEMPLATE = Path("/log/{source}/{date}/x-{event_family}.{source}.ndjson")
HOSTILE = st.text() | st.text("./\\\0~-_{}a", max_size=300)


def test_filled() -> None:
    filled = PathTemplate(TEMPLATE).fill(20454, "meeting.started", "main")
    assert filled == Path("/log/main/2026-01-01/x-meeting.main.ndjson")


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("meeting", "meeting"),
        ("", "_"),
        ("..", "_"),
        ("../../etc/passwd", "_"),
        ("/etc/passwd", "_etc_passwd"),
        ("a/../b.c", "a_"),
        ("{source}.x", "_source_"),
        ("\ud83d\0\n", "___"),
        ("é" * 100, "_" * 64),
    ],
)
def test_names_are_made_safe(name: str, family: str) -> None:
    assert PathTemplate(Path("/log/{event_family}")).fill(0, name, "main") == Path("/log") / family


@given(day=st.integers(-(2**63), 2**63), name=HOSTILE, source=HOSTILE)
def test_nothing_leaves_the_folder(day: int, name: str, source: str) -> None:
    template = PathTemplate(TEMPLATE)
    filled = template.fill(day, name, source)
    assert filled.parts[:2] == ("/", "log") == template.root.parts
    assert len(filled.parts) == len(TEMPLATE.parts)
    assert not {"..", ".", ""} & set(filled.parts)
    date.fromisoformat(filled.parts[3])
    assert all(part.isascii() and part.isprintable() and len(part.encode()) <= 200 for part in filled.parts)


@given(day=st.integers(0, 100_000), name=HOSTILE, source=HOSTILE, wall_ms=st.integers(0, 10**14))
def test_what_was_written_is_recognised_later(day: int, name: str, source: str, wall_ms: int) -> None:
    last = TEMPLATE.name
    filled = PathTemplate(TEMPLATE).fill(day, name, source)
    ended = names.finished(filled, wall_ms)
    assert names.is_part(names.part(filled).name, last)
    assert names.is_full(ended.name + ".full", last)
    assert names.is_tmp(ended.name + ".gz.12-3.tmp", last)
    for other in (filled.name, ended.name, ended.name + ".gz"):
        assert not any(test(other, last) for test in (names.is_part, names.is_full, names.is_tmp))
    assert names.compiled(part_pattern(TEMPLATE.parts[2])).fullmatch(filled.parts[2])


@pytest.mark.parametrize(
    "text", ["/log/{hour}", "/log/{}", "/log/{date", "/log/date}", "/log/{{date}}", "/log/{date:%Y}"]
)
def test_only_known_placeholders(text: str) -> None:
    with pytest.raises(ValueError, match=r"\{date\}, \{event_family\} and \{source\}"):
        path_template(Path(text))


@pytest.mark.parametrize("text", ["/log/{date}/../x", "../{date}", "/log/../{source}/x"])
def test_no_way_up(text: str) -> None:
    with pytest.raises(ValueError, match=r'must not hold "\.\."'):
        path_template(Path(text))


@pytest.mark.parametrize(
    ("one", "other", "meets"),
    [
        ("/log/a", "/log/a", True),
        ("/log/a", "/log/b", False),
        ("/log/{source}", "/log/a", True),
        ("/log/{source}", "/log/a/b", False),
        ("/log/{source}", "/log/a.b", False),
        ("/log/{source}.x", "/log/{event_family}.x", True),
        ("/log/a-{source}", "/log/b-{source}", False),
        ("/log/a-{source}", "/log/{event_family}-b", True),
        ("/log/{date}", "/log/2026-01-01", True),
        ("/log/{date}", "/log/2026-1-1", False),
        ("/log/{date}/{source}", "/log/{source}/{date}", True),
        ("/log/{date}", "/log/x{source}", False),
        ("/log/{source}", "/log/", False),
    ],
)
def test_do_two_templates_meet(one: str, other: str, meets: bool) -> None:
    assert may_meet(Path(one), Path(other)) is meets
    assert may_meet(Path(other), Path(one)) is meets
