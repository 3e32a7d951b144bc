"""The token endpoint: requests for tokens, and every way in which they can fail as one of our errors."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import msgspec
import structlog

from zoomrelay.auth.addresses import revoke_url
from zoomrelay.auth.refusals import classify
from zoomrelay.auth.secrets import ClientSecrets
from zoomrelay.auth.token import Instant, Token, read_token
from zoomrelay.clock import Clock
from zoomrelay.config.models import SourceConfig
from zoomrelay.errors import TokenError, TokenRefused
from zoomrelay.retry_after import wait_asked_for

if TYPE_CHECKING:
    from zoomrelay.auth.exchange import Answer

log = structlog.get_logger()

TIMEOUT_SECONDS = 15.0
"""For the whole request, from the look-up of the name to the last byte."""


class Endpoint(Protocol):
    """Where tokens come from. Raises `TokenUnavailable` or `TokenRefused`; their words hold no secret."""

    async def request(self, grant: str, form: Mapping[str, str] = {}) -> Token:
        """A new token; `form` is what this grant asks for beside the account."""
        ...

    async def revoke(self, value: str) -> None:
        """Make Zoom forget a token."""
        ...

    def credentials(self) -> str:
        """Something that is the same as long as the client's secrets are, and tells nothing of them."""
        ...


class TokenEndpoint:
    """Zoom's token endpoint, for the app of one source."""

    def __init__(
        self, source: SourceConfig, clock: Clock, *, timeout_seconds: float = TIMEOUT_SECONDS
    ) -> None:
        self._source = source
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._secrets = ClientSecrets(source)

    def take_over(self, source: SourceConfig) -> None:
        """Other settings of the same app: its secrets, and the way to Zoom. A request that is under way goes
        on with those that it began with."""
        self._source, self._secrets = source, ClientSecrets(source)

    def credentials(self) -> str:
        return self._secrets.fingerprint()

    async def request(self, grant: str, form: Mapping[str, str] = {}) -> Token:
        issued = Instant(asyncio.get_running_loop().time(), self._clock.elapsed())
        fields = {"grant_type": grant, **form}
        if grant == "account_credentials":
            fields["account_id"] = self._source.account_id
        answer = await self._post(self._source.token_url, fields)
        # Whoever renews by a refresh token holds a token of the grant that it came from.
        kept = "authorization_code" if grant == "refresh_token" else grant
        body = _json_object(answer.body) if answer.status == 200 else None
        token = read_token(body, grant=kept, issued=issued) if body else None
        if token is None:
            raise self._refusal(answer, fields)
        return token

    async def revoke(self, value: str) -> None:
        await self._post(revoke_url(self._source.token_url), {"token": value})

    async def _post(self, url: str, form: Mapping[str, str]) -> Answer:
        """Zoom's answer to the first client secret that it takes; or what it is in the way."""
        from zoomrelay.auth.exchange import post  # httpx takes its time, and most starts need none of it

        refusal: TokenError | None = None
        source, secrets = self._source, self._secrets
        for name, secret in secrets.candidates():
            answer = await post(
                source, url, form, client_secret=secret, timeout_seconds=self._timeout_seconds
            )
            if answer.status == 200:
                secrets.worked(name)
                return answer
            refusal = self._refusal(answer, form)
            if not (isinstance(refusal, TokenRefused) and refusal.reason == "invalid_client"):
                break
        assert refusal is not None
        raise refusal

    def _refusal(self, answer: Answer, form: Mapping[str, str]) -> TokenError:
        said = self._without_secrets(answer.body, form)
        wait = wait_asked_for(answer.headers, self._clock.wall())
        error = classify(answer.status, _json_object(said.encode()), said, wait)
        error.answer_lost = error.retryable and (answer.status in (200, 408) or answer.status >= 500)
        return error

    def _without_secrets(self, body: bytes, form: Mapping[str, str]) -> str:
        """The answer's text, in case it repeats what we sent."""
        text = body.decode("utf-8", "replace")
        sent = (form.get(key, "") for key in ("code", "code_verifier", "refresh_token", "token"))
        ours = (secret for _, secret in self._secrets.candidates())
        for secret in (*ours, self._source.account_id, *sent):
            if secret:
                text = text.replace(secret, "***")
        return text


def _json_object(body: bytes) -> dict[str, object] | None:
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None
