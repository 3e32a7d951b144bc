"""What each place says: TOML, environment, flags, Zoom's usual variables. Pure.

A layer maps paths to what was given there. A named table that is mentioned at all is in the layer under
its own path (`("sources", "main")`), so that an empty table counts.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass

from zoomrelay.config.schema import (
    GROUPS,
    NAME,
    NAMED,
    TWIN,
    Path,
    all_paths,
    dotted,
    env_name,
    exists,
    field_at,
    is_inner_table,
    is_list,
    keys,
    models_at,
    nearest,
    twin,
)
from zoomrelay.errors import Problem


@dataclass(frozen=True, slots=True)
class Given:
    """A value and where it came from, in words."""

    value: object
    origin: str


Layer = dict[Path, Given]

PREFIX = "ZOOMRELAY_"
_NOT_SETTINGS = re.compile(r"ZOOMRELAY_(CONFIG$|TEST_)")
# Kubernetes tells every pod of the services beside it in variables that begin with the service's name.
_SERVICE_LINK = re.compile(
    r"ZOOMRELAY_(?!.*__)(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)"
)
_SERVICE_PORT = re.compile(r"ZOOMRELAY_(?!.*__)(\w+_)?PORT=(tcp|udp|sctp)://.*")


def from_toml(text: str, origin: str, problems: list[Problem]) -> Layer | None:
    """The settings in a TOML text; None where it cannot be parsed."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        problems.append(Problem(origin, f"is not valid TOML: {error}"))
        return None
    layer: Layer = {}
    for key, value in document.items():
        if key in NAMED:
            _named_tables(key, value, origin, layer, problems)
        elif key not in GROUPS:
            layer[key,] = Given(value, origin)
        elif isinstance(value, dict):
            layer |= {(key, inner): Given(given, origin) for inner, given in value.items()}
        else:
            problems.append(Problem(key, "must be a table", f"write [{key}] and its settings below it"))
    return layer


def _named_tables(table: str, value: object, origin: str, layer: Layer, problems: list[Problem]) -> None:
    if not isinstance(value, dict):
        problems.append(Problem(table, "must hold named tables", f"write [{table}.NAME], for instance"))
        return
    for name, inner in value.items():
        if not isinstance(inner, dict):
            problems.append(Problem(f"{table}.{name}", "must be a table", f"write [{table}.NAME] first"))
            continue
        layer[table, name] = Given({}, origin)
        for key, given in inner.items():
            if not is_inner_table((table, name, key)):
                layer[table, name, key] = Given(given, origin)
            elif isinstance(given, dict):
                layer[table, name, key] = Given({}, origin)
                layer |= {(table, name, key, one): Given(value, origin) for one, value in given.items()}
            else:
                cure = f"write [{table}.{name}.{key}] and its settings below it"
                problems.append(Problem(f"{table}.{name}.{key}", "must be a table", cure))


def from_environ(environ: Mapping[str, str], names: dict[str, set[str]], problems: list[Problem]) -> Layer:
    """The settings in `ZOOMRELAY_…` variables; a variable that is none is a problem.

    `names` are the named tables known from elsewhere, for suggestions.
    """
    layer: Layer = {}
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or _is_foreign(variable, environ[variable]):
            continue
        path = _path_of(variable)
        if not exists(path):
            problems.append(_unknown_variable(variable, path, names))
            continue
        _put(layer, path, Given(_listed(path, environ[variable]), f"environment {variable}"))
    return layer


def _is_foreign(variable: str, value: str) -> bool:
    return bool(
        _NOT_SETTINGS.match(variable)
        or _SERVICE_LINK.fullmatch(variable)
        or _SERVICE_PORT.fullmatch(f"{variable}={value}")
    )


def _path_of(variable: str) -> Path:
    """Names hold no double underscore but may end in one, so the setting is split off from the right."""
    head, *rest = variable.removeprefix(PREFIX).lower().split("__", 1)
    inner = rest[0].rsplit("__", 2) if rest else []
    if len(inner) == 3 and is_inner_table((head, *inner[:2])):
        return (head, *inner)
    return (head, *(rest[0].rsplit("__", 1) if rest else ()))


def _listed(path: Path, text: str) -> object:
    field = field_at(path)
    if field is None or not is_list(field):
        return text
    return [part for part in (part.strip() for part in text.split(",")) if part]


def _put(layer: Layer, path: Path, given: Given) -> None:
    layer[path] = given
    if path[0] in NAMED:
        layer[path[:2]] = Given({}, given.origin)
    if len(path) == 4:
        layer[path[:3]] = Given({}, given.origin)


def _unknown_variable(variable: str, path: Path, names: dict[str, set[str]]) -> Problem:
    meant = _meant(variable, path, names)
    cure = f"did you mean {meant}?" if meant else "names look like ZOOMRELAY_SOURCES__MAIN__CLIENT_ID"
    return Problem(f"environment {variable}", "is not a setting", cure)


def _meant(variable: str, path: Path, names: dict[str, set[str]]) -> str | None:
    """The nearest setting of the same table; where there is no such table, the nearest of all."""
    if len(path) > 1 and (models := models_at(path)):
        key = nearest(path[-1], [key for model in models for key in keys(model)])
        return env_name((*path[:-1], key)) if key else None
    guesses = {table: known | ({path[1]} if len(path) >= 3 else set()) for table, known in names.items()}
    known = ["CONFIG", *(env_name(path).removeprefix(PREFIX) for path in all_paths(guesses))]
    meant = nearest(variable.removeprefix(PREFIX), known)
    return f"{PREFIX}{meant}" if meant else None


def from_flags(flags: Mapping[str, object], problems: list[Problem]) -> Layer:
    """The settings given on the command line, by dotted path; None means that a flag was not given."""
    layer: Layer = {}
    for name, value in flags.items():
        path = tuple(name.split("."))
        if value is None:
            continue
        if not exists(path):
            problems.append(Problem(name, "is not a setting"))
            continue
        _put(layer, path, Given(_listed(path, value) if isinstance(value, str) else value, "flag"))
    return layer


_USUAL = {
    "account_id": "ZOOM_ACCOUNT_ID",
    "client_id": "ZOOM_CLIENT_ID",
    "client_secret": "ZOOM_CLIENT_SECRET",
    "subscriptions": "ZOOM_SUBSCRIPTION_ID",
}


def from_usual_variables(environ: Mapping[str, str]) -> Layer:
    """The source `zoom` out of the variables that Zoom's own samples use; empty where none is set."""
    layer: Layer = {}
    for key, variable in _USUAL.items():
        path = ("sources", "zoom", key)
        if text := environ.get(variable, ""):
            _put(layer, path, Given(_listed(path, text), f"environment {variable}"))
    return layer


def complete_usual(merged: Layer, problems: list[Problem]) -> Layer:
    """`merged`, where the usual variables are in use: each that is missed is a problem that names it.

    Only General apps do without an account id, and whoever wants tokens only writes a file.
    """
    for key in ("client_id", "client_secret", "subscriptions"):
        path = ("sources", "zoom", key)
        if path not in merged:
            problems.append(Problem(dotted(path), "is missing", f"set {_USUAL[key]}"))
            merged = merged | {path: Given(_listed(path, "missing"), "")}
    return merged


def merge(layers: list[Layer], problems: list[Problem]) -> Layer:
    """One layer out of several, lowest first. A secret and its file twin replace each other; both in one
    layer are a problem."""
    merged: Layer = {}
    for layer in layers:
        for path, given in layer.items():
            other = twin(path)
            if other and other in layer and path < other:
                problems.append(Problem(dotted(path), f"is given as well as {dotted(other)}", "keep one"))
            if other and other not in layer:
                merged.pop(other, None)
            merged[path] = _joined(merged[path], given) if path in merged else given
    return merged


def _joined(below: Given, given: Given) -> Given:
    """`given`, and where both are tables of the user's names, the entries of `below` that it does not
    replace."""
    if not (isinstance(below.value, dict) and isinstance(given.value, dict)):
        return given
    replaced = {name.removesuffix(TWIN) for name in given.value}
    kept = {name: value for name, value in below.value.items() if name.removesuffix(TWIN) not in replaced}
    return Given(kept | given.value, f"{below.origin} and {given.origin}" if kept else given.origin)


def names_in(layers: list[Layer], problems: list[Problem]) -> dict[str, set[str]]:
    """The named tables that are mentioned; a name that is not allowed is a problem."""
    names: dict[str, set[str]] = {table: set() for table in NAMED}
    for table, name in sorted({path[:2] for layer in layers for path in layer if path[0] in NAMED}):
        names[table].add(name)
        if not NAME.fullmatch(name):
            problems.append(
                Problem(
                    f"{table}.{name}", "is not a name", "lower-case letters, digits and single underscores"
                )
            )
    return names
