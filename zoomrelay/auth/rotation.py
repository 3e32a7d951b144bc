"""Renewing by a refresh token, which Zoom replaces each time: the answer must be kept before it is used."""

from __future__ import annotations

from zoomrelay.auth.announce import Announcer, login_cure
from zoomrelay.auth.endpoint import Endpoint
from zoomrelay.auth.record import Moment, Record
from zoomrelay.auth.token import Token
from zoomrelay.errors import TokenError, TokenRefused

_OF_THE_TOKEN = (
    *("invalid_grant", "invalid_request", "invalid_scope"),
    *("invalid_token", "malformed_token", "token_revoked"),
)
"""Refusals that speak of the refresh token; the others speak of the app."""


class Rotation:
    """The caller holds the lock, and has noted durably that the refresh token is about to be sent."""

    def __init__(self, source: str, endpoint: Endpoint, announcer: Announcer) -> None:
        self._cure = login_cure(source)
        self._endpoint = endpoint
        self._announcer = announcer

    def login_needed(self) -> TokenRefused:
        return TokenRefused(
            "nobody has logged in for this source yet", reason="login_needed", cure=self._cure
        )

    async def renew(self, record: Record) -> Token:
        """The next tokens, for the record as it was before. Where the answer to an earlier try was lost,
        Zoom has been seen to accept the old refresh token still, so it is tried. Raises `TokenError`."""
        assert record.refresh is not None
        if record.rotating is not None:
            self._announcer.interrupted()
        try:
            return await self._endpoint.request("refresh_token", {"refresh_token": record.refresh.value})
        except TokenRefused as error:
            if error.reason not in _OF_THE_TOKEN:
                raise
            raise self._ended(error, lost=record.rotating is not None) from error

    def after(self, error: TokenError, before: Record, asking: Record) -> Moment | None:
        """Since when the refresh token may be used up, once this error has come."""
        return asking.rotating if error.answer_lost else before.rotating

    def _ended(self, error: TokenRefused, *, lost: bool) -> TokenRefused:
        if lost:
            return TokenRefused(
                "the refresh token is lost: Zoom replaced it, the answer never arrived or was not stored,"
                f" and Zoom no longer accepts the old one ({error})",
                reason="refresh_token_lost",
                cure=self._cure,
                retry_after=error.retry_after,
            )
        return TokenRefused(str(error), reason=error.reason, cure=self._cure, retry_after=error.retry_after)
