"""Every service is named and guarded, and ends in order."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from zoomrelay.supervisor import ServiceEnded, Supervisor

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime(noop_cycles=1)]


class Service:
    """Runs until it is stopped, and then for `closing_seconds` more."""

    def __init__(self, closing_seconds: float = 0.0, error: Exception | None = None) -> None:
        self.stop = asyncio.Event()
        self.ended = ""
        self._closing_seconds = closing_seconds
        self._error = error

    async def run(self) -> None:
        try:
            await self.stop.wait()
            await asyncio.sleep(self._closing_seconds)
            if self._error is not None:
                raise self._error
            self.ended = "by itself"
        except asyncio.CancelledError:
            self.ended = "cancelled"
            raise


async def test_a_service_that_is_asked_to_end_ends_by_itself() -> None:
    service = Service(closing_seconds=2.0)
    async with Supervisor() as supervisor:
        supervisor.start("one", service.run())
        await asyncio.sleep(1)
        service.stop.set()
        assert await supervisor.finish("one", 5.0)
        assert asyncio.get_running_loop().time() == pytest.approx(3.0, abs=0.01)
    assert service.ended == "by itself" and supervisor.running() == []


async def test_one_that_takes_too_long_is_cancelled() -> None:
    service = Service(closing_seconds=60.0)
    async with Supervisor() as supervisor:
        supervisor.start("one", service.run())
        await asyncio.sleep(0)
        service.stop.set()
        assert not await supervisor.finish("one", 5.0)
        assert asyncio.get_running_loop().time() == pytest.approx(5.0, abs=0.01)
    assert service.ended == "cancelled"


async def test_cancel_ends_at_once() -> None:
    service = Service()
    async with Supervisor() as supervisor:
        supervisor.start("one", service.run())
        await asyncio.sleep(1)
        await supervisor.cancel("one")
        assert asyncio.get_running_loop().time() == pytest.approx(1.0, abs=0.01)
    assert service.ended == "cancelled"


async def test_finishing_what_is_not_there() -> None:
    async with Supervisor() as supervisor:
        assert await supervisor.finish("nobody", 5.0)
        await supervisor.cancel("nobody")


async def test_running_is_in_order_of_start() -> None:
    services = {name: Service() for name in ("c", "a", "b")}
    async with Supervisor() as supervisor:
        for name, service in services.items():
            supervisor.start(name, service.run())
        assert supervisor.running() == ["c", "a", "b"]
        for name in supervisor.running():
            await supervisor.cancel(name)
        assert supervisor.running() == []


async def test_a_crash_ends_all_others_and_is_told_with_its_name() -> None:
    crashing, other = Service(error=RuntimeError("broken")), Service()
    with capture_logs() as logs, pytest.raises(ExceptionGroup) as caught:
        async with Supervisor() as supervisor:
            supervisor.start("crashing", crashing.run())
            supervisor.start("other", other.run())
            await asyncio.sleep(1)
            crashing.stop.set()
            await asyncio.sleep(100)
            pytest.fail("the body is to end, too")
    assert caught.group_contains(RuntimeError, match="broken")
    assert other.ended == "cancelled"
    (told,) = logs
    assert (told["event"], told["service"], told["log_level"]) == ("service.crashed", "crashing", "error")
    assert told["exc_info"]


async def test_one_that_returns_unasked_is_a_crash() -> None:
    service, other = Service(), Service()
    with capture_logs() as logs, pytest.raises(ExceptionGroup) as caught:
        async with Supervisor() as supervisor:
            supervisor.start("one", service.run())
            supervisor.start("other", other.run())
            service.stop.set()
            await asyncio.sleep(100)
    assert caught.group_contains(ServiceEnded, match="one")
    assert other.ended == "cancelled" and logs[0]["event"] == "service.ended"


async def test_one_that_may_end_may_end() -> None:
    service = Service()
    async with Supervisor() as supervisor:
        supervisor.start("one", service.run())
        supervisor.may_end("one")
        service.stop.set()
        await asyncio.sleep(1)
        assert await supervisor.finish("one", 0.0)


async def test_one_that_was_started_anew_under_its_name_may_not() -> None:
    first, second = Service(), Service()
    with pytest.raises(ExceptionGroup):
        async with Supervisor() as supervisor:
            supervisor.start("sink", first.run())
            first.stop.set()
            await supervisor.finish("sink", 1.0)
            supervisor.start("sink", second.run())
            second.stop.set()
            await asyncio.sleep(100)


async def test_a_crash_while_it_is_being_finished_is_a_crash() -> None:
    service = Service(closing_seconds=1.0, error=RuntimeError("broken"))
    with pytest.raises(ExceptionGroup) as caught:
        async with Supervisor() as supervisor:
            supervisor.start("one", service.run())
            await asyncio.sleep(0)
            service.stop.set()
            await supervisor.finish("one", 5.0)
            await asyncio.sleep(100)
    assert caught.group_contains(RuntimeError)


async def test_an_error_in_the_body_ends_the_services() -> None:
    service = Service()
    with pytest.raises(ExceptionGroup) as caught:
        async with Supervisor() as supervisor:
            supervisor.start("one", service.run())
            await asyncio.sleep(0)
            raise ValueError("in the body")
    assert caught.group_contains(ValueError) and service.ended == "cancelled"
