"""`zoomrelay status` where there is no relay, and its tables; with one: tests/integration/test_admin.py."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from tests.unit.admin.fakes import lost_path, sink, source, status
from zoomrelay.cli import entry, exits
from zoomrelay.cli import status as command
from zoomrelay.cli.status_view import tables


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "zoomrelay.toml"
    file.write_text(
        f'state_dir = "{tmp_path}/state"\n'
        '[sources.main]\nclient_id = "client"\nclient_secret = "secret"\nsubscriptions = ["Sub0"]\n'
    )
    return file


def test_no_state_directory_is_named_and_not_created(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry.run(["status", "--config", str(config)]) == exits.CONFIG
    assert str(config.parent / "state") in capsys.readouterr().err
    assert not (config.parent / "state").exists()


def test_no_relay(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (config.parent / "state").mkdir()
    assert entry.run(["status", "--config", str(config)]) == command.NOT_READY
    out, err = capsys.readouterr()
    assert out == "" and "no relay is running on" in err


@pytest.mark.parametrize("flag", ["", "--json"])
def test_watching_outlives_a_relay_and_ends_with_ctrl_c(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, flag: str
) -> None:
    seconds = iter(range(2))

    def sleep(_seconds: float) -> None:
        if next(seconds, None) is None:
            raise KeyboardInterrupt

    monkeypatch.setattr(command.time, "sleep", sleep)
    (config.parent / "state").mkdir()
    arguments = ["status", "--config", str(config), "--watch", *filter(None, [flag])]
    assert entry.run(arguments) == exits.OK
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and all("no relay is running" in line for line in lines)
    if flag:
        assert json.loads(lines[0])["ready"] is False


def test_tables_take_no_word_for_markup() -> None:
    evil = "[red]not markup[/red]"
    now = status(
        sources=[source(lost_path(last_error=evil)), source(name="other")],
        sinks=[sink(last_error=evil, ok=False)],
    )
    out = io.StringIO()
    Console(file=out, width=160, highlight=False).print(tables(now))
    text = out.getvalue()
    assert text.count(evil) == 2
    assert "Sub0" in text and "attempt 4 in 30 s" in text and "unaccounted for 0" in text
