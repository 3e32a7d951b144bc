"""Events as HTTP requests, one POST for each or for each batch."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence

import structlog
from multidict import istr
from yarl import URL

from zoomrelay.clock import Clock
from zoomrelay.config.models import HttpSinkConfig
from zoomrelay.errors import SinkRejected
from zoomrelay.event import Event
from zoomrelay.retry_after import wait_asked_for
from zoomrelay.sinks import answer
from zoomrelay.sinks.compression import compressor
from zoomrelay.sinks.formats import registry
from zoomrelay.sinks.formats.zoom_webhook import ZoomWebhook
from zoomrelay.sinks.http_connection import Answer, HttpConnection

log = structlog.get_logger()

WEBHOOK_ID, WEBHOOK_ATTEMPT = istr("webhook-id"), istr("webhook-attempt")
WEBHOOK_REPLAY = istr("webhook-replay")
CONTENT_ENCODING = istr("content-encoding")

SECRET_LENGTH = 6
"""Secrets from this length on, parts of the URL's query among them, are kept out of excerpts."""
KEY_LENGTH = 16
"""And so are parts of its path from this length on: some receivers have their key there."""
COMPRESSED_ASIDE_BYTES = 64 * 1024
"""Bodies above this are compressed in a thread, so that nothing else waits for it."""


class HttpSink:
    """Acknowledges what it was given when the receiver has answered 2xx.

    The format makes the request, signed for the moment of each attempt. Every request carries
    `webhook-attempt`, and one that is not in a batch form `webhook-id`, the same for every attempt; and
    `webhook-replay: true` where somebody asked for its events once more. Sinks with
    `format = "zoom-webhook"` begin with Zoom's challenge to the receiver, unless `validate = false`.
    No reason or excerpt repeats the URL's query or a secret.
    """

    def __init__(self, config: HttpSinkConfig, clock: Clock) -> None:
        self.name = config.name
        self.concurrency = config.concurrency
        self.max_batch = config.batch_events
        self._config = config
        self._clock = clock
        self._format = registry.build(config)
        self._compress = compressor(config.compression)
        self._connection = HttpConnection(config)
        self._secrets = _secrets(config)

    async def open(self) -> None:
        """Raises `SinkRejected` where the receiver fails the challenge, `SinkUnavailable` where it does not
        answer or where certificates cannot be used. Without a challenge it connects to nobody yet."""
        await self._connection.open()
        if isinstance(self._format, ZoomWebhook) and self._config.validate_receiver:
            await self._challenge(self._format)

    async def send(self, batch: Sequence[Event], attempt: int) -> None:
        """Raises `SinkRejected` for an answer that is neither 2xx nor asks for another try."""
        body, own = self._format.request(batch, self._clock.wall())
        headers = {**own, WEBHOOK_ATTEMPT: str(attempt)}
        if self.max_batch == 1:
            headers[WEBHOOK_ID] = batch[0].id
        if batch[0].replayed:  # then all are
            headers[WEBHOOK_REPLAY] = "true"
        if self._compress is not None:
            body = await self._compressed(body, headers)
        self._judge(await self._connection.post(body, headers))

    async def reopen(self) -> None:
        """Certificates, keys and authorities are used as their files are now. Raises `SinkUnavailable` where
        they cannot be; those of before stay in use."""
        if await self._connection.reopen():
            log.info("sink.certificates_reread", sink=self.name)

    async def close(self) -> None:
        await self._connection.close()

    async def _compressed(self, body: bytes, headers: dict[istr, str]) -> bytes:
        assert self._compress is not None
        headers[CONTENT_ENCODING] = self._config.compression
        if len(body) > COMPRESSED_ASIDE_BYTES:
            return await asyncio.to_thread(self._compress, body)
        return self._compress(body)

    async def _challenge(self, format: ZoomWebhook) -> None:
        plain_token = secrets.token_hex(16)
        body, headers = format.challenge(plain_token, self._clock.wall())
        found = await self._connection.post(body, headers, whole=True)
        self._judge(found, "endpoint.url_validation: ")
        if flaw := format.flaw(plain_token, found.body):
            excerpt = answer.excerpt(found.body, self._secrets)
            raise SinkRejected(f"endpoint.url_validation: {flaw}", status=found.status, excerpt=excerpt)

    def _judge(self, found: Answer, about: str = "") -> None:
        if not answer.delivered(found.status):
            raise answer.refusal(
                found.status,
                about=about,
                dead_letter_on=() if about else self._config.dead_letter_on,
                retry_after=self._wait_asked_for(found.headers),
                excerpt=answer.excerpt(found.body, self._secrets),
            )

    def _wait_asked_for(self, headers: Mapping[str, str]) -> float | None:
        return wait_asked_for(headers, self._clock.wall())


def _secrets(config: HttpSinkConfig) -> list[str]:
    """What a receiver could repeat and nobody should read, in every spelling; longest first."""
    url = config.url
    queries = {url.partition("?")[2], URL(url).raw_query_string, URL(url).query_string}
    values = {pair.partition("=")[2] for query in queries for pair in query.split("&")}
    keys = {part for part in (*URL(url).raw_parts, *URL(url).parts) if len(part) >= KEY_LENGTH}
    found = queries | values | keys | set(config.secrets())
    return sorted((part for part in found if len(part) >= SECRET_LENGTH), key=len, reverse=True)
