"""A lab whose pretend Zoom sends webhooks, and whose relay takes them."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

from tests.support import oracle
from tests.support.lab import Lab
from zoomrelay.admin.client import ControlClient
from zoomrelay.admin.health import Status

SECRET = "WebhookSecretToken-51c0"
_TABLE = """
[sources.main.webhook]
listen = "127.0.0.1:{port}"
secret_token = "{secret}"
{settings}
"""


class HookedLab(Lab):
    """The relay listens on `port`, which is free and stays the same across its starts."""

    def __init__(
        self, directory: Path, *, settings: str = "", more: str = "", retry_scale: float = 1.0, **options: Any
    ) -> None:
        self.port = free_port()
        self.retry_scale = retry_scale
        table = _TABLE.format(port=self.port, secret=SECRET, settings=settings)
        super().__init__(directory, more=more + table, **options)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/webhook"

    def without_app(self) -> None:
        """Leave nothing of the source but its webhook."""
        lines = self.relay.config_file.read_text().splitlines()
        gone = ("account_id", "client_id", "client_secret", "subscriptions", "token_url", "ws_url")
        self.relay.config_file.write_text("\n".join(line for line in lines if not line.startswith(gone)))

    async def hooked(self) -> None:
        """Start the relay, and let Zoom send there once it has answered the challenge."""
        await self.open()
        self.zoom.point_webhook(self.url, SECRET, self.retry_scale)
        await self.zoom.until(lambda: self.zoom.webhooks.validated)

    async def open(self) -> None:
        """Start the relay, and return once its door is open."""
        before = len(self.relay.log("webhook.listening"))
        self.relay.start()
        await self.relay.until(lambda: len(self.relay.log("webhook.listening")) > before, "the open door")

    async def settled(self) -> None:
        """Every post has its last answer, and the archive has what was acknowledged."""
        async with asyncio.timeout(60):
            await self.zoom.until(lambda: self.zoom.webhooks.idle)
        await self.relay.until(lambda: not self.status().sinks[0].counts.pending, "everything in the archive")

    def status(self) -> Status:
        return ControlClient(self.state_dir).get("/status", Status)

    def leaks(self) -> list[str]:
        files = [self.relay.log_file, self.relay.stdout_file, *self.state_dir.glob("**/*")]
        held = [str(path) for path in files if path.is_file() and SECRET.encode() in path.read_bytes()]
        return super().leaks() + [f"{name} holds the secret of the webhook" for name in held]

    def judge_webhook(self, *, once: bool) -> None:
        found = oracle.by_webhook(self.zoom.webhooks.since(), self.delivered()["archive"], "main", once=once)
        assert not found, "\n".join([f"seed {self.seed}", *found, self.relay.tail()])


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
