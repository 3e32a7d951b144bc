"""Zoom's side of HTTP: clock, token, scopes, a call of REST, and what these say about the app together."""

from __future__ import annotations

import asyncio
from email.utils import parsedate_to_datetime
from typing import TypeVar
from urllib.request import getproxies, proxy_bypass

import msgspec

from zoomrelay import causes
from zoomrelay.admin.words import duration
from zoomrelay.auth.manager import TokenManager
from zoomrelay.auth.token import Instant, Token
from zoomrelay.causes import Cause
from zoomrelay.clock import Clock
from zoomrelay.config.models import SourceConfig
from zoomrelay.doctor import web
from zoomrelay.doctor.finding import Finding, Verdict, failed, passed, skipped, warned
from zoomrelay.doctor.proxies import route
from zoomrelay.doctor.way import Host, host_of
from zoomrelay.errors import TokenError

REQUEST_SECONDS = 9.0
CLOCK_SECONDS = 30.0
"""Off by more than this for certain, a clock is wrong."""
SOCKET_SCOPE = "marketplace:write:websocket_connection"
_UNIT_SECONDS = 1.0
"""The header `Date` has whole seconds, cut off."""


class App:
    """One source's app, asked step by step. `token` is the one that works, as far as is known."""

    def __init__(self, source: SourceConfig, tokens: TokenManager, clock: Clock) -> None:
        self._source = source
        self.tokens = tokens
        self._clock = clock
        self.token: Token | None = None
        self._owner: _User | None = None

    # --- the clock ----------------------------------------------------------------------------------

    async def clock(self) -> Finding:
        """By the `Date` of the token endpoint, which is asked for nothing: no token is spent."""
        try:
            answer = await self._get(self._source.token_url)
        except web.Unanswered as error:
            return skipped(f"the token endpoint gave no answer to read a time from ({error})")
        began = self._clock.wall() - (answer.received - answer.sent)
        return judge_clock(answer.headers.get("date"), began, self._clock.wall())

    # --- the token ----------------------------------------------------------------------------------

    async def grant(self) -> Finding:
        """Through the manager, which takes the token that is there before it asks for one."""
        began = asyncio.get_running_loop().time()
        try:
            self.token = await self.tokens.get()
        except TokenError as error:
            return Finding(Verdict.FAIL, str(error), error.reason, error.cure)
        left = duration(self.token.life_left(Instant(began, self._clock.elapsed())))
        whose = "new" if self.token.issued.loop >= began else "at hand, shared with the relay"
        return passed(f"by {self.token.grant}, {whose}; {left} left")

    async def scopes(self) -> Finding:
        assert self.token is not None
        return judge_scopes(self.token)

    # --- REST ---------------------------------------------------------------------------------------

    async def rest(self) -> Finding:
        """`GET /users/me`. A token that is refused is given back; a second refusal is the app's trouble."""
        assert self.token is not None
        first = await self._me(self.token)
        if first.reason != causes.TOKEN_INVALID.key:
            return first
        try:
            await self.tokens.rejected(self.token.value)
        except TokenError as error:
            return Finding(Verdict.FAIL, str(error), error.reason, error.cure)
        self.token = None
        fresh = await self.grant()
        if self.token is None:
            return fresh
        second = await self._me(self.token)
        if second.reason == causes.TOKEN_INVALID.key:
            return failed(causes.APP_REFUSED, f"a fresh token is refused too: {second.detail}")
        if second.verdict is Verdict.PASS:
            return warned(causes.TOKEN_KILLED, "the token at hand was refused, a new one works")
        return second

    async def _me(self, token: Token) -> Finding:
        url = f"{self._source.api_url.rstrip('/')}/users/me"
        try:
            answer = await self._get(url, {"authorization": f"Bearer {token.value}"})
        except web.Unanswered as error:
            return warned(causes.REST_TROUBLE, f"no answer ({error})")
        self._owner = _decoded(answer.body, _User) if answer.status == 200 else None
        return judge_rest(answer.status, answer.body)

    async def state(self) -> Finding:
        """Of the app, by all that was answered before: who has a token has an app that is activated."""
        assert self.token is not None
        return judge_app(self._owner, self._source.account_id, self.token.grant)

    async def _get(self, url: str, headers: dict[str, str] | None = None) -> web.Answer:
        host = self.host(url)
        found = route(host.scheme, host.name, host.proxy, getproxies(), lambda name: bool(proxy_bypass(name)))
        return await web.get(
            url,
            headers=headers or {},
            proxy=found.url,
            ca_file=self._source.ca_file,
            timeout_seconds=REQUEST_SECONDS,
        )

    def host(self, url: str) -> Host:
        return host_of(url, proxy=self._source.proxy, ca_file=self._source.ca_file)


def judge_clock(date: str | None, sent: float, received: float) -> Finding:
    """`date` was written between `sent` and `received`, by our own clock."""
    try:
        theirs = parsedate_to_datetime(date or "").timestamp()
    except (ValueError, IndexError, OverflowError):
        return skipped("the token endpoint's answer bears no date")
    least, most = sent - (theirs + _UNIT_SECONDS), received - theirs
    off = least if least > 0 else min(most, 0.0)
    if abs(off) <= CLOCK_SECONDS:
        return passed(f"right, give or take {max(abs(least), abs(most)):.0f} s")
    return warned(
        causes.CLOCK_OFF, f"{abs(off):.0f} s {'fast' if off > 0 else 'slow'}, by the token endpoint's"
    )


def judge_scopes(token: Token) -> Finding:
    count = f"{len(token.scopes)} scope{'s' if len(token.scopes) != 1 else ''}"
    if SOCKET_SCOPE in token.scopes:
        return passed(f"{count}, {SOCKET_SCOPE} among them")
    if not token.scopes:
        return warned(causes.NO_SCOPES, "the token's answer names no scopes")
    if token.grant == "client_credentials":
        return warned(causes.NO_SCOPES, f"{count}, without {SOCKET_SCOPE}")
    return passed(f"{count}; {SOCKET_SCOPE} is not among them, which tokens by {token.grant} may do without")


def judge_rest(status: int, body: bytes) -> Finding:
    """What `GET /users/me` was answered with. Only a refused token speaks against the socket."""
    if status == 200:
        return passed("REST takes the token")
    code, message = _told(body)
    said = f'HTTP {status}, {code}, "{message}"' if message else f"HTTP {status}"
    cause = _rest_cause(status, code, message)
    return warned(cause, said)


def _rest_cause(status: int, code: int, message: str) -> Cause:
    rest = causes.REST
    return rest.by_phrase(message) or rest.by_code(code) or rest.by_status(status) or causes.REST_TROUBLE


def judge_app(owner: _User | None, account_id: str, grant: str) -> Finding:
    """`owner` is whom REST says the token speaks for, None where it did not say."""
    if owner is None:
        return passed(f"activated, for Zoom issues tokens by {grant}; REST did not say whose")
    if owner.status not in ("active", ""):
        return warned(causes.OWNER_MISSING, f"its owner is {owner.status[:40]}")
    if account_id and owner.account_id not in (account_id, ""):
        return warned(causes.ACCOUNT_OTHER, "REST names another account than account_id")
    return passed("activated, its owner is active, and the account is the one that is configured")


def _told(body: bytes) -> tuple[int, str]:
    answer = _decoded(body, _Refusal)
    return (answer.code, " ".join(answer.message.split())[:200]) if answer else (0, "")


class _Refusal(msgspec.Struct):
    code: int = 0
    message: str = ""


class _User(msgspec.Struct):
    status: str = ""
    account_id: str = ""


_T = TypeVar("_T")


def _decoded(body: bytes, type_: type[_T]) -> _T | None:
    try:
        return msgspec.json.decode(body, type=type_)
    except (msgspec.DecodeError, ValueError):
        return None
