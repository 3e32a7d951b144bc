"""A loop that stands still while a service is to end."""

from __future__ import annotations

import asyncio
from random import Random

from tests.support.virtual import Dates, Jobs, VirtualLoop, run
from tests.unit.test_supervisor import Service
from zoomrelay.supervisor import Supervisor


def test_a_loop_that_stood_still_meanwhile_gives_as_much_more_time() -> None:
    """Otherwise the service is cancelled although it had no turn to do what it was asked."""
    dates, service = Dates(), Service(closing_seconds=2.0)

    async def main() -> bool:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        async with Supervisor() as supervisor:
            supervisor.start("one", service.run())
            loop.call_later(0.5, loop.stall, 10.0)
            loop.call_later(1.0, service.stop.set)
            return await supervisor.finish("one", 5.0)

    assert run(main, dates, Jobs(dates, Random(1)))
    assert service.ended == "by itself"
