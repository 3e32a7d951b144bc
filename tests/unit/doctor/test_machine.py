"""This machine: directory, lock, spool, files; nothing is made or changed by looking."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from zoomrelay.clock import SystemClock
from zoomrelay.config.load import load
from zoomrelay.config.models import Config
from zoomrelay.doctor.finding import Report, Verdict
from zoomrelay.doctor.machine import Machine
from zoomrelay.doctor.walk import walk
from zoomrelay.spool.sqlite import SqliteSpool


@pytest.fixture
def state(tmp_path: Path) -> Path:
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700)
    return directory


def config(tmp_path: Path) -> Config:
    file = tmp_path / "zoomrelay.toml"
    file.write_text(
        f'state_dir = "{tmp_path}/state"\nspool = {{ max_bytes = "16MiB" }}\n'
        '[sources.main]\nclient_id = "a"\nclient_secret = "planted-secret"\n'
    )
    return load(file, environ={}).config


async def looked(tmp_path: Path, *files: Path) -> dict[str, Report]:
    machine = Machine(config(tmp_path), files)
    return {report.step: report async for report in walk(machine.steps)}


def tree(path: Path) -> list[tuple[str, int, int]]:
    return [(str(one), one.lstat().st_mode, one.lstat().st_mtime_ns) for one in sorted(path.rglob("*"))]


async def spool_at(state: Path) -> None:
    spool = SqliteSpool(state, max_bytes=2**20, clock=SystemClock())
    await spool.open([])
    await spool.close()


@contextmanager
def held(state: Path) -> Iterator[None]:
    """As by a relay that does not answer."""
    descriptor = os.open(state / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


async def test_nothing_there_yet(tmp_path: Path) -> None:
    found = await looked(tmp_path)
    assert {name: report.verdict.value for name, report in found.items()} == {
        "secret_files": "pass",
        "state_directory": "pass",
        "lock": "pass",
        "relay": "skipped",
        "spool": "pass",
    }
    assert not (tmp_path / "state").exists()


async def test_a_sound_directory_is_left_as_it_is(tmp_path: Path, state: Path) -> None:
    await spool_at(state)
    (state / "lock").touch(mode=0o600)
    before = tree(state)
    found = await looked(tmp_path)
    assert [report.verdict for name, report in found.items() if name != "relay"] == [Verdict.PASS] * 4
    assert "head and tail are sound" in found["spool"].detail
    assert tree(state) == before


async def test_a_directory_without_anything_in_it_stays_so(tmp_path: Path, state: Path) -> None:
    await looked(tmp_path)
    assert tree(state) == []


@pytest.mark.parametrize(("mode", "file"), [(0o755, ""), (0o700, "gaps.ndjson")])
async def test_what_others_may_open(tmp_path: Path, state: Path, mode: int, file: str) -> None:
    state.chmod(mode)
    if file:
        (state / file).touch(mode=0o644)
    found = await looked(tmp_path)
    report = found["state_directory"]
    assert (report.verdict, report.reason) == (Verdict.WARN, "state_open")
    assert str(state / file if file else state) in report.detail


async def test_no_directory_but_a_file(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    found = await looked(tmp_path)
    assert (found["state_directory"].verdict, found["state_directory"].reason) == (Verdict.FAIL, "state_dir")


async def test_too_little_room(tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoomrelay.doctor.machine._free_bytes", lambda path: 2**20)
    assert (await looked(tmp_path))["state_directory"].reason == "disk_full"


async def test_room_for_less_than_the_spool_may_take(
    tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoomrelay.doctor.machine._free_bytes", lambda path: 2**28)
    whole = config(tmp_path)
    large = whole.model_copy(update={"spool": whole.spool.model_copy(update={"max_bytes": 2**30})})
    finding = await Machine(large, []).state_directory()
    assert (finding.verdict, finding.reason) == (Verdict.WARN, "disk_small")


async def test_somebody_holds_it_and_is_mute(tmp_path: Path, state: Path) -> None:
    await spool_at(state)
    with held(state):
        machine = Machine(config(tmp_path), [])
        found = {report.step: report async for report in walk(machine.steps)}
        assert machine.held and machine.relay is None
    assert (found["lock"].verdict, found["lock"].reason) == (Verdict.WARN, "relay_mute")
    assert found["relay"].verdict is found["spool"].verdict is Verdict.SKIPPED
    machine = Machine(config(tmp_path), [])
    assert machine.held, "until somebody has looked"
    await machine.lock()
    assert not machine.held


async def test_a_damaged_spool(tmp_path: Path, state: Path) -> None:
    (state / "spool.sqlite").write_bytes(b"SQLite format 3\0" + b"planted rubbish" * 1000)
    before = (state / "spool.sqlite").read_bytes()
    found = await looked(tmp_path)
    assert (found["spool"].verdict, found["spool"].reason) == (Verdict.FAIL, "spool_damaged")
    assert (state / "spool.sqlite").read_bytes() == before


async def test_a_spool_of_a_newer_version(tmp_path: Path, state: Path) -> None:
    await spool_at(state)
    with closing(sqlite3.connect(state / "spool.sqlite")) as connection:
        connection.execute("PRAGMA user_version = 99")
    found = await looked(tmp_path)
    assert (found["spool"].verdict, found["spool"].reason) == (Verdict.FAIL, "spool_foreign")


@pytest.mark.parametrize(
    ("mode", "verdict"), [(0o600, Verdict.PASS), (0o640, Verdict.PASS), (0o644, Verdict.WARN)]
)
async def test_files_of_secrets(tmp_path: Path, mode: int, verdict: Verdict) -> None:
    secret = tmp_path / "client_secret"
    secret.write_text("planted-secret")
    secret.chmod(mode)
    report = (await looked(tmp_path, secret))["secret_files"]
    assert report.verdict is verdict
    assert "planted" not in repr(report)
