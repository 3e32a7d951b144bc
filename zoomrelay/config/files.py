"""The files that a configuration is read from: the TOML file, secrets, credentials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from zoomrelay.config.layers import Given, Layer
from zoomrelay.config.schema import Path as SettingPath
from zoomrelay.config.schema import all_paths, dotted, field_at, is_secret, twin
from zoomrelay.config.secrets import FileSecret, read_secret
from zoomrelay.errors import ConfigError, Problem

SEARCH = (Path("zoomrelay.toml"), Path("/etc/zoomrelay/zoomrelay.toml"))
RUN_SECRETS = Path("/run/secrets")

UNREADABLE = Given("unreadable", "")
"""Stands for a secret whose file was at fault, so that the same setting is not reported twice."""


def find(path: Path | None, environ: Mapping[str, str], search: Sequence[Path]) -> Path | None:
    """The configuration file: `path`, else `$ZOOMRELAY_CONFIG`, else the first of `search` that exists.

    Raises ConfigError where one of the first two names what is not a readable file.
    """
    for named, by in ((path, "--config"), (environ.get("ZOOMRELAY_CONFIG"), "ZOOMRELAY_CONFIG")):
        if named:
            if not is_file(Path(named)):
                raise ConfigError([Problem(str(named), "there is no such file", f"named by {by}")])
            return Path(named)
    return next((candidate for candidate in search if is_file(candidate)), None)


def is_file(path: Path) -> bool:
    """Whether there is a file; no where we may not look (pathlib raises there)."""
    try:
        return path.is_file()
    except OSError:
        return False


def credentials(
    names: dict[str, set[str]], directories: Sequence[Path], problems: list[Problem], read: list[Path]
) -> Layer:
    """Secrets found as files called by their dotted paths; the first of `directories` wins.

    Adds the files to `read`.
    """
    layer: Layer = {}
    for path in all_paths(names):
        field = field_at(path)
        file = next((d / dotted(path) for d in directories if is_file(d / dotted(path))), None)
        if field and is_secret(field) and file:
            layer[path] = _secret_from(file, f"credential file {file}", path, problems, read)
    return layer


def resolve_twins(merged: Layer, problems: list[Problem], read: list[Path]) -> Layer:
    """`merged` with each `…_file` setting of a secret replaced by the secret in that file.

    Adds the files to `read`.
    """
    resolved: Layer = {}
    for path, given in merged.items():
        base = twin(path) if field_at(path) is None else None
        if base is None:
            resolved.setdefault(path, given)
        elif not isinstance(given.value, str) or not given.value:
            problems.append(Problem(dotted(path), "must be a path in quotes"))
            resolved[base] = UNREADABLE
        else:
            origin = f"file {given.value}, named by {given.origin}"
            resolved[base] = _secret_from(Path(given.value), origin, path, problems, read)
    return resolved


def _secret_from(
    file: Path, origin: str, path: SettingPath, problems: list[Problem], read: list[Path]
) -> Given:
    read.append(file)
    try:
        return Given(FileSecret(read_secret(file), file), origin)
    except ValueError as error:
        # A bare word may be the secret itself, put where its file should be named.
        shown = f"the file {file}" if len(file.parts) > 1 else "the file it names in the working directory"
        problems.append(Problem(dotted(path), f"{shown} {error}"))
        return UNREADABLE
