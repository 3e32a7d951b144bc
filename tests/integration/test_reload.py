"""What a reload does to sources: their sockets, tokens and books."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.fronted import Running, running, toml
from zoomrelay.admin.client import ControlClient
from zoomrelay.app import reload as reloading
from zoomrelay.intake import ledger
from zoomrelay.simulator.server import Simulator

A, B, C = (f"Subscription{letter}000000000" for letter in "ABC")
UNKNOWN = "SubscriptionUnknown000"


@pytest.fixture
async def zoom() -> AsyncIterator[Simulator]:
    async with Simulator(seed=1, subscriptions=(A, B, C)) as simulator:
        yield simulator


class Bench:
    """A relay whose one configuration file is written again and again."""

    def __init__(self, zoom: Simulator, directory: Path) -> None:
        self.zoom, self.directory = zoom, directory
        self.file = directory / "zoomrelay.toml"
        self.state_dir = directory / "state"
        self.running: Running
        self.write(A)

    def write(self, *subscriptions: str, more: str = "", source: str = "", **replaced: str) -> None:
        text = toml(self.zoom, self.directory, more=more)
        given = str(list(subscriptions))
        text = re.sub(r"subscriptions = .*", f"subscriptions = {given}\n{source}", text, count=1)
        for name, value in replaced.items():
            text = re.sub(rf"(?m)^{name} = .*$", f'{name} = "{value}"', text)
        self.file.write_text(text)

    async def reload(self) -> dict[str, list[str]]:
        control = ControlClient(self.state_dir, timeout_seconds=60)
        answer = await asyncio.to_thread(control.post, "/reload", dict[str, Any])
        return {name: names for name, names in answer.items() if names}

    def open(self, subscription: str) -> list[int]:
        """Numbers of its connections."""
        found = self.zoom.journal.connections
        return [c.number for c in found if c.open and c.subscription == subscription and c.accepted_at]

    def gaps(self) -> list[ledger.Gap]:
        return [gap for gap in ledger.read(self.state_dir) if gap.to_ms]

    async def until(self, happened: Callable[[], object]) -> None:
        async with asyncio.timeout(20):
            while not happened():  # noqa: ASYNC110 - nobody says so
                await asyncio.sleep(0.01)


@pytest.fixture
async def bench(zoom: Simulator, tmp_path: Path) -> AsyncIterator[Bench]:
    it = Bench(zoom, tmp_path)
    async with running(it.file) as it.running:
        await it.running.until_ready(True)
        yield it
        (*_, error) = [source.conservation_error for source in it.running.front.status().sources] or [0]
        assert error == 0


async def test_a_new_id_takes_the_place_of_an_old_one(bench: Bench) -> None:
    bench.write(B)
    told = await bench.reload()
    assert told == {
        "added": [f"sources.main.subscriptions.{B}"],
        "removed": [f"sources.main.subscriptions.{A}"],
    }
    old, new = bench.zoom.journal.connections
    assert (old.subscription, new.subscription) == (A, B)
    assert new.accepted_at and old.ended_at and new.accepted_at < old.ended_at
    assert old.ending == "client-closed" and bench.gaps() == []
    assert [path.subscription for path in bench.running.front.status().sources[0].paths] == [B]
    metrics = (await bench.running.get("/metrics"))[1]
    assert (
        f'subscription="{A}"' not in metrics
        and f'session_accepted{{source="main",subscription="{B}"}} 1.0' in metrics
    )


async def test_the_old_one_stays_while_the_new_one_is_not_accepted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reloading, "WAIT_SECONDS", 0.3)
    (first,) = bench.open(A)
    bench.write(UNKNOWN)
    assert (await bench.reload())["waiting"] == [f"sources.main.subscriptions.{UNKNOWN}"]
    assert bench.open(A) == [first] and await bench.running.ready()
    bench.write(B)  # it was a mistake
    assert "waiting" not in await bench.reload()
    assert bench.open(A) == [] and bench.open(B)
    assert bench.gaps() == []


async def test_a_mistake_that_is_taken_back_touches_no_socket(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reloading, "WAIT_SECONDS", 0.3)
    (first,) = bench.open(A)
    for name in (UNKNOWN, A):
        bench.write(name)
        await bench.reload()
    assert bench.open(A) == [first]


@pytest.mark.parametrize("mode", ["kick-old", "allow-both"])
async def test_another_address_is_used_by_a_second_socket_first(bench: Bench, mode: Any) -> None:
    bench.zoom._gateway.on_second_connection = mode
    (first,) = bench.open(A)
    bench.write(A, ws_url=f"{bench.zoom.ws_url}?way=other", source="heartbeat_seconds = 20")
    with capture_logs() as log:
        told = await bench.reload()
    assert told["changed"][0] == "sources.main.ws_url"
    (second,) = bench.open(A)
    old, new = bench.zoom.journal.connections
    assert (first, second) == (old.number, new.number)
    assert new.accepted_at and old.ended_at and new.accepted_at <= old.ended_at + 0.01
    assert bench.gaps() == []
    assert "session.displaced" not in [line["event"] for line in log]
    metrics = (await bench.running.get("/metrics"))[1]
    path = f'{{source="main",subscription="{A}"}}'
    assert f"session_accepted{path} 1.0" in metrics and f"path_displaced_total{path} 0.0" in metrics


async def test_where_zoom_refuses_a_second_socket_the_first_is_closed(bench: Bench) -> None:
    bench.zoom._gateway.on_second_connection = "refuse-new"
    bench.write(A, ws_url=f"{bench.zoom.ws_url}?way=other")
    assert "waiting" not in await bench.reload()
    assert len(bench.open(A)) == 1
    await bench.until(bench.gaps)
    (gap,) = bench.gaps()
    assert gap.cause == "stopped" and gap.seconds < 5


async def test_an_address_where_nobody_is_leaves_the_socket_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reloading, "WAIT_SECONDS", 0.3)
    (first,) = bench.open(A)
    bench.write(A, ws_url="ws://127.0.0.1:9/ws")
    assert (await bench.reload())["waiting"] == [f"sources.main.subscriptions.{A}"]
    assert bench.open(A) == [first] and await bench.running.ready()
    bench.write(A)
    await bench.reload()
    await bench.until(lambda: bench.open(A) not in ([first], []))
    assert bench.gaps() == []


async def test_another_secret_touches_neither_token_nor_socket(bench: Bench) -> None:
    first, tokens = bench.open(A), bench.zoom.tokens
    tokens.secrets = {"PlantedOtherSecret"}
    bench.write(A, client_secret="PlantedOtherSecret")
    assert await bench.reload() == {"changed": ["sources.main.client_secret"]}
    assert bench.open(A) == first
    tokens.revoke_all()  # and the next one is asked for with the new secret
    bench.zoom.end()
    await bench.until(lambda: bench.open(A) not in (first, []))


async def test_another_app_gets_tokens_of_its_own_and_keeps_the_socket(bench: Bench) -> None:
    first = bench.open(A)
    bench.write(A, client_id="another-client")
    told = await bench.reload()
    assert told == {"changed": ["sources.main.client_id"]}
    await bench.until(lambda: bench.running.front.status().sources[0].token_refused)
    assert bench.open(A) == first
    bench.write(A)
    await bench.reload()
    assert not bench.running.front.status().sources[0].token_refused


async def test_sources_come_and_go_and_come_back(bench: Bench) -> None:
    known = bench.zoom.credentials
    other = f"""[sources.other]
account_id = "{known.account_id}"
client_id = "{known.client_id}"
client_secret = "{known.client_secret}"
subscriptions = ["{B}"]
token_url = "{bench.zoom.token_url}"
ws_url = "{bench.zoom.ws_url}"
"""
    for _ in range(2):
        bench.write(A, more=other)
        assert await bench.reload() == {"added": ["sources.other"]}
        await bench.until(lambda: bench.open(B))
        await bench.zoom.burst(50)
        await bench.until(lambda: not bench.running.relay._intake.waiting)
        sources = bench.running.front.status().sources
        assert [source.name for source in sources] == ["main", "other"]
        assert [source.conservation_error for source in sources] == [0, 0]
        bench.write(A)
        assert await bench.reload() == {"removed": ["sources.other"]}
        assert bench.open(B) == []
        assert 'source="other"' not in (await bench.running.get("/metrics"))[1]
    assert bench.gaps() == [] and len(bench.open(A)) == 1


async def test_an_open_gap_ends_when_its_subscription_goes(bench: Bench) -> None:
    bench.write(A, B)
    await bench.reload()
    await bench.until(lambda: bench.open(B))
    bench.zoom.faults.change({"refuse": "nope"})
    bench.zoom.end("reset", subscription=B)
    await bench.until(lambda: not bench.open(B))
    await bench.until(lambda: any(gap.subscription == B for gap in ledger.read(bench.state_dir)))
    bench.write(A)
    await bench.reload()
    await bench.until(bench.gaps)
    (gap,) = bench.gaps()
    assert gap.subscription == B and gap.cause == "reset" and "removed from the configuration" in gap.detail


async def test_no_task_is_left_behind(bench: Bench) -> None:
    def services() -> set[str]:
        return {task.get_name() for task in asyncio.all_tasks() if not task.get_name().startswith("Task-")}

    async def as_before() -> None:
        bench.write(A)
        await bench.reload()

    await as_before()
    before = services()
    for number in range(8):
        bench.write(*(A, B, C)[number % 3 :], ws_url=f"{bench.zoom.ws_url}?way={number}")
        await bench.reload()
    await as_before()
    after = services()
    assert {name.rstrip("'") for name in after} == {name.rstrip("'") for name in before}


async def test_a_stop_ends_a_handover(zoom: Simulator, tmp_path: Path) -> None:
    bench = Bench(zoom, tmp_path)
    async with running(bench.file) as bench.running:
        await bench.running.until_ready(True)
        bench.write(UNKNOWN)
        waiting = asyncio.create_task(bench.reload())
        await bench.until(lambda: len(zoom.journal.connections) > 1)
        bench.running.relay.stop()
        assert (await waiting).get("removed") == [f"sources.main.subscriptions.{A}"]
    assert bench.open(A) == []
