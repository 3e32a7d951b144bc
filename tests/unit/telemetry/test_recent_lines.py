"""The last lines of the log: bounded, without secrets, without what libraries carry."""

from __future__ import annotations

import json
import logging
import stat
from pathlib import Path

import pytest
import structlog

from tests.unit.telemetry.test_logs import logging_to_a_string
from zoomrelay.telemetry import logs
from zoomrelay.telemetry.recent_lines import LONGEST_CHARACTERS, SAVED, RecentLines


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> RecentLines:
    fresh = RecentLines()
    monkeypatch.setattr(logs, "recent_lines", fresh)
    return fresh


@pytest.mark.parametrize("format", ["json", "console"])
def test_lines_are_kept_as_json_whatever_is_shown(kept: RecentLines, format: str) -> None:
    with logging_to_a_string(format=format):
        structlog.get_logger("zoomrelay.test").info("session.accepted", source="main")
        structlog.get_logger("zoomrelay.test").debug("too.quiet")
    (line,) = kept.text().splitlines()
    assert json.loads(line)["event"] == "session.accepted"


def test_at_debug_what_libraries_carry_is_not_kept(kept: RecentLines) -> None:
    with logging_to_a_string(level="debug", format="json") as shown:
        logging.getLogger("websockets.client").debug("< TEXT %s", '{"email":"jane@example.org"}')
        logging.getLogger("zoomrelayed").info("not ours")
        logging.getLogger("websockets.client").warning("a library warns")
        structlog.get_logger("zoomrelay.test").debug("ours")
    assert "jane@example.org" in shown.getvalue()
    assert [json.loads(line)["event"] for line in kept.text().splitlines()] == ["a library warns", "ours"]


def test_secrets_are_masked(kept: RecentLines) -> None:
    logs.protect("planted-secret-of-lines")
    with logging_to_a_string(format="json"):
        structlog.get_logger("zoomrelay.test").error("x", error="planted-secret-of-lines")
    assert "***" in kept.text() and "planted" not in kept.text()


def test_the_oldest_lines_go() -> None:
    lines = RecentLines(100)
    for number in range(50):
        lines.write(f"line {number}\n")
    text = lines.text()
    assert len(text) <= 100 and text.endswith("line 48\nline 49\n") and "line 30" not in text


def test_a_long_line_is_cut() -> None:
    lines = RecentLines()
    lines.write("x" * 100_000 + "\n")
    assert lines.text() == "x" * LONGEST_CHARACTERS + "\n"


def test_they_are_left_behind_for_the_owner_only(tmp_path: Path) -> None:
    lines = RecentLines()
    lines.write("a lone \udcff\n")
    lines.save(tmp_path)
    lines.write("b\n")
    lines.save(tmp_path)
    assert (tmp_path / SAVED).read_text() == "a lone ?\nb\n"
    assert stat.S_IMODE((tmp_path / SAVED).stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == [SAVED]
