"""docs/metrics.md and the code list the same metrics; their labels stay bounded and hold no secret."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path
from random import Random

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics import MetricWrapperBase

from tests.unit.admin.fakes import sink, status
from zoomrelay.admin.collector import SINK_OUTCOMES, SOURCE_OUTCOMES, StatusCollector
from zoomrelay.clock import SystemClock
from zoomrelay.intake.admit import Intake
from zoomrelay.intake.source import SourceIntake
from zoomrelay.session.endings import Cause
from zoomrelay.session.messages import NO_HEADER, EventFrame
from zoomrelay.spool.base import SinkCounts, SinkStart
from zoomrelay.spool.memory import MemorySpool
from zoomrelay.telemetry.histogram import BatchHistogram
from zoomrelay.telemetry.metrics import Metrics

TEXT = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| ?([^|]*) \| (.+) \|$", re.MULTILINE)
USUAL = ("process_", "python_")
"""Prefixes of Prometheus' own collectors."""

Described = dict[str, tuple[str, frozenset[str]]]
"""Metric -> its type and labels."""


def documented() -> Described:
    return {
        name: (kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels, _ in ROW.findall(TEXT)
    }


def exported() -> Described:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    registry.register(StatusCollector(lambda: status(sinks=[sink(counts=SinkCounts(oldest_pending_ms=1))])))
    declared = {
        metric._name: frozenset(metric._labelnames)
        for metric in vars(metrics).values()
        if isinstance(metric, MetricWrapperBase)
    }
    histograms = [metric for metric in vars(metrics).values() if isinstance(metric, BatchHistogram)]
    declared |= {histogram.name: frozenset(histogram.labelnames) for histogram in histograms}
    return {
        family.name + ("_total" if family.type == "counter" else ""): (
            family.type,
            declared.get(family.name)
            or frozenset(label for s in family.samples for label in s.labels) - {"le"},
        )
        for family in registry.collect()
    }


@pytest.mark.skipif(sys.platform != "linux", reason="process metrics are there on Linux only")
def test_the_document_lists_what_is_exported_and_nothing_else() -> None:
    assert documented() == exported()


def test_no_metric_is_described_twice() -> None:
    names = [name for name, *_ in ROW.findall(TEXT)]
    assert len(names) == len(set(names))


def test_names_have_our_prefix() -> None:
    assert [n for n in exported() if not n.startswith(("zoomrelay_", *USUAL))] == []


def test_expressions_of_alerts_name_metrics_that_there_are() -> None:
    alerts = TEXT.partition("## Worth an alert")[2].partition("## ")[0]
    named = {name.removesuffix("_bucket") for name in re.findall(r"zoomrelay_\w+", alerts)}
    assert named <= set(exported())


@pytest.mark.parametrize("word", [*SINK_OUTCOMES, *SOURCE_OUTCOMES, *Cause])
def test_words_of_labels_are_explained(word: str) -> None:
    assert f"`{word}`" in TEXT


def test_every_figure_of_a_status_is_exported() -> None:
    outcomes = {
        "pending",
        "redelivered",
        "replayed",
        "oldest_pending_ms",
        "parked",
        "dead_letters",
        "redriving",
    }
    assert set(SinkCounts.__dataclass_fields__) == {*SINK_OUTCOMES, *outcomes}


async def test_odd_names_of_events_make_no_series() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    spool = MemorySpool(max_bytes=64 * 1024**2, clock=SystemClock())
    await spool.open([SinkStart("crm")])
    intake = Intake(spool, SystemClock(), Random(0), metrics)
    door = SourceIntake(intake, "main", ["Sub0"])
    running = asyncio.create_task(intake.run())

    async def admit(*contents: bytes) -> None:
        door.events("Sub0", [EventFrame(content, NO_HEADER, True) for content in contents])
        if door.full:
            await door.room()

    await admit(b'{"event":"meeting.started"}')
    before = generate_latest(registry)
    random = Random(0)
    for number in range(0, 100_000, 500):
        await admit(*(_odd_event(random, number + n) for n in range(500)))
    intake.stop()
    await running
    metrics_now = generate_latest(registry)
    assert spool.stats().sources["main"].appended == 100_001
    assert metrics_now.count(b"\n") == before.count(b"\n")
    assert len(metrics_now) < len(before) + 1000  # longer numbers
    assert b"odd." not in metrics_now


def _odd_event(random: Random, number: int) -> bytes:
    """A name of its own, and an `event_ts` that may be anything."""
    stamp = random.choice(
        [b"0", b"-1", b"null", b'"x"', b"1e3", b"%d" % 2**62, b"%d" % 10**30, b"true", b"[]"]
    )
    name = f"odd.{number}.{random.randbytes(4).hex()}.\u20ac{{}}=,".encode()
    return b'{"event":"%s","event_ts":%s,"payload":{}}' % (name, stamp)
