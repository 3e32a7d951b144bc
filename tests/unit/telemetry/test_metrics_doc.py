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
    assert set(re.findall(r"zoomrelay_\w+", alerts)) <= set(exported())


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

    async def admit(name: str) -> None:
        door.events("Sub0", [EventFrame(b'{"event":"%s","payload":{}}' % name.encode(), NO_HEADER, True)])
        if door.full:
            await door.room()

    await admit("meeting.started")
    before = generate_latest(registry).count(b"\n")
    random = Random(0)
    for number in range(10_000):
        await admit(f"odd.{number}.{random.randbytes(4).hex()}.\u20ac{{}}=,")
    intake.stop()
    await running
    assert spool.stats().sources["main"].appended == 10_001
    assert generate_latest(registry).count(b"\n") == before
