"""Sources of a running relay brought in line with a new configuration."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress

from zoomrelay.app.source import RunningSource
from zoomrelay.config.models import Config, SourceConfig
from zoomrelay.webhook.entrance import Entrance

WAIT_SECONDS = 20.0
"""How long a reload waits for new sockets to be accepted before it answers; they go on trying."""


async def reload_sources(
    running: dict[str, RunningSource],
    new: Config,
    build: Callable[[SourceConfig], RunningSource],
    entrances: Mapping[str, Entrance],
) -> None:
    """Sources that are gone end in order, new ones are built and started, the others take over what
    changed. `running` is kept up to date. Sources that stay and do not differ notice nothing. `entrances`:
    of the webhooks of new sources."""
    for name in [name for name in running if name not in new.sources]:
        await running[name].end()
        del running[name]
    for name, config in new.sources.items():
        if name in running:
            await running[name].take_over(config)
        else:
            running[name] = build(config)
            running[name].start(entrances.get(name))


async def wait_for_renewals(running: dict[str, RunningSource]) -> list[str]:
    """Until new sockets have taken the place of old ones, or for `WAIT_SECONDS`; the names of subscriptions
    that are still waited for."""
    sources = list(running.values())
    with suppress(TimeoutError):
        async with asyncio.timeout(WAIT_SECONDS):
            for source in sources:
                await source.renewal.done.wait()
    return [
        f"sources.{source.name}.subscriptions.{one}" for source in sources for one in source.renewal.awaited
    ]
