"""The relay as a process: from start to acceptance, idle memory, from TERM to exit."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.relay import configuration, resident_mb


def measure() -> dict[str, str]:
    """Figures by title, with their units."""
    flood = subprocess.Popen(
        [sys.executable, "-m", "bench.flood", "1", "0"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert flood.stdin and flood.stdout
    try:
        return _one_life(int(flood.stdout.readline()))
    finally:
        flood.stdin.close()
        flood.wait(30)


def _one_life(port: int) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as directory:
        config = Path(directory, "zoomrelay.toml")
        config.write_text(configuration(directory, port, "sqlite").replace('"error"', '"info"'))
        began = time.perf_counter()
        relay = subprocess.Popen(
            [sys.executable, "-m", "zoomrelay", "run", "--config", str(config)],
            stderr=subprocess.PIPE,
            text=True,
            env={key: value for key, value in os.environ.items() if not key.startswith("ZOOM")},
        )
        assert relay.stderr
        for line in relay.stderr:
            if "session.accepted" in line:
                break
        accepted = time.perf_counter() - began
        time.sleep(2)  # let it come to rest
        idle = resident_mb(str(relay.pid))
        began = time.perf_counter()
        relay.terminate()
        relay.communicate()
        stopped = time.perf_counter() - began
    return {
        "start to accepted": f"{accepted:9.2f} s",
        "resident, idle": f"{idle:9.1f} MB",
        "TERM to exit": f"{stopped:9.2f} s",
    }
