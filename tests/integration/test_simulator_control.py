"""The control endpoint, and the whole as a command in a process of its own."""

import asyncio
import json
import os
import shlex
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import connect

from tests.support.zoom_client import accepted, basic, content, message
from zoomrelay.simulator.server import Simulator


@pytest.fixture
async def zoom() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        yield simulator


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def _post(http: aiohttp.ClientSession, url: str, body: object = None) -> tuple[int, dict[str, Any]]:
    async with http.post(url, json=body if body is not None else {}) as response:
        return response.status, await response.json()


async def test_faults_change_while_it_runs(zoom: Simulator, http: aiohttp.ClientSession) -> None:
    url = f"{zoom.control_url}/faults"
    status, shown = await _post(http, url, {"refuse": "Invalid Token", "refuse_times": 2})
    assert (status, shown["refuse"], zoom.faults.refuse_times) == (200, "Invalid Token", 2)
    assert (await _post(http, url))[1] == shown
    _, shown = await _post(http, url, {"clear": True, "never_accept": True})
    assert (shown["refuse"], shown["never_accept"]) == ("", True)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("faults", {"nonsense": 1}),
        ("faults", [1]),
        ("emit", {"count": "many"}),
        ("emit", {"rubbish": "lovely"}),
        ("rate", {}),
        ("rate", {"rate": -1}),
        ("close", {"how": "gently"}),
    ],
)
async def test_nonsense_is_answered_in_words(
    zoom: Simulator, http: aiohttp.ClientSession, path: str, body: object
) -> None:
    status, answer = await _post(http, f"{zoom.control_url}/{path}", body)
    assert status == 400
    assert answer["error"]


async def test_emitting(zoom: Simulator, http: aiohttp.ClientSession) -> None:
    url = f"{zoom.control_url}/emit"
    assert (await _post(http, url, {"events": [{"event": "lost"}]}))[1] == {"heard": False}
    async with accepted(zoom) as socket:
        assert (await _post(http, url, {"events": [{"event": "x", "n": 1}], "count": 3}))[1] == {
            "heard": True
        }
        assert json.loads(await content(socket)) == {"event": "x", "n": 1}
        assert [await content(socket) for _ in range(3)]
        await _post(http, url, {"rubbish": "not-json"})
        assert str(await socket.recv()).startswith("<html>")


async def test_the_journal_pages_and_tells_everything(zoom: Simulator, http: aiohttp.ClientSession) -> None:
    await zoom.burst(25)
    lines: list[dict[str, Any]] = []
    for _ in range(3):
        since = lines[-1]["number"] if lines else 0
        async with http.get(f"{zoom.control_url}/journal?since={since}&limit=10") as response:
            lines += [json.loads(line) for line in (await response.text()).splitlines()]
    assert [line["number"] for line in lines] == list(range(1, 26))
    assert [line["content"].encode() for line in lines] == [entry.content for entry in zoom.journal.since()]
    async with http.get(f"{zoom.control_url}/journal?since=all") as response:
        assert response.status == 400


async def test_closing_and_state(zoom: Simulator, http: aiohttp.ClientSession) -> None:
    async with accepted(zoom) as socket:
        body = {"code": 1008, "reason": "try again"}
        assert (await _post(http, f"{zoom.control_url}/close", body))[1] == {"ended": 1}
        await socket.wait_closed()
        assert (socket.close_code, socket.close_reason) == (1008, "try again")
    async with http.get(f"{zoom.control_url}/state") as response:
        state = await response.json()
    assert state["accepted"] == 0
    assert state["connections"][0]["ending"] == "closed"
    assert zoom.credentials.client_secret not in json.dumps(state)


async def test_the_stream_starts_and_stops(zoom: Simulator, http: aiohttp.ClientSession) -> None:
    await _post(http, f"{zoom.control_url}/rate", {"rate": 1000})
    await zoom.until(lambda: zoom.journal.count > 20)
    assert (await _post(http, f"{zoom.control_url}/stop-stream"))[0] == 200
    count = zoom.journal.count
    await asyncio.sleep(0.05)
    assert zoom.journal.count == count


async def test_revoking_tokens(zoom: Simulator, http: aiohttp.ClientSession) -> None:
    async with accepted(zoom) as socket:
        token = socket.request.path.partition("access_token=")[2] if socket.request else ""
        await _post(http, f"{zoom.control_url}/revoke-tokens")
        async with connect(f"{zoom.ws_url}?subscriptionId=any&access_token={token}", proxy=None) as second:
            assert (await message(second))["content"] == "Invalid Token"
        assert zoom.accepted == 1, "open connections stay"


async def test_the_command_prints_what_a_client_needs_and_ends_on_ctrl_c(http: aiohttp.ClientSession) -> None:
    command = (sys.executable, "-m", "zoomrelay", "simulate", "--port", "0", "--rate", "0", "--burst", "3")
    process = await asyncio.create_subprocess_exec(
        *command,
        "--fault",
        "refuse_times=0",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert process.stdout is not None
    values: dict[str, str] = {}
    while not (line := (await process.stdout.readline()).decode()).startswith("#"):
        name, _, value = line.removeprefix("export ").strip().partition("=")
        (values[name],) = shlex.split(value)
    headers = basic(values["ZOOM_CLIENT_ID"], values["ZOOM_CLIENT_SECRET"])
    form = {"grant_type": "account_credentials", "account_id": values["ZOOM_ACCOUNT_ID"]}
    url = values["ZOOMRELAY_SOURCES__ZOOM__TOKEN_URL"]
    async with http.post(url, data=form, headers=headers) as response:
        token = (await response.json())["access_token"]
    query = f"subscriptionId={values['ZOOM_SUBSCRIPTION_ID']}&access_token={token}"
    async with connect(f"{values['ZOOMRELAY_SOURCES__ZOOM__WS_URL']}?{query}", proxy=None) as socket:
        assert (await message(socket))["success"] is True
        assert [await content(socket) for _ in range(3)]
        process.send_signal(signal.SIGINT)
        await socket.wait_closed()
        assert socket.close_code == 1001
    output, errors = await process.communicate()
    assert process.returncode == 0, errors
    assert "3 sent, 0 of them to nobody, 1 connections" in output.decode()
    assert token not in errors.decode()
    assert b"simulator.accepted" in errors


async def test_a_webhook_is_pointed_to_and_looked_at(zoom: Simulator, http: aiohttp.ClientSession) -> None:
    url = f"{zoom.control_url}/webhook"
    assert await _post(http, url, {"url": "nowhere", "secret": "word"}) == (
        400,
        {"error": "the address of a webhook begins with http:// or https://"},
    )
    assert (await _post(http, url, {"url": "http://127.0.0.1:9/", "secret": ""}))[0] == 400
    assert await _post(http, url, {"url": "http://127.0.0.1:9/hook", "secret": "word"}) == (
        200,
        {"url": "http://127.0.0.1:9/hook"},
    )
    async with http.get(f"{zoom.control_url}/state") as response:
        webhook = (await response.json())["webhook"]
    assert webhook == {"url": "http://127.0.0.1:9/hook", "validated": False, "posted": 0, "statuses": {}}
    async with http.get(f"{url}/journal") as response:
        assert response.status == 200 and await response.read() == b""
    assert (await _post(http, url, {"url": ""}))[0] == 200
