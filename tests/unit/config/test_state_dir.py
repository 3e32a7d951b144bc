"""Where the state is kept, for commands that may not read the secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoomrelay.config.load import state_dir
from zoomrelay.errors import ConfigError


def test_needs_no_secret_and_no_source(tmp_path: Path) -> None:
    file = tmp_path / "zoomrelay.toml"
    file.write_text('state_dir = "/there"\n[sources.main]\nclient_secret_file = "/not/for/us"\n')
    assert state_dir(file, environ={}) == Path("/there")
    assert state_dir(file, environ={"ZOOMRELAY_STATE_DIR": "/env"}) == Path("/env")


def test_without_a_file_it_is_systemds_or_the_default() -> None:
    assert state_dir(environ={"STATE_DIRECTORY": "/a:/b"}, search=()) == Path("/a")
    assert state_dir(environ={}, search=()) == Path("zoomrelay-state")


def test_what_is_no_path_is_named(tmp_path: Path) -> None:
    file = tmp_path / "zoomrelay.toml"
    file.write_text("state_dir = 3\n")
    with pytest.raises(ConfigError, match="state_dir: must be a path"):
        state_dir(file, environ={})
    with pytest.raises(ConfigError, match="there is no such file"):
        state_dir(tmp_path / "gone.toml", environ={})
