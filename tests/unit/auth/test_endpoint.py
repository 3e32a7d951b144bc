"""The token endpoint over HTTP, against a small server on loopback that can misbehave."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import socket
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from zoomrelay.auth.endpoint import TokenEndpoint
from zoomrelay.auth.token import Token
from zoomrelay.clock import SystemClock
from zoomrelay.config.models import SourceConfig
from zoomrelay.errors import TokenError, TokenRefused, TokenUnavailable

SECRETS = ("planted-secret", "planted-account", "planted-token")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


class Server:
    """Answers every request with `answer`, raw; keeps what it was sent."""

    def __init__(self, answer: bytes, *, mute: bool = False, endless: bool = False) -> None:
        self.answer = answer
        self.mute = mute
        self.endless = endless
        self.requests: list[tuple[str, str]] = []
        self.port = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = next(
            (int(line.split(":")[1]) for line in head.split("\r\n") if line.startswith("content-length")), 0
        )
        self.requests.append((head, (await reader.readexactly(length)).decode()))
        if self.mute:
            await reader.read()
        writer.write(self.answer)
        try:
            while self.endless:
                writer.write(b"x" * 65536)
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()


class Impolite(Server):
    """Speaks, and no TLS, before it was asked."""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello\r\n")
        await reader.read(1)
        writer.close()


def answer(status: int, body: str, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body.encode())}", "connection: close", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


@asynccontextmanager
async def serving(server: Server) -> AsyncIterator[Server]:
    listening = await asyncio.start_server(server, "127.0.0.1", 0)
    async with listening:
        server.port = listening.sockets[0].getsockname()[1]
        yield server


async def ask(
    port: int, grant: str = "account_credentials", timeout_seconds: float = 5, **source: object
) -> Token:
    fields = {
        "name": "main",
        "account_id": "planted-account",
        "client_id": "the-id",
        "client_secret": "planted-secret",
        "token_url": f"http://127.0.0.1:{port}/oauth/token",
        **source,
    }
    endpoint = TokenEndpoint(
        SourceConfig.model_validate(fields), SystemClock(), timeout_seconds=timeout_seconds
    )
    return await endpoint.request(grant)


async def failure(port: int, **options: object) -> TokenError:
    with pytest.raises(TokenError) as caught:
        await ask(port, **options)  # type: ignore[arg-type]
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + caught.value.cure
    assert not [secret for secret in SECRETS if secret in shown]
    return caught.value


ISSUED = answer(200, json.dumps({"access_token": "planted-token", "expires_in": 3599, "scope": "a b"}))


@pytest.mark.parametrize(
    ("grant", "form"),
    [
        ("account_credentials", "grant_type=account_credentials&account_id=planted-account"),
        ("client_credentials", "grant_type=client_credentials"),
    ],
)
async def test_the_request_is_a_form_with_basic_auth(
    grant: str, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(Server(ISSUED)) as server:
        before = asyncio.get_running_loop().time()
        token = await ask(server.port, grant)
    head, body = server.requests[0]
    assert body == form
    assert head.startswith("post /oauth/token http/1.1\r\n")
    basic = base64.b64encode(b"the-id:planted-secret").decode()
    assert f"authorization: basic {basic.lower()}" in head
    assert "content-type: application/x-www-form-urlencoded" in head
    assert (token.value, token.grant, token.life_seconds, token.scopes) == (
        "planted-token",
        grant,
        3599,
        ("a", "b"),
    )
    assert before <= token.issued.loop <= asyncio.get_running_loop().time()
    assert not [secret for secret in (*SECRETS, basic) if secret in caplog.text]


async def test_refusals_and_trouble_are_told_apart() -> None:
    refused = answer(400, '{"reason":"Invalid client_id or client_secret","error":"invalid_client"}')
    async with serving(Server(refused)) as server:
        error = await failure(server.port)
    assert isinstance(error, TokenRefused)
    assert (error.reason, "client_secret" in error.cure) == ("invalid_client", True)
    async with serving(Server(answer(429, "{}", "retry-after: 17"))) as server:
        error = await failure(server.port)
    assert isinstance(error, TokenUnavailable)
    assert (error.reason, error.retry_after) == ("rate_limited", 17)
    async with serving(Server(answer(200, "<html>sign in</html>"))) as server:
        assert (await failure(server.port)).reason == "not_json"


async def test_an_answer_that_repeats_our_secrets_does_not_spread_them() -> None:
    echo = answer(400, json.dumps({"reason": f"bad {' '.join(SECRETS[:2])}", "error": "invalid_client"}))
    async with serving(Server(echo)) as server:
        assert "bad *** ***" in str(await failure(server.port))


async def test_redirects_are_not_followed() -> None:
    async with serving(Server(ISSUED)) as other:
        moved = answer(307, "", f"location: http://127.0.0.1:{other.port}/oauth/token")
        async with serving(Server(moved)) as server:
            assert (await failure(server.port)).reason == "redirected"
    assert other.requests == []


async def test_an_endless_answer_and_none_at_all() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n"
    async with serving(Server(head, endless=True)) as server:
        assert (await failure(server.port)).reason == "oversize"
    async with serving(Server(b"", mute=True)) as server:
        assert (await failure(server.port, timeout_seconds=0.1)).reason == "timeout"


async def test_stages_of_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        assert (await failure(port)).reason == "tcp"
        assert (await failure(port, proxy=f"http://127.0.0.1:{port}")).reason in {"tcp", "proxy"}
    async with serving(Impolite(b"")) as server:
        assert (await failure(1, token_url=f"https://127.0.0.1:{server.port}/")).reason == "tls"
    assert (await failure(1, ca_file="/nowhere/ca.pem")).reason == "tls"
    monkeypatch.setenv("all_proxy", "socks5://user:planted-secret@127.0.0.1:1")
    assert (await failure(1)).reason == "proxy"
    monkeypatch.delenv("all_proxy")

    async def not_found(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", not_found)
    assert (await failure(1, token_url="http://nowhere.invalid/")).reason == "dns"


@pytest.mark.parametrize("how", ["setting", "environment", "exempt"])
async def test_a_proxy_is_used(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(Server(ISSUED)) as proxy:
        url = f"http://127.0.0.1:{proxy.port}"
        if how != "setting":
            monkeypatch.setenv("http_proxy", url)
        if how == "exempt":
            monkeypatch.setenv("no_proxy", "127.0.0.1")
            assert (await failure(1)).reason == "tcp"
            assert proxy.requests == []
            return
        token_url = "http://zoom.example/oauth/token"
        await ask(1, token_url=token_url, **({"proxy": url} if how == "setting" else {}))
    assert proxy.requests[0][0].startswith(f"post {token_url} ")
