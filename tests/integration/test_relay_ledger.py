"""The ledger as a user sees it: what was missed and why, on disk, in metrics, and as events in the sinks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.lab import Lab
from tests.support.receiver import Receiver
from tests.support.require import missing
from zoomrelay.intake import ledger
from zoomrelay.intake.gaps import Gap, read_ended

OPENED, CLOSED = "zoomrelay.gap_opened", "zoomrelay.gap_closed"


def sink(directory: Path, name: str, *settings: str) -> str:
    return "\n".join(
        [f"[sinks.{name}]", 'type = "file"', f'path = "{directory / name}.ndjson"', *settings, ""]
    )


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_bytes().splitlines()] if file.exists() else []


def unique(file: Path) -> list[dict[str, Any]]:
    """Without what came again after a kill."""
    return [json.loads(text) for text in dict.fromkeys(json.dumps(line) for line in lines(file))]


def gap_events(file: Path) -> list[tuple[str, str]]:
    """Name and cause of those in this file."""
    return [
        (line["event"], line["payload"]["object"]["cause"])
        for line in lines(file)
        if line["event"].startswith("zoomrelay.")
    ]


async def listed(lab: Lab, found: Callable[[Sequence[Gap]], bool]) -> list[Gap]:
    """The ledger, once it holds that."""
    await lab.relay.until(lambda: found(ledger.read(lab.state_dir)), "the entry in the ledger", seconds=60)
    return ledger.read(lab.state_dir)


def metric(lab: Lab, name: str, **labels: str) -> float:
    """Of the last answer of the admin port."""
    text = lab.answers["admin /metrics"].decode()
    wanted = "".join(rf'(?=[^}}]*{key}="{re.escape(value)}")' for key, value in labels.items())
    found = re.search(rf"^zoomrelay_{name}{{{wanted}[^}}]*}} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


async def test_gaps_are_events_in_order_with_the_rest_for_sinks_that_ask(tmp_path: Path) -> None:
    more = sink(tmp_path, "watch", "gap_events = true", 'events = ["meeting.started"]')
    more += sink(tmp_path, "elsewhere", "gap_events = true", 'sources = ["main"]')
    watch = tmp_path / "watch.ndjson"
    async with Lab(tmp_path, seed=11, more=more) as lab:
        await lab.start()
        before = {"event": "meeting.started", "payload": {"object": {"uuid": "before"}}}
        await lab.zoom.emit(before)
        lab.zoom.end("close", 1000, "Bye")
        await lab.relay.until(lambda: len(lab.zoom.journal.connections) == 2, "the second connection")
        await lab.accepted()
        await lab.relay.until(lambda: (CLOSED, "closed") in gap_events(watch), "the closing of the gap")
        after = {"event": "meeting.started", "payload": {"object": {"uuid": "after"}}}
        await lab.zoom.emit(after)
        await lab.relay.until(lambda: b'"after"' in watch.read_bytes(), "the event after the gap")
        lab.kill()
        await lab.start()
        await lab.finish()
        lab.judge()  # the archive did not ask, so it got none; and the books balance
        await lab.relay.stop()

        expected = [(OPENED, "closed"), (CLOSED, "closed"), (OPENED, "crash"), (CLOSED, "crash")]
        assert list(dict.fromkeys(gap_events(watch))) == expected
        assert list(dict.fromkeys(gap_events(tmp_path / "elsewhere.ndjson"))) == expected
        assert not gap_events(lab.archive_file)
        closed, crash, _ = ledger.read(lab.state_dir)
        told = [line["payload"]["object"] for line in unique(watch) if line["event"] == CLOSED]
        assert told == [{"id": closed.name, **closed.as_json()}, {"id": crash.name, **crash.as_json()}]
        names = [line["payload"]["object"].get("uuid", line["event"]) for line in unique(watch)]
        assert names.index("before") < names.index(OPENED) < names.index(CLOSED) < names.index("after")

        # The stop's own gap is announced by what holds the events: the next start delivers it.
        await lab.start()
        await lab.relay.until(lambda: gap_events(watch)[-1] == (CLOSED, "stopped"), "the end of the stop")
        assert gap_events(watch).count((OPENED, "stopped")) == 1
        await lab.relay.stop()


async def test_shed_events_are_in_the_ledger_once_with_their_sum(tmp_path: Path) -> None:
    receiver, source = Receiver(seed=12, refuse_part=1.0), 'max_message_bytes = "512KiB"'
    async with Lab(tmp_path, seed=12, receiver=receiver, source=source) as lab:
        lab.relay.config_file.write_text(
            lab.relay.config_file.read_text().replace("[spool]\n", '[spool]\nmax_bytes = "1MiB"\n')
        )
        await lab.start()
        await lab.zoom.burst(3000)
        await lab.relay.until(lambda: lab.relay.log("spool.shed"), "the shedding")
        gaps = await listed(lab, lambda gaps: any(gap.sink == "crm" for gap in gaps))
        (gap,) = [gap for gap in gaps if gap.cause == "shed" and gap.sink == "crm"]
        assert gap.to_ms is None, "it may go on"
        await lab.relay.stop()
        shed = sum(line["events"] for line in lab.relay.log("spool.shed"))
        # The last commit may shed some more, after the episode was closed for the stop.
        gaps = [gap for gap in ledger.read(lab.state_dir) if gap.cause == "shed"]
        assert sum(gap.events or 0 for gap in gaps) == shed
        assert len([gap for gap in gaps if gap.sink == "crm"]) in (1, 2)
        assert all(gap.to_ms is not None and not gap.lossless for gap in gaps)


async def test_refused_signatures_are_in_the_ledger(tmp_path: Path) -> None:
    source = 'secret_token = "not-the-one"\nverify_signature = "enforce"'
    more = sink(tmp_path, "watch", "gap_events = true")
    async with Lab(tmp_path, seed=13, source=source, more=more, secret_token="the-secret-token") as lab:
        await lab.start()
        await lab.zoom.burst(25)
        await listed(lab, lambda gaps: any(gap.events == 25 for gap in gaps))
        await lab.relay.until(lambda: gap_events(tmp_path / "watch.ndjson"), "the gap event")
        await lab.relay.stop()
        refused, stopped = ledger.read(lab.state_dir)
        assert (refused.cause, refused.source, refused.events) == ("signature_refused", "main", 25)
        assert refused.paths == (f"main/{lab.zoom.subscriptions[0]}",) and stopped.cause == "stopped"
        assert gap_events(tmp_path / "watch.ndjson") == [(OPENED, "signature_refused")]


async def test_a_twin_covers_what_the_other_missed(tmp_path: Path) -> None:
    async with Lab(tmp_path, seed=14, subscriptions=("SubA", "SubB")) as lab:
        text = lab.relay.config_file.read_text()
        lab.relay.config_file.write_text(text.replace('["SubA"]', '["SubA", "SubB"]'))
        lab.relay.start()
        await lab.relay.until(lambda: len(lab.relay.log("session.accepted")) == 2, "both sockets")
        lab.zoom.set_rate(50)
        await lab.pause(2.5)  # a rate is to be known
        lab.zoom.end("close", 1001, "going away", subscription="SubA")
        await lab.relay.until(lambda: len(lab.relay.log("session.accepted")) == 3, "SubA again")
        lab.zoom.set_rate(0)
        (gap,) = await listed(lab, bool)
        assert (gap.subscription, gap.covered_by) == ("SubA", ("SubB",))
        assert gap.estimated_events is not None and 0 < gap.estimated_events < 100 * gap.seconds
        await lab.ask()
        assert metric(lab, "gaps_total", source="main", cause="closed") == 1
        assert metric(lab, "gap_seconds_total", source="main", cause="closed") > 0
        assert metric(lab, "gap_loss_seconds_total", source="main", cause="closed") == 0
        await lab.relay.stop()


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[None]:
    """A file system of its own, to be filled."""
    place.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "x", place]).returncode:
        missing("mounting a small file system needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", place], check=True)


def fill(place: Path) -> Path:
    """Leave no byte free."""
    ballast = place / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(65536))
    with ballast.open("ab", buffering=0) as file, suppress(OSError):
        while file.write(bytes(512)):
            pass
    return ballast


@pytest.mark.skipif(sys.platform != "linux", reason="tmpfs")
async def test_a_full_disk_is_in_the_ledger_which_lies_on_it_too(tmp_path: Path) -> None:
    more = sink(tmp_path, "watch", "gap_events = true")
    with small_disk(tmp_path / "state", "8m"):
        async with Lab(tmp_path, seed=16, more=more) as lab:
            await lab.start()
            await lab.zoom.burst(20)
            ballast = fill(lab.state_dir)
            await lab.zoom.burst(300)  # not so many that the socket is not read any more
            lasting = await listed(lab, lambda gaps: any(gap.cause == "spool_unwritable" for gap in gaps))
            assert [gap.to_ms for gap in lasting if gap.cause == "spool_unwritable"] == [None]
            lab.zoom.end("close", 1001, "going away")  # a gap that the ledger's file cannot take
            await listed(lab, lambda gaps: any(gap.cause == "closed" and gap.to_ms for gap in gaps))
            ballast.unlink()
            await listed(lab, lambda gaps: any(g.cause == "spool_unwritable" and g.to_ms for g in gaps))
            await lab.finish()
            assert {gap.cause for gap in read_ended(lab.state_dir)} == {"spool_unwritable", "closed"}
            lab.judge()
            told = gap_events(tmp_path / "watch.ndjson")
            assert (OPENED, "spool_unwritable") in told and (CLOSED, "spool_unwritable") in told
            await lab.relay.stop()


async def test_a_damaged_spool_is_in_the_ledger(tmp_path: Path) -> None:
    async with Lab(tmp_path, seed=15, receiver=Receiver(seed=15, refuse_part=1.0)) as lab:
        await lab.start()
        await lab.zoom.burst(300)
        await lab.relay.until(lambda: b"}" in lab._end_of_archive(), "the archive")
        await lab.relay.stop()
        file = lab.state_dir / "spool.sqlite"
        with file.open("r+b") as spool:
            spool.write(bytes(100))
        await lab.start()
        gaps = await listed(lab, lambda gaps: any(gap.cause == "spool_set_aside" for gap in gaps))
        gap = next(gap for gap in gaps if gap.cause == "spool_set_aside")
        assert gap.events == 0 and gap.to_ms is not None
        await lab.relay.stop()
