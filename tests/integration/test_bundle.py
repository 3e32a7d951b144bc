"""A support archive of a real relay at `log.level = "debug"`: it helps, and gives nothing and nobody away."""

from __future__ import annotations

import asyncio
import base64
import json
import stat
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

from aiohttp import web

from tests.support.lab import STDOUT, Lab
from tests.support.process import environment
from tests.support.receiver import Receiver
from zoomrelay.telemetry.recent_lines import SAVED

PERSON = {
    "host": {"name": "Jane Plantedname", "email": "jane.planted@example.org", "phone": "+1 555 010 4477"},
    "topic": "Planted topic of a meeting",
    "phone_number": "+15550104478",
}
EVENT = {"event": "meeting.started", "event_ts": 1, "payload": {"object": {"uuid": "u", **PERSON}}}
PERSONAL = ("Plantedname", "jane.planted", "555 010", "5550104", "Planted topic", "else.planted", "0104479")
WORDS = "ask else.planted@example.org or +15550104479"
SECRETS = (
    "planted-verify-token",
    "planted-bearer-token",
    "planted-header-secret",
    "planted-path-of-a-webhook",
    "planted-query-value",
    "planted-privacy-key",
)
MORE = """
[sinks.chat]
type = "http"
url = "{url}/services/planted-path-of-a-webhook?token=planted-query-value"
headers = {{"X-Api-Key" = "planted-header-secret"}}
bearer_token = "planted-bearer-token"
dead_letter_on = [404, 422]
[privacy]
key = "planted-privacy-key-planted-privacy-key"
"""


class Echoing(Receiver):
    """Refuses everything, and says what."""

    async def _take(self, request: web.Request) -> web.Response:
        self.requests += 1
        return web.Response(status=422, body=await request.read())


async def test_a_bundle_helps_and_gives_nothing_away(tmp_path: Path) -> None:
    options = "dead_letter_on = [422]"
    async with Lab(tmp_path, seed=1, receiver=(echoing := Echoing()), http_options=options) as lab:
        more = STDOUT + MORE.format(url=echoing.url.removesuffix("/hook"))
        source = f'secret_token = "planted-verify-token"\napi_url = "{lab.zoom.api_url}"'
        lab.configure(more=more, source=source)
        await lab.start()
        await lab.zoom.emit(EVENT)
        await lab.zoom.burst(50)
        await lab.finish()
        lab.zoom.end("close", 1000, WORDS)
        await lab.relay.until(lambda: lab.relay.log("gap.ended"), "the gap")
        await lab.finish()
        libraries = {line["logger"] for line in lab.relay.log() if line["level"] == "debug"}
        assert "httpcore.connection" in libraries
        running = await bundle(lab, "running.tar.gz")
        connections = len(lab.zoom.journal.connections)
        assert second(lab).returncode == 78
        assert not (lab.state_dir / SAVED).exists(), "who could not start leaves no last lines"
        await lab.relay.stop()
        stopped = await bundle(lab, "stopped.tar.gz")
        assert len(lab.zoom.journal.connections) == connections
        for held in (running, stopped):
            assert not leaks(lab, held)
    judge_running(running)
    judge_stopped(stopped)


def second(lab: Lab) -> subprocess.CompletedProcess[bytes]:
    """Another relay on the same state directory."""
    command = [sys.executable, "-m", "zoomrelay", "run", "--config", str(lab.relay.config_file)]
    return subprocess.run(command, env=environment({}), capture_output=True, timeout=60)


async def bundle(lab: Lab, name: str) -> dict[str, str]:
    """What is in it, by name; what the terminal says as `terminal`."""
    command = [sys.executable, "-m", "zoomrelay", "bundle", "--config", str(lab.relay.config_file)]
    ended = await asyncio.to_thread(
        subprocess.run,
        [*command, "--output", name],
        cwd=lab.relay.directory,
        env=environment({}),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    file = lab.relay.directory / name
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    held = {"terminal": ended.stdout + ended.stderr}
    with tarfile.open(file) as tar:
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None and member.mode == 0o600 and not member.uname
            held[member.name.removeprefix("zoomrelay-bundle/")] = content.read().decode()
    return held


def leaks(lab: Lab, held: dict[str, str]) -> list[str]:
    known = lab.zoom.credentials
    basic = base64.b64encode(f"{known.client_id}:{known.client_secret}".encode()).decode()
    secrets = (known.client_secret, known.account_id, basic, "PlantedReceiverKey", *SECRETS, *lab._tokens)
    assert lab._tokens
    return [
        f"{word} in {name}" for name, text in held.items() for word in (*secrets, *PERSONAL) if word in text
    ]


def judge_running(held: dict[str, str]) -> None:
    assert set(held) - {name for name in held if name.startswith("stalls/")} == {
        "terminal",
        "README.txt",
        "version.txt",
        "config.toml",
        "status.json",
        "metrics.txt",
        "stacks.txt",
        "log.ndjson",
        "gaps.ndjson",
        "files.txt",
        "doctor.txt",
    }
    assert "zoomrelay 0." in held["version.txt"] and "aiohttp " in held["version.txt"]
    assert tomllib.loads(held["config.toml"])["sinks"]["chat"]["bearer_token"] == "***"
    assert json.loads(held["status.json"])["sinks"][0]["name"] == "archive"
    assert 'zoomrelay_event_lag_seconds_count{source="main"}' in held["metrics.txt"]
    assert "zoomrelay_loop_stalls_total" in held["metrics.txt"]
    assert "task session.main." in held["stacks.txt"] and "thread MainThread" in held["stacks.txt"]
    happenings = [json.loads(line)["event"] for line in held["log.ndjson"].splitlines()]
    assert '"debug"' not in held["log.ndjson"]
    assert "relay.started" in happenings and "session.closed" in happenings
    (gap,) = [json.loads(line) for line in held["gaps.ndjson"].splitlines()]
    assert gap["cause"] == "closed" and "***" in gap["detail"]
    assert "spool.sqlite" in held["files.txt"] and "bytes of its disk are free" in held["files.txt"]
    assert "the relay says:" in held["doctor.txt"]
    for name in held.keys() - {"terminal"}:
        assert name in held["README.txt"] or name == "README.txt"
        assert name in held["terminal"]


def judge_stopped(held: dict[str, str]) -> None:
    assert not {"status.json", "metrics.txt", "stacks.txt"} & held.keys()
    assert "status.json  " in held["README.txt"] and "no relay is running on" in held["README.txt"]
    assert "the last lines of a relay that ended at" in held["README.txt"]
    assert json.loads(held["log.ndjson"].splitlines()[-1])["event"] == "relay.stopped"
    assert "its socket was left alone" in held["doctor.txt"]
    assert "displaced" not in held["terminal"]
