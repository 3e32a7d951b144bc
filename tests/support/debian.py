"""A Debian with Python, and the packages that zoomrelay is installed from, as an offline machine has them.

Both are made once and kept under `CACHE`, by name of what is in them; root only.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

from tests.support.process import ROOT
from tests.support.require import missing, require

CACHE = Path("/var/cache/zoomrelay-tests")
SUITE = "bookworm"
PYTHON = (3, 11)
"""What this suite has."""
PACKAGES = ("systemd", "systemd-sysv", "dbus", "python3", "python3-venv", "ca-certificates")
LOCKS = ("requirements.lock", "requirements-build.lock")
_MAKE_SECONDS = 900


def tree() -> Path:
    """The root directory of a Debian; nobody may write to it. Skips where it cannot be made."""
    require_root()
    debootstrap = require("debootstrap")

    def make(root: Path) -> None:
        debs = CACHE / "debs"
        debs.mkdir(exist_ok=True)
        names = ",".join(PACKAGES)
        options = ["--variant=minbase", f"--cache-dir={debs}", f"--include={names}"]
        call(debootstrap, *options, SUITE, str(root), seconds=_MAKE_SECONDS)
        # Without one, the first boot asks whoever sits at the console.
        (root / "etc/machine-id").write_text(f"{uuid.uuid4().hex}\n")

    return _kept(f"{SUITE}-{_digest(*PACKAGES)}", make)


def wheels() -> Path:
    """A directory with every package that the lock files name, for the tree's Python."""
    require_root()
    if sys.version_info[:2] != PYTHON:
        missing(f"the tree's Python is {PYTHON[0]}.{PYTHON[1]}")
    locks = [ROOT / name for name in LOCKS]

    def make(directory: Path) -> None:
        options = ["--quiet", "--require-hashes", "--only-binary=:all:", f"--dest={directory}"]
        for lock in locks:
            pip("download", *options, "--requirement", str(lock))

    return _kept(f"wheels-{_digest(*(lock.read_text() for lock in locks))}", make)


def our_wheel(directory: Path) -> Path:
    """zoomrelay itself, built into `directory` from this tree."""
    source = directory / "source"
    shutil.copytree(ROOT / "zoomrelay", source / "zoomrelay", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    options = ["--quiet", "--no-deps", "--no-index", f"--find-links={wheels()}", f"--wheel-dir={directory}"]
    pip("wheel", *options, str(source))
    (wheel,) = directory.glob("zoomrelay-*.whl")
    return wheel


def require_root() -> None:
    if os.geteuid() != 0:
        missing("only root can do this")


def call(*command: str, seconds: float = 120.0, text: str = "") -> str:
    """What a command prints; fails where it fails, with what it said."""
    ended = subprocess.run(command, input=text, capture_output=True, text=True, timeout=seconds, check=False)
    assert ended.returncode == 0, f"{' '.join(command)}: {ended.returncode}\n{ended.stdout}{ended.stderr}"
    return ended.stdout


def pip(*arguments: str) -> str:
    return call(sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments, seconds=_MAKE_SECONDS)


def _kept(name: str, make: Callable[[Path], None]) -> Path:
    """The directory of this name, made where it is not there. Others who want it wait meanwhile."""
    CACHE.mkdir(mode=0o755, exist_ok=True)
    made = CACHE / name
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            unfinished = CACHE / f"{name}.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(mode=0o755)
            make(unfinished)
            unfinished.rename(made)
    return made


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
