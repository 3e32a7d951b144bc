"""The http sink against a real receiver on loopback."""

from __future__ import annotations

import asyncio
import gzip
import hmac
import json
import re
import shutil
import socket
import ssl
import subprocess
import traceback
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from backports import zstd

from tests.unit.session.test_transport import Proxy
from tests.unit.sinks.receiver import OK, Receiver, Request, receiver, serving
from zoomrelay import __version__
from zoomrelay.config.models import HttpSinkConfig
from zoomrelay.errors import SinkError, SinkRejected, SinkUnavailable
from zoomrelay.event import Event
from zoomrelay.sinks.http import HttpSink
from zoomrelay.sinks.http_connection import BODY_BYTES

EVENT = Event(bytes(16), "main", "abc", "meeting.started", 1, "k", 1_769_860_800_000, b'{"event":\n"x"}')


class NoonClock:
    """Stands still at 2026-01-31T12:00:00Z."""

    def wall(self) -> float:
        return 1_769_860_800.0

    def elapsed(self) -> float:
        return 0.0


@pytest.fixture
async def plain() -> AsyncIterator[str]:
    """An https address where nobody speaks TLS."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await reader.read()

    async with serving(greet) as place:
        yield f"https://{place}"


def build(url: str, **settings: Any) -> HttpSink:
    return HttpSink(HttpSinkConfig(name="crm", url=url, **settings), NoonClock())


async def failure(sink: HttpSink, event: Event = EVENT) -> SinkError:
    """The error of one `send`."""
    await sink.open()
    try:
        with pytest.raises(SinkError) as caught:
            await sink.send((event,), 1)
        return caught.value
    finally:
        await sink.close()


async def test_a_request_is_the_event_and_says_which(there: Receiver) -> None:
    sink = build(there.url + "/zoom?a=1")
    await sink.open()
    await sink.send((EVENT,), 3)
    await sink.close()
    (request,) = there.requests
    assert (request.line, request.body) == ("POST /zoom?a=1 HTTP/1.1", EVENT.content)
    assert request.headers == {
        "host": there.url.removeprefix("http://"),
        "user-agent": f"zoomrelay/{__version__}",
        "webhook-id": EVENT.id,
        "webhook-attempt": "3",
        "content-type": "application/json",
        "content-length": str(len(EVENT.content)),
    }


async def test_a_replayed_event_says_so(there: Receiver) -> None:
    sink = build(there.url)
    await sink.open()
    await sink.send((msgspec.structs.replace(EVENT, replayed=True),), 1)
    await sink.close()
    (request,) = there.requests
    assert (request.headers["webhook-replay"], request.headers["webhook-id"]) == ("true", EVENT.id)


@pytest.mark.parametrize(
    "settings",
    [
        {"format": "envelope", "batch_events": 10},
        {"format": "zoom-webhook", "secret_token": "secret", "validate": False},
        {"format": "cloudevents", "cloudevents_mode": "binary"},
        {"format": "cloudevents", "batch_events": 10, "compression": "gzip"},
        {"format": "standard-webhooks", "secret_token": "whsec_" + "A" * 32},
        {"format": "splunk-hec", "batch_events": 10},
    ],
    ids=lambda settings: settings["format"],
)
async def test_so_does_every_format(there: Receiver, settings: dict[str, Any]) -> None:
    sink = build(there.url, **settings)
    events = [EVENT] * min(2, sink.max_batch)
    await sink.open()
    await sink.send(events, 1)
    await sink.send([msgspec.structs.replace(event, replayed=True) for event in events], 1)
    await sink.close()
    assert [request.headers.get("webhook-replay") for request in there.requests] == [None, "true"]


async def test_connections_are_kept_and_bounded(there: Receiver) -> None:
    sink = build(there.url, concurrency=2)
    await sink.open()
    await asyncio.gather(*(sink.send((EVENT,), 1) for _ in range(20)))
    await sink.close()
    assert (len(there.requests), there.connections) == (20, 2)


async def test_no_cookie_is_kept(there: Receiver) -> None:
    there.say(OK[:-2] + b"set-cookie: a=b\r\n\r\n")
    sink = build(there.url)
    await sink.open()
    await sink.send((EVENT,), 1)
    await sink.send((EVENT,), 1)
    await sink.close()
    assert "cookie" not in there.requests[1].headers


async def test_a_redirect_is_not_followed(there: Receiver) -> None:
    there.say(b"HTTP/1.1 307 Moved\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n")
    error = await failure(build(there.url))
    assert isinstance(error, SinkRejected)
    assert (error.status, len(there.requests)) == (307, 1)


@pytest.mark.parametrize("retry_after", ["90", "Sat, 31 Jan 2026 12:01:30 GMT", "2026-01-31T12:01:30Z"])
async def test_retry_after_is_passed_on(there: Receiver, retry_after: str) -> None:
    there.say(b"HTTP/1.1 429 Slow\r\nretry-after: %b\r\ncontent-length: 4\r\n\r\nslow" % retry_after.encode())
    error = await failure(build(there.url))
    assert isinstance(error, SinkUnavailable)
    assert (error.status, error.retry_after, error.excerpt) == (429, 90.0, "slow")


async def test_dead_letter_on_is_final(there: Receiver) -> None:
    there.say(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n")
    error = await failure(build(there.url, dead_letter_on=(503,)))
    assert isinstance(error, SinkRejected)
    assert error.final


async def test_an_event_above_a_mebibyte_arrives(there: Receiver) -> None:
    big = Event(bytes(16), "main", "abc", "x", None, "", 0, b'{"event":"%b"}' % (b"x" * 3_000_000))
    sink = build(there.url)
    await sink.open()
    await sink.send((big,), 1)
    await sink.close()
    assert there.requests[0].body == big.content


# --- answers of every size


@pytest.mark.parametrize("length", [1, 20_000, BODY_BYTES - 1])
@pytest.mark.parametrize("status", [b"200 OK", b"404 No"])
async def test_a_connection_is_used_again_after_an_answer_of_modest_size(
    there: Receiver, status: bytes, length: int
) -> None:
    there.say(b"HTTP/1.1 %b\r\ncontent-length: %d\r\n\r\n%b" % (status, length, b"x" * length))
    sink = build(there.url)
    await sink.open()
    for _ in range(2):
        await asyncio.gather(sink.send((EVENT,), 1), return_exceptions=True)
    await sink.close()
    assert (len(there.requests), there.connections) == (2, 1)


@pytest.mark.parametrize(("status", "expected"), [(b"200 OK", None), (b"422 No", SinkRejected)])
async def test_an_endless_answer_costs_its_connection_and_nothing_else(
    there: Receiver, status: bytes, expected: type[SinkError] | None
) -> None:
    async def pour(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 %b\r\n\r\n" % status)
        while True:
            writer.write(b"x" * 10_000)
            await writer.drain()

    there.answer = pour
    sink = build(there.url)
    await sink.open()
    for _ in range(2):
        (result,) = await asyncio.gather(sink.send((EVENT,), 1), return_exceptions=True)
        assert type(result) is (expected or type(None))
    await sink.close()
    assert there.connections == 2


async def test_an_answer_whose_body_never_comes_is_an_answer(
    there: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoomrelay.sinks.http_connection.BODY_SECONDS", 0.02)
    there.say(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n")
    sink = build(there.url)
    await sink.open()
    await sink.send((EVENT,), 1)
    await sink.close()


@pytest.mark.parametrize(("status", "expected"), [(b"200 OK", None), (b"422 No", SinkRejected)])
async def test_a_body_that_breaks_off_changes_nothing(
    there: Receiver, status: bytes, expected: type[SinkError] | None
) -> None:
    async def break_off(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 %b\r\ncontent-length: 100\r\n\r\npart" % status)
        writer.close()

    there.answer = break_off
    sink = build(there.url)
    await sink.open()
    (result,) = await asyncio.gather(sink.send((EVENT,), 1), return_exceptions=True)
    await sink.close()
    assert type(result) is (expected or type(None))


# --- no answer


async def test_a_stale_connection_costs_a_second_try_and_no_failure(there: Receiver) -> None:
    async def leave_at_the_second_request(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.number == 2:
            writer.close()
        else:
            writer.write(OK)

    there.answer = leave_at_the_second_request
    sink = build(there.url, concurrency=1)
    await sink.open()
    await sink.send((EVENT,), 1)
    await sink.send((EVENT,), 1)
    await sink.close()
    assert [(request.connection, request.number) for request in there.requests] == [(1, 1), (1, 2), (2, 1)]


async def test_a_receiver_that_keeps_hanging_up_is_unavailable(there: Receiver) -> None:
    async def leave(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.close()

    there.answer = leave
    error = await failure(build(there.url))
    assert isinstance(error, SinkUnavailable)
    assert "closed the connection without an answer" in error.reason
    assert len(there.requests) == 2


async def test_a_receiver_that_hangs_up_after_working_on_it_is_not_asked_twice(
    there: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoomrelay.sinks.http_connection.STALE_SECONDS", 0.0)

    async def leave(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    there.answer = leave
    assert isinstance(await failure(build(there.url)), SinkUnavailable)
    assert len(there.requests) == 1


async def test_silence_ends_after_timeout_seconds(there: Receiver) -> None:
    there.say(b"")
    error = await failure(build(there.url, timeout_seconds=0.05))
    assert isinstance(error, SinkUnavailable)
    assert re.fullmatch(r"no answer from 127\.0\.0\.1:\d+ within 0\.05 s", error.reason)


async def test_a_refused_connection_is_unavailable() -> None:
    with socket.socket() as bound:  # bound and not listening: nobody else can take the port
        bound.bind(("127.0.0.1", 0))
        error = await failure(build(f"http://127.0.0.1:{bound.getsockname()[1]}"))
    assert isinstance(error, SinkUnavailable)
    assert re.fullmatch(r"cannot connect to 127\.0\.0\.1:\d+: Connection refused", error.reason)


@pytest.mark.parametrize("host", ["crm..internal", "x" * 64])
async def test_a_host_that_cannot_be_a_name_is_unavailable(host: str) -> None:
    error = await failure(build(f"http://{host}/"))
    assert isinstance(error, SinkUnavailable)
    assert error.reason == f"no address found for {host}"


async def test_a_name_without_address_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", nothing)
    error = await failure(build("http://crm.internal/"))
    assert isinstance(error, SinkUnavailable)
    assert error.reason == "no address found for crm.internal"


async def test_what_is_not_http_is_unavailable(there: Receiver) -> None:
    there.say(b"220 mail.example ESMTP\r\n\r\n")
    error = await failure(build(there.url))
    assert isinstance(error, SinkUnavailable)
    assert error.reason.endswith("does not answer in HTTP")


async def test_before_open_and_after_close_it_is_unavailable(there: Receiver) -> None:
    sink = build(there.url)
    with pytest.raises(SinkUnavailable):
        await sink.send((EVENT,), 1)
    await sink.open()
    await sink.close()
    with pytest.raises(SinkUnavailable):
        await sink.send((EVENT,), 1)


# --- TLS


async def test_a_failed_handshake_is_unavailable(plain: str) -> None:
    error = await failure(build(plain))
    assert isinstance(error, SinkUnavailable)
    assert re.match(r"TLS handshake with 127\.0\.0\.1:\d+ failed: .*WRONG_VERSION_NUMBER", error.reason)


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_a_ca_file_that_cannot_be_used_is_unavailable(tmp_path: Path, content: str | None) -> None:
    ca_file = tmp_path / "ca.pem"
    if content is not None:
        ca_file.write_text(content)
    with pytest.raises(SinkUnavailable, match=re.escape(str(ca_file))):
        await build("https://127.0.0.1", ca_file=ca_file).open()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")
async def test_ca_file_decides_whom_to_trust(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    make_certificate(key, certificate)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    async with receiver(context) as it:
        sink = build(it.url, ca_file=certificate)
        await sink.open()
        await sink.send((EVENT,), 1)
        await sink.close()
        assert len(it.requests) == 1
        error = await failure(build(it.url))
    assert isinstance(error, SinkUnavailable)
    assert "not trusted" in error.reason


# --- proxies


async def test_the_proxy_of_the_environment_is_used(there: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", there.url.replace("//", "//user:p%40ss@"))
    monkeypatch.setenv("no_proxy", "")
    sink = build("http://crm.internal/zoom")
    await sink.open()
    await sink.send((EVENT,), 1)
    await sink.close()
    (request,) = there.requests
    assert request.line == "POST http://crm.internal/zoom HTTP/1.1"
    assert request.headers["proxy-authorization"] == "Basic dXNlcjpwQHNz"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")
async def test_to_an_https_receiver_a_proxy_is_a_tunnel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    make_certificate(key, certificate)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    proxy = Proxy()
    async with receiver(context) as it, serving(proxy) as place:
        monkeypatch.setenv("https_proxy", f"http://user:pass@{place}")
        monkeypatch.setenv("no_proxy", "")
        sink = build(it.url + "/zoom", ca_file=certificate)
        await sink.open()
        await sink.send((EVENT,), 1)
        await sink.send((EVENT,), 1)
        await sink.close()
    (asked,) = proxy.requests
    assert asked.startswith("CONNECT 127.0.0.1:") and "Proxy-Authorization: Basic dXNlcjpwYXNz" in asked
    assert [request.line for request in it.requests] == ["POST /zoom HTTP/1.1"] * 2
    assert "proxy-authorization" not in it.requests[0].headers


async def test_no_proxy_is_obeyed(there: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    sink = build(there.url)
    await sink.open()
    await sink.send((EVENT,), 1)
    await sink.close()
    assert len(there.requests) == 1


# --- secrets


@pytest.mark.parametrize("trouble", ["echo", "silence", "refused", "rubbish", "hang up", "tls"])
async def test_no_failure_shows_the_query(there: Receiver, plain: str, trouble: str) -> None:
    url = f"{there.url}/hook?sig=s3cret%2Fs3cret"
    match trouble:
        case "echo":
            echo = b"no POST for /hook?sig=s3cret%2Fs3cret, that is s3cret/s3cret"
            there.say(b"HTTP/1.1 400 No\r\ncontent-length: %d\r\n\r\n%b" % (len(echo), echo))
        case "silence":
            there.say(b"")
        case "refused":
            url = url.replace(there.url, "http://127.0.0.1:1")
        case "rubbish":
            there.say(b"HTTP/1.1 two hundred\r\n\r\n")
        case "hang up":

            async def leave(_: Request, writer: asyncio.StreamWriter) -> None:
                writer.close()

            there.answer = leave
        case "tls":
            url = url.replace(there.url, plain)
    assert "s3cret" not in shown(await failure(build(url, timeout_seconds=0.2)))


def make_certificate(key: Path, certificate: Path) -> None:
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    extra = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate]
    subprocess.run([*command.split(), *extra], check=True, capture_output=True)


def shown(error: SinkError) -> str:
    """Everything that a log or a dead letter may show of it."""
    return error.reason + error.excerpt + "".join(traceback.format_exception(error))


# --- formats


async def test_the_challenge_comes_first_and_is_answered_by_whoever_knows_the_secret(there: Receiver) -> None:
    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        event = json.loads(request.body)
        writer.write(_answered(event, b"its secret") if event["event"] == VALIDATION else OK)

    there.answer = answer
    sink = build(there.url, format="zoom-webhook", secret_token="its secret")
    await sink.open()
    await sink.send((EVENT,), 2)
    await sink.close()
    challenge, event = there.requests
    assert json.loads(challenge.body)["event"] == VALIDATION
    assert event.body == EVENT.content.replace(b"\n", b"")
    assert event.headers["user-agent"] == "Zoom Marketplace/1.0a"
    assert (event.headers["webhook-id"], event.headers["webhook-attempt"]) == (EVENT.id, "2")
    for request in there.requests:
        message = b"v0:1769860800:" + request.body
        signature = hmac.new(b"its secret", message, "sha256").hexdigest()
        assert request.headers["x-zm-signature"] == f"v0={signature}"


@pytest.mark.parametrize(
    ("say", "kind", "reason"),
    [
        (b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n", SinkUnavailable, "HTTP 503 Service Unavailable"),
        (b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n", SinkRejected, "HTTP 404 Not Found"),
        (OK, SinkRejected, "the answer is not JSON; it must be {plainToken, encryptedToken}"),
        (
            b"another secret",
            SinkRejected,
            "encryptedToken is wrong: the receiver has another secret token than secret_token here",
        ),
    ],
)
async def test_a_failed_challenge_says_what_is_wrong(
    there: Receiver, say: bytes, kind: type[SinkError], reason: str
) -> None:
    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        event = json.loads(request.body)
        writer.write(say if say.startswith(b"HTTP") else _answered(event, say))

    there.answer = answer
    # What is final for events must not be for a challenge: nothing is thrown away for its sake.
    sink = build(there.url, format="zoom-webhook", secret_token="its secret", dead_letter_on=(404, 503))
    with pytest.raises(kind) as caught:
        await sink.open()
    await sink.close()
    assert caught.value.reason == f"endpoint.url_validation: {reason}"
    assert not getattr(caught.value, "final", False)


async def test_without_validate_there_is_no_challenge(there: Receiver) -> None:
    sink = build(there.url, format="zoom-webhook", secret_token="its secret", validate=False)
    await sink.open()
    await sink.close()
    assert there.requests == []


async def test_a_batch_is_one_request(there: Receiver) -> None:
    sink = build(there.url, batch_events=10)
    assert sink.max_batch == 10
    await sink.open()
    await sink.send((EVENT, EVENT), 4)
    await sink.close()
    (request,) = there.requests
    assert request.body == b'{"event": "x"}\n' * 2
    assert request.headers["content-type"] == "application/x-ndjson"
    assert request.headers["webhook-attempt"] == "4"
    assert "webhook-id" not in request.headers


@pytest.mark.parametrize("size", [100, 3_000_000])
@pytest.mark.parametrize(("compression", "read"), [("gzip", gzip.decompress), ("zstd", zstd.decompress)])
async def test_compressed_bodies_say_so(
    there: Receiver, compression: str, read: Callable[[bytes], bytes], size: int
) -> None:
    big = Event(bytes(16), "main", "abc", "x", None, "", 0, b'{"event":"%b"}' % (b"x" * size))
    sink = build(there.url, compression=compression)
    await sink.open()
    await sink.send((big,), 1)
    await sink.close()
    assert there.requests[0].headers["content-encoding"] == compression
    assert read(there.requests[0].body) == big.content


# --- headers, authorization, certificates, proxy


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"username": "me", "password": "it's: é"}, "Basic bWU6aXQnczogw6k="),
        ({"bearer_token": "t0ken"}, "Bearer t0ken"),
        ({"headers": {"Authorization": "Custom abc"}}, "Custom abc"),
        ({"format": "splunk-hec", "secret_token": "11-22"}, "Splunk 11-22"),
        ({}, None),
    ],
)
async def test_authorization(there: Receiver, settings: dict[str, Any], expected: str | None) -> None:
    sink = build(there.url, **settings)
    await sink.open()
    await sink.send((EVENT,), 1)
    await sink.close()
    assert there.requests[0].headers.get("authorization") == expected


async def test_headers_of_the_configuration_are_sent(there: Receiver) -> None:
    sink = build(there.url, headers={"X-Team": "crm", "User-Agent": "mine"})
    await sink.open()
    await sink.send((EVENT,), 1)
    await sink.close()
    headers = there.requests[0].headers
    assert (headers["x-team"], headers["user-agent"]) == ("crm", "mine")


async def test_the_proxy_of_the_configuration_beats_that_of_the_environment(
    there: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    sink = build("http://crm.internal/zoom", proxy=there.url)
    await sink.open()
    await sink.send((EVENT,), 1)
    await sink.close()
    assert there.requests[0].line == "POST http://crm.internal/zoom HTTP/1.1"


async def test_no_excerpt_repeats_a_secret(there: Receiver) -> None:
    async def echo(request: Request, writer: asyncio.StreamWriter) -> None:
        said = json.dumps({"cannot": request.line, **request.headers}).encode()
        writer.write(b"HTTP/1.1 400 No\r\ncontent-length: %d\r\n\r\n%b" % (len(said), said))

    there.answer = echo
    for settings in (
        {"bearer_token": "pl4nted"},
        {"headers": {"x-key": "pl4nted"}},
        {"username": "me", "password": "pl4nted"},
    ):
        error = await failure(build(there.url + "/hooks/pl4nted-in-the-path", **settings))
        assert "POST /hooks/***" in error.excerpt
        assert "pl4nted" not in shown(error) and "bWU6cGw0bnRlZA" not in shown(error)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")
@pytest.mark.parametrize("together", [True, False])
async def test_a_certificate_of_ours_is_shown(tmp_path: Path, together: bool) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    make_certificate(key, certificate)
    if together:
        certificate.write_text(certificate.read_text() + key.read_text())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificate))
    context.load_cert_chain(certificate, key)
    context.verify_mode = ssl.CERT_REQUIRED
    ours = {"cert_file": certificate} | ({} if together else {"key_file": key})
    async with receiver(context) as it:
        sink = build(it.url, ca_file=certificate, **ours)
        await sink.open()
        await sink.send((EVENT,), 1)
        await sink.close()
        assert len(it.requests) == 1
        assert isinstance(await failure(build(it.url, ca_file=certificate)), SinkUnavailable)
        assert len(it.requests) == 1


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")
async def test_reopen_takes_certificates_as_their_files_are_now(tmp_path: Path) -> None:
    """A request that is under way comes to its end."""
    key, certificate, ours = (tmp_path / name for name in ("key.pem", "cert.pem", "ours.pem"))
    make_certificate(key, certificate)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    shutil.copy(certificate, ours)
    async with receiver(context) as it:
        sink = build(it.url, ca_file=ours)
        await sink.open()
        await sink.reopen()
        may_answer = asyncio.Event()

        async def answer(_: Request, writer: asyncio.StreamWriter) -> None:
            await may_answer.wait()
            writer.write(OK)

        it.answer = answer
        under_way = asyncio.create_task(sink.send((EVENT,), 1))
        async with asyncio.timeout(15):
            while not it.requests:  # noqa: ASYNC110 - nobody says so
                await asyncio.sleep(0.01)
        make_certificate(tmp_path / "other.pem", ours)
        await sink.reopen()
        may_answer.set()
        await under_way
        with pytest.raises(SinkUnavailable, match="not trusted"):
            await sink.send((EVENT,), 2)
        ours.write_text("none")
        with pytest.raises(SinkUnavailable, match="ca_file"):
            await sink.reopen()
        shutil.copy(certificate, ours)
        await sink.reopen()
        await sink.send((EVENT,), 3)
        await sink.close()
    assert len(it.requests) == 2


async def test_a_certificate_that_cannot_be_used_is_unavailable(tmp_path: Path) -> None:
    certificate = tmp_path / "cert.pem"
    certificate.write_text("none")
    with pytest.raises(SinkUnavailable, match=re.escape(f"cert_file {certificate}")):
        await build("https://127.0.0.1", cert_file=certificate).open()


VALIDATION = "endpoint.url_validation"


def _answered(event: dict[str, Any], secret: bytes) -> bytes:
    """What Zoom's documents tell receivers to answer to a challenge."""
    plain = event["payload"]["plainToken"]
    body = {"plainToken": plain, "encryptedToken": hmac.new(secret, plain.encode(), "sha256").hexdigest()}
    said = json.dumps(body).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(said), said)
