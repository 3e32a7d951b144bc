"""Formats, batches and credentials through the whole relay, and no secret of theirs anywhere."""

from __future__ import annotations

import gzip
import hmac
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from tests.support.lab import _PLANTED, Lab
from zoomrelay.sinks.formats.spelling import as_javascript

SINKS = """
[sinks.webhook]
type = "http"
url = "{url}/webhook"
format = "zoom-webhook"
secret_token = "{secret}"
timeout_seconds = 5

[sinks.lines]
type = "http"
url = "{url}/lines"
batch_events = 50
batch_seconds = 0.1
compression = "gzip"
max_rate = 5000

[sinks.lines.headers]
x-key_file = "{key_file}"
"""


class Receivers:
    """One of Zoom's webhooks, which repeats what it does not like, and one of lines."""

    def __init__(self) -> None:
        self.secret = "not this one"
        self.webhooks: list[bytes] = []
        self.lines: list[bytes] = []
        self.requests = 0

    async def take_webhook(self, request: web.Request) -> web.Response:
        body = await request.read()
        message = b"v0:%b:%b" % (request.headers["x-zm-request-timestamp"].encode(), body)
        if request.headers["x-zm-signature"] != f"v0={self._sign(message)}":
            return web.Response(status=401, text=f"{dict(request.headers)} {_PLANTED}")
        event = json.loads(body)
        if event["event"] != "endpoint.url_validation":
            self.webhooks.append(body)
            return web.Response()
        token = event["payload"]["plainToken"]
        return web.json_response({"plainToken": token, "encryptedToken": self._sign(token.encode())})

    def _sign(self, message: bytes) -> str:
        return hmac.new(self.secret.encode(), message, "sha256").hexdigest()

    async def take_lines(self, request: web.Request) -> web.Response:
        if request.headers.get("x-key") != _PLANTED:
            return web.Response(status=403)
        self.requests += 1
        self.lines += gzip.decompress(await request.read()).splitlines()
        return web.Response()


@pytest.fixture
async def served() -> AsyncIterator[tuple[Receivers, str]]:
    them = Receivers()
    app = web.Application()
    app.router.add_post("/webhook", them.take_webhook)
    app.router.add_post("/lines", them.take_lines)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, auto_decompress=False)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield them, f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.mark.full
async def test_a_challenge_that_fails_costs_nothing_and_batches_are_few(
    tmp_path: Path, served: tuple[Receivers, str]
) -> None:
    them, url = served
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "key").write_text(_PLANTED + "\n")
    sinks = SINKS.format(url=url, secret=_PLANTED, key_file=secrets / "key")
    async with Lab(tmp_path, seed=1, more=sinks) as lab:
        await lab.start()
        await lab.zoom.burst(500)
        await lab.relay.until(lambda: len(them.lines) >= 500, "all lines")
        await lab.relay.until(lambda: bool(lab.relay.log("sink.failing")), "the failed challenge in the log")
        await lab.ask()
        assert not them.webhooks
        (failing,) = lab.relay.log("sink.failing")
        assert (failing["sink"], failing["error"]) == (
            "webhook",
            "endpoint.url_validation: HTTP 401 Unauthorized",
        )
        them.secret = _PLANTED
        await lab.finish()
        await lab.relay.stop()
        sent = {one.content for one in lab.zoom.journal.since()}
        assert set(them.lines) == sent
        assert set(them.webhooks) == {as_javascript(content) for content in sent}
        assert them.requests < 100
        lab.judge()
