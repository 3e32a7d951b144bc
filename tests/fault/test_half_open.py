"""Sockets that die without a word, and how quickly the relay is back; the figures are printed (`-s`)."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from tests.support import oracle
from tests.support.blackhole import BlackHole
from tests.support.lab import Lab
from tests.support.require import missing, require

DEAD_AFTER_SECONDS = 5.5
SOURCE = f"heartbeat_seconds = 5\ndead_after_seconds = {DEAD_AFTER_SECONDS}\n"
BUSY_SECONDS = 2.5
"""What a busy machine may add."""
ENDS = 20


async def test_packets_that_a_proxy_swallows(tmp_path: Path) -> None:
    async with Lab(tmp_path, seed=1, source=SOURCE) as lab, BlackHole(lab.zoom.port) as hole:
        lab.ws_url = urlsplit(lab.zoom.ws_url)._replace(netloc=f"127.0.0.1:{hole.port}").geturl()
        lab.configure()
        await lab.start()
        assert hole.swallow() == 1
        await _found(lab)


@pytest.mark.full
async def test_packets_that_the_network_drops(tmp_path: Path, namespace: Namespace) -> None:
    """The relay lives in a network of its own, from which all ways out are cut."""
    lab = Lab(tmp_path, seed=1, source=SOURCE, host=namespace.host)
    async with lab:
        await lab.start(under=namespace.under)
        namespace.cut()
        death = _half_open(lab)
        await lab.zoom.burst(20)
        await lab.relay.until(lambda: _ended(lab), "the end of the dead socket", seconds=30)
        found_seconds = time.time() - death
        namespace.mend()
        await lab.accepted()
        await _told(lab, found_seconds, ask=False)  # its admin port is in that network, too


async def _found(lab: Lab) -> None:
    death = _half_open(lab)
    await lab.zoom.burst(20)
    await lab.relay.until(lambda: _ended(lab), "the end of the dead socket", seconds=30)
    await _told(lab, time.time() - death)


def _half_open(lab: Lab) -> float:
    """Zoom, too, hears and says nothing any more."""
    assert lab.zoom.end("half-open") == 1
    return time.time()


def _ended(lab: Lab) -> bool:
    return any(entry["cause"] == "silent" for entry in lab.relay.log("session.closed"))


async def _told(lab: Lab, found_seconds: float, *, ask: bool = True) -> None:
    await lab.finish(ask=ask)
    await lab.relay.stop()
    print(f"half-open: found after {found_seconds:.2f} s of {DEAD_AFTER_SECONDS} s")
    lab.judge()
    assert found_seconds <= DEAD_AFTER_SECONDS + BUSY_SECONDS
    (gap, *_) = lab.truth().gaps
    assert gap.cause == "silent"
    assert len(oracle.lost(lab.truth(), lab.delivered()["archive"])) == 20


@pytest.mark.full
async def test_back_at_once_after_a_close(tmp_path: Path) -> None:
    """With one subscription; printed only, for the time is the machine's."""
    random = Random(1)
    async with Lab(tmp_path, seed=1) as lab:
        await lab.start()
        for _ in range(ENDS):
            await lab.pause(random.uniform(2.05, 2.2))  # what ends sooner is retried with pauses
            lab.zoom.end("close", random.choice((1000, 1001, 1011)), "Bye")
            await lab.accepted()
        await lab.end()
        outages = sorted(end - start for start, end in lab.truth().outages(lab.zoom.subscriptions[0])[:-1])
    assert len(outages) == ENDS
    p50, p99 = outages[ENDS // 2], outages[-1 - ENDS // 100]
    print(f"closed to accepted again, one subscription: p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms")


class Namespace:
    """A network of the relay's own, joined to ours by one cable."""

    def __init__(self) -> None:
        self._ip = require("ip")
        self.name = f"zr{uuid4().hex[:8]}"
        third = int(self.name[2:4], 16)
        self.host, self._guest = f"10.213.{third}.1", f"10.213.{third}.2"
        self.under = (self._ip, "netns", "exec", self.name)

    def make(self) -> None:
        """Raises `subprocess.CalledProcessError` where that is not allowed."""
        name = self.name
        self._call("netns", "add", name)
        self._call("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        self._call("addr", "add", f"{self.host}/30", "dev", name)
        self._call("link", "set", name, "up")
        for words in (
            ("addr", "add", f"{self._guest}/30", "dev", "eth0"),
            *(("link", "set", d, "up") for d in ("lo", "eth0")),
        ):
            self._call("-n", name, *words)

    def cut(self) -> None:
        """From now on packets go to a card that is not there, and nobody is told."""
        nowhere = ("lladdr", "02:00:00:00:00:99", "nud", "permanent")
        self._call("neigh", "replace", self._guest, *nowhere, "dev", self.name)
        self._call("-n", self.name, "neigh", "replace", self.host, *nowhere, "dev", "eth0")

    def mend(self) -> None:
        self._call("neigh", "del", self._guest, "dev", self.name)
        self._call("-n", self.name, "neigh", "del", self.host, "dev", "eth0")

    def drop(self) -> None:
        subprocess.run([self._ip, "netns", "del", self.name], check=False, capture_output=True)
        subprocess.run([self._ip, "link", "del", self.name], check=False, capture_output=True)

    def _call(self, *words: str) -> None:
        subprocess.run([self._ip, *words], check=True, capture_output=True, text=True)


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    space = Namespace()
    try:
        try:
            space.make()
        except subprocess.CalledProcessError as error:
            missing(f"no network namespace can be made here: {error.stderr.strip()}")
        yield space
    finally:
        space.drop()
