"""What differs between two configurations, and what of it a running relay can take over. Pure.

Everything has its dotted name as in the file; a subscription is named by its id. No name holds a value.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from pydantic import BaseModel, SecretStr

from zoomrelay.config.models import Config, SourceConfig
from zoomrelay.config.subscriptions import subscription_id

_OF_SOURCES = {
    *("account_id", "client_id", "grant", "client_secret", "client_secret_next", "token_url", "api_url"),
    *("subscriptions", "ws_url", "proxy", "ca_file", "max_message_bytes"),
    *("secret_token", "verify_signature"),
    *("heartbeat_seconds", "dead_after_seconds", "quiet_after_seconds"),
}
"""Settings of a source that are taken over; a new one needs a restart until somebody has seen to it."""


class Changes(msgspec.Struct):
    """Dotted names, each in one of these lists."""

    added: list[str] = []
    removed: list[str] = []
    changed: list[str] = []
    waiting: list[str] = []
    """Of those that were added: subscriptions that are not accepted yet, and in whose place old ones stay."""
    needs_restart: list[str] = []
    """What was not taken over."""


def compare(old: Config, new: Config) -> Changes:
    """What a reload from the one to the other comes to."""
    changes = Changes()
    for table in ("sinks", "sources"):
        one, other = getattr(old, table), getattr(new, table)
        changes.added += [f"{table}.{name}" for name in other if name not in one]
        changes.removed += [f"{table}.{name}" for name in one if name not in other]
    for name, sink in new.sinks.items():
        if name in old.sinks:
            changes.changed += _prefixed(f"sinks.{name}", _differing(old.sinks[name], sink))
    for name, source in new.sources.items():
        if name in old.sources:
            _compare_sources(changes, old.sources[name], source)
    changes.changed += _prefixed("privacy", _differing(old.privacy, new.privacy))
    changes.needs_restart += _prefixed("spool", _differing(old.spool, new.spool))
    _sort_out(changes, "admin.", _differing(old.admin, new.admin), {"bearer_token", "ping_url"})
    _sort_out(changes, "log.", _differing(old.log, new.log), {"level"})
    general = [name for name in ("state_dir", "drain_seconds") if getattr(old, name) != getattr(new, name)]
    _sort_out(changes, "", general, {"drain_seconds"})
    return changes


def taken_over(old: Config, new: Config) -> Config:
    """The new configuration, with what needs a restart as it was."""
    return new.model_copy(
        update={
            "state_dir": old.state_dir,
            "spool": old.spool,
            "admin": new.admin.model_copy(update={"listen": old.admin.listen}),
            "log": new.log.model_copy(update={"format": old.log.format}),
            "sources": {name: _source_taken_over(old, source) for name, source in new.sources.items()},
        }
    )


def has_changed(sink: str, old: Config, new: Config) -> bool:
    """Whether this sink, which is in both, must begin anew."""
    private = new.sinks[sink].privacy != "off" and bool(_differing(old.privacy, new.privacy))
    return private or bool(_differing(old.sinks[sink], new.sinks[sink]))


def _source_taken_over(old: Config, new: SourceConfig) -> SourceConfig:
    if new.name not in old.sources:
        return new
    kept = type(new).model_fields.keys() - _OF_SOURCES
    return new.model_copy(update={name: getattr(old.sources[new.name], name) for name in kept})


def _compare_sources(changes: Changes, old: SourceConfig, new: SourceConfig) -> None:
    fields = _differing(old, new)
    if "subscriptions" in fields:
        fields.remove("subscriptions")
        before, after = (_by_id(source) for source in (old, new))
        name = f"sources.{new.name}.subscriptions"
        changes.added += _prefixed(name, [one for one in after if one not in before])
        changes.removed += _prefixed(name, [one for one in before if one not in after])
        same = before.keys() & after.keys()
        changes.changed += _prefixed(
            name, [one for one in after if one in same and before[one] != after[one]]
        )
    _sort_out(changes, f"sources.{new.name}.", fields, _OF_SOURCES)


def _sort_out(changes: Changes, prefix: str, names: Iterable[str], can: set[str]) -> None:
    for name in names:
        (changes.changed if name in can else changes.needs_restart).append(prefix + name)


def _by_id(source: SourceConfig) -> dict[str, str]:
    return {subscription_id(text): text for text in source.subscriptions}


def _prefixed(prefix: str, names: Iterable[str]) -> list[str]:
    return [f"{prefix}.{name}" for name in names]


def _differing(old: BaseModel, new: BaseModel) -> list[str]:
    """Fields in the order of the model. Of two types, all that the new one has."""
    return [
        name
        for name in type(new).model_fields
        if _told(getattr(old, name, None)) != _told(getattr(new, name))
    ]


def _told(value: Any) -> Any:
    """Something to compare: of a secret both its file and what was in it when it was read."""
    if isinstance(value, SecretStr):
        return value.get_secret_value(), getattr(value, "path", None)
    if isinstance(value, dict):
        return {name: _told(one) for name, one in value.items()}
    return value
