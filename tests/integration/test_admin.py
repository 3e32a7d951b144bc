"""What a whole relay shows of itself, and takes orders from: real sockets, against the pretend Zoom."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.fronted import Running, running, toml
from zoomrelay.admin.health import Status
from zoomrelay.cli import entry
from zoomrelay.errors import ConfigError, ControlRefused
from zoomrelay.simulator.server import Simulator
from zoomrelay.simulator.tokens import Credentials

PLANTED = Credentials("planted-account-id", "planted-client-id", "planted-client-secret")
EVENT = {"event": "meeting.started", "event_ts": 1, "payload": {"object": {"uuid": "u"}}}


@pytest.fixture
async def zoom() -> AsyncIterator[Simulator]:
    async with Simulator(credentials=PLANTED) as simulator:
        yield simulator


@pytest.fixture
def file(tmp_path: Path, zoom: Simulator) -> Path:
    config = tmp_path / "zoomrelay.toml"
    config.write_text(toml(zoom, tmp_path))
    return config


async def until(happened: Callable[[], object]) -> None:
    async with asyncio.timeout(15):
        while not happened():  # noqa: ASYNC110 - nobody says so
            await asyncio.sleep(0.01)


async def test_ready_follows_zoom(zoom: Simulator, file: Path) -> None:
    zoom.faults.upgrade_status = 503
    async with running(file) as one:
        assert not await one.ready()
        zoom.faults.clear()
        await one.until_ready(True)
        zoom.faults.upgrade_status = 503
        zoom.end("close", 1001, "going away")
        await one.until_ready(False)
        await until(lambda: one.relay.status().sources[0].paths[0].next_attempt_at)
        _, text = await one.get("/readyz")
        (reason,) = json.loads(text)["not_ready_because"]
        assert reason.startswith("source main: no subscription is accepted: ") and "503" in reason
        assert "gap of" in (await one.get("/"))[1]
        assert (await one.get("/livez")) == (200, "ok\n")
        zoom.faults.clear()
        await one.until_ready(True)


async def test_page_and_metrics_count_events(zoom: Simulator, file: Path) -> None:
    async with running(file) as one:
        await one.until_ready(True)
        await zoom.burst(5)
        await until(lambda: one.relay.status().sinks[0].counts.delivered == 5)
        _, page = await one.get("/")
        assert "listening for" in page and "5 events held" in page and "archive" in page
        _, metrics = await one.get("/metrics")
        assert 'zoomrelay_sink_events_total{outcome="delivered",sink="archive"} 5.0' in metrics
        assert 'zoomrelay_conservation_error{sink="archive"} 0.0' in metrics
        assert "zoomrelay_ready 1.0" in metrics


async def test_a_stall_is_counted_and_its_stacks_are_kept(zoom: Simulator, file: Path) -> None:
    file.write_text(toml(zoom, file.parent, listen=""))  # the control socket has the metrics all the same
    async with running(file) as one:
        await until(lambda: one.relay.status().ready)
        stalls = file.parent / "state" / "stalls"
        await asyncio.sleep(0.3)  # a beat of the watch
        deadline = time.monotonic() + 10
        while not list(stalls.glob("*.txt")) and time.monotonic() < deadline:
            stand_still(0.05)
        metrics = await asyncio.to_thread(one.control.text, "/metrics")
        await until(lambda: "task session.main." in next(stalls.glob("*.txt")).read_text())
    assert "in stand_still" in next(stalls.glob("*.txt")).read_text()
    assert re.search(r"^zoomrelay_loop_stalls_total [1-9]", metrics, re.MULTILINE)


def stand_still(seconds: float) -> None:
    time.sleep(seconds)


async def test_the_status_command(zoom: Simulator, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def status(*flags: str) -> tuple[int, str, str]:
        code = await asyncio.to_thread(entry.run, ["status", "--config", str(file), *flags])
        return code, *capsys.readouterr()

    async with running(file) as one:
        await one.until_ready(True)
        code, text, _ = await status()
        assert code == 0
        assert "Ready: every source is listened to" in text
        assert f"{zoom.subscriptions[0]}: listening for" in text
        assert "sink archive (file): ok" in text
        code, text, _ = await status("--json")
        assert code == 0 and json.loads(text)["sinks"][0]["name"] == "archive"
        zoom.faults.upgrade_status = 503
        zoom.end()
        await one.until_ready(False)
        code, text, _ = await status()
        assert code == 1 and "Not ready: source main" in text
    capsys.readouterr()
    code, text, words = await status()
    assert (code, text) == (1, "") and "no relay is running" in words


async def test_the_reload_command(zoom: Simulator, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def reload() -> tuple[int, str, str]:
        code = await asyncio.to_thread(entry.run, ["reload", "--config", str(file)])
        return code, *capsys.readouterr()

    async with running(file) as one:
        await one.until_ready(True)
        assert (await reload())[0] == 0
        file.write_text(toml(zoom, file.parent, listen=""))
        code, told, _ = await reload()
        assert code == 0 and "needs a restart: admin.listen\n" in told
        file.write_text(toml(zoom, file.parent, more="[sinks.more]\ntype = 'nothing'\n"))
        code, _, told = await reload()
        assert code == 78 and "sinks.more" in told
    code, _, told = await reload()
    assert code == 1 and "no relay is running" in told


async def test_a_reload_adds_a_sink_and_touches_no_socket(zoom: Simulator, file: Path) -> None:
    async def reload(one: Running) -> dict[str, Any]:
        answer = await asyncio.to_thread(one.control.post, "/reload", dict[str, Any])
        return {name: names for name, names in answer.items() if names}

    more = file.parent / "more.ndjson"
    added = f'[sinks.more]\ntype = "file"\npath = "{more}"\n'
    async with running(file) as one:
        await one.until_ready(True)
        file.write_text(toml(zoom, file.parent, more=added))
        assert await reload(one) == {"added": ["sinks.more"]}
        await zoom.emit(EVENT)
        await until(lambda: more.exists() and b"meeting.started" in more.read_bytes())
        assert [sink.name for sink in one.front.status().sinks] == ["archive", "more"]

        file.write_text(toml(zoom, file.parent, more=added + 'fsinc = "no"\n'))
        with pytest.raises(ControlRefused, match=r"sinks\.more\.fsinc"):
            await reload(one)
        assert len(one.front.status().sinks) == 2

        file.write_text(toml(zoom, file.parent, listen=""))
        assert await reload(one) == {"removed": ["sinks.more"], "needs_restart": ["admin.listen"]}
        assert [sink.name for sink in one.front.status().sinks] == ["archive"]
        assert 'sink="more"' not in (await one.get("/metrics"))[1]
        assert len(zoom.journal.connections) == 1 and zoom.accepted == 1


async def test_dead_letters_and_gaps_through_the_control_socket(zoom: Simulator, file: Path) -> None:
    async with running(file) as one:
        await one.until_ready(True)
        zoom.end()
        await until(lambda: len(zoom.journal.connections) == 2)
        await one.until_ready(True)
        await until(lambda: (file.parent / "state" / "gaps.ndjson").exists())
        gaps = await asyncio.to_thread(one.control.get, "/gaps", list[dict[str, Any]])
        assert [gap["cause"] for gap in gaps] == ["closed"]
        assert await asyncio.to_thread(one.control.get, "/dlq", list[Any]) == []
        answer = await asyncio.to_thread(one.control.post, "/dlq/redrive", dict[str, int], {"numbers": [1]})
        assert answer == {"count": 0}


async def test_nothing_that_is_secret_is_shown(zoom: Simulator, file: Path) -> None:
    tokens: list[str] = []
    issue = zoom.tokens.issue

    def noted(*arguments: Any, **options: Any) -> dict[str, object]:
        answer = issue(*arguments, **options)
        tokens.append(str(answer["access_token"]))
        return answer

    zoom.tokens.issue = noted  # type: ignore[method-assign]
    async with running(file) as one:
        await one.until_ready(True)
        answers = [await _everything(one)]
        secrets = [PLANTED.account_id, PLANTED.client_secret, *tokens]
        zoom.faults.refuse = " ".join(secrets)
        zoom.end()
        await one.until_ready(False)
        await until(lambda: one.relay.status().sources[0].paths[0].last_error)
        answers.append(await _everything(one))
        zoom.faults.clear()
        zoom.faults.token_error = "invalid_client"
        await one.until_ready(False)
        answers.append(await _everything(one))
    assert tokens and "***" in answers[1]
    for answer in answers:
        assert "SimulatedSubscription0" in answer
        assert [secret for secret in [*secrets, *tokens] if secret in answer] == []


async def _everything(one: Running) -> str:
    pages = [(await one.get(path))[1] for path in ("/", "/readyz", "/metrics", "/nothing")]
    for path in ("/status", "/dlq", "/gaps"):
        pages.append(json.dumps(await asyncio.to_thread(one.control.get, path, Any)))
    return "\n".join(pages)


async def test_the_service_manager_is_told(zoom: Simulator, file: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        heard: list[str] = []

        def lines() -> list[str]:
            while True:
                try:
                    heard.append(manager.recv(4096).decode())
                except BlockingIOError:
                    return heard

        async with running(file, {"NOTIFY_SOCKET": str(tmp_path / "notify")}) as one:
            await until(lambda: "STATUS=1 of 1 subscription accepted" in lines())
            assert lines()[0] == "READY=1"
            heard.clear()
            await one.front.reload()
            reloading, ready = lines()
            assert reloading.startswith("RELOADING=1\nMONOTONIC_USEC=") and ready == "READY=1"
        assert any(line.startswith("STOPPING=1\nEXTEND_TIMEOUT_USEC=") for line in lines())


async def test_stopping_waits_for_no_visitor(zoom: Simulator, file: Path) -> None:
    async with running(file) as one:
        await one.until_ready(True)
        reader, writer = await asyncio.open_connection(*one.front.admin.addresses[0])
        writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200" in await reader.readline()
        half, half_writer = await asyncio.open_unix_connection(file.parent / "state" / "control.sock")
        half_writer.write(b"POST /reload HTTP/1.1\r\nContent-Length: 10\r\n\r\n")
        start = time.monotonic()
    assert time.monotonic() - start < one.relay.config.drain_seconds + 1
    assert not (file.parent / "state" / "control.sock").exists()
    for end in (writer, half_writer):
        end.close()
    del half


async def test_an_address_in_use_is_named_and_leaves_nothing_behind(zoom: Simulator, file: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        file.write_text(toml(zoom, file.parent, listen=listen))
        with pytest.raises(ConfigError, match=rf"admin\.listen: cannot listen on {listen}: Address"):
            async with running(file):
                pytest.fail("it runs")
        command = [sys.executable, "-m", "zoomrelay", "run", "--config", str(file)]
        ended = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=20)
    assert ended.returncode == 78
    assert "admin.listen" in ended.stderr and "Traceback" not in ended.stderr
    assert not (file.parent / "state" / "control.sock").exists()
    assert zoom.journal.connections == []


async def test_a_reload_at_the_wrong_moment_is_refused(zoom: Simulator, file: Path) -> None:
    async with running(file) as one:
        one.relay.stop()
        with pytest.raises(ControlRefused, match="stopping"):
            await one.front.reload()


async def test_status_knows_of_the_start(file: Path) -> None:
    one = Running(file, {})
    assert one.relay.status().not_ready_because == ["the relay is starting"]
    assert isinstance(one.front.status(), Status)
