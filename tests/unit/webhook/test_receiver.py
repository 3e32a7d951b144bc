"""The door and the reception, over real HTTP on loopback."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import io
import json
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from tests.support.certificate import certificate
from zoomrelay.clock import SystemClock
from zoomrelay.config.models import SourceConfig, WebhookConfig
from zoomrelay.errors import ConfigError
from zoomrelay.event import WEBHOOK
from zoomrelay.telemetry.metrics import Metrics
from zoomrelay.webhook import door, reception
from zoomrelay.webhook.entrance import Entrance
from zoomrelay.webhook.receiver import WebhookReceiver
from zoomrelay.webhook.reception import Body

SECRET = "the-secret-token"
EVENT = b'{"event":"meeting.started","event_ts":1,"payload":{}}'


class Intake:
    """An `EventTaker` that holds when it is told to."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.kept: list[bytes] = []
        self.blocked = False
        self.holds = asyncio.Event()
        self.holds.set()
        self.something = asyncio.Event()

    def events(self, subscription: str, frames: Sequence[Body]) -> None:
        assert subscription == WEBHOOK
        self.taken += [frame.content for frame in frames]
        self.something.set()

    def refused(self, subscription: str, raw: bytes) -> None:
        assert subscription == WEBHOOK
        self.kept.append(raw)

    async def held(self) -> None:
        await self.holds.wait()


class Listener:
    def __init__(self) -> None:
        self.told: list[str] = []

    def accepted(self, wall: float) -> None:
        assert abs(wall - time.time()) < 5
        self.told.append("accepted")

    def lost(self, cause: str, detail: str, *, clean: bool, heard_until: float) -> None:
        assert clean and abs(heard_until - time.time()) < 5
        self.told.append(cause)
        self.heard_until = heard_until

    def alive(self, heard_until: float) -> None:
        if self.told[-1] != "alive":
            self.told.append("alive")


class House:
    def __init__(self, **webhook: Any) -> None:
        self.intake, self.listener = Intake(), Listener()
        self.registry = CollectorRegistry()
        settings = WebhookConfig(**{"listen": "127.0.0.1:0", "secret_token": SECRET, **webhook})
        source = SourceConfig(name="main", webhook=settings)
        self.receiver = WebhookReceiver(
            source,
            settings,
            self.intake,
            self.listener,
            SystemClock(),
            Metrics(self.registry),
            Entrance("main", settings),
        )
        self.scheme = "https" if settings.cert_file else "http"
        self.url = ""
        self.http: aiohttp.ClientSession

    @property
    def address(self) -> tuple[str, int]:
        return self.receiver._door.addresses[0]

    async def post(self, body: bytes = EVENT, **changes: Any) -> int:
        status, _ = await self.ask(body, **changes)
        return status

    async def ask(self, body: bytes = EVENT, **changes: Any) -> tuple[int, bytes]:
        headers = signed(body) if changes.pop("signed", True) else {}
        method, path = changes.pop("method", "POST"), changes.pop("path", "/webhook")
        headers |= changes.pop("headers", {})
        async with self.http.request(
            method, self.url + path, data=io.BytesIO(body), headers=headers, ssl=False, **changes
        ) as answer:
            return answer.status, await answer.read()

    def counted(self, result: str) -> float:
        labels = {"source": "main", "result": result}
        return self.registry.get_sample_value("zoomrelay_webhook_requests_total", labels) or 0.0


def signed(body: bytes, *, secret: str = SECRET, age: float = 0) -> dict[str, str]:
    at = str(int(time.time() - age))
    text = b"v0:" + at.encode() + b":" + body
    digest = hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()
    return {"x-zm-request-timestamp": at, "x-zm-signature": f"v0={digest}"}


@asynccontextmanager
async def house(**webhook: Any) -> AsyncIterator[House]:
    it = House(**webhook)
    service = asyncio.create_task(it.receiver.run())
    await asyncio.sleep(0)
    host, port = it.address
    it.url = f"{it.scheme}://{host}:{port}"
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(20)) as it.http:
        try:
            yield it
        finally:
            await it.receiver.stop()
            await asyncio.wait_for(service, 10)


async def test_what_is_zooms_is_held_and_then_answered() -> None:
    async with house() as it:
        it.intake.holds.clear()
        waiting = asyncio.create_task(it.post())
        await it.intake.something.wait()
        await asyncio.sleep(0.05)
        assert not waiting.done(), "answered before it was held"
        it.intake.holds.set()
        assert await waiting == 200
        assert it.intake.taken == [EVENT] and it.counted("held") == 1
    assert it.listener.told[0] == "accepted" and it.listener.told[-1] == "stopped"


async def test_its_gap_begins_when_nobody_is_let_in_any_more() -> None:
    """However long those that are in take."""
    async with house() as it:
        it.intake.holds.clear()
        waiting = asyncio.create_task(it.post())
        await it.intake.something.wait()
        began = time.time()
        stopping = asyncio.create_task(it.receiver.stop(seconds=5))
        await asyncio.sleep(0.5)
        it.intake.holds.set()
        assert await waiting == 200
        await stopping
    assert it.listener.told[-1] == "stopped"
    assert began <= it.listener.heard_until < began + 0.4


async def test_what_is_not_held_in_time_is_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reception, "ANSWER_SECONDS", 0.1)
    async with house() as it:
        it.intake.holds.clear()
        assert await it.post() == 503
        assert it.intake.taken == [EVENT], "it may be held later"
        it.intake.blocked = True
        assert await it.post() == 503
        assert it.intake.taken == [EVENT] and it.counted("not_held") == 2


async def test_challenges_are_answered_signed_or_not() -> None:
    body = b'{"event":"endpoint.url_validation","payload":{"plainToken":"abc_-9"},"event_ts":1}'
    encrypted = hmac.new(SECRET.encode(), b"abc_-9", hashlib.sha256).hexdigest()
    async with house() as it:
        for with_signature in (True, False):
            status, answer = await it.ask(body, signed=with_signature)
            assert (status, json.loads(answer)) == (
                200,
                {"plainToken": "abc_-9", "encryptedToken": encrypted},
            )
        assert await it.post(body, headers=signed(body, secret="another")) == 401
        assert it.counted("validated") == 2 and it.intake.taken == []


@pytest.mark.parametrize(
    ("changes", "status", "result"),
    [
        ({"signed": False}, 401, "unsigned"),
        ({"headers": signed(EVENT, secret="another")}, 401, "invalid"),
        ({"headers": {"x-zm-signature": "v0=00"}}, 401, "invalid"),
        ({"path": "/"}, 404, "path"),
        ({"path": "/webhook/"}, 404, "path"),
        ({"method": "GET"}, 405, "method"),
        ({"body": b"x" * 5000, "signed": False}, 401, "unsigned"),
        ({"body": b"x" * 2000}, 413, "oversize"),
    ],
)
async def test_refusals(changes: dict[str, Any], status: int, result: str) -> None:
    async with house(max_body_bytes=1000) as it:
        assert await it.post(**changes) == status
        assert it.counted(result) == 1
        assert not it.intake.taken and not it.intake.kept
        assert await it.post() == 200, "and then Zoom is served"


async def test_a_stale_one_is_refused_and_kept() -> None:
    async with house() as it:
        for age in (6000, -400):
            assert await it.post(headers=signed(EVENT, age=age)) == 401
        assert it.intake.kept == [EVENT, EVENT] and not it.intake.taken
        assert it.counted("stale") == 2
        it.intake.blocked = True
        assert await it.post(headers=signed(EVENT, age=6000)) == 503, "it is to come again"


async def test_a_body_without_a_size_is_bounded_too() -> None:
    async with house(max_body_bytes=10_000) as it:
        host, port = it.address
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(
            b"POST /webhook HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
            b"x-zm-signature: v0=00\r\nx-zm-request-timestamp: 1\r\n\r\n"
        )
        writer.write(b"2000\r\n" + b"x" * 0x2000 + b"\r\n" + b"2000\r\n" + b"x" * 0x2000 + b"\r\n")
        assert b" 413 " in await reader.readline()
        writer.close()
        assert it.counted("oversize") == 1


async def test_what_comes_compressed_is_not_expanded() -> None:
    """The signature is over what was sent."""
    async with house() as it:
        assert await it.post(headers={"content-encoding": "gzip"}) == 200
        assert it.intake.taken == [EVENT]


async def test_the_slow_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "FIRST_REQUEST_SECONDS", 0.2)
    monkeypatch.setattr(reception, "ANSWER_SECONDS", 0.2)
    async with house() as it:
        host, port = it.address
        for beginning, status in (
            (b"", b""),
            (b"POST /webh", b""),
            (b"POST /webhook HTTP/1.1\r\nHost: x\r\n", b""),
            (b"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nx", b" 503 "),
        ):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(beginning)
            try:
                answer = await asyncio.wait_for(reader.read(), 5)
            except ConnectionResetError:
                answer = b""
            assert status in answer if status else not answer
            writer.close()
        assert it.counted("slow") == 1
        assert await it.post() == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"{}", b"401"), (b'{"event":"endpoint.url_validation","payload":{"plainToken":"a"}}', b"200")],
    ids=["refused", "challenge"],
)
async def test_whoever_may_be_a_stranger_comes_in_anew(body: bytes, status: bytes) -> None:
    async with house() as it:
        host, port = it.address
        reader, writer = await asyncio.open_connection(host, port)
        request = b"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        writer.write(request * 3)
        answers = await asyncio.wait_for(reader.read(), 5)
        assert answers.count(b"HTTP/1.1 " + status) == 1 == answers.count(b"HTTP/1.1 ")
        writer.close()


async def test_strangers_are_heard_at_a_bounded_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others wait, are not lost, and Zoom's own do not count."""
    monkeypatch.setattr(door, "STRANGERS_PER_SECOND", 20.0)
    monkeypatch.setattr(door, "STRANGERS_AT_ONCE", 5)
    async with house() as it:
        for _ in range(30):
            assert await it.post(headers={"connection": "close"}) == 200
        loop = asyncio.get_running_loop()
        start = loop.time()
        for _ in range(15):
            assert await it.post(signed=False) == 401
        assert loop.time() - start >= 0.45, "10 of them had to wait for 1/20 s each"


async def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "MAX_CONNECTIONS", 3)
    async with house() as it:
        host, port = it.address
        idle = [await asyncio.open_connection(host, port) for _ in range(6)]
        await asyncio.sleep(0.1)
        assert it.receiver._door._open_connections() <= 3
        for _, writer in idle:
            writer.close()
        assert await it.post() == 200


async def test_bodies_that_are_read_at_once_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reception, "MAX_READING_BYTES", 5000)
    async with house() as it:
        host, port = it.address
        _, writer = await asyncio.open_connection(host, port)
        head = "POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 4990\r\nx-zm-signature: v0=0\r\n"
        writer.write(f"{head}x-zm-request-timestamp: 1\r\n\r\n".encode())
        await asyncio.sleep(0.1)
        assert await it.post() == 200, "what is announced takes no room"
        writer.write(b"x" * 4980)
        reading = it.receiver._reception
        await _until(lambda: reading._reading_bytes == 4980)
        assert await it.post() == 503
        writer.close()
        await _until(lambda: reading._reading_bytes == 0)
        assert await it.post() == 200


async def _until(so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not so():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


async def test_another_secret_holds_for_the_next_request() -> None:
    async with house() as it:
        bare = WebhookConfig(listen="127.0.0.1:0")
        it.receiver.take_over(SourceConfig(name="main", webhook=bare, secret_token="another"))
        assert await it.post(headers=signed(EVENT)) == 401
        assert await it.post(headers=signed(EVENT, secret="another")) == 200
        it.receiver.take_over(SourceConfig(name="main", webhook=bare))  # has none
        assert await it.post(headers=signed(EVENT, secret="another")) == 200


async def test_an_address_in_use_names_its_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=r"sources\.main\.webhook\.listen: cannot listen on .*in use"):
            door.bind(where, "sources.main.webhook.listen")
    with pytest.raises(ConfigError, match="cannot listen on"):
        door.bind("no-such-host.invalid:80", "sources.main.webhook.listen")


def shown(address: tuple[str, int]) -> bytes:
    """The certificate that a client gets to see."""
    return ssl.get_server_certificate(address).encode()


async def test_tls_and_a_new_certificate(tmp_path: Path) -> None:
    file = certificate(tmp_path, "first")
    async with house(cert_file=file) as it:
        assert await it.post() == 200
        first = await asyncio.to_thread(shown, it.address)
        file.write_bytes(certificate(tmp_path, "second").read_bytes())
        it.receiver.reload_certificate()
        second = await asyncio.to_thread(shown, it.address)
        assert first != second
        file.write_text("nonsense")
        it.receiver.reload_certificate()
        assert await asyncio.to_thread(shown, it.address) == second
        assert await it.post() == 200
        reader, writer = await asyncio.open_connection(*it.address)
        writer.write(b"POST /webhook HTTP/1.1\r\n\r\n")  # no TLS
        assert not await asyncio.wait_for(reader.read(), 5)
        writer.close()


async def test_a_certificate_that_is_none_names_its_setting(tmp_path: Path) -> None:
    file = tmp_path / "cert.pem"
    file.write_text("nonsense")
    with pytest.raises(ConfigError, match=r"sources\.main\.webhook\.cert_file: .*cannot be used"):
        House(cert_file=file)
