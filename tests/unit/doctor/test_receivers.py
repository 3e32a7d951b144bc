"""Sinks: what can be told of them without sending, and the test event."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.support.examined import without_proxies
from zoomrelay.clock import SystemClock
from zoomrelay.config.models import FileSinkConfig, HttpSinkConfig, StdoutSinkConfig
from zoomrelay.doctor.finding import Report, Verdict
from zoomrelay.doctor.receivers import make_test_event, sink_steps
from zoomrelay.doctor.walk import walk


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    without_proxies(monkeypatch)


class Receiver:
    def __init__(self, status: int) -> None:
        self.status = status
        self.bodies: list[Any] = []
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        self.bodies.append(json.loads(await request.read()))
        return web.Response(status=self.status, text="because of planted-key")


@asynccontextmanager
async def receiving(status: int = 200) -> AsyncIterator[Receiver]:
    receiver, app = Receiver(status), web.Application()
    app.router.add_post("/events", receiver.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/events?key=planted-key"
    try:
        yield receiver
    finally:
        await runner.cleanup()


async def looked(config: Any, *, send_test: bool = False) -> list[Report]:
    steps = sink_steps(config, SystemClock(), send_test=send_test)
    reports = [report async for report in walk(steps)]
    assert "planted" not in repr(reports)
    return reports


async def test_a_receiver_gets_nothing_unless_asked_for() -> None:
    async with receiving() as receiver:
        reports = await looked(HttpSinkConfig(name="crm", url=receiver.url))
        assert [(one.step, one.verdict.value) for one in reports] == [
            ("proxy", "pass"), ("dns", "pass"), ("tcp", "pass"), ("deliver", "skipped"),
        ]  # fmt: skip
        assert receiver.bodies == []


@pytest.mark.parametrize(
    ("status", "verdict", "reason"),
    [(204, "pass", ""), (422, "fail", "sink_rejected"), (503, "fail", "sink_unavailable")],
)
async def test_the_test_event(status: int, verdict: str, reason: str) -> None:
    async with receiving(status) as receiver:
        reports = await looked(HttpSinkConfig(name="crm", url=receiver.url), send_test=True)
    assert (reports[-1].step, reports[-1].verdict.value, reports[-1].reason) == ("deliver", verdict, reason)
    (body,) = receiver.bodies
    assert body["event"] == "zoomrelay.test" and "not from Zoom" in body["payload"]["object"]["note"]


async def test_each_test_event_has_an_id_of_its_own() -> None:
    class Ticking(SystemClock):
        now = 1000.0

        def wall(self) -> float:
            self.now += 1
            return self.now

    clock = Ticking()
    assert make_test_event(clock).id != make_test_event(clock).id


async def test_nobody_listens() -> None:
    async with receiving() as receiver:
        url = receiver.url
    reports = await looked(HttpSinkConfig(name="crm", url=url), send_test=True)
    assert [(one.step, one.reason) for one in reports if one.verdict is Verdict.FAIL] == [("tcp", "tcp")]
    assert reports[-1].verdict is Verdict.SKIPPED


async def test_files(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    found = {
        name: (await looked(FileSinkConfig(name="a", path=tmp_path / name)))[0]
        for name in ("new.ndjson", "missing/new.ndjson", "directory")
    }
    assert [(one.verdict.value, one.reason) for one in found.values()] == [
        ("pass", ""),
        ("fail", "sink_path"),
        ("fail", "sink_path"),
    ]
    assert not (tmp_path / "new.ndjson").exists()


async def test_standard_output() -> None:
    assert [one.verdict for one in await looked(StdoutSinkConfig(name="a"))] == [Verdict.PASS]
