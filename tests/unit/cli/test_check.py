"""`zoomrelay check`, and what is common to all commands: exit codes, help, crashes."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from zoomrelay import __version__
from zoomrelay.cli import entry, exits
from zoomrelay.cli.commands import COMMANDS, Entry
from zoomrelay.errors import SpoolFormatError, StateDirectoryError

CONFIG = """
drain_seconds = 7
[sources.main]
account_id = "account-12345"
client_id = "client-12345"
client_secret = "planted-secret"
subscriptions = ["wss://ws.zoom.us/ws?subscriptionId=abc&access_token=planted-token"]
secret_token = "planted-verify"
[admin]
bearer_token = "planted-admin-token"
ping_url = "https://alive.example/planted-ping"
[sinks.crm]
type = "http"
url = "https://crm.example/zoom?key=planted-key"
"""
PLANTED = (
    "planted-secret",
    "planted-token",
    "planted-verify",
    "planted-key",
    "planted-admin",
    "planted-ping",
    "account-12345",
)


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with nothing in it, and none of this machine's variables."""
    monkeypatch.chdir(tmp_path)
    for name in list(__import__("os").environ):
        if name.startswith(("ZOOM", "CREDENTIALS_DIRECTORY", "STATE_DIRECTORY")):
            monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "zoomrelay.toml"
    file.write_text(CONFIG, encoding="utf-8")
    return file


def test_it_prints_the_effective_configuration(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.run(["check"]) == exits.OK
    printed, errors = capsys.readouterr()
    document = tomllib.loads(printed)
    assert document["drain_seconds"] == 7
    assert document["spool"] == {"type": "sqlite", "max_bytes": "1GiB", "retain_seconds": 0}
    assert document["sources"]["main"]["client_secret"] == "***"
    assert document["sources"]["main"]["account_id"] == "acc…"
    assert document["sinks"]["crm"]["url"] == "https://crm.example/zoom?key=***"
    assert document["admin"]["bearer_token"] == document["admin"]["ping_url"] == "***"
    assert "drain_seconds = 7" in printed and "# zoomrelay.toml" in printed and "# default" in printed
    assert "291.3 h at 1/s, 29.1 h at 10/s, 2.9 h at 100/s" in printed
    assert errors == "" and not any(secret in printed for secret in PLANTED)


def test_what_it_prints_could_be_loaded(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Masks aside, the output is the configuration: it passes the same check, and prints the same."""
    entry.run(["check"])
    printed = capsys.readouterr().out
    printed = printed.replace('ping_url = "***"', 'ping_url = "https://alive.example/planted-ping"')
    config.write_text(
        printed.replace("acc…", "account-12345").replace('"***"', '"planted-secret-of-some-kind"')
    )
    assert entry.run(["check"]) == exits.OK
    again = capsys.readouterr().out
    again = again.replace('ping_url = "***"', 'ping_url = "https://alive.example/planted-ping"')
    assert tomllib.loads(again) == tomllib.loads(printed)


def test_it_prints_json(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.run(["check", "--json", "--config", str(config)]) == exits.OK
    printed = capsys.readouterr().out
    document = json.loads(printed)
    assert document["valid"] is True and document["file"] == str(config)
    assert document["settings"]["drain_seconds"] == {"value": 7, "origin": str(config)}
    assert document["settings"]["sources.main.client_secret"]["value"] == "***"
    assert document["outage_hours"] == {"1": 291.27, "10": 29.13, "100": 2.91}
    assert not any(secret in printed for secret in PLANTED)


def test_it_creates_nothing(config: Path, tmp_path: Path) -> None:
    entry.run(["check"])
    assert list(tmp_path.iterdir()) == [config]


def test_all_problems_go_to_standard_error(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(CONFIG + 'client_secrte = "planted-secret"\n[spool]\ntype = "x"\n')
    assert entry.run(["check"]) == exits.CONFIG == 78
    printed, errors = capsys.readouterr()
    assert printed == ""
    assert errors.splitlines() == [
        "zoomrelay: the configuration has 2 problems",
        "  spool.type: must be 'sqlite' or 'memory'",
        "  sinks.crm.client_secrte: is not a setting (known here: "
        "events, sources, gap_events, format, privacy, start, type, url, ordering, concurrency, "
        "timeout_seconds, give_up_after_seconds, deadline_seconds, dead_letter_on, max_rate, "
        "secret_token, validate, "
        "cloudevents_mode, batch_events, batch_bytes, batch_seconds, compression, headers, username, "
        "password, bearer_token, proxy, ca_file, cert_file, key_file, secret_token_file, password_file, "
        "bearer_token_file)",
    ]


def test_problems_as_json(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(CONFIG + '[log]\nlevl = "info"\n')
    assert entry.run(["check", "--json"]) == exits.CONFIG
    printed, errors = capsys.readouterr()
    assert json.loads(printed) == {
        "valid": False,
        "problems": [{"where": "log.levl", "what": "is not a setting", "cure": "did you mean level?"}],
    }
    assert "the configuration has 1 problem\n" in errors


def test_a_missing_file_is_a_problem(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.run(["check", "--config", "missing.toml"]) == exits.CONFIG
    assert "missing.toml: there is no such file (named by --config)" in capsys.readouterr().err


# --- common to all commands ---------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["chek"], ["check", "--confg", "x"], ["check", "extra"], []])
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.run(arguments) == exits.USAGE == 2
    assert "Usage: zoomrelay" in "".join(capsys.readouterr())


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.run(["--version"]) == exits.OK
    assert capsys.readouterr().out == f"zoomrelay {__version__}\n"


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.run(["--help"]) == exits.OK
    printed = capsys.readouterr().out
    assert all(name in printed and line.help[:40] in printed for name, line in COMMANDS.items())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_table_can_be_called(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.run([name, "--help"]) == exits.OK
    assert f"Usage: zoomrelay {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "error", [StateDirectoryError("the state directory is in use"), SpoolFormatError("a newer format")]
)
def test_what_needs_somebody_exits_78(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(entry, "_imported", lambda target: fail)
    assert entry.run(["check"]) == 78
    assert capsys.readouterr().err == f"zoomrelay: {error}\n"


def test_a_command_may_be_a_group(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import typer

    group = typer.Typer()
    group.command("list")(lambda: typer.echo("listed"))
    group.command("show")(lambda: typer.echo("shown"))
    monkeypatch.setitem(COMMANDS, "things", Entry("somewhere:group", "Things."))
    monkeypatch.setattr(entry, "_imported", lambda target: group)
    assert entry.run(["things", "list"]) == exits.OK
    assert capsys.readouterr().out == "listed\n"


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)


def test_a_crash_exits_1_with_a_redacted_traceback() -> None:
    done = run_python(
        "from zoomrelay.cli import entry\n"
        "def fail(): raise RuntimeError('wss://host/ws?access_token=planted-token')\n"
        "entry._imported = lambda target: fail\n"
        "import sys; sys.argv = ['zoomrelay', 'check']\n"
        "entry.main()\n"
    )
    assert done.returncode == exits.CRASH == 1
    document = json.loads(done.stderr)
    assert (
        document["event"] == "crash"
        and "RuntimeError: wss://host/ws?access_token=***" in document["exception"]
    )
    assert "planted-token" not in done.stdout + done.stderr


def test_help_imports_nothing_heavy() -> None:
    done = run_python(
        "import sys\n"
        "from zoomrelay.cli import entry\n"
        "assert entry.run(['--help']) == 0\n"
        "heavy = {'pydantic', 'structlog', 'aiohttp', 'httpx', 'websockets', 'prometheus_client', 'rich'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    assert done.stderr.strip() == "[]"


def test_python_m_zoomrelay() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "zoomrelay", "--version"], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout) == (0, f"zoomrelay {__version__}\n")
