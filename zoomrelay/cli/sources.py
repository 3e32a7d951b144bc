"""Which source a command means, and the directory where its tokens are kept."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Annotated

import typer

from zoomrelay.config.models import Config, SourceConfig
from zoomrelay.errors import StateDirectoryError

SourceOption = Annotated[
    str,
    typer.Option("--source", metavar="NAME", help="The source; needed where there are several."),
]


def chosen(config: Config, name: str) -> SourceConfig:
    """The named source, or the only one that has an app. Anything else is a usage error."""
    names = ", ".join(config.sources)
    apps = [source for source in config.sources.values() if source.has_app]
    if not name and len(apps) == 1:
        return apps[0]
    if not apps or (name in config.sources and not config.sources[name].has_app):
        raise typer.BadParameter(
            f"source {name or names} has only a webhook and no client_id, so there are no tokens",
            param_hint="--source",
        )
    if not name:
        raise typer.BadParameter(f"say which source: {names}", param_hint="--source")
    if name not in config.sources:
        raise typer.BadParameter(f'there is no source "{name}"; there are: {names}', param_hint="--source")
    return config.sources[name]


def token_directory(state_dir: Path) -> Path:
    """The state directory, which must exist and be ours: a cache that another user owns would be refused by
    the relay. Raises `StateDirectoryError` with the cure."""
    try:
        owner = state_dir.stat().st_uid
    except FileNotFoundError:
        raise StateDirectoryError(
            f"there is no state directory {state_dir}; `zoomrelay run` makes it, or"
            f" `install -d -m 0700 {state_dir}` as the relay's user"
        ) from None
    except OSError as error:
        raise StateDirectoryError(f"state directory {state_dir}: {error.strerror}") from error
    if not state_dir.is_dir():
        raise StateDirectoryError(f"state directory {state_dir} is no directory")
    if owner != os.geteuid():
        raise StateDirectoryError(
            f"state directory {state_dir} belongs to {_name(owner)}; run this as that user, who shares"
            " the tokens with the relay (for instance with `sudo -u`)"
        )
    return state_dir


def _name(uid: int) -> str:
    try:
        return f'the user "{pwd.getpwuid(uid).pw_name}"'
    except KeyError:
        return f"the user with id {uid}"
