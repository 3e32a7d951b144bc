"""The files that a configuration is read from: the TOML file, secrets, credentials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from zoomrelay.config.layers import Given, Layer
from zoomrelay.config.schema import TWIN, all_paths, dotted, field_at, is_secret, is_secret_table, twin
from zoomrelay.config.schema import Path as SettingPath
from zoomrelay.config.secrets import FileSecret, UnreadableSecret, read_secret
from zoomrelay.errors import ConfigError, Problem

SEARCH = (Path("zoomrelay.toml"), Path("/etc/zoomrelay/zoomrelay.toml"))
RUN_SECRETS = Path("/run/secrets")

UNREADABLE = Given(UnreadableSecret("unreadable"), "")


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
        elif field and is_secret_table(field) and (found := _files_below(path, directories)):
            origin = f"credential files {', '.join(map(str, found.values()))}"
            secrets = {n: _secret_from(f, origin, (*path, n), problems, read).value for n, f in found.items()}
            layer[path] = Given(secrets, origin)
    return layer


def _files_below(table: SettingPath, directories: Sequence[Path]) -> dict[str, Path]:
    """The files called by the dotted path of an entry of `table`, by the entry's name."""
    prefix = dotted(table) + "."
    found: dict[str, Path] = {}
    for directory in reversed(directories):
        try:
            names = [file.name for file in directory.iterdir() if file.name.startswith(prefix)]
        except OSError:  # not there, or not for us to look into
            continue
        found |= {name.removeprefix(prefix): directory / name for name in sorted(names)}
    return found


def resolve_twins(merged: Layer, problems: list[Problem], read: list[Path]) -> Layer:
    """`merged` with each `…_file` setting of a secret replaced by the secret in that file.

    Adds the files to `read`.
    """
    resolved: Layer = {}
    for path, given in merged.items():
        field = field_at(path)
        base = twin(path) if field is None else None
        if field and is_secret_table(field):
            resolved[path] = _with_secrets(path, given, problems, read)
        elif base is None:
            resolved.setdefault(path, given)
        elif not isinstance(given.value, str) or not given.value:
            problems.append(Problem(dotted(path), "must be a path in quotes"))
            resolved[base] = UNREADABLE
        else:
            origin = f"file {given.value}, named by {given.origin}"
            resolved[base] = _secret_from(Path(given.value), origin, path, problems, read)
    return resolved


def _with_secrets(path: SettingPath, given: Given, problems: list[Problem], read: list[Path]) -> Given:
    """A table of secrets, in which a name may end in `_file`."""
    if not isinstance(given.value, dict):
        return given
    table: Layer = {(*path, name): Given(value, given.origin) for name, value in given.value.items()}
    found: dict[str, object] = {}
    for entry, one in table.items():
        name = entry[-1].removesuffix(TWIN)
        if name in found or (name != entry[-1] and (*path, name) in table):
            problems.append(Problem(dotted((*path, name)), "is given twice", "keep one"))
        elif name == entry[-1]:
            found[name] = one.value
        elif not isinstance(one.value, str) or not one.value:
            problems.append(Problem(dotted(entry), "must be a path in quotes"))
        else:
            found[name] = _secret_from(Path(one.value), one.origin, entry, problems, read).value
    return Given(found, given.origin)


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
