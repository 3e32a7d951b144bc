"""The admin port, over real sockets."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from tests.unit.admin.fakes import FakeRelay, lost_path, source, spool, status
from zoomrelay.admin.access import host_is_ours
from zoomrelay.admin.collector import StatusCollector
from zoomrelay.admin.server import AdminServer
from zoomrelay.errors import ConfigError
from zoomrelay.telemetry.redaction import protect

PATHS = ("/", "/livez", "/readyz", "/metrics")


@pytest.fixture
def relay() -> FakeRelay:
    return FakeRelay()


@pytest.fixture
async def server(relay: FakeRelay) -> AsyncIterator[AdminServer]:
    registry = CollectorRegistry()
    registry.register(StatusCollector(relay.status))
    server = AdminServer("127.0.0.1:0", relay.status, registry)
    await server.open()
    yield server
    await server.close()


async def ask(
    server: AdminServer, path: str, method: str = "GET", **headers: str
) -> tuple[aiohttp.ClientResponse, str]:
    host, port = server.addresses[0]
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"http://{host}:{port}{path}", headers=headers) as response,
    ):
        return response, await response.text()


async def test_live(server: AdminServer) -> None:
    response, text = await ask(server, "/livez")
    assert (response.status, text) == (200, "ok\n")


async def test_not_live_while_something_is_stuck(server: AdminServer, relay: FakeRelay) -> None:
    relay.now = status(stuck=["spool"])
    response, text = await ask(server, "/livez")
    assert (response.status, text) == (503, "stuck: spool\n")


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (status(sources=[source(), source(lost_path(), name="other")]), "copy the secret"),
        (status(spool=spool(writable=False, trouble="disk I/O error")), "disk I/O error"),
        (status(starting=True), "starting"),
        (status(stopping=True), "stopping"),
    ],
)
async def test_not_ready_says_why(server: AdminServer, relay: FakeRelay, now: object, reason: str) -> None:
    response, text = await ask(server, "/readyz")
    assert response.status == 200
    assert json.loads(text)["sources"]["main"]["subscriptions"]["Sub0"]["accepted"] is True
    relay.now = now  # type: ignore[assignment]
    response, text = await ask(server, "/readyz")
    assert response.status == 503
    assert response.content_type == "application/json"
    (words,) = json.loads(text)["not_ready_because"]
    assert reason in words


async def test_one_subscription_of_a_source_is_enough(server: AdminServer, relay: FakeRelay) -> None:
    relay.now = status(sources=[source(lost_path(), *source().paths)])
    response, _ = await ask(server, "/readyz")
    assert response.status == 200


async def test_a_source_for_tokens_only_is_ready(server: AdminServer, relay: FakeRelay) -> None:
    relay.now = status(sources=[type(source())("tokens", [], source().counts)])
    response, _ = await ask(server, "/readyz")
    assert response.status == 200


async def test_metrics_can_be_parsed(server: AdminServer) -> None:
    response, text = await ask(server, "/metrics")
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(text)}
    outcomes = {s.labels["outcome"]: s.value for s in families["zoomrelay_sink_events"].samples}
    assert outcomes["delivered"] == 9 and outcomes["dead"] == 1
    assert families["zoomrelay_spool_seconds_until_full"].samples[0].value == float("inf")


@pytest.mark.parametrize("path", PATHS)
async def test_it_only_reads(server: AdminServer, path: str) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"):
        response, _ = await ask(server, path, method)
        assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")
    response, text = await ask(server, path, "HEAD")
    assert (response.status, text) == (200, "")


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "path",
    ["/status", "/reload", "/dlq", "/dlq/redrive", "/replay", "/tap", "/livez/", "//", "/metrics/../reload"],
)
async def test_there_is_nothing_else(server: AdminServer, path: str, method: str) -> None:
    response, _ = await ask(server, path, method)
    assert response.status == 404


@pytest.mark.parametrize("path", [*PATHS, "/nothing"])
async def test_strict_headers_everywhere(server: AdminServer, path: str) -> None:
    response, _ = await ask(server, path)
    assert response.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Cache-Control"] == "no-store"
    assert "aiohttp" not in response.headers["Server"]


async def test_a_foreign_name_gets_probes_but_no_page(server: AdminServer) -> None:
    response, text = await ask(server, "/", Host="rebound.example:9464")
    assert response.status == 421 and "Sub0" not in text
    for path in PATHS[1:]:
        response, _ = await ask(server, path, Host="rebound.example")
        assert response.status == 200


@pytest.mark.parametrize(
    ("header", "ours"),
    [
        ("", True),
        ("localhost:9464", True),
        ("LOCALHOST", True),
        ("relay.localhost", True),
        ("127.0.0.1:9464", True),
        ("[::1]:9464", True),
        ("10.0.0.7", True),
        ("relay.internal:9464", True),
        (socket.gethostname(), True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("[::1", False),
        ("evil.example@localhost.evil.example", False),
    ],
)
def test_hosts(header: str, ours: bool) -> None:
    assert host_is_ours(header, "Relay.internal") is ours


def test_listening_everywhere_makes_no_name_ours() -> None:
    assert not host_is_ours("evil.example", "")


async def test_words_of_others_never_become_markup(server: AdminServer, relay: FakeRelay) -> None:
    evil = "<script>alert('x')</script>\x1b[2J\"&"
    name = evil.replace("\x1b", "")
    relay.now = status(sources=[source(lost_path(last_error=evil, cure=evil, subscription=name), name=name)])
    _, text = await ask(server, "/")
    assert "<script" not in text and "\x1b" not in text
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;\\x1b[2J&quot;&amp;" in text


async def test_the_page_needs_nothing_else(server: AdminServer) -> None:
    response, text = await ask(server, "/")
    assert response.content_type == "text/html"
    assert not re.search(r"\ssrc=|url\(|@import|<link|<script|\sstyle=|\son\w+=|https?://", text)
    assert 'name="viewport"' in text


async def test_secrets_are_blotted_out(server: AdminServer, relay: FakeRelay) -> None:
    protect("planted-page-secret")
    relay.now = status(sources=[source(lost_path(last_error="Zoom said planted-page-secret"))])
    for path in ("/", "/readyz"):
        _, text = await ask(server, path)
        assert "Zoom said ***" in text and "planted-page" not in text


# --- with a token -------------------------------------------------------------------------------------

TOKEN = "planted-admin-token-0123456789"


@pytest.fixture
async def guarded(relay: FakeRelay) -> AsyncIterator[AdminServer]:
    server = AdminServer("127.0.0.1:0", relay.status, CollectorRegistry(), token=lambda: SecretStr(TOKEN))
    await server.open()
    yield server
    await server.close()


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
async def test_probes_need_no_token(guarded: AdminServer, path: str) -> None:
    assert (await ask(guarded, path))[0].status == 200
    assert (await ask(guarded, path, "POST"))[0].status == 405


@pytest.mark.parametrize(
    "path", ["/", "/metrics", "/nothing", "/livez/", "/livez/../metrics", "/%6detrics", "//livez"]
)
@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer x{TOKEN}",
        f"Basic {TOKEN}",
        TOKEN,
        "Bearer \xfc\xff",
    ],
)
async def test_everything_else_does(guarded: AdminServer, path: str, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    for method in ("GET", "HEAD", "POST"):
        response, text = await ask(guarded, path, method, **headers)
        assert (response.status, response.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert "zoomrelay_" not in text and TOKEN not in text


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_with_it_all_is_as_without(guarded: AdminServer, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {TOKEN}"}
    for path in PATHS:
        assert (await ask(guarded, path, **headers))[0].status == 200
    assert (await ask(guarded, "/nothing", **headers))[0].status == 404
    assert (await ask(guarded, "/", Host="rebound.example", **headers))[0].status == 421


async def test_a_token_that_changes_holds_at_once(relay: FakeRelay) -> None:
    tokens = ["first-token-0123456789"]
    server = AdminServer(
        "127.0.0.1:0", relay.status, CollectorRegistry(), token=lambda: SecretStr(tokens[-1])
    )
    await server.open()
    tokens.append("other-token-0123456789")
    assert (await ask(server, "/metrics", Authorization=f"Bearer {tokens[0]}"))[0].status == 401
    assert (await ask(server, "/metrics", Authorization=f"Bearer {tokens[1]}"))[0].status == 200
    await server.close()


# --- the address --------------------------------------------------------------------------------------


async def test_it_can_be_turned_off(relay: FakeRelay) -> None:
    server = AdminServer("", relay.status, CollectorRegistry())
    await server.open()
    assert server.addresses == []
    await server.close()


@pytest.mark.parametrize(
    ("listen", "why"),
    [
        ("203.0.113.9:9464", r"cannot listen on 203\.0\.113\.9:9464: Cannot assign"),
        ("no-such-host.invalid:9464", "cannot listen on no-such-host.invalid"),
    ],
)
async def test_an_address_that_cannot_be_had(relay: FakeRelay, listen: str, why: str) -> None:
    server = AdminServer(listen, relay.status, CollectorRegistry())
    with pytest.raises(ConfigError, match=why) as caught:
        await server.open()
    (problem,) = caught.value.problems
    assert problem.where == "admin.listen" and problem.cure
    await server.close()
