"""The orders that signals give to the process of a relay."""

from __future__ import annotations

import asyncio
from pathlib import Path

from structlog.testing import capture_logs

from zoomrelay.cli.run import Process
from zoomrelay.config.models import Config
from zoomrelay.errors import ControlRefused


async def _obeyed(directory: Path, error: Exception) -> list[str]:
    """What the log has of an order that ends with this."""

    async def order() -> None:
        raise error

    config = Config(state_dir=directory, sources={}, sinks={})
    with capture_logs() as log:
        await asyncio.wait([Process(config, None)._obey("reload", order)])
        await asyncio.sleep(0)
    return [f"{line['event']} {line['order']} {line['exc_info']!r}" for line in log]


async def test_an_order_that_fails_unexpectedly_is_in_the_log(tmp_path: Path) -> None:
    error = RuntimeError("nobody expected this")
    assert await _obeyed(tmp_path, error) == [f"order.failed reload {error!r}"]


async def test_what_is_refused_is_told_to_whoever_asked(tmp_path: Path) -> None:
    assert await _obeyed(tmp_path, ControlRefused("not now", status=503)) == []
