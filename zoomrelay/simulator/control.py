"""The control endpoint: lets tests and people make the pretend Zoom misbehave while it runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import msgspec
from aiohttp import web

from zoomrelay.simulator.faults import Faults, How
from zoomrelay.simulator.journal import Sent
from zoomrelay.simulator.rubbish import Rubbish
from zoomrelay.simulator.webhooks import Posted

_Body = TypeVar("_Body", bound=msgspec.Struct)
_JOURNAL_PAGE = 10_000


class Emit(msgspec.Struct, forbid_unknown_fields=True):
    """Of the script's next `count` events, of `events` given whole, or of one unreadable frame."""

    count: int = 0
    events: list[msgspec.Raw] = []
    rubbish: Rubbish | None = None
    subscription: str | None = None


class Rate(msgspec.Struct, forbid_unknown_fields=True):
    rate: float
    """Events per second."""
    count: int | None = None
    """Stop after so many."""


class End(msgspec.Struct, forbid_unknown_fields=True):
    how: How = "close"
    code: int = 1000
    reason: str = "Bye"
    subscription: str | None = None


class Revoke(msgspec.Struct, forbid_unknown_fields=True):
    refresh: bool = False
    """Refresh tokens too."""


class Secrets(msgspec.Struct, forbid_unknown_fields=True):
    secrets: list[str]


class Webhook(msgspec.Struct, forbid_unknown_fields=True):
    url: str
    """Empty: no webhook any more."""
    secret: str = ""
    """Empty: the Secret Token of the app."""
    retry_scale: float = 1.0


class Controlled(Protocol):
    """What can be asked of a simulator from outside."""

    faults: Faults

    def state(self) -> dict[str, object]: ...
    def sent_since(self, number: int, limit: int) -> list[Sent]: ...
    def posted_since(self, number: int, limit: int) -> list[Posted]: ...
    def point_webhook(self, url: str, secret: str, retry_scale: float) -> None: ...
    def set_rate(self, rate: float, count: int | None = None) -> None: ...
    def end(self, how: How, code: int, reason: str, subscription: str | None) -> int: ...
    async def send_rubbish(self, kind: Rubbish, subscription: str | None) -> bool: ...
    def revoke_tokens(self, *, refresh: bool) -> None: ...
    def set_client_secrets(self, secrets: list[str]) -> None: ...
    async def emit(self, event: bytes, *, subscription: str | None) -> bool: ...
    async def burst(self, count: int) -> None: ...


def routes(simulator: Controlled) -> list[web.RouteDef]:
    """Everything under `/control`. Bodies and answers are JSON; a bad body answers 400 in words."""
    control = _Control(simulator)
    post = {
        "/control/faults": control.faults,
        "/control/emit": control.emit,
        "/control/rate": control.rate,
        "/control/close": control.close,
        "/control/stop-stream": control.stop_stream,
        "/control/revoke-tokens": control.revoke_tokens,
        "/control/client-secrets": control.client_secrets,
        "/control/webhook": control.webhook,
    }
    return [
        web.get("/control/state", control.state),
        web.get("/control/journal", _explained(control.journal)),
        web.get("/control/webhook/journal", _explained(control.posts)),
        *(web.post(path, _explained(handler)) for path, handler in post.items()),
    ]


class _Control:
    def __init__(self, simulator: Controlled) -> None:
        self._simulator = simulator

    async def state(self, _request: web.Request) -> web.Response:
        return _json(self._simulator.state())

    async def journal(self, request: web.Request) -> web.StreamResponse:
        """NDJSON of the entries after `since`, at most `limit` of them."""
        since = int(request.query.get("since", "0"))
        limit = int(request.query.get("limit", "1000000"))
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        while limit > 0 and (page := self._simulator.sent_since(since, min(limit, _JOURNAL_PAGE))):
            await response.write(b"".join([_line(sent) for sent in page]))
            since, limit = page[-1].number, limit - len(page)
        await response.write_eof()
        return response

    async def faults(self, request: web.Request) -> web.Response:
        """`{}` changes nothing; `{"clear": true}` ends all faults, before the others are applied."""
        changes = msgspec.json.decode(await request.read(), type=dict[str, Any])
        faults = self._simulator.faults
        if changes.pop("clear", False):
            faults.clear()
        faults.change(changes)
        return _json(faults)

    async def emit(self, request: web.Request) -> web.Response:
        body = await _body(request, Emit)
        heard = [
            await self._simulator.emit(bytes(raw), subscription=body.subscription) for raw in body.events
        ]
        if body.rubbish is not None:
            heard.append(await self._simulator.send_rubbish(body.rubbish, body.subscription))
        await self._simulator.burst(body.count)
        return _json({"heard": all(heard)})

    async def rate(self, request: web.Request) -> web.Response:
        body = await _body(request, Rate)
        self._simulator.set_rate(body.rate, body.count)
        return _json({"rate": body.rate})

    async def close(self, request: web.Request) -> web.Response:
        body = await _body(request, End)
        ended = self._simulator.end(body.how, body.code, body.reason, body.subscription)
        return _json({"ended": ended})

    async def stop_stream(self, _request: web.Request) -> web.Response:
        self._simulator.set_rate(0)
        return _json({"rate": 0})

    async def revoke_tokens(self, request: web.Request) -> web.Response:
        self._simulator.revoke_tokens(refresh=(await _body(request, Revoke)).refresh)
        return _json({"revoked": True})

    async def webhook(self, request: web.Request) -> web.Response:
        body = await _body(request, Webhook)
        self._simulator.point_webhook(body.url, body.secret, body.retry_scale)
        return _json({"url": body.url})

    async def posts(self, request: web.Request) -> web.Response:
        """NDJSON of the posts after `since`, at most `limit` of them."""
        since, limit = int(request.query.get("since", "0")), int(request.query.get("limit", "10000"))
        lines = [
            msgspec.json.encode(
                msgspec.structs.asdict(posted) | {"content": posted.content.decode(errors="replace")}
            )
            for posted in self._simulator.posted_since(since, limit)
        ]
        return web.Response(
            body=b"".join(line + b"\n" for line in lines), content_type="application/x-ndjson"
        )

    async def client_secrets(self, request: web.Request) -> web.Response:
        secrets = (await _body(request, Secrets)).secrets
        self._simulator.set_client_secrets(secrets)
        return _json({"secrets": len(secrets)})


_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _explained(handler: _Handler) -> _Handler:
    async def explain(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except (msgspec.MsgspecError, ValueError) as error:
            return web.json_response({"error": str(error)}, status=400)

    return explain


async def _body(request: web.Request, type_: type[_Body]) -> _Body:
    return msgspec.json.decode(await request.read() or b"{}", type=type_)


def _line(sent: Sent) -> bytes:
    """One entry; content that is not UTF-8 (unreadable frames) is shown with replacements."""
    return (
        msgspec.json.encode(msgspec.structs.asdict(sent) | {"content": sent.content.decode(errors="replace")})
        + b"\n"
    )


def _json(body: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), content_type="application/json")
