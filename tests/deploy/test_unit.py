"""The systemd unit: systemd takes it as it is, it shuts the relay in, and the relay can live with that."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.support.lab import STDOUT, Lab
from tests.support.process import ROOT
from tests.support.receiver import Receiver
from tests.support.require import require
from zoomrelay.cli import exits
from zoomrelay.config.models import General

UNIT = ROOT / "deploy" / "systemd" / "zoomrelay.service"
TEMPLATE = UNIT.with_name("zoomrelay@.service")
MAX_EXPOSURE = 1.5


def _analyze(*arguments: str) -> str:
    """What systemd-analyze prints; fails where it fails."""
    program = require("systemd-analyze")
    ended = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def _service() -> dict[str, list[str]]:
    """The settings of the section [Service]; those that are given several times, as a list."""
    section = UNIT.read_text().partition("[Service]")[2].partition("[Install]")[0]
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", section, re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


@pytest.mark.parametrize("unit", [UNIT, TEMPLATE], ids=lambda unit: unit.name)
def test_systemd_takes_it(tmp_path: Path, unit: Path) -> None:
    # The commands must exist where the unit is verified.
    installed = tmp_path / unit.name.replace("@", "@one")
    installed.write_text(unit.read_text().replace("/opt/zoomrelay/bin/zoomrelay", sys.executable))
    assert _analyze("verify", "--man=no", "--generators=no", str(installed)) == ""


def test_it_is_shut_in() -> None:
    said = _analyze("security", "--offline=yes", "--no-pager", str(UNIT))
    (exposure,) = re.findall(r"Overall exposure level.*: ([\d.]+)", said)
    assert float(exposure) <= MAX_EXPOSURE, said


def test_no_outage_is_a_restart_loop_and_no_crash_the_end() -> None:
    service = _service()
    assert service["Type"] == ["notify"] and service["NotifyAccess"] == ["all"]
    assert service["Restart"] == ["always"]
    assert service["RestartPreventExitStatus"] == [str(exits.CONFIG)]
    # Else its exit status would be tried again and again (test_systemd.py shows it).
    assert all(command.startswith("-") for command in service["ExecStartPre"])


def test_a_stop_in_order_is_waited_for() -> None:
    (stop_seconds,) = _service()["TimeoutStopSec"]
    assert float(stop_seconds) > General.model_fields["drain_seconds"].default + 1


def test_an_instance_differs_in_names_only() -> None:
    def settings(text: str) -> list[str]:
        return re.findall(r"^#?[A-Z]\w*=.*$", text, re.MULTILINE)

    single = settings(UNIT.read_text())
    instance = [
        line.replace("/etc/zoomrelay/%i.", "/etc/zoomrelay/")
        .removesuffix(" ZOOMRELAY_CONFIG=/etc/zoomrelay/toml")
        .replace("zoomrelay-%i", "zoomrelay")
        .replace("zoomrelay %i", "zoomrelay")
        for line in settings(TEMPLATE.read_text())
    ]
    assert instance == single


@cache
def _members(group: str) -> frozenset[str]:
    """The system calls of one of systemd's groups."""
    names: set[str] = set()
    for line in _analyze("syscall-filter", "--no-pager", group).splitlines():
        word = line.strip()
        if word.startswith("@") and word != group:
            names |= _members(word)
        elif re.fullmatch(r"\w+", word):
            names.add(word)
    return frozenset(names)


def _allowed() -> set[str]:
    allowed: set[str] = set()
    for line in _service()["SystemCallFilter"]:
        named = {name for group in line.removeprefix("~").split() for name in _members(group)}
        allowed = allowed - named if line.startswith("~") else allowed | named
    return allowed


@pytest.mark.full
async def test_the_relay_needs_no_system_call_that_is_forbidden(tmp_path: Path) -> None:
    """A life with every kind of sink, a reload, a broken connection and a stop in order, traced."""
    counts = tmp_path / "calls"
    trace = (require("strace"), "--follow-forks", "--quiet=all", "-c", f"--output={counts}")
    async with Lab(tmp_path, seed=1, receiver=Receiver(), more=STDOUT) as lab:
        await lab.start(under=trace)
        lab.zoom.end("reset")
        await lab.finish()
        pid = json.loads((lab.state_dir / "lock").read_text())["pid"]
        os.kill(pid, 1)
        await lab.relay.until(lambda: lab.relay.log("config.reloaded"), "the reload")
        os.kill(pid, 15)
        assert await lab.relay.ended(20) == 0
    used = set(re.findall(r"^\s*[\d.]+ .* (\w+)$", counts.read_text(), re.MULTILINE)) - {"total"}
    assert {"fdatasync", "recvfrom"} <= used
    # As root, which the unit is not, SQLite gives its files to the owner of the database, and the token cache
    # its own to the owner of the state directory.
    assert used - _allowed() <= {"fchown", "chown"}
