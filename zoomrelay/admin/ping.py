"""The dead-man's switch: somebody is called once a minute while all is well, and raises the alarm when the
calls stay away. So it also tells of what no relay can tell any more: that it, its machine or its network is
gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
import structlog
from pydantic import SecretStr
from yarl import URL

from zoomrelay import __version__
from zoomrelay.admin.health import Status
from zoomrelay.sinks.http_connection import in_words, proxy_for
from zoomrelay.telemetry.metrics import Metrics

log = structlog.get_logger()

INTERVAL_SECONDS = 60.0
"""From the beginning of one call to that of the next."""
TIMEOUT_SECONDS = 10.0
LOOK_SECONDS = 1.0
"""While a call is due and something is not well, it is looked at again so often."""
PATIENCE_SECONDS = 10.0
"""What is over sooner delays a call and is not worth a line in the log."""


class PingFailed(Exception):
    """Nobody took the call; its words hold no URL."""


async def get(url: URL) -> None:
    """One GET on a connection of its own; only a 2xx will do. Raises `PingFailed`."""
    try:
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(force_close=True),
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
                headers={"user-agent": f"zoomrelay/{__version__}"},
                cookie_jar=aiohttp.DummyCookieJar(),
                proxy=proxy_for(url),
            ) as session,
            session.get(url, allow_redirects=False) as response,
        ):
            status = response.status
    # Without their causes: aiohttp's words may hold the whole URL.
    except (aiohttp.ClientError, OSError, UnicodeError) as error:
        raise PingFailed(in_words(error, url, TIMEOUT_SECONDS)) from None
    except ValueError:
        raise PingFailed("the proxy's address cannot be used") from None
    if not 200 <= status < 300:
        raise PingFailed(f"{url.host} answered HTTP {status}")


class Pinger:
    """Calls `url` (asked for anew each time; None: nobody) as long as `status` is well. One line in the
    log for each change; never raises, and holds nothing up."""

    def __init__(
        self,
        url: Callable[[], SecretStr | None],
        status: Callable[[], Status],
        metrics: Metrics,
        send: Callable[[URL], Awaitable[None]] = get,
    ) -> None:
        self._url = url
        self._status = status
        self._send = send
        self._sent, self._failed = (metrics.pings.labels(result) for result in ("sent", "failed"))
        self._last = ""
        """The line of the log that holds."""

    async def run(self) -> None:
        """For ever."""
        loop = asyncio.get_running_loop()
        while True:
            url = await self._until_due()
            began = loop.time()
            await self._ping(url)
            await asyncio.sleep(INTERVAL_SECONDS - (loop.time() - began))

    async def _until_due(self) -> URL:
        """Whom to call, once all is well."""
        unwell_seconds = 0.0
        while True:
            url = self._url()
            because = self._status().unwell_because if url else []
            if url and not because:
                return URL(url.get_secret_value())
            if url and unwell_seconds >= PATIENCE_SECONDS:
                self._note("ping.withheld", because=because)
            await asyncio.sleep(LOOK_SECONDS)
            unwell_seconds = unwell_seconds + LOOK_SECONDS if url else 0.0

    async def _ping(self, url: URL) -> None:
        try:
            await self._send(url)
        except PingFailed as error:
            self._failed.inc()
            self._note("ping.failing", error=str(error), hint="tried again every minute")
        else:
            self._sent.inc()
            self._note("ping.working", host=url.host)

    def _note(self, happening: str, **fields: object) -> None:
        if happening != self._last:
            self._last = happening
            level = log.info if happening == "ping.working" else log.warning
            level(happening, **fields)
