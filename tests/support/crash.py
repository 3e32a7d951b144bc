"""Runs zoomrelay so that it dies, or that one of its services fails, at a named point.

    ZOOMRELAY_TEST_CRASH="file.write.half:3"  python -m tests.support.crash run --config …

The process kills itself with SIGKILL (or raises, for the points that end in `.raise`) when it passes the
point for the third time. The product's own code knows nothing of this: its functions are wrapped from here.
"""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any, NoReturn

from aiohttp import web

from zoomrelay import cli
from zoomrelay.admin.takeover import Predecessor
from zoomrelay.app import journals
from zoomrelay.app.handover import Handover
from zoomrelay.app.succession import Succession
from zoomrelay.auth import endpoint
from zoomrelay.auth.record import Record
from zoomrelay.auth.stores import file
from zoomrelay.auth.stores.file import FileStore
from zoomrelay.auth.token import Token
from zoomrelay.event import Event
from zoomrelay.intake import admit, ledger
from zoomrelay.session.runner import SessionRunner
from zoomrelay.sinks import disk, http, packing, stdout
from zoomrelay.spool import sqlite
from zoomrelay.spool.statedir import StateDirectory
from zoomrelay.takeover import protocol
from zoomrelay.takeover.journal import Journal
from zoomrelay.webhook import reception

VARIABLE = "ZOOMRELAY_TEST_CRASH"
LIMIT_VARIABLE = "ZOOMRELAY_TEST_TAKEOVER_LIMIT"
"""So many seconds it waits for one that takes over, and no longer."""
MODULE = ("-m", "tests.support.crash", "run")

POINTS = (
    "commit.before",
    "commit.after",
    "settle.before",
    "settle.after",
    "file.write.before",
    "file.write.half",
    "file.write.after",
    "file.sync.after",
    "stdout.write.after",
    "http.before",
    "http.after",
    "ledger.before",
    "ledger.half",
    "ledger.after",
)
"""Where it can die."""
ROTATION = (
    "rotation.rename.before",
    "rotation.rename.after",
    "rotation.named.after",
    "rotation.pack.half",
    "rotation.packed.before",
    "rotation.packed.after",
    "rotation.unlink.before",
    "rotation.unlink.after",
)
"""Where it can die while a segment of a file sink ends and is compressed."""
TOKEN_POINTS = (
    "tokens.keep.before",
    "tokens.keep.half",
    "tokens.keep.after",
    "tokens.ask.before",
    "tokens.ask.after",
)
"""Where it can die while it gets a token. Two records are kept for each: one before it asks, one after."""
WEBHOOK_POINTS = (
    "webhook.push.before",
    "webhook.push.after",
    "webhook.held.after",
    "webhook.answer.after",
)
"""Where it can die between a webhook's request and its answer; the commit's own points lie between."""
NEW = (
    "new.begun",
    "new.write.half",
    "new.write.after",
    "new.ready.before",
    "new.ready.after",
    "new.locked",
    "new.spool.after",
    "new.import.before",
    "new.import.half",
    "new.remove.before",
    "new.remove.after",
)
"""Where a relay can die that takes over from another."""
OLD = (
    "old.begun",
    "old.left",
    "old.ready",
    "old.stopped",
    "old.released",
)
"""Where a relay can die from which another takes over."""
FAILURES = ("ledger.raise", "intake.raise", "file.raise")
"""Where a service can fail with an error that nobody expects."""


class Countdown:
    """Counts passages of the one point that was asked for."""

    def __init__(self, point: str, passage: int) -> None:
        self.point = point
        self._left = passage

    def due(self, point: str) -> bool:
        """Whether this is the passage at which it is to happen."""
        if point != self.point:
            return False
        self._left -= 1
        return self._left == 0

    def die_at(self, point: str) -> None:
        if self.due(point):
            die()

    def raise_at(self, point: str) -> None:
        if self.due(point):
            raise RuntimeError(f"injected at {point}")


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")


def main() -> None:
    point, _, passage = os.environ.get(VARIABLE, "").partition(":")
    known = (*POINTS, *TOKEN_POINTS, *ROTATION, *WEBHOOK_POINTS, *NEW, *OLD, *FAILURES)
    assert point in ("", *known), point
    protocol.LIMIT_SECONDS = float(os.environ.get(LIMIT_VARIABLE, protocol.LIMIT_SECONDS))
    countdown = Countdown(point or "nowhere", int(passage or 1))
    wraps = (_commits, _settlements, _files, _rotations, _outputs, _posts, _ledgers, _intakes, wrap_tokens)
    for wrap in (*wraps, _webhooks, _successions, _handovers):
        wrap(countdown)
    cli.main()


# --- the points ---------------------------------------------------------------------------------------


def _commits(countdown: Countdown) -> None:
    class Connection(sqlite3.Connection):
        def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
            if sql != "COMMIT":
                return super().execute(sql, *arguments)
            countdown.die_at("commit.before")
            cursor = super().execute(sql, *arguments)
            countdown.die_at("commit.after")
            return cursor

    connect = sqlite3.connect

    def connected(*arguments: Any, **options: Any) -> sqlite3.Connection:
        return connect(*arguments, factory=Connection, **options)

    sqlite3.connect = connected


def _settlements(countdown: Countdown) -> None:
    settle = sqlite.SqliteSpool.settle

    def settled(self: sqlite.SqliteSpool, *arguments: Any) -> None:
        countdown.die_at("settle.before")
        settle(self, *arguments)
        countdown.die_at("settle.after")

    sqlite.SqliteSpool.settle = settled  # type: ignore[method-assign]


def _files(countdown: Countdown) -> None:
    write, sync = disk.SystemDisk.write, disk.SystemDisk.fdatasync

    def written(self: disk.SystemDisk, descriptor: int, data: memoryview) -> int:
        countdown.raise_at("file.raise")
        countdown.die_at("file.write.before")
        if countdown.due("file.write.half"):
            write(self, descriptor, data[: len(data) // 2])
            die()
        count = write(self, descriptor, data)
        countdown.die_at("file.write.after")
        return count

    def synced(self: disk.SystemDisk, descriptor: int) -> None:
        sync(self, descriptor)
        countdown.die_at("file.sync.after")

    disk.SystemDisk.write, disk.SystemDisk.fdatasync = written, synced  # type: ignore[method-assign]


def _rotations(countdown: Countdown) -> None:
    rename, unlink, copy = disk.SystemDisk.rename, disk.SystemDisk.unlink, packing.Packer._copy

    def renamed(self: disk.SystemDisk, path: Path, to: Path) -> None:
        packed = path.suffix == ".tmp"
        countdown.die_at("rotation.packed.before" if packed else "rotation.rename.before")
        rename(self, path, to)
        countdown.die_at("rotation.packed.after" if packed else "rotation.rename.after")
        if not packed:
            self.sync_directory(to.parent)
            countdown.die_at("rotation.named.after")

    def unlinked(self: disk.SystemDisk, path: Path) -> None:
        if path.suffix == ".full":
            countdown.die_at("rotation.unlink.before")
        unlink(self, path)
        if path.suffix == ".full":
            countdown.die_at("rotation.unlink.after")

    def copied(self: packing.Packer, source: int, target: int) -> None:
        if countdown.due("rotation.pack.half"):
            self._disk.write(target, memoryview(b"\x1f\x8b"))
            die()
        copy(self, source, target)

    disk.SystemDisk.rename, disk.SystemDisk.unlink = renamed, unlinked  # type: ignore[method-assign]
    packing.Packer._copy = copied  # type: ignore[method-assign]


def _outputs(countdown: Countdown) -> None:
    send = stdout.StdoutSink.send

    async def sent(self: stdout.StdoutSink, batch: Sequence[Event], attempt: int) -> None:
        await send(self, batch, attempt)
        countdown.die_at("stdout.write.after")

    stdout.StdoutSink.send = sent  # type: ignore[method-assign]


def _posts(countdown: Countdown) -> None:
    send: Callable[..., Awaitable[None]] = http.HttpSink.send

    async def sent(self: http.HttpSink, batch: Sequence[Event], attempt: int) -> None:
        countdown.die_at("http.before")
        await send(self, batch, attempt)
        countdown.die_at("http.after")

    http.HttpSink.send = sent  # type: ignore[method-assign]


def _ledgers(countdown: Countdown) -> None:
    append = ledger.append

    def appended(file: Path, gaps: Sequence[ledger.Gap], more: Sequence[bytes] = ()) -> None:
        countdown.raise_at("ledger.raise")
        countdown.die_at("ledger.before")
        append(file, gaps, more)
        if countdown.due("ledger.half"):
            os.truncate(file, file.stat().st_size - 20)
            die()
        countdown.die_at("ledger.after")

    ledger.append = appended


def _intakes(countdown: Countdown) -> None:
    done = admit.Gate.done

    def checked(self: admit.Gate) -> None:
        countdown.raise_at("intake.raise")
        done(self)

    admit.Gate.done = checked  # type: ignore[method-assign]


def _webhooks(countdown: Countdown) -> None:
    hold, answer = reception.Reception._hold, reception.Reception.answer

    async def held(
        self: reception.Reception, body: bytes, deadline: float, *, stale: bool
    ) -> reception.Result:
        countdown.die_at("webhook.push.before")
        if countdown.due("webhook.push.after"):
            self._intake.events("webhook", [reception.Body(body)])
            die()
        result = await hold(self, body, deadline, stale=stale)
        countdown.die_at("webhook.held.after")
        return result

    async def answered(self: reception.Reception, request: web.BaseRequest) -> web.StreamResponse:
        response = await answer(self, request)
        if countdown.due("webhook.answer.after"):
            await response.prepare(request)
            await response.write_eof()
            die()
        return response

    reception.Reception._hold, reception.Reception.answer = held, answered  # type: ignore[method-assign]


def wrap_tokens(countdown: Countdown) -> None:
    replace, write, request = FileStore.replace, file.write_synced, endpoint.TokenEndpoint.request

    def replaced(self: FileStore, record: Record) -> None:
        countdown.die_at("tokens.keep.before")
        replace(self, record)
        countdown.die_at("tokens.keep.after")

    def written(path: Path, content: bytes) -> None:
        if countdown.due("tokens.keep.half"):
            write(path, content[: len(content) // 2])
            die()
        write(path, content)

    async def requested(self: endpoint.TokenEndpoint, *arguments: Any) -> Token:
        countdown.die_at("tokens.ask.before")
        token = await request(self, *arguments)
        countdown.die_at("tokens.ask.after")
        return token

    FileStore.replace = replaced  # type: ignore[method-assign]
    file.write_synced = written
    endpoint.TokenEndpoint.request = requested  # type: ignore[method-assign]


def _successions(countdown: Countdown) -> None:
    _wrap(countdown, Predecessor, "begin", after="new.begun")
    _wrap(countdown, Predecessor, "ready", before="new.ready.before", after="new.ready.after")
    _wrap(countdown, Succession, "approach", after="new.locked")
    _wrap(countdown, sqlite.SqliteSpool, "open", after="new.spool.after")
    _wrap(countdown, journals.Journals, "import_own", before="new.import.before")
    _wrap(countdown, Journal, "remove", before="new.remove.before", after="new.remove.after")
    admit, append = journals.Journals._admit, Journal._append

    def admitted(self: journals.Journals, record: Any) -> None:
        admit(self, record)
        countdown.die_at("new.import.half")

    def appended(self: Journal, data: bytes) -> None:
        if countdown.due("new.write.half"):
            append(self, data[: len(data) // 2])
            die()
        append(self, data)
        countdown.die_at("new.write.after")

    journals.Journals._admit, Journal._append = admitted, appended  # type: ignore[method-assign]


def _handovers(countdown: Countdown) -> None:
    for name, point in (("begin", "old.begun"), ("ready", "old.ready"), ("released", "old.stopped")):
        _wrap(countdown, Handover, name, after=point)
    _wrap(countdown, SessionRunner, "_left", after="old.left")
    _wrap(countdown, StateDirectory, "release", after="old.released")


def _wrap(countdown: Countdown, owner: type, name: str, *, before: str = "", after: str = "") -> None:
    """Pass these points around the method."""
    method = getattr(owner, name)

    def wrapped(self: Any, *arguments: Any) -> Any:
        countdown.die_at(before)
        result = method(self, *arguments)
        countdown.die_at(after)
        return result

    async def awaited(self: Any, *arguments: Any) -> Any:
        countdown.die_at(before)
        result = await method(self, *arguments)
        countdown.die_at(after)
        return result

    setattr(owner, name, awaited if iscoroutinefunction(method) else wrapped)


if __name__ == "__main__":
    main()
