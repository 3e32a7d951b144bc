"""A pretend Zoom, a configuration that points to it, and the commands that share its tokens."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Self

from tests.support.process import RelayProcess, environment
from zoomrelay.simulator.server import Simulator

_CONFIG = """
state_dir = "{state}"
[sources.main]
{account}client_id = "{client_id}"
{secret}subscriptions = {subscriptions}
grant = "{grant}"
token_url = "{token_url}"
ws_url = "{ws_url}"
api_url = "{api_url}"
[admin]
listen = ""
[log]
format = "json"
"""
SECONDS = 240.0
"""Forty processes on a busy machine take their time; only what hangs takes so long."""


class Done(NamedTuple):
    """A command that has ended."""

    code: int
    out: str
    err: str


class TokenPlace:
    """An async context manager. `zoom` may be told anything; `relay` is not started."""

    def __init__(self, directory: Path, *, grant: str = "auto", sockets: bool = False) -> None:
        self.zoom = Simulator(seed=1)
        self.relay = RelayProcess(directory)
        self.directory = directory
        self.state_dir = directory / "state"
        self._grant = grant
        self._sockets = sockets

    async def __aenter__(self) -> Self:
        await self.zoom.__aenter__()
        self.state_dir.mkdir(mode=0o700)
        self.configure()
        return self

    async def __aexit__(self, *error: object) -> None:
        self.relay.abandon()
        await self.zoom.__aexit__(None, None, None)

    def configure(self, more: str = "", *, public: bool = False) -> None:
        """Write the configuration file; a `public` client has no secret."""
        known = self.zoom.credentials
        personal = self._grant == "authorization_code"
        text = _CONFIG.format(
            state=self.state_dir,
            account="" if personal else f'account_id = "{known.account_id}"\n',
            client_id=known.client_id,
            secret="" if public else f'client_secret = "{known.client_secret}"\n',
            subscriptions=list(self.zoom.subscriptions) if self._sockets else [],
            grant=self._grant,
            token_url=self.zoom.token_url,
            ws_url=self.zoom.ws_url,
            api_url=self.zoom.api_url,
        )
        self.relay.config_file.write_text(text + more)

    async def start(
        self, *arguments: str, environ: Mapping[str, str] | None = None
    ) -> asyncio.subprocess.Process:
        """`zoomrelay` with these arguments and this configuration."""
        command, *rest = arguments
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "zoomrelay", command, "--config", str(self.relay.config_file), *rest),
            cwd=self.directory,
            env=environment(environ or {}),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *arguments: str, stdin: str = "", environ: Mapping[str, str] | None = None) -> Done:
        """Start it and see its end."""
        return await end(await self.start(*arguments, environ=environ), stdin)

    async def token(self, *arguments: str, stdin: str = "") -> str:
        """What `zoomrelay token` prints; it must succeed."""
        done = await self.run("token", *arguments, stdin=stdin)
        assert done.code == 0, done
        return done.out.removesuffix("\n")

    async def asked(self, requests: int) -> None:
        """So many requests for a token have reached Zoom."""
        async with asyncio.timeout(SECONDS):
            while self.zoom.token_requests < requests:  # noqa: ASYNC110 - another process acts
                await asyncio.sleep(0.01)

    def judge(self, token: str) -> str:
        """Zoom's opinion of a token now; empty: it is good."""
        return self.zoom.tokens.judge(token, time.time())


async def end(process: asyncio.subprocess.Process, stdin: str = "") -> Done:
    try:
        async with asyncio.timeout(SECONDS):
            out, err = await process.communicate(stdin.encode())
    except TimeoutError:
        process.kill()
        raise
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), err.decode())
