"""The authorize page: a person allows the app to act for them, or does not."""

from __future__ import annotations

from html import escape
from urllib.parse import urlencode, urlsplit

import msgspec
from aiohttp import web

from zoomrelay.clock import Clock
from zoomrelay.simulator.codes import Ask, Codes, redirect_allowed
from zoomrelay.simulator.faults import Faults
from zoomrelay.simulator.tokens import ERRORS, Credentials

_PAGE = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>Pretend Zoom</title><h1>Pretend Zoom</h1>{}'
)
_FORM = (
    "<p>An app asks to act for the user user1@example.com, who does not exist.</p>"
    '<form method="post"><button name="decision" value="allow">Allow</button> '
    '<button name="decision" value="deny">Decline</button></form>'
)


class AuthorizePage:
    """`GET` shows it, `POST` to the same address with `decision` answers it. Whoever looks is signed in."""

    def __init__(self, codes: Codes, credentials: Credentials, faults: Faults, clock: Clock) -> None:
        self._codes = codes
        self._credentials = credentials
        self._faults = faults
        self._clock = clock

    async def show(self, request: web.Request) -> web.Response:
        if refused := self._refusal(request):
            return refused
        if self._faults.authorize:
            return self._decided(request, self._faults.authorize)
        return _page(_FORM)

    async def decide(self, request: web.Request) -> web.Response:
        form = await request.post()
        return self._refusal(request) or self._decided(request, str(form.get("decision", "")))

    def _refusal(self, request: web.Request) -> web.Response | None:
        """A page without a way back: Zoom sends nobody to an address that it does not trust."""
        ask = _ask(request)
        if ask.client_id != self._credentials.client_id:
            return _error("client_not_found")
        if not redirect_allowed(ask.redirect_uri, pkce=bool(ask.code_challenge)):
            return _error("invalid_redirect")
        method = ask.code_challenge_method or "plain"
        if request.query.get("response_type") != "code" or method not in ("plain", "S256"):
            return _error("invalid_request")
        return None

    def _decided(self, request: web.Request, decision: str) -> web.Response:
        ask = _ask(request)
        if decision == "allow":
            answer = {"code": self._codes.grant(ask, self._clock.wall())}
        else:
            answer = {"error": "access_denied", "error_description": "The user declined"}
        if state := self._faults.authorize_state or ask.state:
            answer["state"] = state
        joint = "&" if urlsplit(ask.redirect_uri).query else "?"
        return web.Response(status=302, headers={"Location": f"{ask.redirect_uri}{joint}{urlencode(answer)}"})


def _ask(request: web.Request) -> Ask:
    return msgspec.convert({name: request.query.get(name, "") for name in Ask.__struct_fields__}, Ask)


def _error(name: str) -> web.Response:
    body = ERRORS[name]
    number = f" ({body['code']})" if "code" in body else ""
    return _page(f"<p>{escape(str(body['reason']))}{number}</p>", status=400)


def _page(content: str, status: int = 200) -> web.Response:
    return web.Response(text=_PAGE.format(content), status=status, content_type="text/html")
