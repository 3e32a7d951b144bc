"""The image, as far as it can be judged without building it."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.process import ROOT
from zoomrelay.cli.commands import COMMANDS
from zoomrelay.config import load
from zoomrelay.config.addresses import listen_address

DOCKERFILE = re.sub(r" *\\\n *", " ", (ROOT / "Dockerfile").read_text())
LET_IN = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
SOURCE = {"ZOOM_CLIENT_ID": "id", "ZOOM_CLIENT_SECRET": "secret", "ZOOM_SUBSCRIPTION_ID": "subscription"}


def _lines(instruction: str) -> list[str]:
    return re.findall(rf"^{instruction} (.*)$", DOCKERFILE, re.MULTILINE)


def test_everything_that_is_copied_is_there_and_let_in() -> None:
    copied = {word for line in _lines("COPY") if "--from" not in line for word in line.split()[:-1]}
    assert copied == LET_IN
    assert all((ROOT / name).exists() for name in copied)


def test_a_build_needs_nothing_that_is_not_copied() -> None:
    project = (ROOT / "pyproject.toml").read_text().partition("\n[tool.mypy]")[0]
    named = re.findall(r'^(?:readme = |license-files = \[|packages = \[)"([^\]\n]*)"', project, re.MULTILINE)
    assert named
    assert {name.strip('" ') for line in named for name in line.split(",")} <= LET_IN


def test_its_environment_is_a_configuration(tmp_path: Path) -> None:
    environ = dict(pair.split("=", 1) for line in _lines("ENV") for pair in line.split())
    config = load(environ=SOURCE | environ, search=(), secrets_directory=tmp_path).config
    assert listen_address(config.admin.listen) == ("", 9464)
    assert _lines("EXPOSE") == ["9464"]
    assert _lines("VOLUME") == [str(config.state_dir)]


def test_it_does_not_run_as_root() -> None:
    assert _lines("USER") == ["10001:10001"]


def test_its_commands_are_commands() -> None:
    assert _lines("ENTRYPOINT") == ['["zoomrelay"]']
    words = [re.findall(r'"(\w+)"', line) for line in [*_lines("CMD"), *_lines("HEALTHCHECK")]]
    assert {line[-1] for line in words} <= COMMANDS.keys()
