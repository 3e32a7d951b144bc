"""Events as HTTP requests, one POST each."""

from __future__ import annotations

import asyncio
import io
import os
import ssl
from collections.abc import Sequence
from contextlib import suppress
from urllib.request import getproxies, proxy_bypass

import aiohttp
from multidict import istr
from yarl import URL

from zoomrelay import __version__
from zoomrelay.clock import Clock
from zoomrelay.config.models import HttpSinkConfig
from zoomrelay.errors import SinkUnavailable
from zoomrelay.event import Event
from zoomrelay.retry_after import wait_asked_for
from zoomrelay.sinks import answer, encode

WEBHOOK_ID, WEBHOOK_ATTEMPT, CONTENT_TYPE = istr("webhook-id"), istr("webhook-attempt"), istr("content-type")
WEBHOOK_REPLAY = istr("webhook-replay")

BODY_BYTES = 64 * 1024
"""Of an answer's body, as much is read so that its connection can be used again. Longer ones cost it."""
BODY_SECONDS = 1.0
"""How long the body of an answer may take after its head; the status alone decides."""
STALE_SECONDS = 1.0
"""A connection that ends within this time of a request's start is taken for one that had gone stale."""
LARGE_BYTES = 1024**2
"""Bodies above this are handed to aiohttp as streams, which it writes in pieces."""
SECRET_LENGTH = 6
"""Parts of the URL's query from this length on are kept out of excerpts."""


class HttpSink:
    """Acknowledges an event when the receiver has answered 2xx.

    Connections are kept alive, at most `concurrency` of them. Redirects are not followed, cookies not
    kept. Every request carries `webhook-id` (the same for every attempt) and `webhook-attempt`, and
    `webhook-replay: true` where somebody asked for the event once more. Proxies are those of the
    environment at `open`. No reason or excerpt repeats the URL's query.
    """

    max_batch = 1

    def __init__(self, config: HttpSinkConfig, clock: Clock) -> None:
        url = URL(config.url)
        self.name = config.name
        self.concurrency = config.concurrency
        self._config = config
        self._clock = clock
        self._url = url.with_fragment(None)
        self._place = f"{url.host_subcomponent}:{url.port}"
        self._secrets = _secrets(config.url)
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Connects to nobody yet; raises `SinkUnavailable` where `ca_file` cannot be used."""
        if self._session is None:
            self._session = self._new_session()

    async def send(self, batch: Sequence[Event], attempt: int) -> None:
        """Raises `SinkRejected` for an answer that is neither 2xx nor asks for another try."""
        (event,) = batch
        body, content_type = encode.body(event, self._config.format)
        headers = {WEBHOOK_ID: event.id, WEBHOOK_ATTEMPT: str(attempt), CONTENT_TYPE: content_type}
        if event.replayed:
            headers[WEBHOOK_REPLAY] = "true"
        try:
            async with asyncio.timeout(self._config.timeout_seconds):
                response = await self._post(body, headers)
        except (aiohttp.ClientError, OSError, UnicodeError) as error:
            raise SinkUnavailable(self._trouble(error)) from _presentable(error)
        await self._judge(response)

    async def reopen(self) -> None:
        """Nothing to do: there are no files."""

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _new_session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self.concurrency, ssl=self._tls()),
            timeout=aiohttp.ClientTimeout(total=None),  # `send` has its own, at a third of the cost
            headers={"user-agent": f"zoomrelay/{__version__}"},
            skip_auto_headers=("accept", "accept-encoding"),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            # Not `trust_env`: that asks the environment, in a thread, for every single request.
            proxy=_proxy(self._url),
        )

    def _tls(self) -> ssl.SSLContext | bool:
        if self._config.ca_file is None:
            return True
        try:
            return ssl.create_default_context(cafile=self._config.ca_file)
        except OSError as error:
            raise SinkUnavailable(f"ca_file {self._config.ca_file}: {error.strerror or error}") from error

    async def _post(self, body: bytes, headers: dict[istr, str]) -> aiohttp.ClientResponse:
        """The answer's head. A stale connection, closed by the receiver while idle, costs a second try
        here rather than a failure: for a POST, aiohttp leaves that decision to us."""
        began = asyncio.get_running_loop().time()
        try:
            return await self._post_once(body, headers)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionError) as error:
            fresh = isinstance(error, aiohttp.ClientConnectorError)
            if fresh or asyncio.get_running_loop().time() - began > STALE_SECONDS:
                raise
        return await self._post_once(body, headers)

    async def _post_once(self, body: bytes, headers: dict[istr, str]) -> aiohttp.ClientResponse:
        if self._session is None:
            raise SinkUnavailable("not open")
        data = body if len(body) <= LARGE_BYTES else io.BytesIO(body)
        return await self._session.post(self._url, data=data, headers=headers, allow_redirects=False)

    async def _judge(self, response: aiohttp.ClientResponse) -> None:
        body = b""
        try:
            if not response.content.is_eof() or not answer.delivered(response.status):
                body = await _start_of_body(response.content)
        finally:
            response.release()  # closes the connection where the body has not come to its end
        if not answer.delivered(response.status):
            raise answer.refusal(
                response.status,
                dead_letter_on=self._config.dead_letter_on,
                retry_after=wait_asked_for(response.headers, self._clock.wall()),
                excerpt=answer.excerpt(body, self._secrets),
            )

    def _trouble(self, error: Exception) -> str:
        """What went wrong, in our own words: those of aiohttp may hold the whole URL."""
        match error:
            case TimeoutError():
                return f"no answer from {self._place} within {self._config.timeout_seconds:g} s"
            case aiohttp.ClientHttpProxyError():
                return f"the proxy answered HTTP {error.status}"
            case aiohttp.ClientProxyConnectionError():
                return f"cannot connect to the proxy {error.host}:{error.port}"
            case aiohttp.ClientConnectorCertificateError():
                return f"certificate of {self._place} not trusted: {error.certificate_error}"
            case aiohttp.ClientConnectorDNSError() | UnicodeError():  # the latter for "crm..internal"
                return f"no address found for {self._url.host}"
            case aiohttp.ClientConnectorSSLError():
                return f"TLS handshake with {self._place} failed: {error.strerror}"
            case aiohttp.ClientConnectorError():
                why = os.strerror(error.errno) if error.errno else error.strerror
                return f"cannot connect to {self._place}: {why}"
            case aiohttp.ClientResponseError():
                return f"{self._place} does not answer in HTTP"
            case _:
                return f"{self._place} closed the connection without an answer"


async def _start_of_body(content: aiohttp.StreamReader) -> bytes:
    """At most `BODY_BYTES`, and what came within `BODY_SECONDS`; a body that breaks off is no failure."""
    body = bytearray()
    with suppress(aiohttp.ClientError, OSError):
        async with asyncio.timeout(BODY_SECONDS):
            while len(body) < BODY_BYTES and (chunk := await content.read(BODY_BYTES - len(body))):
                body += chunk
    return bytes(body)


def _secrets(url: str) -> list[str]:
    """What of the URL a receiver could repeat and nobody should read, in every spelling; longest first."""
    queries = {url.partition("?")[2], URL(url).raw_query_string, URL(url).query_string}
    values = {pair.partition("=")[2] for query in queries for pair in query.split("&")}
    return sorted((part for part in queries | values if len(part) >= SECRET_LENGTH), key=len, reverse=True)


def _proxy(url: URL) -> str | None:
    """The environment's proxy for `url`, by the usual HTTP_PROXY, HTTPS_PROXY and NO_PROXY."""
    proxy = getproxies().get(url.scheme)
    if not proxy or proxy_bypass(url.host or ""):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _presentable(error: Exception) -> Exception | None:
    """`error` as a cause to keep, unless its text holds the whole URL, query and all."""
    return error if isinstance(error, aiohttp.ClientOSError) else None
