"""A plain WebSocket client to look at the pretend Zoom with."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from zoomrelay.simulator.server import Simulator


def token_of(simulator: Simulator) -> str:
    """A fresh token, without the detour over HTTP."""
    return str(simulator.tokens.issue("account_credentials", time.time())["access_token"])


def basic(client_id: str, client_secret: str) -> dict[str, str]:
    """The header with which an app asks for a token."""
    return {"Authorization": "Basic " + base64.b64encode(f"{client_id}:{client_secret}".encode()).decode()}


def url_of(simulator: Simulator, *, token: str | None = None, subscription: str | None = None) -> str:
    token = token_of(simulator) if token is None else token
    return (
        f"{simulator.ws_url}?subscriptionId={subscription or simulator.subscriptions[0]}&access_token={token}"
    )


@asynccontextmanager
async def dialled(simulator: Simulator, **url: Any) -> AsyncIterator[ClientConnection]:
    """A connection after its upgrade, whatever Zoom says next."""
    options: dict[str, Any] = {"proxy": None, "ping_interval": None, "close_timeout": 1, "max_size": 2**20}
    async with connect(url_of(simulator, **url), **options) as socket:
        yield socket


@asynccontextmanager
async def accepted(simulator: Simulator, **url: Any) -> AsyncIterator[ClientConnection]:
    """A connection that Zoom has accepted."""
    async with dialled(simulator, **url) as socket:
        assert await message(socket) == {
            "module": "build_connection",
            "success": True,
            "content": "ok",
            "header": {},
        }
        yield socket


async def message(socket: ClientConnection) -> dict[str, Any]:
    """The next frame, read as JSON."""
    decoded: dict[str, Any] = json.loads(await socket.recv())
    return decoded


async def content(socket: ClientConnection) -> bytes:
    """The content of the next frame, which must be an event."""
    frame = await message(socket)
    assert frame["module"] == "message", frame
    return str(frame["content"]).encode()
