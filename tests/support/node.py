"""Receivers in Node, with the packages of the other side."""

from __future__ import annotations

import fcntl
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.process import ROOT
from tests.support.require import missing, require

PACKAGES = {"@zoom/rivet": "0.4.0", "cloudevents": "10.0.0", "standardwebhooks": "1.1.1"}
"""What receivers in the documents and tests use; these versions."""
CACHE = ROOT / ".cache" / "node"
INSTALL_SECONDS = 120


def node_packages() -> Path:
    """A directory with `node_modules`, installed once and kept for the next run. Without node, npm or npm's
    registry the test is skipped, or fails (see `require`)."""
    require("node")
    npm = require("npm")
    CACHE.mkdir(parents=True, exist_ok=True)
    manifest = json.dumps({"private": True, "dependencies": PACKAGES})
    with (CACHE / "lock").open("w") as lock:  # several tests may want it at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        installed = CACHE / "installed.json"
        if not installed.is_file() or installed.read_text() != manifest:
            (CACHE / "package.json").write_text(manifest)
            _install(npm)
            installed.write_text(manifest)
    return CACHE


def _install(npm: str) -> None:
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-update-notifier"]
    try:
        done = subprocess.run(command, cwd=CACHE, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    except subprocess.TimeoutExpired:
        missing("npm's registry does not answer")
        return
    if done.returncode:
        missing(f"npm install failed: {done.stderr.strip()[-300:]}")


@contextmanager
def node(script: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that runs `script` beside the packages, and the port that it prints in its first line."""
    directory = node_packages()
    process = subprocess.Popen(
        ["node", "--input-type=module", "-e", script],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.strip().isdigit(), line + process.stdout.read()
        yield process, int(line)
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()
