"""config.example.toml: it loads as it is and with every line in use, and its defaults are the true ones."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import PydanticUndefined

from zoomrelay.config import load
from zoomrelay.config.models import General, Settings, WebhookConfig
from zoomrelay.config.schema import GROUPS, KINDS, NAMED, fields, inner_tables, is_secret
from zoomrelay.config.sizes import size_bytes

EXAMPLE = (Path(__file__).parents[3] / "config.example.toml").read_text(encoding="utf-8")
EVERYTHING = re.sub(r"(?m)^#(?=\S)", "", EXAMPLE)
MINIMUM = {"account_id", "client_id", "client_secret", "subscriptions"}


@pytest.mark.parametrize("text", [EXAMPLE, EVERYTHING], ids=["as it is", "every line"])
def test_it_loads(tmp_path: Path, text: str) -> None:
    file = tmp_path / "zoomrelay.toml"
    file.write_text(text, encoding="utf-8")
    assert load(file, environ={}, secrets_directory=tmp_path).config.sources["main"]


def test_only_the_minimum_is_in_use() -> None:
    assert tomllib.loads(EXAMPLE).keys() == {"sources"}
    assert tomllib.loads(EXAMPLE)["sources"]["main"].keys() == MINIMUM


def _tables() -> list[tuple[str, type[Settings], dict[str, Any]]]:
    document = tomllib.loads(EVERYTHING)
    general = {key: value for key, value in document.items() if key not in GROUPS and key not in NAMED}
    found = [("general", General, general)]
    found += [(group, model, document[group]) for group, model in GROUPS.items()]
    source = document["sources"]["main"]
    inner = inner_tables(NAMED["sources"][0])
    found += [("source", NAMED["sources"][0], {k: v for k, v in source.items() if k not in inner})]
    found += [(key, model, source[key]) for key, model in inner.items()]
    return found + [
        (f"{table['type']} sink", KINDS[table["type"]], table) for table in document["sinks"].values()
    ]


TABLES = _tables()


def test_it_has_every_kind_of_sink() -> None:
    assert {f"{kind} sink" for kind in KINDS} <= {name for name, _, _ in TABLES}


@pytest.mark.parametrize(("model", "table"), [t[1:] for t in TABLES], ids=[t[0] for t in TABLES])
def test_it_names_every_setting_with_its_default(model: type[Settings], table: dict[str, Any]) -> None:
    assert set(table) == set(fields(model))
    for key, value in table.items():
        if (model, key) == (WebhookConfig, "secret_token"):  # by default that of the source
            continue
        default = _default(model, key)
        if default is not PydanticUndefined and key not in MINIMUM and key != "type":
            assert (size_bytes(value) if key.endswith("_bytes") else value) == default, key


def _default(model: type[Settings], key: str) -> object:
    field = fields(model)[key]
    if key == "state_dir":
        return "zoomrelay-state"
    if key == "dead_after_seconds":
        return 75
    if field.default is None:
        return ""
    assert not is_secret(field) or field.is_required()
    return list(field.default) if isinstance(field.default, tuple) else field.default


def test_each_line_is_explained_or_plain() -> None:
    """A duration or a size says its unit."""
    for line in EVERYTHING.splitlines():
        if re.match(r"\w+_seconds = ", line):
            assert "second" in line.partition("#")[2], line
        if re.match(r"\w+_bytes = ", line):
            assert "size" in line.partition("#")[2], line
