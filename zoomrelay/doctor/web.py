"""One HTTP request at a time, for a look at the answer. The doctor's only door to `aiohttp`."""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from zoomrelay import __version__

_BODY_BYTES = 64 * 1024


class Unanswered(Exception):
    """No answer; its words hold no URL."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    """Found in any case."""
    body: bytes
    """At most 64 KiB of it."""
    sent: float
    """`time.monotonic` before the request."""
    received: float
    """And when its head had come."""


async def get(
    url: str, *, headers: Mapping[str, str], proxy: str, ca_file: Path | None, timeout_seconds: float
) -> Answer:
    """The answer to one GET, on a connection of its own; redirects are not followed. `proxy` is a URL or
    empty. Raises `Unanswered`."""
    tls: ssl.SSLContext | bool = ssl.create_default_context(cafile=ca_file) if ca_file else True
    try:
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls, force_close=True),
            timeout=aiohttp.ClientTimeout(total=timeout_seconds),
            headers={"user-agent": f"zoomrelay/{__version__}"},
            cookie_jar=aiohttp.DummyCookieJar(),
        ) as session:
            sent = time.monotonic()
            async with session.get(
                url, headers=headers, proxy=proxy or None, allow_redirects=False
            ) as response:
                received = time.monotonic()
                body = await _start_of_body(response.content)
                return Answer(response.status, response.headers, body, sent, received)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        # Without its cause: aiohttp's words may hold the whole URL.
        raise Unanswered(type(error).__name__) from None


async def _start_of_body(content: aiohttp.StreamReader) -> bytes:
    body = bytearray()
    while len(body) < _BODY_BYTES and (chunk := await content.read(_BODY_BYTES - len(body))):
        body += chunk
    return bytes(body)
