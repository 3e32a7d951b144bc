"""The image, built and run: read-only, as any user, with its secrets in files."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
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


def _volumes(zoom: Simulator, directory: Path) -> list[str]:
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
    lines = [
        json.loads(line[line.index("{") :]) for line in relay.logs().splitlines() if "admin.listening" in line
    ]
    async with aiohttp.ClientSession() as session:
        for path in ("livez", "readyz", "metrics"):
            async with session.get(f"http://{lines[-1]['addresses'][0]}/{path}") as answer:
                assert answer.status == 200


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
