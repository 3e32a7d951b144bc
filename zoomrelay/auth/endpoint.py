"""The token endpoint: one POST, and every way in which it can fail as one of our errors."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from typing import Protocol

import httpx
import msgspec

from zoomrelay import __version__
from zoomrelay.auth.refusals import classify
from zoomrelay.auth.token import Instant, Token, read_token
from zoomrelay.clock import Clock
from zoomrelay.config.models import SourceConfig
from zoomrelay.errors import TokenUnavailable
from zoomrelay.retry_after import wait_asked_for

MAX_ANSWER_BYTES = 256 * 1024
TIMEOUT_SECONDS = 15.0
"""For the whole request, from the look-up of the name to the last byte."""
_NOT_NOW = (9, 10)
"""OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED."""

_HEADERS = {
    "accept": "application/json",
    "accept-encoding": "identity",
    "user-agent": f"zoomrelay/{__version__}",
}


class Endpoint(Protocol):
    """Where tokens come from."""

    async def request(self, grant: str) -> Token:
        """A new token. Raises `TokenUnavailable` or `TokenRefused`; their words hold no secret."""
        ...


class TokenEndpoint:
    """Zoom's token endpoint, for the app of one source."""

    def __init__(
        self, source: SourceConfig, clock: Clock, *, timeout_seconds: float = TIMEOUT_SECONDS
    ) -> None:
        self._source = source
        self._clock = clock
        self._timeout_seconds = timeout_seconds

    async def request(self, grant: str) -> Token:
        issued = Instant(asyncio.get_running_loop().time(), self._clock.elapsed())
        try:
            async with asyncio.timeout(self._timeout_seconds):
                status, headers, body = await self._post(grant)
        except (TimeoutError, httpx.TimeoutException) as error:
            raise TokenUnavailable("the token endpoint did not answer in time", reason="timeout") from error
        except httpx.HTTPError as error:
            raise _unreachable(error) from error
        except httpx.InvalidURL:
            raise TokenUnavailable(
                "token_url is no URL", reason="token_url", cure="check token_url"
            ) from None
        answer = _json_object(body) if status == 200 else None
        token = read_token(answer, grant=grant, issued=issued) if answer else None
        if token is not None:
            return token
        said = self._without_secrets(body)
        wait = wait_asked_for(headers, self._clock.wall())
        raise classify(status, _json_object(said.encode()), said, wait)

    async def _post(self, grant: str) -> tuple[int, httpx.Headers, bytes]:
        # A client for each request: tokens are asked for about once in 45 minutes, and a changed proxy,
        # CA file or address is picked up.
        form = {"grant_type": grant}
        if grant == "account_credentials":
            form["account_id"] = self._source.account_id
        async with (
            self._client() as client,
            client.stream("POST", self._source.token_url, data=form) as response,
        ):
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    raise TokenUnavailable("the token endpoint's answer has no end", reason="oversize")
            return response.status_code, response.headers, bytes(body)

    def _client(self) -> httpx.AsyncClient:
        try:
            return httpx.AsyncClient(
                auth=(self._source.client_id, self._source.client_secret.get_secret_value()),
                headers=_HEADERS,
                follow_redirects=False,
                proxy=self._source.proxy or None,
                timeout=self._timeout_seconds,
                verify=ssl.create_default_context(cafile=self._source.ca_file),
            )
        except (OSError, ssl.SSLError) as error:
            raise TokenUnavailable(
                "the CA file could not be read", reason="tls", cure=f"check ca_file ({self._source.ca_file})"
            ) from error
        except (ValueError, ImportError, httpx.InvalidURL):
            # Without their cause: these quote the proxy's URL, which may hold a password.
            raise TokenUnavailable(
                "the proxy's address cannot be used",
                reason="proxy",
                cure="set proxy (or HTTPS_PROXY) to http://host:port; SOCKS is not supported",
            ) from None

    def _without_secrets(self, body: bytes) -> str:
        """The answer's text, in case it repeats what we sent."""
        text = body.decode("utf-8", "replace")
        for secret in (self._source.client_secret.get_secret_value(), self._source.account_id):
            if secret:
                text = text.replace(secret, "***")
        return text


def _json_object(body: bytes) -> dict[str, object] | None:
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def _unreachable(error: httpx.HTTPError) -> TokenUnavailable:
    stage, cure = _stage(error)
    return TokenUnavailable(f"the token endpoint could not be reached ({stage})", reason=stage, cure=cure)


def _stage(error: httpx.HTTPError) -> tuple[str, str]:
    """Where on the way it failed, and what to look at."""
    if isinstance(error, httpx.ProxyError):
        return "proxy", "the proxy refused: check proxy, HTTPS_PROXY and NO_PROXY"
    if isinstance(error, httpx.UnsupportedProtocol):
        return "token_url", "token_url must begin with https://"
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError) and cause.verify_code in _NOT_NOW:
            return "tls", "the certificate is not valid today: check this machine's clock"
        if isinstance(cause, ssl.SSLError):
            return "tls", "if a proxy opens TLS on the way, set ca_file to its certificate"
        if isinstance(cause, socket.gaierror):
            return "dns", "check the name server, and token_url"
    return "tcp", "check that this machine may reach the token endpoint on TCP port 443, or set proxy"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
