"""`zoomrelay bundle` where there is little to be had: it writes what there is, and says what is missing."""

from __future__ import annotations

import socket
import stat
import tarfile
from pathlib import Path

import pytest

from zoomrelay.cli import diagnosis, entry, exits
from zoomrelay.privacy.text import without_contacts

CONFIG = """
[sources.main]
account_id = "account-12345"
client_id = "client-12345"
client_secret = "planted-secret"
subscriptions = ["abc"]
"""


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in list(__import__("os").environ):
        if name.startswith(("ZOOM", "CREDENTIALS_DIRECTORY", "STATE_DIRECTORY")):
            monkeypatch.delenv(name)
    (tmp_path / "zoomrelay.toml").write_text(CONFIG)
    return tmp_path


def held(file: Path) -> dict[str, str]:
    with tarfile.open(file) as tar:
        return {
            member.name.removeprefix("zoomrelay-bundle/"): (tar.extractfile(member) or pytest.fail())
            .read()
            .decode()
            for member in tar
        }


def test_before_any_relay_has_run(alone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.run(["bundle", "--no-doctor"]) == exits.OK
    (file,) = alone.glob("zoomrelay-bundle-*.tar.gz")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    found = held(file)
    assert set(found) == {"README.txt", "version.txt", "config.toml"}
    for name in ("status.json", "gaps.ndjson", "files.txt"):
        line = next(line for line in found["README.txt"].splitlines() if name in line)
        assert "there is no state directory" in line
    assert "left out by --no-doctor" in found["README.txt"]
    told = capsys.readouterr().out
    assert told.startswith(f"{file.name}, ") and "there is no state directory" in told
    assert not (alone / "zoomrelay-state").exists()


def test_an_invalid_configuration_is_a_part_of_it(alone: Path) -> None:
    (alone / "zoomrelay.toml").write_text(CONFIG + 'clientsecret = "planted-misspelt"\n')
    (alone / "zoomrelay-state").mkdir()
    assert entry.run(["bundle", "--output", "b.tar.gz"]) == exits.OK
    found = held(alone / "b.tar.gz")
    assert "# It is invalid:" in found["config.toml"] and "sources.main.clientsecret" in found["config.toml"]
    assert "doctor.txt  " in found["README.txt"] and "the configuration is invalid" in found["README.txt"]
    assert "files.txt" in found
    assert not [text for text in found.values() if "planted" in text]


def test_no_configuration_at_all(alone: Path) -> None:
    (alone / "zoomrelay.toml").write_text("nonsense")
    assert entry.run(["bundle", "--output", "b.tar.gz"]) == exits.OK
    assert set(held(alone / "b.tar.gz")) == {"README.txt", "version.txt", "config.toml"}


def test_what_stands_there_is_replaced_whole(alone: Path) -> None:
    (alone / "b.tar.gz").write_text("old")
    (alone / "b.tar.gz").chmod(0o644)
    assert entry.run(["bundle", "--no-doctor", "--output", "b.tar.gz"]) == exits.OK
    assert held(alone / "b.tar.gz") and stat.S_IMODE((alone / "b.tar.gz").stat().st_mode) == 0o600
    assert not list(alone.glob(".b.tar.gz*"))


@pytest.mark.parametrize("output", ["nowhere/b.tar.gz", "taken"])
def test_where_it_cannot_be_written(alone: Path, output: str, capsys: pytest.CaptureFixture[str]) -> None:
    (alone / "taken").mkdir()
    assert entry.run(["bundle", "--no-doctor", "--output", output]) == exits.USAGE
    assert "--output" in capsys.readouterr().err
    assert not list(alone.glob(".taken*"))


def test_a_relay_that_does_not_answer_is_asked_once(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "_ASK_SECONDS", 0.2)
    state = alone / "zoomrelay-state"
    (state / "stalls").mkdir(parents=True)
    (state / "stalls" / "20260101T000000Z.txt").write_text("thread MainThread")
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(state / "control.sock"))
        hung.listen(16)
        found = {part.name: part for part in diagnosis.parts(None, examine=False, announce=pytest.fail)}
        hung.setblocking(False)
        hung.accept()[0].close()
        with pytest.raises(BlockingIOError):
            hung.accept()
    for name in ("status.json", "metrics.txt", "stacks.txt"):
        assert "did not answer within 0.2 s" in found[name].missing
    assert "none that ended by itself" in found["log.ndjson"].missing
    assert found["stalls/20260101T000000Z.txt"].text == "thread MainThread"


def test_contacts_are_known_by_their_looks() -> None:
    text = (
        "ask jane.o'neill+x@mail.example.org (+49 (0)30 123-4567) at 2026-01-01T00:00:00+00:00, 1.7e+09, a@b"
    )
    masked = without_contacts(text)
    assert masked == "ask jane.o'*** (***) at 2026-01-01T00:00:00+00:00, 1.7e+09, a@b"
    assert without_contacts("x" * 200_000) == "x" * 200_000
