"""`make soak`: one relay for so many minutes, a fault in each; then fresh schedules, a tenth as long each."""

from __future__ import annotations

import asyncio
import math
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.fault import test_schedules
from tests.fault.test_relay_kill import killed_at_random_moments
from tests.fault.test_schedules_process import played
from tests.integration.test_relay_promise import delivered_or_listed
from tests.support import oracle, soak, vitals
from tests.support.schedule import Step
from tests.support.soak import Soak, quantile

MINUTES = "ZOOMRELAY_TEST_SOAK_MINUTES"
SEED = "ZOOMRELAY_TEST_SEED"
ON_VIRTUAL_TIME = 100
"""Schedules for each one against the process."""
FILLED = 1_000_000
"""As many identities as are remembered at most."""
FILLED_FROM_MINUTES = 15
"""In a shorter run growth means nothing, and filling takes a while."""


def _minutes() -> float:
    return float(os.environ.get(MINUTES, "30"))


@pytest.mark.soak
async def test_one_relay(tmp_path: Path) -> None:
    """The rule holds, whatever happened; what it cost is printed."""
    minutes = max(2, round(_minutes()))
    seed = int(os.environ.get(SEED, time.time()))
    print(f"\n{minutes} minutes, {soak.RATE} events/s on two subscriptions, again with {SEED}={seed}")
    async with soak.running(tmp_path, seed=seed) as one:
        sampler = asyncio.create_task(one.sample(), name="sampler")
        one.lab.zoom.set_rate(soak.RATE)
        try:
            await _minute_by_minute(one, soak.faults(seed, minutes), sampler)
        finally:
            sampler.cancel()
            with suppress(asyncio.CancelledError):
                await sampler
        await one.end()
        print(_report(one), flush=True)
        problems = one.problems()
        assert not problems, "\n".join([f"{SEED}={seed}", *problems, one.lab.relay.tail()])


async def _fill(one: Soak) -> float:
    """How many seconds it took."""
    start = time.monotonic()
    await one.fill(FILLED)
    seconds = time.monotonic() - start
    print(f"     filled with {FILLED:,} identities in {seconds:.0f} s", flush=True)
    return seconds


async def _minute_by_minute(one: Soak, faults: list[list[Step]], sampler: asyncio.Task[None]) -> None:
    start = time.monotonic()
    print(" min  MB   fds thr  CPU    sent     took  p50 ms  p99 ms pending identities error  fault")
    for minute, steps in enumerate(faults):
        if minute == math.ceil(len(faults) * soak.KILLING) and len(faults) >= FILLED_FROM_MINUTES:
            start += await _fill(one)
        cpu, sent, took, seen = _cpu_seconds(one), len(one.tally.sent), one.tally.crm.total(), time.time()
        await asyncio.sleep(max(0.0, start + 60 * minute + steps[0].at - time.monotonic()))
        await one.fault(steps)
        await asyncio.sleep(max(0.0, start + 60 * (minute + 1) - time.monotonic()))
        if sampler.done():
            sampler.result()
        one.look()
        told, now = await one.ask(), one.lives[-1].vitals[-1]
        late = [seconds for at, seconds in one.tally.latencies if at >= seen]
        print(
            f"{minute + 1:4} {now.resident_mb:5.1f} {now.descriptors:4} {now.threads:3}"
            f" {(_cpu_seconds(one) - cpu) / 0.6:4.0f}% {len(one.tally.sent) - sent:7}"
            f" {one.tally.crm.total() - took:8}"
            f" {1e3 * quantile(late, 0.5):7.0f} {1e3 * quantile(late, 0.99):7.0f}"
            f" {told['zoomrelay_sink_pending_events']:7.0f} {told['zoomrelay_merge_identities']:10.0f}"
            f" {one.conservation_errors[-1]:5}  {_words(steps)}",
            flush=True,
        )


def _words(steps: list[Step]) -> str:
    first, paths = steps[0], ",".join(str(step.path) for step in steps)
    return f"{first.kind} {first.word} ({first.seconds:.0f} s, path {paths})"


def _cpu_seconds(one: Soak) -> float:
    return sum(life.vitals[-1].cpu_seconds for life in one.lives)


def _report(one: Soak) -> str:
    """The table of everything."""
    truth, tally = one.truth(), one.tally
    events = {sent.content for sent in truth.events}
    seconds = sum(life.seconds for life in one.lives)
    calm = [late for at, late in tally.latencies if one.is_calm(at)]
    late = [late for _, late in tally.latencies]
    rows: list[tuple[str, object]] = [
        ("events sent", f"{len(events):,}, as {len(truth.events):,} frames"),
        ("delivered, lost, more than once: file", _came(events, tally.archive)),
        ("delivered, lost, more than once: http", _came(events, tally.crm)),
        ("besides, only to fill its memory", f"{tally.filled:,} in the file"),
        ("conservation error, the largest", max(map(abs, one.conservation_errors), default=0)),
        *_ledger(one, truth),
        *_memory(one),
        *((name, _range(one, name)) for name in ("descriptors", "threads")),
        (
            "CPU",
            f"{_cpu_seconds(one) / seconds:.1%} of a core, {_cpu_us(one, len(truth.events)):.0f} µs a frame",
        ),
        ("sent to taken by http, calm", _latency(calm)),
        ("sent to taken by http, all", _latency(late)),
        ("machine late", f"{len(truth.blind)} times (latencies are upper bounds where it is shared)"),
        ("log: errors", _errors(one)),
    ]
    return "\n" + "\n".join(f"{name:40} {figure}" for name, figure in rows)


def _came(events: set[bytes], times: dict[bytes, int]) -> str:
    came = sum(1 for content in times if content in events)
    return f"{came:,}, {len(events) - came:,}, {sum(n - 1 for n in times.values()):,}"


def _ledger(one: Soak, truth: oracle.Truth) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = []
    for number, name in enumerate(one.lab.zoom.subscriptions):
        listed, outages = truth.listed(name), truth.outages(name)
        open_ended = [o for o in outages if o[1] == float("inf")]
        missed = _seconds([o for o in outages if o not in open_ended])
        bad = len(oracle.uncovered(truth, name)), len(one.excessive(truth, name))
        rows.append(
            (
                f"ledger of subscription {number}",
                f"{len(listed)} intervals, {_seconds(listed):.1f} s; true outages: {len(outages)},"
                f" {missed:.1f} s; not covered {bad[0]}, too long {bad[1]}",
            )
        )
    return rows


def _seconds(intervals: list[oracle.Interval]) -> float:
    return sum(end - start for start, end in intervals if end != float("inf"))


def _memory(one: Soak) -> list[tuple[str, object]]:
    series = [life.after_warm_up(lambda now: now.resident_mb) for life in one.lives]
    rows: list[tuple[str, object]] = [
        (
            f"resident, process {number}",
            f"{life.vitals[0].resident_mb:.1f} to {life.vitals[-1].resident_mb:.1f} MB"
            f" in {life.seconds:.0f} s, after warm-up {_slope([points])}",
        )
        for number, (life, points) in enumerate(zip(one.lives, series, strict=True), 1)
    ]
    return [*rows, ("resident, all together", _slope(series))]


def _slope(series: list[list[vitals.Point]]) -> str:
    found = vitals.slope(series)
    return "too short to tell" if found is None else f"{found:+.1f} MB/h"


def _range(one: Soak, name: str) -> str:
    each = [[getattr(now, name) for now in life.vitals[2:] or life.vitals] for life in one.lives]
    return f"{min(map(min, each))} to {max(map(max, each))}, at the end {each[-1][-1]}"


def _cpu_us(one: Soak, frames: int) -> float:
    return _cpu_seconds(one) / frames * 1e6


def _latency(seconds: list[float]) -> str:
    if not seconds:
        return "none"
    return f"p50 {1e3 * quantile(seconds, 0.5):.0f} ms, p99 {1e3 * quantile(seconds, 0.99):.0f} ms"


def _errors(one: Soak) -> str:
    named: dict[str, int] = {}
    for line in one.lab.relay.log():
        if line.get("level") in ("error", "critical"):
            named[line["event"]] = named.get(line["event"], 0) + 1
    return ", ".join(f"{name} {count}" for name, count in named.items()) or "none"


# --- fresh schedules --------------------------------------------------------------------------------


@pytest.mark.soak
async def test_fresh_schedules(tmp_path: Path) -> None:
    """Every seed is another schedule; the one that fails is in the message."""
    deadline = time.monotonic() + 6 * _minutes()
    seed = int(time.time())
    while time.monotonic() < deadline:
        print(f"\nseed {seed}", flush=True)
        await played(seed, _directory(tmp_path, "schedule"))
        if seed % 10 == 0:
            await killed_at_random_moments(_directory(tmp_path, "kill"), seed=seed, kills=10)
            await delivered_or_listed(_directory(tmp_path, "promise"), seed=seed, count=5000)
        seed += 1


@pytest.mark.soak
def test_fresh_schedules_on_virtual_time(tmp_path: Path) -> None:
    deadline = time.monotonic() + 6 * _minutes()
    seed = int(time.time())
    while time.monotonic() < deadline:
        print(f"\nseeds from {seed}, on virtual time", flush=True)
        test_schedules.hold_to_the_rule(range(seed, seed + ON_VIRTUAL_TIME), tmp_path)
        seed += ON_VIRTUAL_TIME


def _directory(parent: Path, name: str) -> Path:
    """A fresh one in the place of the last."""
    shutil.rmtree(parent / name, ignore_errors=True)
    (parent / name).mkdir()
    return parent / name
