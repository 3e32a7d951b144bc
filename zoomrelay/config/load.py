"""From flags, environment, credential files and TOML to one valid `Config`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from zoomrelay.config import files, layers
from zoomrelay.config.explain import explain
from zoomrelay.config.layers import Given, Layer
from zoomrelay.config.models import Config, General, Settings
from zoomrelay.config.rules import Built, broken_rules
from zoomrelay.config.schema import (
    GROUPS,
    KINDS,
    NAMED,
    dotted,
    fields,
    inner_table,
    is_inner_table,
)
from zoomrelay.config.schema import Path as SettingPath
from zoomrelay.config.secrets import read_text
from zoomrelay.errors import ConfigError, Problem


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid configuration and where it came from."""

    config: Config
    origins: dict[str, str]
    """For every setting, by dotted path: where its value came from, in words; `default` if nowhere."""
    file: Path | None
    """The TOML file, if there is one."""
    files_read: tuple[Path, ...]
    """Every file that was read: the TOML file, files of secrets, credential files."""


def load(
    path: Path | None = None,
    *,
    environ: Mapping[str, str],
    flags: Mapping[str, object] | None = None,
    search: Sequence[Path] = files.SEARCH,
    secrets_directory: Path = files.RUN_SECRETS,
    into: type[Config] = Config,
) -> Loaded:
    """The configuration. Order: flag > environment > credential file > TOML > default.

    `path` is what `--config` named. `flags` maps dotted paths to values; None means not given. The result
    is an `into`.
    Raises ConfigError with everything that is wrong at once; no message holds a value of a secret.
    """
    problems: list[Problem] = []
    read: list[Path] = []
    file = files.find(path, environ, search)
    merged = _gather(file, environ, flags or {}, secrets_directory, problems, read)
    built = _build(merged, problems)
    if not built.names["sources"]:
        problems.append(_no_source(file, search, environ))
    problems += broken_rules(built)
    if problems:
        raise ConfigError(_distinct(problems))
    return Loaded(_config(built, into), _origins(built, merged), file, tuple(read))


def state_dir(
    path: Path | None = None, *, environ: Mapping[str, str], search: Sequence[Path] = files.SEARCH
) -> Path:
    """Only where the state is kept, in the same order as `load`: for commands that look into it and need
    no secret, which the service's user alone may read. Raises ConfigError."""
    problems: list[Problem] = []
    toml = _read_toml(files.find(path, environ, search), problems, [])
    if toml is None:
        raise ConfigError(problems)
    given = _defaults(environ, {"sources": set(), "sinks": {"-"}}) | toml
    directory = environ.get("ZOOMRELAY_STATE_DIR") or given["state_dir",].value
    if not isinstance(directory, str) or not directory:
        raise ConfigError([Problem("state_dir", "must be a path in quotes")])
    return Path(directory)


def _gather(
    file: Path | None,
    environ: Mapping[str, str],
    flags: Mapping[str, object],
    secrets_directory: Path,
    problems: list[Problem],
    read: list[Path],
) -> Layer:
    """Everything that was given, secrets read out of their files."""
    toml = _read_toml(file, problems, read)
    from_flags = layers.from_flags(flags, problems)
    from_environ = layers.from_environ(environ, layers.names_in([toml or {}, from_flags], []), problems)
    if toml is None:
        raise ConfigError(problems)
    mentioned = layers.names_in([toml, from_environ, from_flags], [])["sources"]
    usual = layers.from_usual_variables(environ) if file is None and mentioned <= {"zoom"} else {}
    from_environ = usual | from_environ
    names = layers.names_in([toml, from_environ, from_flags], problems)
    directories = [Path(d) for d in (environ.get("CREDENTIALS_DIRECTORY"), secrets_directory) if d]
    credentials = files.credentials(names, directories, problems, read)
    given = [_defaults(environ, names), toml, credentials, from_environ, from_flags]
    merged = files.resolve_twins(layers.merge(given, problems), problems, read)
    return layers.complete_usual(merged, problems) if usual else merged


def _read_toml(file: Path | None, problems: list[Problem], read: list[Path]) -> Layer | None:
    if file is None:
        return {}
    read.append(file)
    try:
        text = read_text(file)
    except ValueError as error:
        problems.append(Problem(str(file), str(error)))
        return None
    return layers.from_toml(text, str(file), problems)


def _defaults(environ: Mapping[str, str], names: dict[str, set[str]]) -> Layer:
    """The defaults that are not in the models: they depend on what surrounds us."""
    directory = environ.get("STATE_DIRECTORY", "").split(":")[0]
    state_dir = (
        Given(directory, "environment STATE_DIRECTORY") if directory else Given("zoomrelay-state", "default")
    )
    layer: Layer = {("state_dir",): state_dir}
    if not names["sinks"]:
        layer["sinks", "stdout"] = Given({}, "default")
        layer["sinks", "stdout", "type"] = Given("stdout", "default")
    return layer


def _build(merged: Layer, problems: list[Problem]) -> Built:
    """The tables that are valid by themselves; what is wrong with the others goes to `problems`."""
    built = Built(names=layers.names_in([merged], []))
    wanted: list[SettingPath] = [(), *((group,) for group in GROUPS)]
    # Inner tables first: the one around them is built of them.
    wanted += [path for path in merged if is_inner_table(path)]
    wanted += [path for path in merged if len(path) == 2 and path[0] in NAMED]
    for table in wanted:
        given = {path[-1]: item.value for path, item in merged.items() if path[:-1] == table}
        given |= {
            path[-1]: _inner(path, built) for path in merged if path[:-1] == table and is_inner_table(path)
        }
        model = _model(table, given, problems)
        if model and (instance := _validated(model, table, given, problems)):
            built.tables[table] = instance
    return built


def _model(table: SettingPath, given: dict[str, object], problems: list[Problem]) -> type[Settings] | None:
    if not table:
        return General
    if table[0] in GROUPS:
        return GROUPS[table[0]]
    if len(table) == 3:
        return inner_table(table)
    if table[0] != "sinks":
        return NAMED[table[0]][0]
    kind = given.get("type")
    if isinstance(kind, str) and kind in KINDS:
        return KINDS[kind]
    what = "is missing" if kind is None else "is not a type of sink in this version"
    problems.append(Problem(f"{dotted(table)}.type", what, f"there are {', '.join(KINDS)}"))
    return None


def _inner(table: SettingPath, built: Built) -> Settings:
    """What was built of an inner table; an empty one where that is at fault, which was reported already."""
    return built.tables.get(table) or inner_table(table).model_construct()


def _validated(
    model: type[Settings], table: SettingPath, given: dict[str, object], problems: list[Problem]
) -> Settings | None:
    named = {"name": table[-1]} if len(table) == 2 and table[0] in NAMED else {}
    if named and "name" in given:
        problems.append(
            Problem(f"{dotted(table)}.name", "is not a setting", "the name is in the table's header")
        )
    try:
        return model.model_validate(given | named)
    except ValidationError as error:
        problems += explain(error, model, table)
        return None


def _no_source(file: Path | None, search: Sequence[Path], environ: Mapping[str, str]) -> Problem:
    four = "ZOOM_ACCOUNT_ID, ZOOM_CLIENT_ID, ZOOM_CLIENT_SECRET and ZOOM_SUBSCRIPTION_ID"
    if file is None:
        places = " or ".join(str(place) for place in search)
        cure = f"set {four}, or write [sources.main] into {places}; `zoomrelay demo` works without"
    elif "ZOOM_CLIENT_ID" in environ:
        cure = f"write [sources.main] into {file}; the ZOOM_… variables count only where there is no file"
    else:
        cure = f"write [sources.main] into {file}"
    return Problem("sources", "no Zoom app is configured", cure)


def _distinct(problems: list[Problem]) -> list[Problem]:
    return list(dict.fromkeys(problems))


def _config(built: Built, into: type[Config]) -> Config:
    """The tables joined; they are valid, so nothing is validated again."""
    groups = {group: built.tables[group,] for group in GROUPS}
    named = {
        table: {path[1]: model for path, model in built.tables.items() if len(path) == 2 and path[0] == table}
        for table in NAMED
    }
    return into.model_validate({**dict(built.general), **groups, **named})


def _origins(built: Built, merged: Layer) -> dict[str, str]:
    unset = Given(None, "default")
    return {
        dotted((*table, key)): merged.get((*table, key), unset).origin
        for table, settings in built.tables.items()
        for key in fields(type(settings))
    }
