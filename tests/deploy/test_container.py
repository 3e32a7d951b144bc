"""The image, built and run: read-only, as any user, with its secrets in files."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support import image
from zoomrelay.simulator.server import Simulator

pytestmark = pytest.mark.full

MAX_BYTES = 120 * 1000**2
CONFIG = """
drain_seconds = 2
[sources.main]
account_id = "{account_id}"
client_id = "{client_id}"
subscriptions = ["{subscription}"]
token_url = "{token_url}"
ws_url = "{ws_url}"
[sinks.console]
type = "stdout"
"""


@pytest.fixture(scope="module")
def built() -> Iterator[str]:
    with image.built() as found:
        yield found


def test_it_is_small_and_says_what_it_is(built: str) -> None:
    ours, base = image.inspect(built), image.inspect(image.BASE)
    more = int(str(ours["Size"])) - int(str(base["Size"]))
    print(f"{more / 1000**2:.1f} MB beyond the base")
    assert 0 < more <= MAX_BYTES
    labels = ours["Labels"]
    assert isinstance(labels, dict)
    assert labels["org.opencontainers.image.version"] == "1.2.3"
    assert labels["org.opencontainers.image.licenses"] == "MIT"
    assert ours["User"] == "10001:10001"


@pytest.mark.parametrize("user", ["", "4711:0"])
async def test_health_turns_with_the_session_and_a_stop_is_in_order(
    built: str, tmp_path: Path, user: str
) -> None:
    async with Simulator() as zoom:
        volumes, secret = _volumes(zoom, tmp_path), zoom.credentials.client_secret
        listen = {"ZOOMRELAY_ADMIN__LISTEN": "127.0.0.1:0"}
        name = f"zoomrelay-test-{user.partition(':')[0] or 'default'}"
        started = image.container(built, name, user=user, volumes=volumes, environ=listen)
        relay = await asyncio.to_thread(started.__enter__)
        try:
            await _until(relay, lambda: zoom.accepted > 0, "acceptance")
            await _until(relay, relay.healthy, "health")
            await zoom.burst(50)
            await _until(relay, lambda: relay.logs().count('"event_ts"') >= 50, "50 events in its output")
            await _probes(relay)
            zoom.faults.refuse = "Invalid Token"
            zoom.end("close", 1000, "Bye")
            await _until(relay, lambda: not relay.healthy(), "ill health")
            assert await asyncio.to_thread(_cannot_write, relay)
            begin = time.monotonic()
            assert await asyncio.to_thread(relay.stop, 10) == 0
            print(f"stopped in {time.monotonic() - begin:.2f} s")
            assert time.monotonic() - begin < 9
            told = relay.logs()
            assert '"event": "relay.stopped"' in told and secret not in told
        finally:
            await asyncio.to_thread(started.__exit__, None, None, None)


TAKEOVER = ("run", "--takeover", "--standby")
ARCHIVE = '[sinks.archive]\ntype = "file"\npath = "/var/lib/zoomrelay/events.ndjson"\n'
ANY_PORT = {"ZOOMRELAY_ADMIN__LISTEN": "127.0.0.1:0"}


async def test_a_new_container_takes_over_on_the_same_volume(built: str, tmp_path: Path) -> None:
    """Nothing is lost, and the old one stands by until it is removed; where the new one ends, it goes on."""
    async with Simulator() as zoom, AsyncExitStack() as stack:
        volumes = _volumes(zoom, tmp_path, ARCHIVE)

        async def run(name: str) -> image.Container:
            started = image.container(built, name, volumes=volumes, environ=ANY_PORT, command=TAKEOVER)
            found = await asyncio.to_thread(started.__enter__)
            stack.push_async_callback(asyncio.to_thread, started.__exit__, None, None, None)
            return found

        old = await run("zoomrelay-test-old")
        await _until(old, lambda: zoom.accepted > 0, "acceptance")
        await _until(old, old.healthy, "health")
        zoom.set_rate(100)
        new = await run("zoomrelay-test-new")
        await _until(new, lambda: "takeover.done" in new.logs(), "the takeover")
        await _until(old, lambda: "standby.begun" in old.logs(), "the old one's patience")
        await _until(new, new.healthy, "health")
        await _probes(new)
        assert await _answers(old, "standby.listening") == {"livez": 200, "readyz": 503}
        zoom.set_rate(0)
        assert await asyncio.to_thread(new.stop, 10) == 0
        await _until(old, lambda: "standby.needed" in old.logs(), "the need for the old one")
        await _until(old, lambda: len(zoom.journal.connections) > 2 and zoom.accepted == 1, "acceptance")
        await zoom.burst(20)
        assert await asyncio.to_thread(old.stop, 10) == 0
        taken = (tmp_path / "state/events.ndjson").read_bytes().splitlines()
        print(f"{len(taken)} events, {len(zoom.journal.connections)} connections")
        assert len(taken) > 100 and sorted(taken) == sorted(one.content for one in zoom.journal.since())


def _volumes(zoom: Simulator, directory: Path, more: str = "") -> list[str]:
    """Configuration and secret, readable for every user, and a state that outlives the container."""
    known = zoom.credentials
    config, secret = directory / "zoomrelay.toml", directory / "sources.main.client_secret"
    config.write_text(
        CONFIG.format(
            account_id=known.account_id,
            client_id=known.client_id,
            subscription=zoom.subscriptions[0],
            token_url=zoom.token_url,
            ws_url=zoom.ws_url,
        )
        + more
    )
    secret.write_text(known.client_secret)
    state = directory / "state"
    state.mkdir()
    state.chmod(0o1777)
    return [
        f"{config}:/etc/zoomrelay/zoomrelay.toml:ro",
        f"{secret}:/run/secrets/{secret.name}:ro",
        f"{state}:/var/lib/zoomrelay",
    ]


async def _probes(relay: image.Container) -> None:
    """The admin port answers from outside."""
    answers = await _answers(relay, "admin.listening", "livez", "readyz", "metrics")
    assert set(answers.values()) == {200}


async def _answers(relay: image.Container, line: str, *paths: str) -> dict[str, int]:
    """What the port says that is named in this line of the log."""
    lines = [json.loads(text[text.index("{") :]) for text in relay.logs().splitlines() if line in text]
    answers = {}
    async with aiohttp.ClientSession() as session:
        for path in paths or ("livez", "readyz"):
            async with session.get(f"http://{lines[-1]['addresses'][0]}/{path}") as answer:
                answers[path] = answer.status
    return answers


def _cannot_write(relay: image.Container) -> bool:
    """Neither where it is installed, nor beside it."""
    return all(
        relay.exec("/bin/sh", "-c", f"echo x > {directory}/x").returncode != 0
        for directory in ("/opt/zoomrelay", "/etc", "/var/lib")
    )


async def _until(relay: image.Container, happened: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + 60
    while not await asyncio.to_thread(happened):
        assert time.monotonic() < deadline, f"{what} did not come\n{relay.logs()}"
        await asyncio.sleep(0.1)
