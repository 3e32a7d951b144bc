"""Options that several commands share, and the configuration they lead to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from zoomrelay.config.load import Loaded, load, state_dir
from zoomrelay.config.models import Config

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="The configuration file.", show_default=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def load_config(
    path: Path | None, flags: Mapping[str, object] | None = None, into: type[Config] = Config
) -> Loaded:
    """The configuration of this process; raises ConfigError. `flags` is by dotted path."""
    return load(path, environ=os.environ, flags=flags, into=into)


def load_whole(path: Path | None) -> Config:
    """The configuration with its secrets, which no log line will show from now on."""
    from zoomrelay.telemetry.logs import protect_config

    loaded = load_config(path)
    protect_config(loaded.config)
    return loaded.config


def load_state_dir(path: Path | None) -> Path:
    """Where the state of this configuration is kept; needs no secret to be readable."""
    return state_dir(path, environ=os.environ)
