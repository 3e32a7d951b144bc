"""What can be set, read off the models: paths, secrets, lists, kinds of sink. Pure.

A path is the tuple of a setting's place: `("state_dir",)`, `("spool", "type")` or
`("sources", "main", "client_id")`. Everything else in this room works from what is here, so that a
field added to a model needs no second mention.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Any, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from zoomrelay.config.models import Config, General, Settings

Path = tuple[str, ...]
TWIN = "_file"
"""What a secret's name gets for the setting that names a file with it."""
NAME = re.compile(r"[a-z](?:_?[a-z0-9])*_?")


def _models_in(annotation: Any) -> tuple[type[Settings], ...]:
    if isinstance(annotation, type):
        return (annotation,) if issubclass(annotation, Settings) else ()
    return tuple(model for part in get_args(annotation) for model in _models_in(part))


def _top() -> tuple[dict[str, type[Settings]], dict[str, tuple[type[Settings], ...]]]:
    single, named = {}, {}
    for key, field in Config.model_fields.items():
        if get_origin(field.annotation) is dict:
            named[key] = _models_in(field.annotation)
        elif models := _models_in(field.annotation):
            single[key] = models[0]
    return single, named


GROUPS, NAMED = _top()
"""Tables that exist once (`[spool]`), and tables of named tables (`[sources.main]`) with their kinds."""
KINDS: dict[str, type[Settings]] = {model.model_fields["type"].default: model for model in NAMED["sinks"]}
"""Kinds of sink by the value of `type`."""


def fields(model: type[Settings]) -> dict[str, FieldInfo]:
    """The settings of a table. The `name` of a named table is in its header, so it is not among them; nor
    are the tables inside of it."""
    named = any(model in models for models in NAMED.values())
    inner = inner_tables(model)
    return {
        field.alias or key: field
        for key, field in model.model_fields.items()
        if not (named and key == "name") and key not in inner
    }


def inner_tables(model: type[Settings]) -> dict[str, type[Settings]]:
    """The tables that may stand inside of a named one, as `[sources.main.webhook]` does."""
    if not any(model in models for models in NAMED.values()):
        return {}
    found = ((key, _models_in(field.annotation)) for key, field in model.model_fields.items())
    return {key: models[0] for key, models in found if models}


def is_inner_table(path: Path) -> bool:
    """Whether this is the place of a table inside of a named one."""
    return len(path) == 3 and any(path[2] in inner_tables(model) for model in NAMED.get(path[0], ()))


def inner_table(path: Path) -> type[Settings]:
    """The kind of table at this place, which is that of an inner one."""
    return next(inner[path[2]] for m in NAMED[path[0]] if path[2] in (inner := inner_tables(m)))


def attribute(model: type[Settings], key: str) -> str:
    """The attribute in which a setting is kept; another where pydantic has its own use for the name."""
    return next(name for name, field in model.model_fields.items() if key in (field.alias, name))


def is_secret(field: FieldInfo) -> bool:
    """Whether its value must never be shown, and may come from a file."""
    return field.annotation is SecretStr or (
        SecretStr in get_args(field.annotation) and not is_secret_table(field)
    )


def is_secret_table(field: FieldInfo) -> bool:
    """Whether it is a table of names of the user's and secrets; each of these may come from a file."""
    if get_origin(field.annotation) is not dict:
        return False
    _, value = get_args(field.annotation)
    return SecretStr in (value, *get_args(value))


def is_list(field: FieldInfo) -> bool:
    """Whether it holds several values (comma-separated in the environment)."""
    return get_origin(field.annotation) is tuple


def secrets(model: type[Settings]) -> list[str]:
    """Names of the secrets of a table."""
    return [key for key, field in fields(model).items() if is_secret(field)]


def keys(model: type[Settings]) -> list[str]:
    """Every key that a table takes, the file twins of its secrets included."""
    return [*fields(model), *(key + TWIN for key in secrets(model))]


def models_at(path: Path) -> tuple[type[Settings], ...]:
    """The kinds of table in which the setting `path` would stand; empty where there is no such table."""
    if len(path) == 1:
        return (General,)
    if len(path) == 2 and path[0] in GROUPS:
        return (GROUPS[path[0]],)
    if len(path) == 4:
        tables = [inner_tables(model) for model in NAMED.get(path[0], ())]
        return tuple(inner[path[2]] for inner in tables if path[2] in inner)
    return NAMED.get(path[0], ()) if len(path) == 3 else ()


def field_at(path: Path) -> FieldInfo | None:
    """The field of a setting; a file twin is not a field."""
    return next((found[path[-1]] for m in models_at(path) if path[-1] in (found := fields(m))), None)


def exists(path: Path) -> bool:
    """Whether `path` is a setting, a file twin included."""
    return any(path[-1] in keys(model) for model in models_at(path))


def twin(path: Path) -> Path | None:
    """The other of the two settings that give the same secret: itself and its file."""
    *table, key = path
    if (field := field_at(path)) and is_secret(field):
        return (*table, key + TWIN)
    base = (*table, key.removesuffix(TWIN))
    return base if base != path and (field := field_at(base)) and is_secret(field) else None


def all_paths(names: dict[str, set[str]]) -> list[Path]:
    """Every setting there is, given the names that exist in each table of named tables."""
    paths: list[Path] = [(key,) for key in keys(General)]
    paths += [(group, key) for group, model in GROUPS.items() for key in keys(model)]
    for table, models in NAMED.items():
        known = dict.fromkeys(key for model in models for key in keys(model))
        paths += [(table, name, key) for name in sorted(names[table]) for key in known]
        inner = [(word, key) for m in models for word, one in inner_tables(m).items() for key in keys(one)]
        paths += [(table, name, *place) for name in sorted(names[table]) for place in inner]
    return paths


def nearest(word: str, known: list[str]) -> str | None:
    """The one of `known` that `word` was most likely meant to be."""
    return next(iter(get_close_matches(word, known, n=1, cutoff=0.6)), None)


def env_name(path: Path) -> str:
    """The environment variable of a setting."""
    return "ZOOMRELAY_" + "__".join(path).upper()


def dotted(path: Path) -> str:
    """How a setting is called in messages and as a credential file."""
    return ".".join(path)
