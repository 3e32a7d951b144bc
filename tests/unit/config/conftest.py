"""Loading from a text, far from this machine's own files and variables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import pytest

from zoomrelay.config import Loaded, load
from zoomrelay.errors import ConfigError


class LoadText(Protocol):
    """`text=None` means that there is no file."""

    def __call__(
        self, text: str | None, environ: Mapping[str, str] = ..., flags: Mapping[str, object] | None = ...
    ) -> Loaded: ...


class Problems(Protocol):
    """What `load` complains of, one line per problem."""

    def __call__(self, text: str | None, environ: Mapping[str, str] = ...) -> list[str]: ...


@pytest.fixture
def secrets_directory(tmp_path: Path) -> Path:
    directory = tmp_path / "run-secrets"
    directory.mkdir()
    return directory


@pytest.fixture
def load_text(tmp_path: Path, secrets_directory: Path) -> LoadText:
    def load_it(
        text: str | None, environ: Mapping[str, str] = {}, flags: Mapping[str, object] | None = None
    ) -> Loaded:
        file = tmp_path / "zoomrelay.toml"
        if text is not None:
            file.write_text(text, encoding="utf-8")
        return load(environ=environ, flags=flags, search=(file,), secrets_directory=secrets_directory)

    return load_it


@pytest.fixture
def problems(load_text: LoadText) -> Problems:
    def complaints(text: str | None, environ: Mapping[str, str] = {}) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load_text(text, environ)
        assert str(caught.value) == "\n".join(map(str, caught.value.problems))
        return [str(problem) for problem in caught.value.problems]

    return complaints
