"""What is known of the tokens of one app: the durable format, and what each happening makes of it. Pure.

One JSON document (`stores.file` says where and how it is kept):

    {"version": 1, "app": id of the app and grant it is bound to (`app_id`)
     [, "access": {"value", "grant", "issued": moment, "life_seconds", "scopes": […], "api_url"}]
     [, "refresh": {"value", "since": moment, "ends": wall}]
     [, "asked": moment, "unanswered": n]   a request is under way; n in a row, this one included, whose
                                            processes did not live to note an answer
     [, "rotating": moment]                 `refresh` was sent then and may be used up: no answer is known
     [, "failure": {…}]                     what the last request came to, and until when asking is forbidden
    }

A moment is {"wall", "elapsed", "boot"}: ages are elapsed time within one boot and the wall clock's
otherwise. What seems to come from the future is not trusted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container

import msgspec

from zoomrelay.auth.token import Instant, Token
from zoomrelay.config.models import SourceConfig
from zoomrelay.errors import TokenError, TokenRefused, TokenUnavailable

VERSION = 1
REFRESH_LIFE_SECONDS = 90 * 86400.0
"""Life of a refresh token from its issue, where the answer does not tell (Zoom's documents of 2026)."""
UNANSWERED_ALLOWED = 2
UNANSWERED_WAIT_SECONDS = 3600.0
"""What a process that dies again and again while it asks costs Zoom: two requests, then one an hour."""


def app_id(source: SourceConfig) -> str:
    """Names the app and grant whose tokens are kept together: 32 hexadecimal digits that tell nothing of it.

    The grant is part of it: the tokens of a person and those of the app itself are different things.
    """
    told = (source.token_url, source.client_id, source.account_id, source.grant)
    return hashlib.blake2b("\0".join(told).encode(), digest_size=16).hexdigest()


class Moment(msgspec.Struct, frozen=True):
    """A point in time that another process, or another boot, can understand."""

    wall: float
    elapsed: float
    boot: str = ""

    def age_seconds(self, now: Moment) -> float | None:
        """Seconds from then to `now`; None where that cannot be, because it lies in the future."""
        same_boot = bool(self.boot) and self.boot == now.boot
        age = now.elapsed - self.elapsed if same_boot else now.wall - self.wall
        return age if age >= 0 else None


class AccessToken(msgspec.Struct, frozen=True, omit_defaults=True):
    """A `Token` at rest."""

    value: str
    grant: str
    issued: Moment
    life_seconds: float
    scopes: tuple[str, ...] = ()
    api_url: str = ""

    def __repr__(self) -> str:
        return f"AccessToken(grant={self.grant!r})"

    def revived(self, moment: Moment, now: Instant) -> Token | None:
        """As a `Token`, at `moment`, which is `now` to this process; None where its age is not known."""
        age = self.issued.age_seconds(moment)
        if age is None:
            return None
        issued = Instant(now.loop - age, now.elapsed - age)
        return Token(self.value, self.grant, issued, self.life_seconds, self.scopes, self.api_url)


class RefreshToken(msgspec.Struct, frozen=True):
    """What gets the next access token, once."""

    value: str
    since: Moment
    ends: float
    """Wall time."""

    def __repr__(self) -> str:
        return "RefreshToken()"


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """A `TokenError` at rest."""

    at: Moment
    wait_seconds: float
    count: int
    """In a row."""
    reason: str
    words: str
    refused: bool = False
    cure: str = ""
    credentials: str = ""
    """Those that failed: with others there is no reason to wait."""

    def wait_left_seconds(self, now: Moment) -> float:
        age = self.at.age_seconds(now)
        return self.wait_seconds - age if age is not None else 0.0

    def error(self) -> TokenError:
        kind = TokenRefused if self.refused else TokenUnavailable
        return kind(self.words, reason=self.reason, cure=self.cure)


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything; the methods give the record after a happening."""

    version: int = 0
    app: str = ""
    access: AccessToken | None = None
    refresh: RefreshToken | None = None
    asked: Moment | None = None
    unanswered: int = 0
    rotating: Moment | None = None
    failure: Failure | None = None

    def bound_to(self, app: str) -> Record:
        return msgspec.structs.replace(self, version=VERSION, app=app)

    def asking(self, now: Moment, *, rotating: bool, refused: Container[str] = ()) -> Record:
        """A request is about to be made. An access token that Zoom has refused goes."""
        return msgspec.structs.replace(
            self.without_access(refused),
            asked=now,
            unanswered=self.unanswered + 1,
            rotating=(self.rotating or now) if rotating else self.rotating,
        )

    def issued(self, token: Token, now: Moment, age_seconds: float) -> Record:
        """It was answered with a token, asked for `age_seconds` ago."""
        since = Moment(now.wall - age_seconds, now.elapsed - age_seconds, now.boot)
        access = AccessToken(token.value, token.grant, since, token.life_seconds, token.scopes, token.api_url)
        return Record(self.version, self.app, access, _refresh(token, since) or self.refresh)

    def failed(self, failure: Failure, rotating: Moment | None) -> Record:
        """It came to nothing; `rotating` is what is now to be thought of the refresh token."""
        return msgspec.structs.replace(self, asked=None, unanswered=0, rotating=rotating, failure=failure)

    def withdrawn(self) -> Record:
        """We ended the request ourselves, in order; it does not count."""
        return msgspec.structs.replace(self, asked=None, unanswered=0)

    def without_access(self, refused: Container[str] | None = None) -> Record:
        """Without its access token, if that is one of `refused`."""
        kept = (
            self.access if self.access and refused is not None and self.access.value not in refused else None
        )
        return msgspec.structs.replace(self, access=kept)

    def forgotten(self, *, everything: bool) -> Record:
        """Nothing but the refresh token, or not even that."""
        return Record(
            self.version,
            self.app,
            refresh=None if everything else self.refresh,
            rotating=None if everything else self.rotating,
        )

    def interrupted_wait_seconds(self, now: Moment) -> float:
        """How long requests are to rest because so many of them were cut off; not positive if not."""
        if self.asked is None or self.unanswered < UNANSWERED_ALLOWED:
            return 0.0
        age = self.asked.age_seconds(now)
        return UNANSWERED_WAIT_SECONDS - age if age is not None else 0.0


def _refresh(token: Token, since: Moment) -> RefreshToken | None:
    if not token.refresh_token:
        return None
    life_seconds = token.refresh_life_seconds or REFRESH_LIFE_SECONDS
    return RefreshToken(token.refresh_token, since, since.wall + life_seconds)
