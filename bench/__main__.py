"""`python -m bench [--quick] [NAME ...]`: everything, side by side, in one run; or these parts of it.

Two are run only by their names: `python -m bench capacity` prints the tables of docs/operations.md, `python
-m bench outage` takes a quarter of an hour.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from bench import capacity, http_sink, life

KINDS = {
    "bare": "bare websockets loop, receives only",
    "bare-file": "the same, writing a file, no promise",
    "memory": "zoomrelay, memory spool, file sink",
    "sqlite": "zoomrelay, sqlite spool, file sink",
    "twins": "the same, two subscriptions (frames/s)",
}


STRANGERS = ("unsigned", "invalid", "oversize")


def run(kind: str, count: int, rate: int, *more: str) -> dict[str, Any]:
    """One child against one flood."""
    flood = subprocess.Popen(
        [sys.executable, "-m", "bench.flood", str(count), str(rate)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert flood.stdin and flood.stdout
    try:
        port = flood.stdout.readline().strip()
        module = "bench.bare" if kind.startswith("bare") else "bench.relay"
        child = [sys.executable, "-m", module, kind, port, str(count), *more]
        figures: dict[str, Any] = json.loads(subprocess.check_output(child, timeout=600))
    finally:
        flood.stdin.close()
        flood.wait(30)
    return figures


def receiving(count: int, rounds: int) -> None:
    print(f"\nreceiving, flooded with {count:,} events of about 900 bytes; medians of {rounds}")
    print(
        f"{'':38} {'events/s':>9} {'ratio':>6} {'µs CPU':>7} {'peak MB':>8}   durable p50/p99   file p50/p99"
    )
    for kind, figures in _medians(rounds, KINDS, lambda kind: run(kind, count, 0)).items():
        print(_line(KINDS[kind], figures), flush=True)


def _medians(
    rounds: int, kinds: Iterable[str], measure: Callable[[str], dict[str, Any]]
) -> dict[str, dict[str, float]]:
    """All kinds in turn, so many times; each is compared (`NAME ratio`) with the first of its round, for the
    machine has its moods."""
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        first: dict[str, Any] = {}
        for kind, of_kind in found.items():
            figures = measure(kind)
            first = first or figures
            ratios = {
                f"{name} ratio": figures[name] / first[name] for name in ("events_per_second", "cpu_us")
            }
            of_kind.append({**_numbers(figures), **ratios})
    return {
        kind: {name: statistics.median(one[name] for one in of_kind) for name in of_kind[0]}
        for kind, of_kind in found.items()
    }


def _numbers(figures: dict[str, Any]) -> dict[str, float]:
    return {name: figure for name, figure in figures.items() if not isinstance(figure, list)}


def _line(title: str, figures: dict[str, float]) -> str:
    line = (
        f"{title:38} {figures['events_per_second']:9,.0f} {figures['events_per_second ratio']:6.2f}"
        f" {figures['cpu_us']:7.1f} {figures['peak_mb']:8.0f}"
    )
    return line + _latencies(figures)


def _latencies(figures: dict[str, float]) -> str:
    if "durable_p50_ms" not in figures:
        return ""
    pair = "   {:6.1f} /{:6.1f} ms"
    durable = pair.format(figures["durable_p50_ms"], figures["durable_p99_ms"])
    return durable + pair.format(figures["file_p50_ms"], figures["file_p99_ms"])


def steady(count: int) -> None:
    print("\nreceiving at 1,000 events/s")
    for kind in ("memory", "sqlite"):
        figures = run(kind, count, 1000)
        print(f"{KINDS[kind]:38} {'':41}{_latencies(figures).removeprefix('   ')}", flush=True)


def webhook_flood(count: int, rounds: int) -> None:
    """Calm and besieged in turns. CPU time is the relay's own: where strangers and relay share cores, the
    rate says more of the strangers' own appetite."""
    print(f"\nreceiving {count:,} events by socket while strangers knock at the webhook; medians of {rounds}")
    print(
        f"{'':38} {'events/s':>9} {'ratio':>6} {'µs CPU':>7} {'ratio':>6} {'peak MB':>8} {'answered/s':>10}"
    )
    found = _medians(rounds, ("", *STRANGERS), lambda kind: _besieged(kind, count))
    for kind, it in found.items():
        print(
            f"{kind or 'nobody':38} {it['events_per_second']:9,.0f} {it['events_per_second ratio']:6.2f}"
            f" {it['cpu_us']:7.1f} {it['cpu_us ratio']:6.2f} {it['peak_mb']:8.0f} {it['answered']:10,.0f}",
            flush=True,
        )


def _besieged(kind: str, count: int) -> dict[str, Any]:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    if not kind:
        return {**run("sqlite", count, 0, str(port)), "answered": 0.0}
    strangers = subprocess.Popen(
        [sys.executable, "-m", "bench.strangers", str(port), kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    figures = run("sqlite", count, 0, str(port))
    answered, _ = strangers.communicate(timeout=30)
    return {**figures, "answered": int(answered) / (count / figures["events_per_second"])}


def posting(seconds: float) -> None:
    print(f"\nhttp, {http_sink.CONCURRENCY} at a time, to a fast local receiver")
    figures = asyncio.run(http_sink.measure(seconds))
    for name, rate in figures.items():
        print(f"{name:38} {rate:9,.0f} events/s {rate / figures['aiohttp']:6.2f}", flush=True)


def growing(count: int) -> None:
    """With two subscriptions twice as many: their identities are remembered, a million at most."""
    print("\nmemory, flooded: resident MB at each fifth of the way")
    for kind, events in (("sqlite", count), ("twins", 2 * count)):
        samples = run(kind, events, 0)["resident_mb"]
        title = f"{events:,} events, {'two subscriptions' if kind == 'twins' else 'one subscription'}"
        print(f"{title:38} " + ", ".join(f"{mb:.0f}" for mb in samples), flush=True)


def draining(count: int) -> None:
    print(f"\na backlog of {count:,} events, sqlite spool, http in batches of 500")
    child = [sys.executable, "-m", "bench.backlog", str(count)]
    figures: dict[str, Any] = json.loads(subprocess.check_output(child, timeout=1800))
    live, rate = figures["live_events_per_second"], figures["events_per_second"]
    print(f"{'live':38} {live:9,.0f} events/s")
    print(f"{'out of the backlog':38} {rate:9,.0f} events/s {rate / live:6.2f}")
    print(f"resident MB when it was full: {figures['filled_mb']:.0f}; at each fifth of the way: ", end="")
    print(", ".join(f"{mb:.0f}" for mb in figures["resident_mb"]))
    estimated, took = figures["estimated_seconds"], figures["took_seconds"]
    print(f"half-way the estimate was {estimated:.1f} s, it took {took:.1f} s", flush=True)


def outage(seconds: int) -> None:
    print(f"\na receiver that is down for {seconds} s and then slow, beside another, at 500 events/s")
    child = [sys.executable, "-m", "bench.outage", str(seconds)]
    figures: dict[str, Any] = json.loads(subprocess.check_output(child, timeout=3700))
    for name in ("sent", "taken", "twice", "out_of_order", "refused"):
        print(f"{name.replace('_', ' '):38} {figures[name]}")
    print(f"{'drained':38} {figures['backlog']:,} in {figures['drained_seconds']:.0f} s")
    for phase, ages in figures["other_ages"].items():
        print(f"{'the other, ' + phase:38} p50 {ages['p50_ms']:.1f}, p99 {ages['p99_ms']:.1f} ms", flush=True)


def starting() -> None:
    print("\nstarting, idle, stopping")
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "zoomrelay", "--help"], stdout=subprocess.DEVNULL, check=True)
    print(f"{'zoomrelay --help':38} {time.perf_counter() - began:9.2f} s")
    for title, figure in life.measure().items():
        print(f"{title:38} {figure}", flush=True)


def main() -> None:
    quick = "--quick" in sys.argv
    parts: dict[str, Callable[[], None]] = {
        "receiving": lambda: receiving(50_000 if quick else 200_000, 1 if quick else 5),
        "steady": lambda: steady(2_000 if quick else 10_000),
        "posting": lambda: posting(1 if quick else 5),
        "webhook-flood": lambda: webhook_flood(50_000 if quick else 200_000, 2 if quick else 5),
        "growing": lambda: growing(100_000 if quick else 1_000_000),
        "backlog": lambda: draining(100_000 if quick else 1_000_000),
        "starting": starting,
    }
    wanted = [name for name in sys.argv[1:] if not name.startswith("-")] or list(parts)
    parts |= {
        "capacity": lambda: capacity.main(quick=quick),
        "outage": lambda: outage(60 if quick else 600),
    }
    if unknown := [name for name in wanted if name not in parts]:
        sys.exit(f"there is no {unknown[0]}; there are {', '.join(parts)}")
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}")
    for name in wanted:
        parts[name]()


if __name__ == "__main__":
    main()
