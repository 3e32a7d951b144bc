"""What a reload would come to, by two configurations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec import to_builtins

from zoomrelay.app.changes import compare, has_changed, taken_over
from zoomrelay.config.models import Config, SourceConfig
from zoomrelay.config.secrets import FileSecret

A, B, C = (f"Subscription{letter}000000000" for letter in "ABC")
_MAIN: dict[str, Any] = {"client_id": "id", "account_id": "account", "client_secret": "first-secret"}


def config(sinks: dict[str, Any] | None = None, general: dict[str, Any] | None = None, **main: Any) -> Config:
    sinks = {"console": {"type": "stdout"}} if sinks is None else sinks
    given = {
        "state_dir": "/state",
        "sources": {"main": {"name": "main", "subscriptions": (A,), **_MAIN, **main}},
        "sinks": {name: {"name": name, **sink} for name, sink in sinks.items()},
    }
    return Config.model_validate(given | (general or {}))


def changes(old: Config, new: Config) -> dict[str, list[str]]:
    return {name: names for name, names in to_builtins(compare(old, new)).items() if names}


def test_nothing() -> None:
    assert changes(config(), config()) == {}


def test_sinks() -> None:
    crm = {"type": "http", "url": "http://crm/", "bearer_token": "one"}
    old = config({"console": {"type": "stdout"}, "crm": crm})
    new = config({"crm": crm | {"bearer_token": "two", "events": ("meeting.*",)}, "more": {"type": "stdout"}})
    assert changes(old, new) == {
        "added": ["sinks.more"],
        "removed": ["sinks.console"],
        "changed": ["sinks.crm.events", "sinks.crm.bearer_token"],
    }


def test_subscriptions_go_by_their_ids() -> None:
    old = config(subscriptions=(A, B))
    new = config(subscriptions=(C, f"wss://ws.zoom.us/ws?subscriptionId={A}"))
    of_main = "sources.main.subscriptions"
    assert changes(old, new) == {
        "added": [f"{of_main}.{C}"],
        "removed": [f"{of_main}.{B}"],
        "changed": [f"{of_main}.{A}"],
    }
    assert changes(old, config(subscriptions=(B, A))) == {}


def test_a_secret_is_told_by_its_name() -> None:
    told = compare(config(), config(client_secret="second-secret", client_secret_next="third"))
    assert told.changed == ["sources.main.client_secret", "sources.main.client_secret_next"]
    assert "secret" not in repr(told).replace("client_secret", "")


def test_a_file_with_another_content_is_another_secret() -> None:
    """Though it is no other setting, and equal as such."""
    file = Path("/run/secrets/token")
    old, new = (
        config({"crm": {"type": "http", "url": "http://crm/", "bearer_token": FileSecret(text, file)}})
        for text in ("one", "two")
    )
    assert old == new
    assert changes(old, new) == {"changed": ["sinks.crm.bearer_token"]}
    assert has_changed("crm", old, new)


def test_what_needs_a_restart_stays_as_it_was() -> None:
    old = config()
    general = {
        "state_dir": "/elsewhere",
        "drain_seconds": 1,
        "spool": {"type": "memory"},
        "admin": {"listen": ""},
        "log": {"level": "debug", "format": "json"},
    }
    new = config(general=general, heartbeat_seconds=10)
    assert changes(old, new) == {
        "changed": [
            *("sources.main.heartbeat_seconds", "sources.main.dead_after_seconds"),
            *("log.level", "drain_seconds"),
        ],
        "needs_restart": ["spool.type", "admin.listen", "log.format", "state_dir"],
    }
    now = taken_over(old, new)
    assert changes(now, new)["needs_restart"] == compare(old, new).needs_restart
    assert (now.log.level, now.drain_seconds, now.sources) == ("debug", 1, new.sources)
    assert (now.state_dir, now.spool, now.admin) == (old.state_dir, old.spool, old.admin)


def test_sources_come_and_go() -> None:
    new = config()
    other = SourceConfig(**{**_MAIN, "name": "other"})
    new = new.model_copy(update={"sources": {"other": other}})
    assert changes(config(), new) == {"added": ["sources.other"], "removed": ["sources.main"]}
    assert taken_over(config(), new).sources == {"other": other}


@pytest.mark.parametrize("name", sorted(SourceConfig.model_fields))
def test_every_setting_of_a_source_is_decided(name: str) -> None:
    """Either it is taken over, or it says that it needs a restart and stays as it was."""
    if name in ("name", "subscriptions"):
        return
    old = config().sources["main"]
    new = old.model_copy(update={name: object()})
    both = (config().model_copy(update={"sources": {"main": one}}) for one in (old, new))
    before, after = both
    told = compare(before, after)
    same = getattr(taken_over(before, after).sources["main"], name) == getattr(old, name)
    assert (told.changed, told.needs_restart, same) in (
        ([f"sources.main.{name}"], [], False),
        ([], [f"sources.main.{name}"], True),
    )
