"""A whole relay with its front, on the test's own loop, before a pretend Zoom."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from zoomrelay.admin.client import ControlClient
from zoomrelay.app import Relay
from zoomrelay.config.load import load
from zoomrelay.config.models import Config
from zoomrelay.front import Front
from zoomrelay.simulator.server import Simulator
from zoomrelay.telemetry.logs import protect_config


def toml(zoom: Simulator, directory: Path, *, listen: str = "127.0.0.1:0", more: str = "") -> str:
    return f"""
state_dir = "{directory}/state"
drain_seconds = 1
[admin]
listen = "{listen}"
[sources.main]
account_id = "{zoom.credentials.account_id}"
client_id = "{zoom.credentials.client_id}"
client_secret = "{zoom.credentials.client_secret}"
subscriptions = ["{zoom.subscriptions[0]}"]
token_url = "{zoom.token_url}"
ws_url = "{zoom.ws_url}"
[sinks.archive]
type = "file"
path = "{directory}/archive.ndjson"
{more}"""


class Running:
    """A relay with its front, on this loop."""

    def __init__(self, file: Path, environ: dict[str, str]) -> None:
        self.file = file
        self.relay = Relay(self._load())
        self.front = Front(self.relay, self._load, environ)
        self.control = ControlClient(self.relay.config.state_dir)

    def _load(self) -> Config:
        config = load(self.file, environ={}).config
        protect_config(config)
        return config

    async def get(self, path: str) -> tuple[int, str]:
        host, port = self.front.admin.addresses[0]
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://{host}:{port}{path}") as response,
        ):
            return response.status, await response.text()

    async def ready(self) -> bool:
        status, text = await self.get("/readyz")
        assert json.loads(text)["ready"] == (status == 200)
        return status == 200

    async def until_ready(self, wanted: bool) -> None:
        async with asyncio.timeout(15):
            while await self.ready() is not wanted:  # noqa: ASYNC110 - nobody says so
                await asyncio.sleep(0.01)


@asynccontextmanager
async def running(file: Path, environ: dict[str, str] | None = None) -> AsyncIterator[Running]:
    one = Running(file, environ or {})
    task = asyncio.create_task(one.relay.run(one.front))
    started = asyncio.create_task(one.relay.started.wait())
    await asyncio.wait([task, started], return_when=asyncio.FIRST_COMPLETED)
    started.cancel()
    if task.done():
        task.result()
    try:
        yield one
    finally:
        one.relay.stop()
        await task
