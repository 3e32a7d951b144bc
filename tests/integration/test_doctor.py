"""`zoomrelay doctor` as a whole: beside a relay, on a machine with nothing, as a command."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.examined import configured, examine, toml, troubles, without_proxies
from tests.support.fronted import running
from zoomrelay.clock import SystemClock
from zoomrelay.doctor.finding import Report, Verdict
from zoomrelay.simulator.server import Simulator


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    without_proxies(monkeypatch)


def by_step(reports: list[Report]) -> dict[str, Report]:
    return {report.step: report for report in reports}


# --- beside a relay -------------------------------------------------------------------------------------


async def test_a_running_relay_is_asked_and_keeps_its_socket(tmp_path: Path) -> None:
    async with Simulator() as zoom:
        config = configured(toml(zoom, tmp_path), tmp_path)
        async with running(tmp_path / "zoomrelay.toml") as one:
            await one.until_ready(True)
            announced: list[str] = []
            reports = await examine(config, announced=announced)
            assert len(zoom.journal.connections) == zoom.accepted == 1
            assert zoom.token_requests == 1, "its token is shared"
            assert announced == []
    assert troubles(reports) == []
    found = by_step(reports)
    assert found["accept"].detail.startswith("the relay listens on it")
    assert "shared with the relay" in found["token"].detail
    assert found["relay"].verdict is found["backlog"].verdict is Verdict.PASS
    assert "upgrade" not in found


async def test_what_ails_a_running_relay_is_told_by_it(tmp_path: Path) -> None:
    async with Simulator() as zoom:
        zoom.faults.refuse = "No such thing"
        config = configured(toml(zoom, tmp_path), tmp_path)
        async with running(tmp_path / "zoomrelay.toml") as one:
            async with asyncio.timeout(10):
                await zoom.until(lambda: any(one.ending == "refused" for one in zoom.journal.connections))
                while not one.relay.status().sources[0].paths[0].last_error:  # noqa: ASYNC110 - nobody says so
                    await asyncio.sleep(0.01)
            reports = await examine(config)
    assert troubles(reports) == [("relay", "fail", "relay_trouble"), ("accept", "fail", "refused")]
    assert "No such thing" in by_step(reports)["accept"].detail


async def test_a_relay_that_starts_meanwhile_keeps_its_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoomrelay.doctor.examination.Examination._free", lambda self: False)
    async with Simulator() as zoom:
        reports = await examine(configured(toml(zoom, tmp_path), tmp_path))
        assert zoom.journal.connections == []
    assert by_step(reports)["upgrade"].verdict is by_step(reports)["heartbeat"].verdict is Verdict.SKIPPED


# --- on a machine with nothing ----------------------------------------------------------------------------


async def test_nothing_is_created(tmp_path: Path) -> None:
    async with Simulator() as zoom:
        announced: list[str] = []
        config = configured(toml(zoom, tmp_path), tmp_path)
        assert troubles(await examine(config, announced=announced)) == []
        assert announced == list(zoom.subscriptions)
    assert [path.name for path in tmp_path.iterdir()] == ["zoomrelay.toml"]


async def test_what_was_mended_is_seen_at_once(tmp_path: Path) -> None:
    """Though a relay would wait for minutes after such a refusal."""
    (tmp_path / "state").mkdir(mode=0o700)
    async with Simulator() as zoom:
        config = configured(toml(zoom, tmp_path), tmp_path)
        zoom.faults.token_error = "app_disabled"
        assert troubles(await examine(config)) == [("token", "fail", "app_disabled")]
        zoom.faults.clear()
        assert troubles(await examine(config)) == []


async def test_a_clock_that_is_ten_minutes_fast(tmp_path: Path) -> None:
    class Fast(SystemClock):
        def wall(self) -> float:
            return super().wall() + 600

    async with Simulator() as zoom:
        reports = await examine(configured(toml(zoom, tmp_path), tmp_path), clock=Fast())
    assert troubles(reports) == [("clock", "warn", "clock_off")]
    assert by_step(reports)["clock"].detail.endswith("s fast, by the token endpoint's")


async def test_no_zoom_at_all(tmp_path: Path) -> None:
    async with Simulator() as zoom:
        config = configured(toml(zoom, tmp_path), tmp_path)
    reports = await examine(config)
    assert {report.reason for report in reports if report.verdict is Verdict.FAIL} == {"tcp"}
    found = by_step(reports)
    assert found["token"].detail.startswith("tcp of 127.0.0.1:")
    assert found["token"].verdict is found["app"].verdict is found["accept"].verdict is Verdict.SKIPPED


async def test_one_source_of_several(tmp_path: Path) -> None:
    async with Simulator() as zoom:
        other = '[sources.other]\nclient_id = "b"\nclient_secret = "c"\nmax_message_bytes = "256KiB"'
        config = configured(toml(zoom, tmp_path, more=other), tmp_path)
        reports = await examine(config, sources=["main"])
    assert {report.source for report in reports} == {"", "main"}
    assert {report.sink for report in reports} == {""}


# --- the command ------------------------------------------------------------------------------------------


async def doctor(directory: Path, *arguments: str) -> tuple[int, str, str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ZOOM")}
    command = [sys.executable, "-m", "zoomrelay", "doctor", *arguments]
    done = await asyncio.to_thread(
        subprocess.run, command, cwd=directory, env=environ, capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout, done.stderr


async def test_the_command(tmp_path: Path) -> None:
    async with Simulator() as zoom:
        (tmp_path / "zoomrelay.toml").write_text(toml(zoom, tmp_path))
        (tmp_path / "zoomrelay.toml").chmod(0o644)
        code, printed, errors = await doctor(tmp_path)
        assert code == 0, printed + errors
        zoom.faults.token_error = "app_disabled"
        json_code, json_printed, json_errors = await doctor(tmp_path, "--json")
    lines = printed.splitlines()
    assert lines[0].split()[:2] == ["pass", "configuration:"]
    assert lines[-1] == "19 pass, 1 warn, 1 skipped" and "secret_open: chmod o=" in printed
    assert f"on {zoom.subscriptions[0]}. Another program that has it is displaced" in errors
    assert json_code == 1 and "displaced" in json_errors
    steps: list[dict[str, Any]] = json.loads(json_printed)
    (failed,) = (step for step in steps if step["verdict"] == "fail")
    assert (failed["step"], failed["source"], failed["reason"]) == ("token", "main", "app_disabled")
    assert "activate the app" in failed["cure"]
    shown = printed + errors + json_printed + json_errors
    assert zoom.credentials.client_secret not in shown and zoom.credentials.account_id not in shown


async def test_an_invalid_configuration(tmp_path: Path) -> None:
    (tmp_path / "zoomrelay.toml").write_text('[sources.main]\nclient_id = "a"\nclient_secrte = "planted"\n')
    code, printed, errors = await doctor(tmp_path, "--json")
    assert code == 78
    steps = json.loads(printed)
    assert {(step["step"], step["verdict"], step["reason"]) for step in steps} == {
        ("configuration", "fail", "configuration")
    }
    assert "planted" not in printed + errors


async def test_an_unknown_source(tmp_path: Path) -> None:
    (tmp_path / "zoomrelay.toml").write_text('[sources.main]\nclient_id = "a"\nclient_secret = "b"\n')
    code, _, errors = await doctor(tmp_path, "--source", "mian")
    assert code == 2 and "known: main" in errors
