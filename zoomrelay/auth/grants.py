"""Which grant to ask for. Pure.

Zoom's pages name `client_credentials` for the WebSocket, its samples and most programs in use ask for
`account_credentials`, and each has been seen to be refused somewhere; so `auto` finds out.
"""

from __future__ import annotations

from enum import StrEnum

from zoomrelay.config.models import SourceConfig


class Verdict(StrEnum):
    """What is left to try after a socket refused a token."""

    REFRESH = "refresh"
    """The token may have been invalidated elsewhere: a new one by the same grant."""
    OTHER_GRANT = "other_grant"
    """A fresh one was refused as well: one by the other grant."""
    EXHAUSTED = "exhausted"
    """All was tried. The next try, a slow one, begins with the first grant again."""


class Grants:
    """The grant in use, and what was tried since a socket last accepted a token."""

    def __init__(self, source: SourceConfig) -> None:
        usual = "account_credentials" if source.account_id else "client_credentials"
        self._first = usual if source.grant == "auto" else source.grant
        # Without an account id there is nothing but client_credentials to ask for.
        self._other = "client_credentials" if source.grant == "auto" and source.account_id else None
        self.worked: str | None = None
        """The grant whose token a socket accepted last."""
        self.current = self._first
        self.exhausted = False
        """The last refusal left nothing to try."""
        self._refusals = 0

    def serves(self, grant: str) -> bool:
        """Whether a token that was got by this grant may be used."""
        return grant in (self._first, self._other)

    def adopted(self, grant: str) -> None:
        """A token of this grant was found: whoever asked for it found that out before us."""
        self.current = grant
        if grant == self._other:
            self._first, self._other = grant, self._first

    def refused(self) -> Verdict:
        """A socket refused the newest token of the current grant."""
        self._refusals += 1
        self.exhausted = False
        if self._refusals == 1:
            return Verdict.REFRESH
        if self._other is not None and self.current == self._first:
            self.current = self._other
            return Verdict.OTHER_GRANT
        self.current = self._first
        self.exhausted = True
        return Verdict.EXHAUSTED

    def accepted(self, grant: str) -> bool:
        """A socket accepted a token of this grant; whether that is news."""
        self._refusals = 0
        self.exhausted = False
        self.current = grant
        if grant != self._first and self._other is not None:
            self._first, self._other = grant, self._first
        news = grant != self.worked
        self.worked = grant
        return news
