"""What is started in this process's place."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoomrelay.cli.in_place import Upgrade, command_again
from zoomrelay.errors import ControlRefused

MANAGED = {"NOTIFY_SOCKET": "/run/systemd/notify"}
PID = 4711


def test_a_program_file_is_named_as_it_was_and_not_by_what_links_lead_to(tmp_path: Path) -> None:
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "zoomrelay").touch(0o755)
    link = tmp_path / "now"
    link.symlink_to(tmp_path / "1")
    again = command_again(
        [f"{link}/zoomrelay", "run"], ["/old/python", f"{link}/zoomrelay", "run"], "/old/python"
    )
    assert again == [f"{link}/zoomrelay", "run", "--takeover"]


def test_options_are_kept_and_a_takeover_is_said_once(tmp_path: Path) -> None:
    program = tmp_path / "zoomrelay"
    program.touch(0o755)
    arguments = [str(program), "run", "--takeover", "--config", "a.toml"]
    assert command_again(arguments, [], "python") == arguments


def test_a_module_is_run_as_one(tmp_path: Path) -> None:
    module = tmp_path / "__main__.py"
    module.touch(0o644)
    original = ["python3", "-X", "dev", "-m", "zoomrelay", "run"]
    again = command_again([str(module), "run"], original, "/opt/python3")
    assert again == ["/opt/python3", "-X", "dev", "-m", "zoomrelay", "run", "--takeover"]


@pytest.mark.parametrize(
    ("environ", "pid", "why"), [(MANAGED, 1, "first process of a container"), ({}, PID, "no service manager")]
)
async def test_where_its_end_would_be_everything_s_it_is_refused(
    environ: dict[str, str], pid: int, why: str
) -> None:
    with pytest.raises(ControlRefused, match=why):
        await Upgrade(["/bin/true"], environ, pid).run(lambda: False)


async def test_what_is_started_is_not_told_whom_the_watchdog_was_meant_for(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    environ = MANAGED | {"WATCHDOG_USEC": "5", "WATCHDOG_PID": str(PID)}
    upgrade = Upgrade(["/bin/sh", "-c", f"env > {seen}"], environ, PID)
    await upgrade.run(lambda: False)
    lines = seen.read_text().splitlines()
    assert "WATCHDOG_USEC=5" in lines and not [line for line in lines if line.startswith("WATCHDOG_PID")]
    assert upgrade.pid == 0, "there may be another"
