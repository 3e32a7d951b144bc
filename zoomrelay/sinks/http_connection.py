"""The connections of an http sink: one POST in, one answer out, and our own words for what goes wrong."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from urllib.request import getproxies, proxy_bypass

import aiohttp
from aiohttp.http import HttpProcessingError
from multidict import CIMultiDict, istr
from yarl import URL

from zoomrelay import __version__
from zoomrelay.config.models import HttpSinkConfig
from zoomrelay.errors import SinkUnavailable
from zoomrelay.sinks import answer
from zoomrelay.sinks.http_poster import Poster, Reply

BODY_BYTES = 64 * 1024
"""Of an answer's body, as much is read so that its connection can be used again. Longer ones cost it."""
BODY_SECONDS = 1.0
"""How long the body of an answer may take after its head; the status alone decides."""
STALE_SECONDS = 1.0
"""A connection that ends within this time of a request's start is taken for one that had gone stale."""


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    """Found in any case."""
    body: bytes
    """At most `BODY_BYTES` of it; empty where a 2xx's body had not come with its head."""


class HttpConnection:
    """Connections to one URL, kept alive, at most `concurrency` of them. Redirects are not followed,
    cookies not kept. The proxy is that of the configuration, else that of the environment at `open`."""

    def __init__(self, config: HttpSinkConfig) -> None:
        url = URL(config.url)
        self._config = config
        self._url = url.with_fragment(None)
        self._poster: Poster | None = None
        self._under_way: Counter[Poster] = Counter()
        self._certificates: list[bytes] = []

    async def open(self) -> None:
        """Connects to nobody yet; raises `SinkUnavailable` where certificates cannot be used. Does nothing
        where it is open already."""
        if self._poster is None:
            self._certificates = self._read_certificates()
            self._poster = self._new_poster()

    async def reopen(self) -> bool:
        """Read the files of certificates, keys and authorities anew; whether another content was found. New
        requests then go out on new connections, those under way come to their end on the old ones. Raises
        `SinkUnavailable` where the files cannot be used; the old ones stay in use."""
        found = self._read_certificates()
        old = self._poster
        if old is None or found == self._certificates:
            return False
        self._poster, self._certificates = self._new_poster(), found
        if not self._under_way[old]:
            await old.close()
        return True

    async def close(self) -> None:
        poster, self._poster = self._poster, None
        for one in {poster, *self._under_way}:
            if one is not None:
                await one.close()

    async def post(self, body: bytes, headers: Mapping[istr, str], *, whole: bool = False) -> Answer:
        """The answer; `whole` waits for its body whatever the status is. Raises `SinkUnavailable` where none
        came in time."""
        poster = self._poster
        if poster is None:
            raise SinkUnavailable("not open")
        self._under_way[poster] += 1
        try:
            async with asyncio.timeout(self._config.timeout_seconds):
                reply = await _post(poster, body, headers)
            return await _answer(reply, whole=whole)
        except (aiohttp.ClientError, HttpProcessingError, OSError, UnicodeError) as error:
            words = in_words(error, self._url, self._config.timeout_seconds)
            raise SinkUnavailable(words) from _presentable(error)
        finally:
            await self._ended(poster)

    async def _ended(self, poster: Poster) -> None:
        """A request has; with the last one, a poster that was replaced goes."""
        self._under_way[poster] -= 1
        if not self._under_way[poster]:
            del self._under_way[poster]
            if poster is not self._poster:
                await poster.close()

    def _new_poster(self) -> Poster:
        return Poster(
            self._url,
            _own_headers(self._config),
            connections=self._config.concurrency,
            tls=self._tls(),
            proxy=self._config.proxy or proxy_for(self._url),
        )

    def _tls(self) -> ssl.SSLContext | bool:
        config = self._config
        if config.ca_file is None and config.cert_file is None:
            return True
        try:
            context = ssl.create_default_context(cafile=config.ca_file)
        except OSError as error:
            raise SinkUnavailable(f"ca_file {config.ca_file}: {error.strerror or error}") from error
        if config.cert_file is not None:
            try:
                context.load_cert_chain(config.cert_file, config.key_file, _no_password)
            except OSError as error:
                raise SinkUnavailable(f"cert_file {config.cert_file}: {error.strerror or error}") from error
        return context

    def _read_certificates(self) -> list[bytes]:
        """What is in the files, to tell whether it is still the same."""
        config = self._config
        return [_content(file) for file in (config.ca_file, config.cert_file, config.key_file) if file]


async def _post(poster: Poster, body: bytes, headers: Mapping[istr, str]) -> Reply:
    """The answer's head. A stale connection, closed by the receiver while idle, costs a second try here
    rather than a failure."""
    began = asyncio.get_running_loop().time()
    try:
        return await poster.post(body, headers)
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionError) as error:
        fresh = isinstance(error, aiohttp.ClientConnectorError)
        if fresh or asyncio.get_running_loop().time() - began > STALE_SECONDS:
            raise
    return await poster.post(body, headers)


def in_words(error: Exception, url: URL, timeout_seconds: float) -> str:
    """What went wrong with a request to `url`, in our own words: those of aiohttp may hold all of it."""
    place = f"{url.host_subcomponent}:{url.port}"
    match error:
        case TimeoutError():
            return f"no answer from {place} within {timeout_seconds:g} s"
        case aiohttp.ClientHttpProxyError():
            return f"the proxy answered HTTP {error.status}"
        case aiohttp.ClientProxyConnectionError():
            return f"cannot connect to the proxy {error.host}:{error.port}"
        case aiohttp.ClientConnectorCertificateError():
            return f"certificate of {place} not trusted: {error.certificate_error}"
        case aiohttp.ClientConnectorDNSError() | UnicodeError():  # the latter for "crm..internal"
            return f"no address found for {url.host}"
        case aiohttp.ClientConnectorSSLError():
            return f"TLS handshake with {place} failed: {error.strerror}"
        case aiohttp.ClientConnectorError():
            why = os.strerror(error.errno) if error.errno else error.strerror
            return f"cannot connect to {place}: {why}"
        case aiohttp.ClientResponseError() | HttpProcessingError():
            return f"{place} does not answer in HTTP"
        case _:
            return f"{place} closed the connection without an answer"


def proxy_for(url: URL) -> str | None:
    """The environment's proxy for `url`, by the usual HTTP_PROXY, HTTPS_PROXY and NO_PROXY."""
    proxy = getproxies().get(url.scheme)
    if not proxy or proxy_bypass(url.host or ""):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


async def _answer(reply: Reply, *, whole: bool) -> Answer:
    body = b""
    try:
        if whole or not reply.content.is_eof() or not answer.delivered(reply.status):
            body = await _start_of_body(reply.content)
    finally:
        reply.release()
    return Answer(reply.status, reply.headers, body)


async def _start_of_body(content: aiohttp.StreamReader) -> bytes:
    """At most `BODY_BYTES`, and what came within `BODY_SECONDS`; a body that breaks off is no failure."""
    body = bytearray()
    with suppress(aiohttp.ClientError, OSError):
        async with asyncio.timeout(BODY_SECONDS):
            while len(body) < BODY_BYTES and (chunk := await content.read(BODY_BYTES - len(body))):
                body += chunk
    return bytes(body)


def _content(file: Path) -> bytes:
    """Nothing where it cannot be read: whoever loads it says so."""
    try:
        return file.read_bytes()
    except OSError:
        return b""


def _own_headers(config: HttpSinkConfig) -> CIMultiDict[str]:
    """The headers of every request, those of the configuration last."""
    headers = CIMultiDict({"user-agent": f"zoomrelay/{__version__}"})
    if config.basic_credentials:
        headers["authorization"] = f"Basic {config.basic_credentials}"
    elif config.bearer_token is not None:
        headers["authorization"] = f"Bearer {config.bearer_token.get_secret_value()}"
    for name, value in config.headers.items():
        headers[name] = value.get_secret_value()
    return headers


def _no_password() -> str:
    """For a key that is encrypted: without this, OpenSSL would ask for it on the terminal."""
    return ""


def _presentable(error: Exception) -> Exception | None:
    """`error` as a cause to keep, unless its text holds the whole URL, query and all."""
    return error if isinstance(error, aiohttp.ClientOSError) else None
