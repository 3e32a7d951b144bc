"""The pretend Zoom's webhooks: challenge, signature, tries, copies."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from aiohttp import web

from zoomrelay.intake.identity import Identifier
from zoomrelay.simulator.server import Simulator
from zoomrelay.simulator.webhooks import NO_ANSWER, TRY_AGAIN_AFTER_SECONDS, check, fresh_copy

SECRET = "word"


class Receiver:
    """Answers challenges, and events with `statuses` in turn; the last one stays."""

    def __init__(self) -> None:
        self.statuses = [200]
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.url = ""
        self.knows_the_secret = True

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        document = json.loads(body)
        if document["event"] == "endpoint.url_validation":
            token = document["payload"]["plainToken"]
            encrypted = hmac.new(SECRET.encode(), token.encode(), hashlib.sha256).hexdigest()
            return web.json_response(
                {"plainToken": token, "encryptedToken": encrypted if self.knows_the_secret else "x"}
            )
        self.requests.append(({k.lower(): v for k, v in request.headers.items()}, body))
        status = self.statuses[0] if len(self.statuses) == 1 else self.statuses.pop(0)
        if status == NO_ANSWER:
            assert request.transport is not None
            request.transport.abort()
        return web.Response(status=status if status > 0 else 200)


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    it = Receiver()
    app = web.Application()
    app.add_routes([web.post("/hook", it.handle)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    it.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    try:
        yield it
    finally:
        await runner.cleanup()


@asynccontextmanager
async def both(retry_scale: float = 0.0) -> AsyncIterator[tuple[Simulator, Receiver]]:
    async with receiver() as it, Simulator(seed=3, webhook_url=it.url, webhook_secret=SECRET) as zoom:
        zoom.webhooks.retry_scale = retry_scale
        async with asyncio.timeout(20):
            await zoom.until(lambda: zoom.webhooks.validated)
            yield zoom, it


async def test_every_event_is_posted_and_signed() -> None:
    async with both() as (zoom, it):
        await zoom.burst(50)
        await zoom.until(lambda: zoom.webhooks.idle and zoom.webhooks.count == 50)
        assert len(it.requests) == 50
        for headers, body in it.requests:
            text = b"v0:" + headers["x-zm-request-timestamp"].encode() + b":" + body
            digest = hmac.new(SECRET.encode(), text, hashlib.sha256).hexdigest()
            assert headers["x-zm-signature"] == f"v0={digest}"
            assert headers["content-type"] == "application/json; charset=utf-8"
        sent = [one.content for one in zoom.journal.since()]
        read = Identifier("main").read
        posted = {read(post.content, "", 0).digest for post in zoom.webhooks.since()}
        assert posted == {read(content, "", 0).digest for content in sent}, "the same events"
        assert zoom.state()["webhook"] == {
            "url": it.url,
            "validated": True,
            "posted": 50,
            "statuses": {"200": 50},
        }


@pytest.mark.parametrize(
    ("statuses", "tries"),
    [
        ([200], [200]),
        ([500, 503, 204], [500, 503, 204]),
        ([503, 401], [503, 401]),
        ([302], [302]),
        ([NO_ANSWER, 200], [NO_ANSWER, 200]),
        ([503], [503, 503, 503, 503]),
    ],
)
async def test_zooms_timetable(statuses: list[int], tries: list[int]) -> None:
    async with both() as (zoom, it):
        it.statuses = statuses
        await zoom.burst(1)
        await zoom.until(lambda: zoom.webhooks.count == 1 and zoom.webhooks.idle)
        (post,) = zoom.webhooks.since()
        assert post.statuses == tries and post.taken is (200 <= tries[-1] < 300)
    assert [sum(TRY_AGAIN_AFTER_SECONDS[:n]) / 60 for n in (1, 2, 3)] == [5, 25, 85]


async def test_nothing_is_sent_to_one_who_does_not_know_the_secret() -> None:
    async with receiver() as it, Simulator(seed=3) as zoom:
        it.knows_the_secret = False
        zoom.point_webhook(it.url, SECRET, 1.0)
        assert not await zoom.webhooks.challenge()
        await zoom.burst(5)
        assert zoom.webhooks.count == 0 and not it.requests


def test_copies_differ_in_what_is_volatile_only() -> None:
    content = msgspec.json.encode(
        {
            "event": "recording.completed",
            "download_token": "a",
            "payload": {"object": [{"play_url": "b"}], "n": 1},
        }
    )
    copy = fresh_copy(content, 7)
    assert json.loads(copy)["download_token"] == "a~webhook7"
    assert json.loads(copy)["payload"] == {"object": [{"play_url": "b~webhook7"}], "n": 1}
    read = Identifier("main").read
    assert read(copy, "", 0).id == read(content, "", 0).id
    plain = b'{"event": "x",  "payload": {}}'
    assert fresh_copy(plain, 1) is plain


@pytest.mark.parametrize(("url", "secret"), [("ftp://x", "word"), ("127.0.0.1:80", "word"), ("http://x", "")])
def test_what_is_no_webhook(url: str, secret: str) -> None:
    with pytest.raises(ValueError, match="webhook"):
        check(url, secret)
