"""Which files hold secrets, and that the relay says so where everybody can read one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.process import environment
from zoomrelay import causes
from zoomrelay.config.secret_files import open_to_all, secret_files

INLINE = '[sources.main]\nclient_id = "c"\nclient_secret = "planted-secret"\n'
FROM_FILE = '[sources.main]\nclient_id = "c"\nclient_secret_file = "{0}/secret"\n'
SINK = '[sinks.crm]\ntype = "http"\nurl = "https://crm.example/"\n'


@pytest.mark.parametrize(
    ("text", "files"),
    [
        (INLINE, {"zoomrelay.toml"}),
        (FROM_FILE, {"secret"}),
        (FROM_FILE + SINK, {"secret"}),
        (FROM_FILE + SINK + 'headers = { x-key = "planted" }\n', {"secret", "zoomrelay.toml"}),
        (FROM_FILE + SINK + 'headers = { x-key_file = "{0}/key" }\n', {"secret", "key"}),
        (FROM_FILE + SINK + 'cert_file = "{0}/cert"\nkey_file = "{0}/key"\n', {"secret", "key"}),
        (FROM_FILE + SINK + 'cert_file = "{0}/cert"\n', {"secret", "cert"}),
        (FROM_FILE + '[admin]\nping_url = "https://a.example/"\n', {"secret", "zoomrelay.toml"}),
        (FROM_FILE + '[admin]\nping_url_file = "{0}/url"\n', {"secret", "url"}),
    ],
)
def test_files_in_which_a_secret_stands(load_text, tmp_path: Path, text: str, files: set[str]) -> None:
    for name in ("secret", "key", "cert"):
        (tmp_path / name).write_text("planted")
    (tmp_path / "url").write_text("https://a.example/planted")
    found = secret_files(load_text(text.replace("{0}", str(tmp_path))), environ={})
    assert {file.name for file in found} == files


def test_what_a_service_manager_keeps_for_us_is_its_own_business(load_text, tmp_path: Path) -> None:
    kept = tmp_path / "credentials"
    kept.mkdir()
    (kept / "sources.main.client_secret").write_text("planted")
    environ = {"CREDENTIALS_DIRECTORY": str(kept)}
    loaded = load_text('[sources.main]\nclient_id = "c"\n', environ)
    assert secret_files(loaded, environ) == []


def test_the_group_may_read(tmp_path: Path) -> None:
    for mode in (0o600, 0o640, 0o644, 0o604):
        (tmp_path / f"{mode:o}").write_text("x")
        (tmp_path / f"{mode:o}").chmod(mode)
    files = [tmp_path / "600", tmp_path / "640", tmp_path / "644", tmp_path / "604", tmp_path / "none"]
    assert open_to_all(files) == [str(tmp_path / "644"), str(tmp_path / "604")]


@pytest.mark.parametrize(("mode", "told"), [(0o640, False), (0o644, True)])
def test_the_relay_says_so_at_its_start(tmp_path: Path, mode: int, told: bool) -> None:
    secret, file = tmp_path / "secret", tmp_path / "zoomrelay.toml"
    secret.write_text("planted-secret")
    secret.chmod(mode)
    (tmp_path / "state").write_text("no directory: it ends here")
    file.write_text(f'state_dir = "{tmp_path}/state"\n' + FROM_FILE.replace("{0}", str(tmp_path)))
    ended = subprocess.run(
        [sys.executable, "-m", "zoomrelay", "run", "--config", str(file)],
        env=environment({}),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 78
    lines = [json.loads(line) for line in ended.stderr.splitlines() if line.startswith("{")]
    about = [line for line in lines if line["event"] == "config.secrets_exposed"]
    assert [line["files"] for line in about] == ([[str(secret)]] if told else [])
    assert all(line["cure"] == causes.SECRET_OPEN.cure for line in about)
    assert "planted" not in ended.stderr
