"""The units at work: a Debian that has booted, zoomrelay installed without a network, a pretend Zoom."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest

from tests.support import debian
from tests.support.machine import Machine, booted, install_zoomrelay
from tests.support.process import ROOT
from tests.support.receiver import Receiver
from zoomrelay import __version__
from zoomrelay.simulator.server import Simulator

pytestmark = pytest.mark.full
_T = TypeVar("_T")

CONFIG = """
drain_seconds = {drain_seconds}
[sources.main]
account_id = "{account_id}"
client_id = "{client_id}"
subscriptions = ["{subscription}"]
token_url = "{token_url}"
ws_url = "{ws_url}"
[admin]
listen = "127.0.0.1:0"
[sinks.archive]
type = "file"
path = "/var/log/{logs}/events.ndjson"
{more}
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    packages, ours = debian.wheels(), tmp_path_factory.mktemp("ours")
    wheel = debian.our_wheel(ours)
    shutil.copy(ROOT / "requirements.lock", ours)
    with booted([packages, ours]) as machine:
        install_zoomrelay(machine, packages, wheel)
        for unit in (ROOT / "deploy/systemd").iterdir():
            machine.write(f"/etc/systemd/system/{unit.name}", unit.read_text())
        machine.call("systemctl", "daemon-reload")
        yield machine


class Service:
    """A unit of the machine, before a pretend Zoom of this process: so nothing here may block."""

    def __init__(self, machine: Machine, zoom: Simulator, instance: str = "") -> None:
        self.machine, self.zoom = machine, zoom
        self.unit = f"zoomrelay@{instance}.service" if instance else "zoomrelay.service"
        self.name = f"zoomrelay-{instance}" if instance else "zoomrelay"
        self.since = time.time()
        """Of the journal, what came before is another's."""
        self._file = f"/etc/zoomrelay/{instance or 'zoomrelay'}.toml"
        self._secret = f"/etc/zoomrelay/{instance + '.' if instance else ''}client_secret"

    def configure(self, more: str = "", *, secret: str = "", drain_seconds: float = 1) -> None:
        known = self.zoom.credentials
        text = CONFIG.format(
            account_id=known.account_id,
            client_id=known.client_id,
            subscription=self.zoom.subscriptions[0],
            token_url=self.zoom.token_url,
            ws_url=self.zoom.ws_url,
            logs=self.name,
            more=more,
            drain_seconds=drain_seconds,
        )
        self.machine.write(self._file, text)
        self.machine.write(self._secret, secret or known.client_secret, 0o600)

    async def ctl(self, verb: str, *options: str) -> int:
        ended = await asyncio.to_thread(self.machine.run, "systemctl", verb, *options, self.unit)
        return ended.returncode

    async def start(self) -> None:
        assert await self.ctl("start") == 0, await self.journal()

    async def drop_in(self, text: str) -> None:
        """Settings of a drop-in, for the section [Service]; with none, there is no drop-in."""
        self.machine.write(f"/run/systemd/system/{self.unit}.d/test.conf", f"[Service]\n{text}\n")
        await asyncio.to_thread(self.machine.call, "systemctl", "daemon-reload")

    async def show(self, *names: str) -> tuple[str, ...]:
        return await asyncio.to_thread(self.machine.show, self.unit, *names)

    async def pid(self) -> int:
        """As the machine sees it."""
        return int((await self.show("MainPID"))[0])

    async def status(self) -> dict[str, Any]:
        """What `zoomrelay status` says in the machine."""
        found: dict[str, Any] = json.loads((await self.zoomrelay("status", "--json")).stdout)
        return found

    async def zoomrelay(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One of its commands, in the machine."""
        state = f"ZOOMRELAY_STATE_DIR=/var/lib/{self.name}"
        command = ("env", state, "/opt/zoomrelay/bin/zoomrelay", *arguments, "--config", self._file)
        return await asyncio.to_thread(self.machine.run, *command)

    async def journal(self) -> str:
        return await asyncio.to_thread(
            self.machine.journal, "--all", "--unit", self.unit, f"--since=@{self.since}"
        )

    async def until(self, what: str, happened: Callable[[], Any], seconds: float = 60.0) -> None:
        """Until `happened`, which may be a coroutine function."""
        deadline = time.monotonic() + seconds
        while True:
            found = happened()
            if await found if asyncio.iscoroutine(found) else found:
                return
            assert time.monotonic() < deadline, f"{what} did not come\n{await self.journal()}"
            await asyncio.sleep(0.1)

    async def accepted(self, *, connections: int = 1) -> None:
        """Zoom has accepted so many connections in all, the last of which is open."""

        def last_is_open() -> bool:
            found = [one for one in self.zoom.journal.connections if one.accepted_at]
            return len(found) >= connections and found[-1].open

        await self.until("acceptance", last_is_open)

    async def says(self, words: str) -> None:
        """The unit's line of state holds these words."""

        async def told() -> bool:
            return words in (await self.show("StatusText"))[0]

        await self.until(f"the state {words!r}", told)


@asynccontextmanager
async def service(machine: Machine, instance: str = "", **options: Any) -> AsyncIterator[Service]:
    """A unit that is not running, and leaves nothing behind."""
    async with Simulator(**options) as zoom:
        one = Service(machine, zoom, instance)
        one.configure()
        try:
            yield one
        finally:
            await one.ctl("stop")
            await one.ctl("reset-failed")
            await one.drop_in("")
            for kind in ("lib", "log"):
                await asyncio.to_thread(machine.run, "rm", "-rf", f"/var/{kind}/private/{one.name}")


async def test_it_is_active_while_zoom_refuses_and_ready_once_accepted(machine: Machine) -> None:
    async with service(machine) as relay:
        relay.configure(secret="PlantedWrongSecret-91c")
        await relay.start()
        await relay.says("0 of 1 subscription accepted")
        assert await relay.show("ActiveState", "NRestarts") == ("active", "0")
        assert not (await relay.status())["ready"]
        relay.configure()
        assert await relay.ctl("restart") == 0
        await relay.accepted()
        await relay.says("1 of 1 subscription accepted")
        assert (await relay.status())["ready"]
        await _no_secret(relay, "PlantedWrongSecret-91c", relay.zoom.credentials.client_secret)


async def _no_secret(relay: Service, *secrets: str) -> None:
    """They are visible in neither unit, nor environment, nor command line, nor journal."""
    pid, root = await relay.pid(), relay.machine.root
    texts = {
        "environment": (root / f"proc/{pid}/environ").read_text(),
        "command line": (root / f"proc/{pid}/cmdline").read_text(),
        "unit": await asyncio.to_thread(relay.machine.call, "systemctl", "cat", relay.unit),
        "properties": await asyncio.to_thread(relay.machine.call, "systemctl", "show", relay.unit),
        "journal": await asyncio.to_thread(relay.machine.call, "journalctl", "--all", "--output=export"),
    }
    assert "CREDENTIALS_DIRECTORY" in texts["environment"] and "session.accepted" in texts["journal"]
    assert [(name, one[:4]) for name, text in texts.items() for one in secrets if one in text] == []


async def test_a_reload_takes_over_and_an_invalid_one_is_refused(machine: Machine) -> None:
    async with service(machine) as relay, Receiver() as receiver:
        await relay.start()
        await relay.accepted()
        pid = await relay.pid()
        relay.configure(f'[sinks.crm]\ntype = "http"\nurl = "{receiver.url}"')
        assert await relay.ctl("reload") == 0, await relay.journal()
        await relay.until("the reload", lambda: _in_journal(relay, "config.reloaded"))
        await relay.zoom.burst(20)
        await relay.until("the events", lambda: len(receiver.taken) == 20)
        relay.configure("[sinks.crm]\ntype = 'nothing'")
        assert await relay.ctl("reload") != 0
        assert (await relay.pid(), *await relay.show("ActiveState")) == (pid, "active")
        assert len(relay.zoom.journal.connections) == 1


NEW_VERSION = "9.9.9"
_PACKAGE = "/opt/zoomrelay/lib/python3.11/site-packages/zoomrelay"
_NEVER_SAID = (
    "Supervising process",
    "reception only permitted",
    "Got notification message",
    "Failed with result",
)
"""What systemd says where a hand-over went wrong."""


async def test_an_upgrade_leaves_no_gap(machine: Machine) -> None:
    async with service(machine) as relay:
        await relay.drop_in("WatchdogSec=3\nTimeoutAbortSec=1")
        await relay.start()
        await relay.accepted()
        relay.zoom.set_rate(200)
        async with new_version(machine):
            await _upgrade(relay)
        await asyncio.sleep(4)
        assert (await relay.status())["version"] == NEW_VERSION
        assert await relay.show("ActiveState", "NRestarts") == ("active", "0"), "it feeds the watchdog"
        await relay.says("1 of 1 subscription accepted")
        relay.zoom.set_rate(0)
        await relay.ctl("stop")
        await _all_once(relay)
        assert await relay.show("ActiveState", "Result") == ("inactive", "success")
        journal = await relay.journal()
        assert [words for words in _NEVER_SAID if words in journal] == []
        assert journal.count('"event": "relay.stopped"') == 2, "the new one stops in order too"


async def _upgrade(relay: Service) -> None:
    old, start = await relay.pid(), time.monotonic()
    ended = await relay.zoomrelay("upgrade")
    print(f"upgraded in {time.monotonic() - start:.2f} s: {ended.stdout}")
    assert ended.returncode == 0, ended.stderr
    assert f"zoomrelay {NEW_VERSION} " in ended.stdout and "took over" in ended.stdout

    async def is_another() -> bool:
        return await relay.pid() not in (0, old)

    await relay.until("the new process as the main one", is_another)


async def _all_once(relay: Service) -> None:
    sent = {one.content for one in relay.zoom.journal.since()}
    archive = relay.machine.root / f"var/log/private/{relay.name}/events.ndjson"
    taken = archive.read_bytes().splitlines()
    print(f"{len(sent)} events, {len(relay.zoom.journal.connections)} connections")
    assert len(sent) > 500 and sent == set(taken) and len(taken) == len(sent)


@asynccontextmanager
async def new_version(machine: Machine, *, works: bool = True) -> AsyncIterator[None]:
    """It is installed, while inside."""
    file = machine.root / f"{_PACKAGE}/{'__init__' if works else 'cli/run'}.py".lstrip("/")
    before = file.read_text()
    try:
        file.write_text(before.replace(__version__, NEW_VERSION) if works else "raise SystemExit(3)\n")
        yield
    finally:
        file.write_text(before)


async def test_a_new_version_that_fails_leaves_the_old_at_work(machine: Machine) -> None:
    async with service(machine) as relay:
        await relay.start()
        await relay.accepted()
        old = await relay.pid()
        async with new_version(machine, works=False):
            ended = await relay.zoomrelay("upgrade")
        assert ended.returncode == 1 and "this one goes on" in ended.stderr
        assert "upgrade.failed" in await relay.journal()
        await relay.zoom.burst(20)
        archive = relay.machine.root / f"var/log/private/{relay.name}/events.ndjson"
        await relay.until("the events", lambda: len(archive.read_bytes().splitlines()) == 20)
        assert (await relay.pid(), *await relay.show("ActiveState", "NRestarts")) == (old, "active", "0")
        assert len(relay.zoom.journal.connections) == 1


async def test_whatever_ends_the_unit_during_an_upgrade_ends_both(machine: Machine) -> None:
    async with service(machine) as relay:
        await relay.start()
        await relay.accepted()
        relay.zoom.faults.never_accept = True
        await _begin_upgrade(relay, times=1)
        assert await relay.ctl("stop") == 0
        assert await relay.show("ActiveState", "Result") == ("inactive", "success")
        assert (await relay.journal()).count('"event": "relay.stopped"') == 2, "in order"
        relay.zoom.faults.never_accept = False
        await relay.start()
        await relay.accepted(connections=2)
        relay.zoom.faults.never_accept = True
        await _begin_upgrade(relay, times=2)
        relay.zoom.faults.never_accept = False
        await relay.ctl("kill", "--kill-who=main", "--signal=KILL")
        await relay.until("the restart", lambda: _restarted(relay))
        await relay.until("acceptance", lambda: relay.zoom.accepted == 1)
        commands = [file.read_bytes() for file in (machine.root / "proc").glob("[0-9]*/cmdline")]
        assert sum(b"zoomrelay\0run" in command for command in commands) == 1


async def _restarted(relay: Service) -> bool:
    return await relay.show("ActiveState", "NRestarts") == ("active", "1")


async def _begin_upgrade(relay: Service, *, times: int) -> None:
    assert await relay.ctl("kill", "--kill-who=main", "--signal=USR2") == 0

    async def begun() -> bool:
        return (await relay.journal()).count('"event": "takeover.begun"') == 2 * times

    await relay.until("the takeover", begun)


async def _in_journal(relay: Service, words: str) -> bool:
    return words in await relay.journal()


async def test_a_process_that_is_stuck_is_replaced(machine: Machine) -> None:
    async with service(machine) as relay:
        await relay.drop_in("WatchdogSec=5\nTimeoutAbortSec=1")
        await relay.start()
        await relay.accepted()
        pid = await relay.pid()
        await asyncio.sleep(6)
        assert await relay.pid() == pid, "it is fed"
        await asyncio.to_thread(
            relay.machine.call, "systemctl", "kill", "--kill-who=main", "--signal=STOP", relay.unit
        )
        await relay.accepted(connections=2)
        assert await relay.pid() != pid
        assert await relay.show("NRestarts") == ("1",)
        assert "watchdog" in (await relay.journal()).lower()


async def test_killed_it_comes_back_at_once_and_loses_nothing_it_held(machine: Machine) -> None:
    async with service(machine) as relay, Receiver(refuse_part=1.0) as receiver:
        relay.configure(f'[sinks.crm]\ntype = "http"\nurl = "{receiver.url}"')
        await relay.start()
        await relay.accepted()
        await relay.zoom.burst(300)

        async def all_held() -> bool:
            return bool((await relay.status())["sinks"][1]["counts"]["pending"] == 300)

        await relay.until("the events in the spool", all_held)
        await relay.ctl("kill", "--kill-who=main", "--signal=KILL")
        killed_at = time.time()
        await relay.accepted(connections=2)
        again = (relay.zoom.journal.connections[-1].accepted_at or 0.0) - killed_at
        print(f"killed to accepted: {again:.2f} s")
        receiver.refuse_part = 0.0
        await relay.until("all events", lambda: len(set(receiver.taken)) == 300)
        assert set(receiver.taken) == {one.content for one in relay.zoom.journal.since()}
        assert await relay.show("NRestarts") == ("1",)


async def test_a_stop_may_take_as_long_as_drain_seconds_says(machine: Machine) -> None:
    async with service(machine) as relay, Receiver() as receiver:
        receiver.hanging = True
        relay.configure(f'[sinks.crm]\ntype = "http"\nurl = "{receiver.url}"', drain_seconds=4)
        await relay.drop_in("TimeoutStopSec=1")
        await relay.start()
        await relay.accepted()
        await relay.zoom.burst(1)
        await relay.until("a request that hangs", lambda: receiver.requests)
        start = time.monotonic()
        await relay.ctl("stop")
        assert time.monotonic() - start > 3.5
        assert await _in_journal(relay, '"event": "relay.stopped"')


async def test_an_invalid_configuration_is_told_and_not_tried_again(machine: Machine) -> None:
    async with service(machine) as relay:
        relay.configure("[sinks.crm]\ntype = 'nothing'")
        assert await relay.ctl("start") != 0
        await relay.until("the failure", lambda: _is(relay, "failed"))
        assert await relay.show("NRestarts", "ExecMainStatus") == ("0", "78")
        assert "sinks.crm" in await relay.journal()
        # What would be without the "-" of ExecStartPre=: systemd looks at the main process's status only.
        await relay.drop_in("ExecStartPre=\nExecStartPre=/opt/zoomrelay/bin/zoomrelay check")
        await relay.ctl("reset-failed")
        await relay.ctl("start", "--no-block")

        async def tried_again() -> bool:
            return int((await relay.show("NRestarts"))[0]) >= 2

        await relay.until("the second restart", tried_again)


async def _is(relay: Service, state: str) -> bool:
    return await relay.show("ActiveState") == (state,)


async def test_two_instances_live_side_by_side(machine: Machine) -> None:
    async with service(machine, "blue") as blue, service(machine, "green", seed=2) as green:
        for relay in (blue, green):
            await relay.start()
        for relay in (blue, green):
            await relay.accepted()
            await relay.zoom.burst(10)
            archive = relay.machine.root / f"var/log/private/{relay.name}/events.ndjson"
            await relay.until("the events", lambda file=archive: len(file.read_bytes().splitlines()) == 10)
            assert set(archive.read_bytes().splitlines()) == {e.content for e in relay.zoom.journal.since()}
            assert (await relay.status())["ready"]
