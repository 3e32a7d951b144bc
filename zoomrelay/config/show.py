"""An effective configuration as it may be shown: secrets masked, each setting with its origin. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import SecretStr

from zoomrelay.config.addresses import shown_url
from zoomrelay.config.load import Loaded
from zoomrelay.config.models import Config, General, Settings
from zoomrelay.config.schema import GROUPS, NAMED, Path, attribute, dotted, fields, inner_tables
from zoomrelay.config.sizes import size_text

MASK = "***"
ABOUT_EVENT_BYTES = 1024
RATES_PER_SECOND = (1, 10, 100)


@dataclass(frozen=True, slots=True)
class Shown:
    """One setting."""

    path: Path
    value: object
    """As TOML would hold it; a mask in place of a secret."""
    origin: str

    @property
    def line(self) -> str:
        """`key = value`, as in TOML."""
        return f"{self.path[-1]} = {_toml(self.value)}"


def settings(loaded: Loaded) -> Iterator[Shown]:
    """Every setting, in the order of the tables."""
    for table, model in _tables(loaded.config):
        for key in sorted(fields(type(model)), key=lambda key: key != "type"):
            path = (*table, key)
            value = getattr(model, attribute(type(model), key))
            yield Shown(path, _shown(key, value), loaded.origins[dotted(path)])


def outage_hours(config: Config) -> dict[int, float]:
    """For how many hours the spool holds events that no sink takes, by events per second of about 1 KiB."""
    return {rate: config.spool.max_bytes / ABOUT_EVENT_BYTES / rate / 3600 for rate in RATES_PER_SECOND}


def _tables(config: Config) -> Iterator[tuple[Path, Settings]]:
    """The general settings are first: in TOML nothing may stand above them."""
    yield (), General.model_construct(**{key: getattr(config, key) for key in General.model_fields})
    for key in Config.model_fields:
        if key in NAMED:
            for name, table in getattr(config, key).items():
                yield (key, name), table
                inner = ((word, getattr(table, word)) for word in inner_tables(type(table)))
                yield from (((key, name, word), one) for word, one in inner if one is not None)
        elif key in GROUPS:
            yield (key,), getattr(config, key)


def _shown(key: str, value: object) -> object:
    if isinstance(value, SecretStr):
        return MASK
    if key == "account_id" and value:
        return (str(value)[:3] if len(str(value)) > 6 else "") + "…"
    if key.endswith("_bytes") and isinstance(value, int):
        return size_text(value)
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, tuple):
        return [_shown(key, item) for item in value]
    if isinstance(value, dict):
        return {name: _shown(key, inner) for name, inner in value.items()}
    if isinstance(value, str) and "://" in value:
        return shown_url(value) if key != "subscriptions" else value
    return value if isinstance(value, str | bool | int) else "" if value is None else str(value)


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(name)} = {_toml(inner)}" for name, inner in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)
