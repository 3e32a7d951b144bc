"""What a relay needs, as tables in Markdown: `python -m bench capacity [--quick]`.

The real `zoomrelay run` in a process of its own, before a Zoom that sends events of about 900 bytes.
Processor time, memory and descriptors are read from /proc (Linux only).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.relay import resident_mb
from zoomrelay.admin.client import ControlClient
from zoomrelay.admin.health import Status
from zoomrelay.intake.merge import GENERATION_IDS, Identities

RATES = (1, 10, 100, 1000)
MORE = 10
"""How many more sources, subscriptions or sinks there are, to see what one costs."""
_WAIT_SECONDS = 120.0
_FILE = '[sinks.file{n}]\ntype = "file"\npath = "{directory}/events{n}.ndjson"\n'
_HTTP = '[sinks.http{n}]\ntype = "http"\nurl = "{url}"\n'
_SOURCE = """
[sources.source{n}]
account_id = "account"
client_id = "client{n}"
client_secret = "secret-of-the-bench"
subscriptions = [{ids}]
token_url = "http://127.0.0.1:{port}/oauth/token"
ws_url = "ws://127.0.0.1:{port}/ws"
"""
NOBODY = "http://127.0.0.1:9/"
"""Where no receiver is."""


class Relay:
    """One that runs."""

    def __init__(self, pid: int, state_dir: Path) -> None:
        self._pid, self.state_dir = pid, state_dir

    @property
    def resident_mb(self) -> float:
        return resident_mb(str(self._pid))

    @property
    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self._pid}/fd").iterdir()))

    @property
    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def status(self) -> Status:
        return ControlClient(self.state_dir).get("/status", Status)

    def until(self, sink: str, count: int) -> None:
        """Wait until so many events have come for this sink, delivered or not."""
        deadline = time.monotonic() + _WAIT_SECONDS
        while self.came(sink) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{count} events did not come to {sink}: {self.status().sinks}")
            time.sleep(0.05)

    def came(self, sink: str) -> int:
        counts = next(one.counts for one in self.status().sinks if one.name == sink)
        return counts.delivered + counts.pending


@contextmanager
def running(
    *,
    count: int,
    rate: int,
    sources: int = 1,
    subscriptions: int = 1,
    files: int = 1,
    urls: tuple[str, ...] = (),
) -> Iterator[Relay]:
    """A relay whose sockets are accepted, and on each of them `count` events at this rate."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = stack.enter_context(_flood(count, rate))
        config = f'state_dir = "{directory}/state"\n[admin]\nlisten = "127.0.0.1:0"\n'
        for n in range(sources):
            ids = ", ".join(f'"BenchSubscription{n}x{m}"' for m in range(subscriptions))
            config += _SOURCE.format(n=n, ids=ids, port=port)
        config += "".join(_FILE.format(n=n, directory=directory) for n in range(files))
        config += "".join(_HTTP.format(n=n, url=url) for n, url in enumerate(urls))
        (directory / "zoomrelay.toml").write_text(config)
        yield stack.enter_context(_relay(directory, sources * subscriptions))


@contextmanager
def _flood(count: int, rate: int) -> Iterator[int]:
    """The port of a Zoom."""
    command = [sys.executable, "-m", "bench.flood", str(count), str(rate)]
    flood = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert flood.stdin and flood.stdout
    try:
        yield int(flood.stdout.readline())
    finally:
        flood.stdin.close()
        flood.wait(30)


@contextmanager
def _relay(directory: Path, sockets: int) -> Iterator[Relay]:
    environ = {key: value for key, value in os.environ.items() if not key.startswith("ZOOM")}
    with (directory / "log").open("w") as log:
        command = [sys.executable, "-m", "zoomrelay", "run", "--config", str(directory / "zoomrelay.toml")]
        process = subprocess.Popen(command, stderr=log, env=environ)
    try:
        deadline = time.monotonic() + _WAIT_SECONDS
        while (directory / "log").read_text().count("session.accepted") < sockets:
            if process.poll() is not None or time.monotonic() > deadline:
                raise TimeoutError((directory / "log").read_text())
            time.sleep(0.02)
        yield Relay(process.pid, directory / "state")
    finally:
        process.terminate()
        process.wait(60)


# --- the tables -------------------------------------------------------------------------------------


def rates(seconds: float) -> None:
    """Processor time at a steady rate, and as fast as it goes."""
    print("| sinks | events/s | CPU, of one core | CPU, µs per event | resident, MB |\n|---|---|---|---|---|")
    with _receiver() as url:
        for rate in RATES:
            _steady("one file", rate, seconds)
        for rate in RATES[1:]:
            _steady("one file, one http", rate, seconds, urls=(url,))
        _steady("one file, two subscriptions", RATES[-1], seconds, subscriptions=2)
    _as_fast_as_it_goes(int(seconds * 10_000))


def _steady(title: str, rate: int, seconds: float, **how: Any) -> None:
    with running(count=int(rate * (seconds + 10)), rate=rate, **how) as relay:
        time.sleep(2)  # what the start itself costs is past
        cpu, came, began = relay.cpu_seconds, relay.came("file0"), time.monotonic()
        time.sleep(seconds)
        took, cpu = time.monotonic() - began, relay.cpu_seconds - cpu
        _row(title, (relay.came("file0") - came) / took, cpu / took, relay.resident_mb)


def _as_fast_as_it_goes(count: int) -> None:
    count -= count % 64
    with running(count=count, rate=0) as relay:
        cpu, began = relay.cpu_seconds, time.monotonic()
        relay.until("file0", count)
        took, cpu = time.monotonic() - began, relay.cpu_seconds - cpu
        _row("one file, as fast as it goes", count / took, cpu / took, relay.resident_mb)


def _row(title: str, rate: float, cpu: float, resident: float) -> None:
    each = f"{cpu / rate * 1e6:,.0f}" if rate else ""
    print(f"| {title} | {rate:,.0f} | {cpu:.1%} | {each} | {resident:.0f} |", flush=True)


def parts() -> None:
    """Memory and descriptors of a relay at rest, and what each part more adds."""
    print("\n| what | resident, MB | descriptors |\n|---|---|---|")
    with _receiver() as url:
        base = _at_rest()
        _part("a relay at rest: one subscription, one file sink", base)
        for title, how in (
            ("each source more, with one subscription", {"sources": 1 + MORE}),
            ("each subscription more of the same source", {"subscriptions": 1 + MORE}),
            ("each file sink more", {"files": 1 + MORE}),
            ("each http sink more, after its first events", {"urls": (url,) * MORE}),
        ):
            more = _at_rest(**how)
            _part(title, ((more[0] - base[0]) / MORE, (more[1] - base[1]) / MORE))
    _part("each 100,000 events remembered (several subscriptions; at most a million)", (_identities_mb(), 0))


def _at_rest(**how: Any) -> tuple[float, float]:
    with running(count=64, rate=0, **how) as relay:
        relay.until("file0", 64)
        time.sleep(3)
        return relay.resident_mb, relay.descriptors


def _part(title: str, figures: tuple[float, float]) -> None:
    print(f"| {title} | {figures[0]:.2f} | {figures[1]:.1f} |", flush=True)


def _identities_mb() -> float:
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    identities = Identities(0.0)
    for _ in range(GENERATION_IDS):
        identities.is_first(os.urandom(16), 1)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (after - before) / GENERATION_IDS * 1e5 / 1024**2


def backlog(count: int) -> None:
    """What a sink that takes nothing costs."""
    count -= count % 64
    with running(count=count, rate=0, urls=(NOBODY,)) as relay:
        relay.until("file0", count)
        relay.until("http0", count)
        time.sleep(3)
        told, files = relay.status().spool, _disk_bytes(relay.state_dir)
        resident = relay.resident_mb
    content, disk = told.bytes / told.events, files / told.events
    print(f"\n| {count:,} events wait for a sink that is down | |\n|---|---|")
    print(f"| counted against `max_bytes`, bytes per event | {content:,.0f} |")
    print(f"| on the disk, bytes per event | {disk:,.0f} |")
    print(f"| events in 1 GiB of `max_bytes` | {2**30 / content:,.0f} |")
    for rate in RATES:
        print(f"| so 1 GiB covers at {rate:,}/s | {2**30 / content / rate / 3600:,.1f} h |")
    print(f"| resident meanwhile, MB | {resident:.0f} |", flush=True)


def _disk_bytes(state_dir: Path) -> int:
    return sum(file.stat().st_size for file in state_dir.glob("spool.sqlite*"))


@contextmanager
def _receiver() -> Iterator[str]:
    command = [sys.executable, "-m", "bench.http_sink", "receive"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/events"
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


def main(*, quick: bool) -> None:
    rates(2 if quick else 20)
    parts()
    backlog(20_000 if quick else 200_000)
