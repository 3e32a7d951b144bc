"""The control socket and its client, over a real unix socket."""

from __future__ import annotations

import asyncio
import http.client
import socket
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.unit.admin.fakes import FakeRelay, dead_letter, lost_path, source, status
from zoomrelay.admin.client import ControlClient
from zoomrelay.admin.control import ControlServer
from zoomrelay.admin.health import Status
from zoomrelay.admin.socket_path import control_socket_path
from zoomrelay.errors import ControlRefused, Problem, RelayNotRunning, StateDirectoryError
from zoomrelay.spool.base import DeadLetter
from zoomrelay.telemetry.redaction import protect

T = TypeVar("T")


@pytest.fixture
def relay() -> FakeRelay:
    return FakeRelay(*(dead_letter(number) for number in (3, 4)), dead_letter(5, sink="archive"))


@pytest.fixture
async def client(tmp_path: Path, relay: FakeRelay) -> AsyncIterator[ControlClient]:
    server = ControlServer(tmp_path, relay)
    await server.open()
    yield ControlClient(tmp_path)
    await server.close()


async def ask(call: Callable[..., T], *arguments: Any, **query: Any) -> T:
    """The client waits; the server runs on this very loop."""
    return await asyncio.to_thread(call, *arguments, **query)


async def test_status_comes_whole(client: ControlClient, relay: FakeRelay) -> None:
    relay.now = status(sources=[source(lost_path())])
    assert await ask(client.get, "/status", Status) == relay.now
    document = await ask(client.get, "/status", dict[str, Any])
    assert document["ready"] is False
    assert document["not_ready_because"] == relay.now.not_ready_because


async def test_gaps(client: ControlClient) -> None:
    (gap,) = await ask(client.get, "/gaps", list[dict[str, Any]])
    assert gap["cause"] == "closed" and gap["to"] is None


async def test_dead_letters_by_sink_and_limit(client: ControlClient) -> None:
    async def numbers(**query: str | int | None) -> list[int]:
        letters = await ask(client.get, "/dlq", list[DeadLetter], **query)
        assert not any(letter.content for letter in letters)
        return [letter.number for letter in letters]

    assert await numbers() == [3, 4, 5]
    assert await numbers(sink=None) == [3, 4, 5]
    assert await numbers(sink="crm") == [3, 4]
    assert await numbers(sink="crm", limit=1) == [4]
    assert await numbers(sink="") == []


async def test_a_dead_letter_comes_with_its_bytes(client: ControlClient, relay: FakeRelay) -> None:
    assert await ask(client.get, "/dlq/4", DeadLetter) == relay.letters[4]
    with pytest.raises(ControlRefused, match="no dead letter 9") as caught:
        await ask(client.get, "/dlq/9", DeadLetter)
    assert caught.value.status == 404


@pytest.mark.parametrize("path", ["/replay", "/replay/read"])
@pytest.mark.parametrize("rate", ["0", "-1", "0.0009", "1e-320", "1e999", "NaN"])
async def test_a_rate_that_is_none_is_refused(
    client: ControlClient, tmp_path: Path, path: str, rate: str
) -> None:
    reader, writer = await asyncio.open_unix_connection(control_socket_path(tmp_path))
    body = f'{{"sink":"crm","events_per_second":{rate}}}'
    writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
    assert b" 400 " in await reader.readline()
    writer.close()


async def test_redrive_and_discard_say_how_many_there_were(client: ControlClient, relay: FakeRelay) -> None:
    assert await ask(client.post, "/dlq/redrive", dict[str, int], {"numbers": [3, 4, 99]}) == {"count": 2}
    assert await ask(client.post, "/dlq/discard", dict[str, int], {"numbers": [3, 99]}) == {"count": 1}
    assert sorted(relay.letters) == [4, 5]


async def test_reload(client: ControlClient, relay: FakeRelay) -> None:
    relay.changes.needs_restart = ["spool.type"]
    answer = await ask(client.post, "/reload", dict[str, Any])
    nothing: dict[str, list[str]] = {name: [] for name in ("added", "removed", "changed", "waiting")}
    assert answer == nothing | {"needs_restart": ["spool.type"]}
    relay.problems = [Problem("sinks.crm.url", "must be a URL", "write one")]
    with pytest.raises(ControlRefused, match=r"sinks\.crm\.url: must be a URL") as caught:
        await ask(client.post, "/reload", dict[str, Any])
    assert caught.value.status == 422
    assert relay.reloads == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/dlq/redrive", None),
        ("/dlq/redrive", {"numbers": ["x"]}),
        ("/dlq/discard", {"numbers": [1], "all": True}),
        ("/dlq/discard", [1]),
    ],
)
async def test_a_wrong_body_is_refused_in_words(client: ControlClient, path: str, body: object) -> None:
    with pytest.raises(ControlRefused) as caught:
        await ask(client.post, path, dict[str, int], body)
    assert caught.value.status == 400 and str(caught.value)


@pytest.mark.parametrize(
    ("path", "status"),
    [("/dlq/x", 400), ("/dlq/-1", 400), ("/dlq?limit=a", 400), ("/nothing", 404), ("/reload", 405)],
)
async def test_other_requests_are_refused_in_words(client: ControlClient, path: str, status: int) -> None:
    with pytest.raises(ControlRefused) as caught:
        await ask(client.get, path, dict[str, Any])
    assert caught.value.status == status and str(caught.value)


async def test_text_comes_as_it_is(client: ControlClient) -> None:
    assert await ask(client.text, "/metrics") == "zoomrelay_ready 1.0\n"
    assert await ask(client.text, "/stacks") == "task intake\n"
    assert await ask(client.text, "/log") == '{"event": "relay.started"}\n'
    with pytest.raises(ControlRefused):
        await ask(client.text, "/nothing")


async def test_no_answer_holds_a_secret(client: ControlClient, relay: FakeRelay) -> None:
    protect("planted-control-secret")
    path = lost_path(last_error="closed: said planted-control-secret", cure="planted-control-secret")
    relay.now = status(sources=[source(path)])
    letter = dead_letter(7, reason="HTTP 401", excerpt="bad planted-control-secret")
    relay.letters = {7: letter}
    relay.problems = [Problem("sinks", "planted-control-secret")]
    relay.log = "planted-control-secret"
    answers = [
        repr(await ask(client.get, "/status", dict[str, Any])),
        repr(await ask(client.get, "/dlq", list[DeadLetter])),
        repr(await ask(client.get, "/dlq/7", DeadLetter)),
        await ask(client.text, "/log"),
    ]
    with pytest.raises(ControlRefused) as caught:
        await ask(client.post, "/reload", dict[str, Any])
    answers.append(str(caught.value))
    assert all("***" in answer and "planted-control" not in answer for answer in answers), answers


async def test_only_the_owner_may_open_it_and_it_is_gone_afterwards(tmp_path: Path, relay: FakeRelay) -> None:
    server = ControlServer(tmp_path, relay)
    await server.open()
    mode = control_socket_path(tmp_path).stat().st_mode
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600
    await server.close()
    await server.close()
    assert list(tmp_path.iterdir()) == []


async def test_what_a_killed_relay_left_behind_is_replaced(tmp_path: Path, relay: FakeRelay) -> None:
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(control_socket_path(tmp_path)))
    with pytest.raises(RelayNotRunning, match="no relay is running"):
        await ask(ControlClient(tmp_path).get, "/status", Status)
    server = ControlServer(tmp_path, relay)
    await server.open()
    assert await ask(ControlClient(tmp_path).get, "/status", Status) == relay.now
    await server.close()


async def test_closing_does_not_wait_for_idle_connections(tmp_path: Path, relay: FakeRelay) -> None:
    server = ControlServer(tmp_path, relay)
    await server.open()
    reader, writer = await asyncio.open_unix_connection(control_socket_path(tmp_path))
    writer.write(b"GET /gaps HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"200" in await reader.readline()
    async with asyncio.timeout(1):
        await server.close()
    writer.close()


def test_no_relay_no_directory_and_nothing_is_created(tmp_path: Path) -> None:
    with pytest.raises(RelayNotRunning, match=str(tmp_path)):
        ControlClient(tmp_path).get("/status", Status)
    missing = tmp_path / "missing"
    with pytest.raises(StateDirectoryError, match=str(missing)):
        ControlClient(missing).get("/status", Status)
    assert list(tmp_path.iterdir()) == []


async def test_a_path_that_no_socket_can_have(tmp_path: Path, relay: FakeRelay) -> None:
    deep = tmp_path / ("d" * 108)
    deep.mkdir()
    with pytest.raises(StateDirectoryError, match="shorter"):
        await ControlServer(deep, relay).open()
    with pytest.raises(StateDirectoryError, match="shorter"):
        ControlClient(deep).get("/status", Status)


def test_a_relay_that_hangs_or_talks_nonsense_is_not_waited_for(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(control_socket_path(tmp_path)))
        silent.listen()
        client = ControlClient(tmp_path, timeout_seconds=0.05)
        with pytest.raises(RelayNotRunning, match=r"did not answer within 0\.05 s"):
            client.get("/status", Status)


async def test_a_relay_that_dies_while_it_is_asked(tmp_path: Path) -> None:
    async def die(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_unix_server(die, control_socket_path(tmp_path))
    with pytest.raises(RelayNotRunning) as caught:
        await ask(ControlClient(tmp_path).get, "/status", Status)
    assert isinstance(caught.value.__cause__, (OSError, http.client.HTTPException))
    server.close()
