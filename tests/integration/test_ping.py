"""The dead-man's switch, the admin port's token and changed secrets, in a whole relay with real receivers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from tests.support.fronted import Running, running, toml
from zoomrelay.admin import ping
from zoomrelay.app.changes import Changes
from zoomrelay.cli import entry
from zoomrelay.simulator.server import Simulator

INTERVAL_SECONDS = 0.2
EVENT = {"event": "meeting.started", "event_ts": 1, "payload": {"object": {"uuid": "u"}}}


class Alarm:
    """Takes calls, and would ring if they stayed away."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.url = ""
        self.status = 200

    async def take(self, request: web.Request) -> web.Response:
        self.calls.append(f"{request.method} {request.path_qs}")
        return web.Response(status=self.status, headers={"Location": "/elsewhere"})


@pytest.fixture
async def alarm() -> AsyncIterator[Alarm]:
    one = Alarm()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", one.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    one.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield one
    await runner.cleanup()


@pytest.fixture
async def zoom() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        yield simulator


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ping, "INTERVAL_SECONDS", INTERVAL_SECONDS)
    monkeypatch.setattr(ping, "LOOK_SECONDS", INTERVAL_SECONDS / 10)
    monkeypatch.setattr(ping, "PATIENCE_SECONDS", INTERVAL_SECONDS)


async def until(happened: Callable[[], object]) -> None:
    async with asyncio.timeout(15):
        while not happened():  # noqa: ASYNC110 - nobody says so
            await asyncio.sleep(0.01)


def configured(zoom: Simulator, directory: Path, admin: str) -> str:
    return toml(zoom, directory).replace("[admin]", f"[admin]\n{admin}")


async def sample(one: Running, line: str) -> bool:
    return line in (await one.get("/metrics"))[1]


async def test_somebody_is_called_while_all_is_well_and_not_otherwise(
    zoom: Simulator, alarm: Alarm, tmp_path: Path
) -> None:
    (tmp_path / "ping_url").write_text(f"{alarm.url}/planted-ping-secret?k=1\n")
    file = tmp_path / "zoomrelay.toml"
    file.write_text(configured(zoom, tmp_path, f'ping_url_file = "{tmp_path}/ping_url"'))
    with capture_logs() as lines:
        async with running(file) as one:
            await until(lambda: len(alarm.calls) >= 3)
            assert set(alarm.calls) == {"GET /planted-ping-secret?k=1"}

            zoom.faults.upgrade_status = 503
            zoom.end("close", 1001, "going away")
            await one.until_ready(False)
            await until(lambda: [line for line in lines if line["event"] == "ping.withheld"])
            before = len(alarm.calls)
            await asyncio.sleep(3 * INTERVAL_SECONDS)
            assert len(alarm.calls) == before

            zoom.faults.clear()
            await until(lambda: len(alarm.calls) > before)

            alarm.status = 302
            await until(lambda: [line for line in lines if line["event"] == "ping.failing"])
            assert "/elsewhere" not in str(alarm.calls)
            await zoom.emit(EVENT)
            await until(lambda: one.relay.status().sinks[0].counts.delivered == 1)

            (tmp_path / "ping_url").write_text(f"{alarm.url}/another-place\n")
            alarm.status = 204
            assert await one.front.reload() == Changes(changed=["admin.ping_url"])
            await until(lambda: "GET /another-place" in alarm.calls)
            assert await sample(one, 'zoomrelay_pings_total{result="failed"}')
            file.write_text(toml(zoom, tmp_path))
            assert await one.front.reload() == Changes(changed=["admin.ping_url"])
            await asyncio.sleep(INTERVAL_SECONDS)
            before = len(alarm.calls)
            await asyncio.sleep(3 * INTERVAL_SECONDS)
            assert len(alarm.calls) == before
    told = [line["event"] for line in lines if line["event"].startswith("ping.")]
    assert told == ["ping.working", "ping.withheld", "ping.working", "ping.failing", "ping.working"]
    assert "planted" not in str(lines)


async def test_it_goes_through_the_environment_s_proxy(
    zoom: Simulator, alarm: Alarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", alarm.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    file = tmp_path / "zoomrelay.toml"
    file.write_text(configured(zoom, tmp_path, 'ping_url = "http://alive.invalid/ping"'))
    async with running(file):
        await until(lambda: alarm.calls)
    assert alarm.calls[0] == "GET /ping"


async def test_a_place_that_hangs_holds_nothing_up(
    zoom: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ping, "TIMEOUT_SECONDS", 0.3)
    met = asyncio.Event()

    async def hang(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.set()
        await asyncio.sleep(30)
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    file = tmp_path / "zoomrelay.toml"
    file.write_text(configured(zoom, tmp_path, f'ping_url = "http://127.0.0.1:{port}/planted-secret-url"'))
    with capture_logs() as lines:
        async with running(file) as one:
            await met.wait()
            await zoom.emit(EVENT)
            await until(lambda: one.relay.status().sinks[0].counts.delivered == 1)
            await until(lambda: [line for line in lines if line["event"] == "ping.failing"])
    (line,) = [line for line in lines if line["event"] == "ping.failing"]
    assert line["error"] == f"no answer from 127.0.0.1:{port} within 0.3 s"
    server.close()


async def test_the_token_is_taken_over_by_a_reload_and_shown_nowhere(zoom: Simulator, tmp_path: Path) -> None:
    token, later = "planted-first-token-01", "planted-later-token-02"
    secret = tmp_path / "token"
    secret.write_text(token)
    file = tmp_path / "zoomrelay.toml"
    file.write_text(configured(zoom, tmp_path, f'bearer_token_file = "{secret}"'))

    async def metrics(one: Running, given: str) -> int:
        host, port = one.front.admin.addresses[0]
        headers = {"Authorization": f"Bearer {given}"}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.get(f"http://{host}:{port}/metrics") as response,
        ):
            assert "planted" not in await response.text()
            return response.status

    async with running(file) as one:
        await one.until_ready(True)  # /readyz asks for none
        assert (await one.get("/livez"))[0] == 200
        status = ["status", "--config", str(file)]  # the image's health check
        assert await asyncio.to_thread(entry.run, status) == 0
        assert (await one.get("/metrics"))[0] == (await one.get("/"))[0] == 401
        assert await metrics(one, token) == 200
        secret.write_text(later)
        assert await metrics(one, later) == 401
        assert await one.front.reload() == Changes(changed=["admin.bearer_token"])
        assert (await metrics(one, token), await metrics(one, later)) == (401, 200)


async def test_a_reload_takes_over_a_receiver_s_changed_secrets(zoom: Simulator, tmp_path: Path) -> None:
    heard: list[tuple[str, str]] = []

    async def take(request: web.Request) -> web.Response:
        heard.append((request.headers["Authorization"], request.headers["x-key"]))
        return web.Response()

    app = web.Application()
    app.router.add_post("/", take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    token, key, file = tmp_path / "token", tmp_path / "key", tmp_path / "zoomrelay.toml"
    token.write_text("token-1")
    key.write_text("key-1")
    port = runner.addresses[0][1]
    crm = (
        f'[sinks.crm]\ntype = "http"\nurl = "http://127.0.0.1:{port}/"\n'
        f'bearer_token_file = "{token}"\nheaders = {{ x-key_file = "{key}" }}\n'
    )
    file.write_text(toml(zoom, tmp_path, more=crm))
    async with running(file) as one:
        await one.until_ready(True)
        for number in (1, 2, 3):
            await zoom.emit(EVENT | {"event_ts": number})
            await until(lambda number=number: len(heard) == number)
            (token if number == 1 else key).write_text(f"changed-{number}")
            await one.front.reload()
    assert heard == [
        ("Bearer token-1", "key-1"),
        ("Bearer changed-1", "key-1"),
        ("Bearer changed-1", "changed-2"),
    ]
    await runner.cleanup()
