"""What a reload does to sources: their sockets, tokens and books."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from tests.support.certificate import certificate
from tests.support.fronted import Running, running, toml
from tests.support.hooked import free_port
from zoomrelay.admin.client import ControlClient
from zoomrelay.app import Relay
from zoomrelay.app import reload as reloading
from zoomrelay.errors import ControlRefused, TakeoverRefused
from zoomrelay.intake import ledger, troubles
from zoomrelay.simulator.server import Simulator
from zoomrelay.simulator.webhooks import signed
from zoomrelay.takeover.messages import Begin, fingerprints

A, B, C = (f"Subscription{letter}000000000" for letter in "ABC")
UNKNOWN = "SubscriptionUnknown000"
SECRET = "PlantedSecretToken-77d1"


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

    def source(self, name: str, subscription: str, more: str = "") -> str:
        """The table of another source of the same app."""
        known = self.zoom.credentials
        return f"""[sources.{name}]
account_id = "{known.account_id}"
client_id = "{known.client_id}"
client_secret = "{known.client_secret}"
subscriptions = ["{subscription}"]
token_url = "{self.zoom.token_url}"
ws_url = "{self.zoom.ws_url}"
{more}"""

    async def post(self, port: int, secret: str = SECRET) -> int:
        """What is answered to an event by webhook."""
        now = int(time.time())
        body = b'{"event":"meeting.started","event_ts":%d,"payload":{}}' % (now * 1000)
        headers = signed(body, secret.encode(), now, Random(1))
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"http://127.0.0.1:{port}/webhook", data=body, headers=headers) as answer,
        ):
            return answer.status

    async def exported(self, start: str) -> list[str]:
        """Lines of /metrics that begin so."""
        lines = (await self.running.get("/metrics"))[1].splitlines()
        return [line for line in lines if line.startswith(f"zoomrelay_{start}")]

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
    for _ in range(2):
        bench.write(A, more=bench.source("other", B))
        assert await bench.reload() == {"added": ["sources.other"]}
        await bench.until(lambda: bench.open(B))
        await bench.zoom.burst(50)
        await bench.until(lambda: not bench.running.relay._intake.waiting)
        sources = bench.running.front.status().sources
        assert [source.name for source in sources] == ["main", "other"]
        assert [source.conservation_error for source in sources] == [0, 0]
        assert await bench.exported('event_lag_seconds_count{source="other"} 50.0')
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


# --- webhooks -----------------------------------------------------------------------------------------


def hook(source: str, port: int, more: str = "") -> str:
    return f'[sources.{source}.webhook]\nlisten = "127.0.0.1:{port}"\n{more}\n'


async def test_another_secret_token_is_the_webhooks_too(zoom: Simulator, tmp_path: Path) -> None:
    bench, port = Bench(zoom, tmp_path), free_port()
    bench.write(A, source=f'secret_token = "{SECRET}"', more=hook("main", port))
    async with running(bench.file) as bench.running:
        assert await bench.post(port) == 200
        bench.write(A, source='secret_token = "another"', more=hook("main", port))
        assert await bench.reload() == {"changed": ["sources.main.secret_token"]}
        assert await bench.post(port, "another") == 200
        assert await bench.post(port) == 401


async def test_a_certificate_that_cannot_be_used_changes_nothing(bench: Bench, tmp_path: Path) -> None:
    port, file = free_port(), tmp_path / "shown.pem"
    file.write_text("nonsense")
    door = hook("other", port, f'secret_token = "{SECRET}"\ncert_file = "{file}"')
    bench.write(A, more=bench.source("other", B, door) + bench.source("third", C))
    with pytest.raises(ControlRefused, match=r"sources\.other\.webhook\.cert_file"):
        await bench.reload()
    assert [source.name for source in bench.running.front.status().sources] == ["main"]
    file.write_bytes(certificate(tmp_path, "good").read_bytes())
    assert await bench.reload() == {"added": ["sources.other", "sources.third"]}
    await bench.until(lambda: bench.open(B) and bench.open(C))
    await bench.running.until_ready(True)
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()


async def test_nothing_is_left_of_a_webhook_that_is_gone(bench: Bench) -> None:
    port = free_port()
    door = "[sources.other]\n" + hook("other", port, f'secret_token = "{SECRET}"')
    for _ in range(2):
        bench.write(A, more=door)
        await bench.reload()
        assert await bench.post(port) == 200
        assert await bench.exported('webhook_requests_total{result="held",source="other"} 1.0')
        entrance = bench.running.relay._entrances["other"]
        bench.write(A)
        await bench.reload()
        assert [one.fileno() for one in entrance.sockets] == [-1]
        assert 'source="other"' not in (await bench.running.get("/metrics"))[1]


async def test_the_app_goes_and_the_webhook_stays(zoom: Simulator, tmp_path: Path) -> None:
    bench, port = Bench(zoom, tmp_path), free_port()
    bench.write(A, more=hook("main", port, f'secret_token = "{SECRET}"'))
    async with running(bench.file) as bench.running:
        await bench.running.until_ready(True)
        of_the_app = r"(?m)^(account_id|client_id|client_secret|subscriptions) = .*\n"
        bench.file.write_text(re.sub(of_the_app, "", bench.file.read_text()))
        assert (await bench.reload())["removed"] == [f"sources.main.subscriptions.{A}"]
        assert await bench.reload() == {}
        assert bench.open(A) == [] and await bench.post(port) == 200
        assert [path.subscription for path in bench.running.front.status().sources[0].paths] == ["webhook"]


# --- beside other things ------------------------------------------------------------------------------


async def test_reload_and_takeover_keep_apart(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    relay = bench.running.relay
    asked = Begin("0.1.0", 1, "takeover-1-x.journal", fingerprints(relay.config))
    begun, go_on, end_sink = asyncio.Event(), asyncio.Event(), Relay._end_sink

    async def held_up(self: Relay, name: str) -> None:
        begun.set()
        await go_on.wait()
        await end_sink(self, name)

    monkeypatch.setattr(Relay, "_end_sink", held_up)
    bench.write(A, B, more="fsync = false\n")
    first = asyncio.create_task(bench.reload())
    await begun.wait()
    try:
        with pytest.raises(TakeoverRefused, match="reloads"):
            relay.handover.begin(asked)
    finally:
        go_on.set()
    await first
    await bench.until(lambda: bench.open(B))
    relay.handover.begin(asked)
    bench.write(A, C)
    with pytest.raises(ControlRefused, match="takes over"):
        await relay.reload(bench.running._load())
    relay.handover.cancel("this is a test")
    assert bench.open(A) and bench.open(B) and not bench.open(C)


async def test_what_is_told_of_a_source_that_is_gone_is_counted_when_it_returns(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(troubles, "_QUIET_SECONDS", 0.1)
    more = "gap_events = true\n"
    other = bench.source("other", B, 'secret_token = "another"\nverify_signature = "enforce"\n')
    bench.write(A, more=more + other)
    await bench.reload()
    await bench.until(lambda: bench.open(B))
    await bench.zoom.burst(5)
    bench.write(A, more=more)
    await bench.reload()
    await bench.until(lambda: any(gap.cause == "signature_refused" for gap in bench.gaps()))
    await bench.until(lambda: not bench.running.relay._intake.waiting)
    bench.write(A, more=more + other)
    await bench.reload()
    assert [one.conservation_error for one in bench.running.front.status().sources] == [0, 0]
