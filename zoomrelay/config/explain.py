"""Validation errors in our own words. Pure.

pydantic's messages print what was given, and what was given may be a secret under a misspelt key: only
the kind of an error and its place are taken from it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, get_args

from pydantic import ValidationError

from zoomrelay.config.models import General, HttpFormat, Settings
from zoomrelay.config.schema import (
    GROUPS,
    KINDS,
    NAMED,
    TWIN,
    Path,
    dotted,
    env_name,
    fields,
    inner_tables,
    keys,
    nearest,
    secrets,
)
from zoomrelay.errors import Problem

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

LATER = {
    "type": {"jetstream"},
}
"""Values that the configuration contract names and this version does not have."""

_NO_FAULT_OF_ITS_OWN = {"default_factory_not_called"}

_FIXED = {
    "string_type": "must be text in quotes",
    "string_pattern_mismatch": "must be one word of plain characters, without spaces",
    "string_too_short": "is empty",
    "too_short": "is empty",
    "path_type": "must be a path in quotes",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "tuple_type": 'must be a list, like ["a", "b"]',
    "finite_number": "must be a number that has an end",
    "dict_type": "must be a table",
}
_COMPARED = {
    "greater_than": ("gt", "larger than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def explain(error: ValidationError, model: type[Settings], table: Path) -> list[Problem]:
    """The problems of one table, in the order of the model's fields.

    A required setting that is missing because its name is misspelt is mentioned once.
    """
    details = error.errors(include_url=False)
    meant = {
        _meant(str(detail["loc"][0]), model) for detail in details if detail["type"] == "extra_forbidden"
    }
    return [
        _problem(detail, model, table)
        for detail in details
        if detail["type"] not in _NO_FAULT_OF_ITS_OWN
        and not (detail["type"] == "missing" and detail["loc"][0] in meant)
    ]


def _problem(detail: ErrorDetails, model: type[Settings], table: Path) -> Problem:
    key, *inner = detail["loc"]
    where = (*table, str(key))
    place = _place(where, inner)
    if detail["type"] == "extra_forbidden":
        return Problem(place, *_unknown(str(key), model, table))
    if detail["type"] == "missing":
        return Problem(place, "is missing", _how_to_give(where, str(key) in secrets(model)))
    return Problem(place, _sentence(detail, str(key)))


def _place(where: Path, inner: list[int | str]) -> str:
    """Inside of a list by number, inside of a table by name; what is no name may be a secret in its place."""
    match inner:
        case [str(name), *_] if re.fullmatch(r"[A-Za-z0-9_-]+", name) and where[-1] != "deadline_seconds":
            return f"{dotted(where)}.{name}"
        case [int(number), *_]:
            return f"{dotted(where)} entry {number + 1}"
    return dotted(where)


def _known(model: type[Settings]) -> list[str]:
    """What may be written where `model` stands; tables stand beside the general settings."""
    return [*keys(model), *GROUPS, *NAMED] if model is General else [*keys(model), *inner_tables(model)]


def _meant(key: str, model: type[Settings]) -> str:
    return (nearest(key, _known(model)) or "").removesuffix(TWIN)


def _unknown(key: str, model: type[Settings], table: Path) -> tuple[str, str]:
    if len(table) == 2 and model in KINDS.values():
        homes = [kind for kind, other in KINDS.items() if key in fields(other)]
        if homes:
            return f"is a setting of {' and '.join(homes)} sinks", "this one is another type"
    meant = nearest(key, _known(model))
    cure = f"did you mean {meant}?" if meant else f"known here: {', '.join(_known(model))}"
    return "is not a setting", cure


def _how_to_give(path: Path, secret: bool) -> str:
    if not secret:
        return f"set it, or {env_name(path)}"
    return f"set it, {path[-1]}{TWIN}, {env_name(path)}, or give a credential file named {dotted(path)}"


def _sentence(detail: ErrorDetails, key: str) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        return _choice(key, detail["input"], str(context["expected"]))
    if kind in _COMPARED:
        bound, words = _COMPARED[kind]
        return f"must be {words} {context[bound]:g}"
    if kind.startswith(("float_", "int_")):
        return _number(key, kind)
    return _FIXED.get(kind, "is not usable")


def _choice(key: str, given: Any, expected: str) -> str:
    if key == "format" and given in get_args(HttpFormat) and f"'{given}'" not in expected:
        return f"{given} is a format of http sinks; it must be {expected}"
    if isinstance(given, str) and given in LATER.get(key, ()):
        return f"{given} is not available in this version, which has {expected.replace(' or ', ', ')}"
    return f"must be {expected}"


def _number(key: str, kind: str) -> str:
    if key.endswith("_seconds"):
        return "must be a number of seconds"
    return "must be a whole number" if kind.startswith("int_") else "must be a number"
