"""The dead-man's switch: when somebody is called, when not, and what is said of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from structlog.testing import capture_logs
from yarl import URL

from tests.unit.admin.fakes import lost_path, path, sink, source, spool, status
from zoomrelay.admin.health import Status
from zoomrelay.admin.ping import INTERVAL_SECONDS, TIMEOUT_SECONDS, Pinger, PingFailed
from zoomrelay.telemetry.metrics import Metrics

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

SECRET = "https://alive.example/planted-ping-secret"


class Place:
    """A relay, and whoever is called."""

    def __init__(self) -> None:
        self.url: SecretStr | None = SecretStr(SECRET)
        self.now: Status = status()
        self.calls: list[float] = []
        """When, on the loop's clock from the start."""
        self.refusal = ""
        self.takes_seconds = 0.0
        self.metrics = Metrics(CollectorRegistry())

    async def send(self, url: URL) -> None:
        assert str(url) == SECRET
        self.calls.append(round(asyncio.get_running_loop().time(), 3))
        await asyncio.sleep(self.takes_seconds)
        if self.refusal:
            raise PingFailed(self.refusal)

    def count(self, result: str) -> float:
        return self.metrics.registry.get_sample_value("zoomrelay_pings_total", {"result": result}) or 0.0


@asynccontextmanager
async def pinging(place: Place) -> AsyncIterator[list[Any]]:
    """The lines of the log."""
    with capture_logs() as lines:
        pinger = Pinger(lambda: place.url, lambda: place.now, place.metrics, place.send)
        task = asyncio.create_task(pinger.run())
        yield lines
        assert not task.done()
        task.cancel()
        await asyncio.wait([task])


async def test_once_a_minute_while_all_is_well() -> None:
    place = Place()
    place.takes_seconds = 7.0
    async with pinging(place) as lines:
        await asyncio.sleep(3 * INTERVAL_SECONDS + 30)
    assert place.calls == [0, 60, 120, 180]
    assert [line["event"] for line in lines] == ["ping.working"]
    assert (place.count("sent"), place.count("failed")) == (4, 0)


async def test_nobody_is_called_without_an_address() -> None:
    place = Place()
    place.url = None
    async with pinging(place) as lines:
        await asyncio.sleep(600)
        assert (place.calls, lines) == ([], [])
        place.url = SecretStr(SECRET)  # a reload
        await asyncio.sleep(2)
        assert len(place.calls) == 1
        place.url = None
        await asyncio.sleep(600)
        assert len(place.calls) == 1


@pytest.mark.parametrize(
    ("now", "because"),
    [
        pytest.param(status(starting=True), "the relay is starting", id="starting"),
        pytest.param(status(stopping=True), "the relay is stopping", id="stopping"),
        pytest.param(
            status(sources=[source(), source(lost_path(), name="other")]), "source other", id="source"
        ),
        pytest.param(status(sources=[source(path(deaf=True, trouble="deaf: x"))]), "deaf", id="deaf"),
        pytest.param(status(spool=spool(writable=False, trouble="full")), "cannot be written", id="spool"),
        pytest.param(status(stuck=["spool"]), "spool is stuck", id="stuck"),
        pytest.param(
            status(sinks=[sink(conservation_error=1)]),
            "sink crm: events are not accounted for",
            id="sink books",
        ),
        pytest.param(
            status(sources=[msgspec.structs.replace(source(), conservation_error=-2)]),
            "source main: events are not",
            id="source books",
        ),
    ],
)
async def test_nobody_is_called_while_something_is_not_well(now: Status, because: str) -> None:
    place = Place()
    place.now = now
    async with pinging(place) as lines:
        await asyncio.sleep(600)
        assert place.calls == []
        (line,) = lines
        assert line["event"] == "ping.withheld" and because in " ".join(line["because"])
        place.now = status()
        await asyncio.sleep(1.5)
        assert len(place.calls) == 1
        assert [line["event"] for line in lines] == ["ping.withheld", "ping.working"]


async def test_a_short_trouble_delays_a_call_without_a_word() -> None:
    place = Place()
    async with pinging(place) as lines:
        await asyncio.sleep(59)
        place.now = status(sources=[source(lost_path())])
        await asyncio.sleep(5)
        place.now = status()
        await asyncio.sleep(61)
    assert place.calls == [0, 64, 124]
    assert [line["event"] for line in lines] == ["ping.working"]


async def test_a_trouble_between_two_calls_is_none() -> None:
    place = Place()
    async with pinging(place):
        await asyncio.sleep(10)
        place.now = status(sources=[source(lost_path())])
        await asyncio.sleep(40)
        place.now = status()
        await asyncio.sleep(11)
    assert place.calls == [0, 60]


async def test_failures_are_counted_and_told_once() -> None:
    place = Place()
    place.refusal = "alive.example answered HTTP 404"
    place.takes_seconds = TIMEOUT_SECONDS
    async with pinging(place) as lines:
        await asyncio.sleep(3 * INTERVAL_SECONDS - 1)
        assert place.calls == [0, 60, 120]
        place.refusal = ""
        await asyncio.sleep(2 * INTERVAL_SECONDS)
    assert [line["event"] for line in lines] == ["ping.failing", "ping.working"]
    assert lines[0]["error"] == "alive.example answered HTTP 404"
    assert (place.count("failed"), place.count("sent")) == (3, 2)
    assert "planted" not in str(lines)
