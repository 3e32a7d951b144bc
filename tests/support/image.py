"""Builds the image and runs containers of it, without a registry and without a daemon, as root.

The base is a Debian of `debian.tree`, tagged with the name that the Dockerfile asks for. Storage is apart
from the machine's own.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.debian import CACHE, call, require_root, tree, wheels
from tests.support.process import ROOT
from tests.support.require import require

BASE = "docker.io/library/python:3.11-slim-bookworm"
IMAGE = "localhost/zoomrelay-test"
_STORAGE = (
    f"--root={CACHE}/overlay",
    "--runroot=/run/zoomrelay-tests",
    "--storage-driver=overlay",
)
_PODMAN = (*_STORAGE, "--runtime=runc", "--cgroup-manager=cgroupfs")
_LIMITS = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024")
_BUILD_SECONDS = 400.0


@contextmanager
def built() -> Iterator[str]:
    """The id of the image, gone afterwards. One at a time."""
    require_root()
    for program in ("buildah", "podman", "runc"):
        require(program)
    packages = wheels()
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "containers.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _base()
        mounts = (f"--volume={packages}:{packages}:ro", f"--volume={_pip_conf(packages)}:/etc/pip.conf:ro")
        options = ("--isolation=chroot", "--pull-never", "--format=docker", "--layers=false", *mounts)
        names = (f"--tag={IMAGE}", "--build-arg=VERSION=1.2.3", "--build-arg=REVISION=abcdef")
        buildah("build", *options, *names, str(ROOT))
        try:
            yield podman("image", "inspect", "--format={{.Id}}", IMAGE).strip()
        finally:
            podman("rmi", "--force", IMAGE)


def inspect(name: str) -> dict[str, object]:
    """What podman knows of an image."""
    found: dict[str, object] = json.loads(podman("image", "inspect", name))[0]
    return found


class Container:
    """A container that runs, or ran."""

    def __init__(self, name: str) -> None:
        self.name = name

    def exec(self, *command: str) -> subprocess.CompletedProcess[str]:
        return run_podman("exec", self.name, *command)

    def healthy(self) -> bool:
        """What the image's own health check says now."""
        return run_podman("healthcheck", "run", self.name).returncode == 0

    def stop(self, seconds: int) -> int:
        """TERM, and KILL after `seconds`; the exit code."""
        podman("stop", f"--time={seconds}", self.name)
        return int(podman("inspect", "--format={{.State.ExitCode}}", self.name))

    def logs(self) -> str:
        ended = run_podman("logs", self.name)
        return ended.stdout + ended.stderr


@contextmanager
def container(
    image: str,
    name: str,
    *,
    user: str = "",
    volumes: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    command: Sequence[str] = (),
) -> Iterator[Container]:
    """It runs on the host's network, with a root directory that cannot be written."""
    options = ["--detach", f"--name={name}", "--network=host", "--read-only", *_LIMITS, "--cap-drop=all"]
    options += ["--security-opt=no-new-privileges", "--log-driver=k8s-file"]
    options += [f"--volume={volume}" for volume in volumes] + ([f"--user={user}"] if user else [])
    options += [f"--env={key}={value}" for key, value in (environ or {}).items()]
    try:
        podman("run", *options, image, *command)
        yield Container(name)
    finally:
        with contextlib.suppress(AssertionError):
            podman("rm", "--force", "--time=0", name)


def buildah(*arguments: str) -> str:
    return call("buildah", *_STORAGE, *arguments, seconds=_BUILD_SECONDS)


def podman(*arguments: str) -> str:
    return call("podman", *_PODMAN, *arguments)


def run_podman(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["podman", *_PODMAN, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def _base() -> None:
    """The tree under the base image's name; made anew where it was made of another tree."""
    label = f"zoomrelay.tree={tree().name}"
    if buildah("images", "--quiet", f"--filter=label={label}").strip():
        return
    scratch = buildah("from", "scratch").strip()
    buildah("add", "--quiet", scratch, str(tree()), "/")
    buildah("config", f"--label={label}", "--env=PATH=/usr/local/bin:/usr/bin:/bin", scratch)
    buildah("commit", "--quiet", "--rm", scratch, BASE)


def _pip_conf(packages: Path) -> Path:
    """Tells pip in the build to take what is there, and nothing from a network."""
    file = packages.with_suffix(".conf")
    file.write_text(f"[global]\nno-index = true\nfind-links = {packages}\ndisable-pip-version-check = true\n")
    return file
