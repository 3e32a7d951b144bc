"""Sinks: can they take what they will be given? Only with `send_test` anything is sent."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

import msgspec

from zoomrelay import causes
from zoomrelay.admin.health import Status
from zoomrelay.admin.words import size
from zoomrelay.clock import Clock
from zoomrelay.config.models import FileSinkConfig, HttpSinkConfig, SinkConfig
from zoomrelay.doctor.finding import Finding, failed, passed, skipped, warned
from zoomrelay.doctor.machine import FULL_BYTES
from zoomrelay.doctor.walk import Step
from zoomrelay.doctor.way import Way, host_of
from zoomrelay.errors import SinkRejected, SinkUnavailable
from zoomrelay.event import RELAY_SOURCE, Event
from zoomrelay.sinks import registry

TEST_EVENT = "zoomrelay.test"
_NOTE = "Sent by `zoomrelay doctor --send-test` to try this receiver. It is not from Zoom."


def sink_steps(config: SinkConfig, clock: Clock, *, send_test: bool) -> list[Step]:
    """For one sink, in order."""
    if isinstance(config, HttpSinkConfig):
        # A receiver is reached through the environment's proxy; there is no setting for it.
        way = Way(host_of(config.url, ca_file=config.ca_file), sink=config.name)

        async def deliver() -> Finding:
            return await _deliver(config, clock) if send_test else skipped("only with --send-test")

        return [*way.steps, Step("deliver", deliver, (way.reached,), sink=config.name)]
    if isinstance(config, FileSinkConfig):

        async def file() -> Finding:
            return await asyncio.to_thread(_judge_file, config.path)

        return [Step("file", file, sink=config.name, target=str(config.path))]

    async def stdout() -> Finding:
        return passed("standard output of whoever runs the relay")

    return [Step("stdout", stdout, sink=config.name)]


def judge_backlog(name: str, relay: Status) -> Finding:
    """What the relay that runs here says of a sink."""
    sink = next((one for one in relay.sinks if one.name == name), None)
    if sink is None:
        return skipped("the relay that runs here does not know this sink; a reload adds it")
    pending = f"{sink.counts.pending:,} pending, {sink.counts.dead_letters:,} dead letters"
    if sink.ok:
        return passed(f"the relay says: ok, {pending}")
    return failed(causes.SINK_UNAVAILABLE, f"the relay says: {sink.last_error}; {pending}")


# --- files --------------------------------------------------------------------------------------------


def _judge_file(path: Path) -> Finding:
    """Whether this user may write it, without trying."""
    directory = path.absolute().parent
    try:
        if not directory.is_dir():
            return failed(causes.SINK_PATH, f"there is no directory {directory}")
        if path.exists() and not path.is_file():
            return failed(causes.SINK_PATH, f"{path} is not a file")
    except OSError as error:
        return failed(causes.SINK_PATH, f"{path}: {error.strerror}")
    target = path if path.exists() else directory
    if not os.access(target, os.W_OK):
        return failed(causes.SINK_PATH, f"user {os.geteuid()} may not write {target}")
    disk = os.statvfs(directory)
    left = disk.f_bavail * disk.f_frsize
    if left < FULL_BYTES:
        return warned(causes.DISK_FULL, f"{size(left)} are left on its disk")
    return passed(
        f"{'it' if path.exists() else 'its directory'} can be written; {size(left)} of its disk are free"
    )


# --- a delivery ---------------------------------------------------------------------------------------


def make_test_event(clock: Clock) -> Event:
    """An event that nobody can take for one of Zoom's, and another one each time."""
    now_ms = int(clock.wall() * 1000)
    body = {
        "event": TEST_EVENT,
        "event_ts": now_ms,
        "payload": {"object": {"id": f"test-{os.getpid()}-{now_ms}", "note": _NOTE}},
    }
    content = msgspec.json.encode(body)
    digest = hashlib.blake2b(content, digest_size=16).digest()
    return Event(digest, RELAY_SOURCE, "", TEST_EVENT, now_ms, "", now_ms, content)


async def _deliver(config: HttpSinkConfig, clock: Clock) -> Finding:
    sink = registry.build(config, clock)
    try:
        await sink.open()
        await sink.send([make_test_event(clock)], 1)
    except SinkRejected as error:
        return failed(causes.SINK_REJECTED, f"{error.reason}{_said(error.excerpt)}")
    except SinkUnavailable as error:
        return failed(causes.SINK_UNAVAILABLE, f"{error.reason}{_said(error.excerpt)}")
    finally:
        await sink.close()
    return passed(f"the receiver took the event {TEST_EVENT}")


def _said(excerpt: str) -> str:
    return f": {' '.join(excerpt.split())[:200]}" if excerpt else ""
