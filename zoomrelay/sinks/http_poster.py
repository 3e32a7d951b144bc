"""POSTs to one URL on kept connections, written and read at the level of aiohttp's connector.

`ClientSession.post` does for every request what a sink never needs: redirects, cookies, tracing, a task to
write, headers made anew. That is two thirds of what a POST costs (docs/decisions/0005-two-http-libraries.md).
Connecting, TLS, proxies, the pool and the parser stay aiohttp's.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import aiohttp
from aiohttp.connector import Connection
from multidict import CIMultiDict, istr
from yarl import URL

_SKIPPED = (istr("accept"), istr("accept-encoding"))
"""What aiohttp would add and nobody asked for."""
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None)
_control_character = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]").search


class Reply(NamedTuple):
    """The head of an answer, and its connection: to be released, whatever becomes of the body."""

    status: int
    headers: Mapping[str, str]
    """Found in any case."""
    content: aiohttp.StreamReader
    connection: Connection

    def release(self) -> None:
        """The connection is used again, unless the body has not come to its end or the request was not taken
        as a whole."""
        transport = self.connection.transport
        if transport is None or transport.get_write_buffer_size():
            self.connection.close()
        else:
            self.connection.release()


class Poster:
    """Made inside a running loop; connects to nobody before the first request."""

    def __init__(
        self,
        url: URL,
        headers: CIMultiDict[str],
        *,
        connections: int,
        tls: ssl.SSLContext | bool,
        proxy: str | None,
    ) -> None:
        """`headers` are those of every request; one of the same name in `post` takes their place."""
        # The session does no more than own its connector.
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=connections, ssl=tls))
        self._request = aiohttp.ClientRequest(
            "POST",
            url,
            headers=headers,
            skip_auto_headers=_SKIPPED,
            session=self._session,
            proxy=URL(proxy) if proxy else None,
        )
        self._request.headers.popall("content-length", None)  # of a request without a body
        self._target = str(url) if proxy and url.scheme == "http" else url.raw_path_qs
        self._heads: dict[tuple[str, ...], str] = {}

    async def post(self, body: bytes, headers: Mapping[istr, str]) -> Reply:
        """Raises `aiohttp.ClientError`, `aiohttp.http.HttpProcessingError` and `OSError`; waits for ever."""
        connector = self._session.connector
        if connector is None:
            raise aiohttp.ClientConnectionError("closed")
        connection = await connector.connect(self._request, [], _NO_TIMEOUT)
        try:
            protocol, transport = connection.protocol, connection.transport
            if protocol is None or transport is None or transport.is_closing() or protocol.should_close:
                # Or an answer that nobody asked for waits there: it must not be taken for one to this.
                raise aiohttp.ClientConnectionResetError("ended while idle")
            protocol.set_response_params(read_until_eof=True, auto_decompress=False)
            transport.writelines([self._head(headers, len(body)), body])
            while True:
                message, content = await protocol.read()
                if not (100 <= message.code < 200) or message.code == 101:
                    return Reply(message.code, message.headers, content, connection)
        except BaseException:
            connection.close()
            raise

    async def close(self) -> None:
        await self._session.close()

    def _head(self, headers: Mapping[istr, str], length: int) -> bytes:
        if _control_character("".join(headers.values())):
            raise ValueError("a header holds a control character")
        names = tuple(headers)
        head = self._heads.get(names)
        if head is None:
            # After `connect`, which adds what a proxy wants to know.
            head = self._heads[names] = self._own_head(CIMultiDict(headers))
        own = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        return f"{head}{own}content-length: {length}\r\n\r\n".encode()

    def _own_head(self, without: Iterable[str]) -> str:
        """The request's line and the headers of every request, but for these."""
        lines = [f"POST {self._target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in self._request.headers.items() if name not in without]
        assert not any(map(_control_character, lines)), "the configuration lets none of these through"
        return "".join([f"{line}\r\n" for line in lines])
