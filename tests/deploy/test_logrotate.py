"""The logrotate snippet: logrotate takes it, and what it does loses nothing."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.lab import Lab
from tests.support.process import ROOT
from tests.support.require import require

SNIPPET = (ROOT / "deploy" / "logrotate" / "zoomrelay").read_text()


async def test_a_rotation_loses_nothing(tmp_path: Path) -> None:
    program = require("logrotate")
    async with Lab(tmp_path, seed=3) as lab:
        await lab.start()
        await lab.zoom.burst(500)
        await lab.finish()
        rotate(program, tmp_path, lab.relay.pid)
        rotated = await _renamed(lab, tmp_path)
        await lab.zoom.burst(500)
        await lab.finish()
        before, after = rotated.read_bytes(), lab.archive_file.read_bytes()
        assert len(before.splitlines()) > 500 and len(after.splitlines()) > 500
        # The judge looks at the whole.
        lab.archive_file.write_bytes(before + after)
        lab.judge()


async def _renamed(lab: Lab, directory: Path) -> Path:
    await lab.relay.until(lambda: lab.relay.log("config.reloaded"), "the reload")
    (rotated,) = directory.glob("events.ndjson-*")
    assert lab.archive_file.exists()
    return rotated


def rotate(program: str, directory: Path, pid: int) -> None:
    """Run logrotate with our snippet, for a relay that no service manager knows."""
    command = next(line for line in SNIPPET.splitlines() if "systemctl" in line)
    text = SNIPPET.replace("/var/log/zoomrelay/*.ndjson", f"{directory}/events.ndjson")
    text = text.replace(command, f"kill -HUP {pid}")
    snippet = directory / "rotate.conf"
    snippet.write_text(text)
    snippet.chmod(0o644)
    arguments = ["--force", f"--state={directory}/rotate.state", str(snippet)]
    ended = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
