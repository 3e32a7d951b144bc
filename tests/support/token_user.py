"""A process that wants a token: prints the one it is given.

    python -m tests.support.token_user CONFIG

It dies at the point that ZOOMRELAY_TEST_CRASH names (`tests.support.crash`), if that is set.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from random import Random

from prometheus_client import CollectorRegistry

from tests.support import crash
from zoomrelay.auth.endpoint import TokenEndpoint
from zoomrelay.auth.manager import TokenManager
from zoomrelay.auth.stores.file import FileStore
from zoomrelay.clock import SystemClock
from zoomrelay.config import load
from zoomrelay.telemetry.metrics import Metrics


def manager(file: Path) -> TokenManager:
    """For the source `main` of this configuration, on its token cache."""
    config = load(file, environ={}).config
    source, clock = config.sources["main"], SystemClock()
    store = FileStore(config.state_dir, source)
    metrics = Metrics(CollectorRegistry())
    return TokenManager(source, TokenEndpoint(source, clock), clock, Random(1), metrics, store=store)


async def _main(file: Path) -> None:
    tokens = manager(file)
    token = await tokens.get()
    await tokens.close()
    sys.stdout.write(token.value)


if __name__ == "__main__":
    if point := os.environ.get(crash.VARIABLE):
        name, _, passage = point.partition(":")
        crash.wrap_tokens(crash.Countdown(name, int(passage or 1)))
    asyncio.run(_main(Path(sys.argv[1])))
