"""What kill -9 does not show: the order of system calls. A loss of power keeps only what was synced.

An event's commit must be on the disk before the event goes to a receiver or into a file, and what a file
took must be on the disk before that is settled. So the whole relay runs under strace, one event at a time.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.lab import Lab
from tests.support.receiver import Receiver
from tests.support.require import missing, require

CALLS = "openat,close,dup,pwrite64,write,writev,fdatasync,fsync,sendto,sendmsg,connect,accept4,socket"
_LINE = re.compile(r"^(?P<pid>\d+) +(?P<at>[\d.]+) (?P<name>\w+)\((?P<rest>.*)$")
_RESUMED = re.compile(r"^(?P<pid>\d+) +(?P<at>[\d.]+) <\.\.\. (?P<name>\w+) resumed>(?P<rest>.*)$")
_PLACE = re.compile(r"^\d+<(?P<place>[^>]*)>")
_LOW = re.compile(r'archive\{\\"start\\": ?0, ?\\"low\\": ?(\d+)')
EVENTS = 20

pytestmark = pytest.mark.full


@dataclass(frozen=True)
class Call:
    """One system call that has returned."""

    began: float
    ended: float
    name: str
    place: str
    """What the first argument leads to: a path, or a socket."""
    text: str

    @property
    def syncs(self) -> bool:
        return self.name in ("fdatasync", "fsync")

    @property
    def writes(self) -> bool:
        return self.name in ("write", "writev", "pwrite64", "sendto", "sendmsg")


async def test_durable_before_anything_depends_on_it(tmp_path: Path) -> None:
    strace, trace = require("strace"), tmp_path / "trace"
    # -D: the relay stays our child and strace stands aside.
    under = (strace, "-D", "-f", "-yy", "-ttt", "-s", "100000", "-e", f"trace={CALLS}", "-o", str(trace))

    def ended() -> str:
        return trace.read_text(errors="replace")[-500:]

    async with Lab(tmp_path, seed=1, receiver=Receiver()) as lab:
        try:
            await lab.start(under=(*under, "--"))
        except AssertionError as error:
            if "ptrace" in str(error):
                missing("strace may not trace here")
            raise
        for number in range(EVENTS):
            await lab.zoom.emit({"event": "test.traced", "payload": {"object": {"id": _mark(number)}}})
            await lab.pause(0.15)  # each in a commit, a batch and a settlement of its own
        await lab.finish()
        await lab.relay.stop()
        await lab.relay.until(
            lambda: "+++ exited with 0 +++" in ended(), "the end of the trace", may_end=True
        )
        lab.judge()
    calls = list(read(trace.read_text(errors="replace").splitlines()))
    for number in range(EVENTS):
        judge(calls, number)


def _mark(number: int) -> str:
    return f"traced-{number:04d}"


def judge(calls: list[Call], number: int) -> None:
    """The order of everything that one event went through."""
    mark = _mark(number)
    to_wal = first(calls, lambda c: c.writes and c.place.endswith("spool.sqlite-wal") and mark in c.text)
    held = first(calls, lambda c: c.syncs and c.place.endswith("-wal") and c.began >= to_wal.ended)
    posted = first(calls, lambda c: c.writes and c.place.startswith("TCP") and mark in c.text)
    filed = first(calls, lambda c: c.writes and c.place.endswith("events.ndjson") and mark in c.text)
    synced = first(calls, lambda c: c.syncs and c.place.endswith("events.ndjson") and c.began >= filed.ended)
    settled = first(
        calls, lambda c: c.writes and c.place.endswith("-wal") and low_of_archive(c.text) > number
    )
    assert held.ended <= posted.began, f"{mark} was posted before it was held"
    assert held.ended <= filed.began, f"{mark} was written before it was held"
    assert synced.ended <= settled.began, f"{mark} was settled before it was on the disk"


def low_of_archive(text: str) -> int:
    """Up to which event the sink's row, in a page that is written, calls everything settled."""
    found = _LOW.search(text)
    return int(found[1]) if found else 0


def first(calls: list[Call], wanted: Callable[[Call], bool]) -> Call:
    found = next((call for call in calls if wanted(call)), None)
    assert found is not None, inspect.getsource(wanted)
    return found


def read(lines: list[str]) -> Iterator[Call]:
    """Calls in the order of their ends; those that others interrupted are put together again."""
    begun: dict[str, tuple[float, str, str]] = {}
    for line in lines:
        if (resumed := _RESUMED.match(line)) is not None:
            began, name, rest = begun.pop(resumed["pid"])
            yield _call(began, float(resumed["at"]), name, rest + resumed["rest"])
        elif (call := _LINE.match(line)) is not None:
            at = float(call["at"])
            if call["rest"].endswith("<unfinished ...>"):
                begun[call["pid"]] = at, call["name"], call["rest"]
            else:
                yield _call(at, at, call["name"], call["rest"])


def _call(began: float, ended: float, name: str, rest: str) -> Call:
    place = _PLACE.match(rest)
    return Call(began, ended, name, place["place"] if place else "", rest)
