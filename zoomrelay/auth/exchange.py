"""One POST over HTTPS. The only place that knows httpx, and imported when something is to be sent."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import httpx

from zoomrelay import __version__, causes
from zoomrelay.causes import Cause
from zoomrelay.config.models import SourceConfig
from zoomrelay.errors import TokenUnavailable

MAX_ANSWER_BYTES = 256 * 1024
_NOT_NOW = (9, 10)
"""OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED."""

_HEADERS = {
    "accept": "application/json",
    "accept-encoding": "identity",
    "user-agent": f"zoomrelay/{__version__}",
}
_NOT_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whatever it is."""

    status: int
    headers: Mapping[str, str]
    body: bytes


async def post(
    source: SourceConfig,
    url: str,
    form: Mapping[str, str],
    *,
    client_secret: str,
    timeout_seconds: float,
) -> Answer:
    """Send `form` with the client's credentials; without a secret its id stands in the form (PKCE).

    Raises `TokenUnavailable` where no answer came; its `answer_lost` says whether it may have been sent.
    """
    try:
        async with asyncio.timeout(timeout_seconds):
            return await _post(source, url, form, client_secret, timeout_seconds)
    except (TimeoutError, httpx.TimeoutException) as error:
        unavailable = TokenUnavailable(
            "the token endpoint did not answer in time", reason="timeout", cure=causes.TIMEOUT.cure
        )
        unavailable.answer_lost = not isinstance(error, _NOT_SENT)
        raise unavailable from error
    except httpx.HTTPError as error:
        raise _unreachable(error) from error
    except httpx.InvalidURL:
        cure = causes.TOKEN_URL.cure
        raise TokenUnavailable("token_url is no URL", reason="token_url", cure=cure) from None


async def _post(
    source: SourceConfig, url: str, form: Mapping[str, str], client_secret: str, timeout_seconds: float
) -> Answer:
    # A client for each request: tokens are asked for about once in 45 minutes, and a changed proxy,
    # CA file or address is picked up.
    auth = (source.client_id, client_secret) if client_secret else None
    fields = dict(form) if auth else {"client_id": source.client_id, **form}
    async with (
        _client(source, auth, timeout_seconds) as client,
        client.stream("POST", url, data=fields) as response,
    ):
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MAX_ANSWER_BYTES:
                error = TokenUnavailable(
                    "the token endpoint's answer has no end", reason="oversize", cure=causes.ENDLESS.cure
                )
                error.answer_lost = True
                raise error
        return Answer(response.status_code, response.headers, bytes(body))


def _client(source: SourceConfig, auth: tuple[str, str] | None, timeout_seconds: float) -> httpx.AsyncClient:
    try:
        return httpx.AsyncClient(
            auth=auth,
            headers=_HEADERS,
            follow_redirects=False,
            proxy=source.proxy or None,
            timeout=timeout_seconds,
            verify=ssl.create_default_context(cafile=source.ca_file),
        )
    except (OSError, ssl.SSLError) as error:
        raise TokenUnavailable(
            f"the CA file {source.ca_file} could not be read", reason="tls", cure=causes.CA_FILE.cure
        ) from error
    except (ValueError, ImportError, httpx.InvalidURL):
        # Without their cause: these quote the proxy's URL, which may hold a password.
        raise TokenUnavailable(
            "the proxy's address cannot be used", reason="proxy", cure=causes.PROXY.cure
        ) from None


def _unreachable(error: httpx.HTTPError) -> TokenUnavailable:
    stage, cause = _stage(error)
    unavailable = TokenUnavailable(
        f"the token endpoint could not be reached ({stage})", reason=stage, cure=cause.cure
    )
    unavailable.answer_lost = not isinstance(error, _NOT_SENT)
    return unavailable


def _stage(error: httpx.HTTPError) -> tuple[str, Cause]:
    """Where on the way it failed, and what to look at."""
    if isinstance(error, httpx.ProxyError):
        return "proxy", causes.PROXY
    if isinstance(error, httpx.UnsupportedProtocol):
        return "token_url", causes.TOKEN_URL
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError) and cause.verify_code in _NOT_NOW:
            return "tls", causes.TLS_DATE
        if isinstance(cause, ssl.SSLError):
            return "tls", causes.TLS
        if isinstance(cause, socket.gaierror):
            return "dns", causes.DNS
    return "tcp", causes.TCP


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
