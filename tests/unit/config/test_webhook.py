"""The table of a webhook inside of a source: where it may come from, what it needs, what is said of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zoomrelay.config import load
from zoomrelay.config.models import Config
from zoomrelay.config.settings import RelaySettings
from zoomrelay.config.show import settings
from zoomrelay.errors import ConfigError

ALONE = '[sources.hooks.webhook]\nlisten = "127.0.0.1:8080"\nsecret_token = "word"\n'
APP = '[sources.main]\nclient_id = "id"\nclient_secret = "secret"\nsubscriptions = ["abc"]\n'


@pytest.fixture
def loaded(tmp_path: Path) -> Callable[..., Config]:
    def from_text(text: str, **environ: str) -> Config:
        file = tmp_path / "zoomrelay.toml"
        file.write_text(text)
        return load(file, environ=environ, secrets_directory=tmp_path / "run", into=RelaySettings).config

    return from_text


def problems(loaded: Callable[..., Config], text: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        loaded(text, **environ)
    return [str(problem) for problem in error.value.problems]


def test_a_webhook_alone_needs_no_app(loaded: Callable[..., Config]) -> None:
    source = loaded(ALONE).sources["hooks"]
    assert source.webhook is not None and not source.has_app and source.subscriptions == ()
    assert (source.webhook.path, source.webhook.max_body_bytes) == ("/webhook", 1024**2)
    assert source.webhook_secret is not None and source.webhook_secret.get_secret_value() == "word"


def test_the_apps_secret_is_the_webhooks_too(loaded: Callable[..., Config]) -> None:
    text = APP + 'secret_token = "of the app"\n[sources.main.webhook]\nlisten = ":8080"\n'
    for more, expected in (("", "of the app"), ('secret_token = "its own"\n', "its own")):
        secret = loaded(text + more).sources["main"].webhook_secret
        assert secret is not None and secret.get_secret_value() == expected


def test_it_may_come_from_anywhere(loaded: Callable[..., Config], tmp_path: Path) -> None:
    (tmp_path / "word").write_text("from a file\n")
    environ = {
        "ZOOMRELAY_SOURCES__HOOKS__WEBHOOK__LISTEN": ":8080",
        "ZOOMRELAY_SOURCES__HOOKS__WEBHOOK__SECRET_TOKEN_FILE": str(tmp_path / "word"),
    }
    source = loaded("", **environ).sources["hooks"]
    assert source.webhook is not None and source.webhook.listen == ":8080"
    assert source.webhook_secret is not None and source.webhook_secret.get_secret_value() == "from a file"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "sources.hooks.webhook.secret_token").write_text("a credential")
    given = '[sources.hooks.webhook]\nlisten = ":8080"\n'
    secret = loaded(given).sources["hooks"].webhook_secret
    assert secret is not None and secret.get_secret_value() == "a credential"


def test_it_is_shown_without_its_secret(loaded: Callable[..., Config], tmp_path: Path) -> None:
    file = tmp_path / "zoomrelay.toml"
    file.write_text(ALONE)
    shown = {one.path: one for one in settings(load(file, environ={}, secrets_directory=tmp_path))}
    listen = shown["sources", "hooks", "webhook", "listen"]
    assert (listen.value, listen.origin) == ("127.0.0.1:8080", str(file))
    assert shown["sources", "hooks", "webhook", "secret_token"].value == "***"
    assert "word" not in json.dumps([str(one.value) for one in shown.values()])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (APP + 'webhook = "yes"', "sources.main.webhook: must be a table"),
        (ALONE + 'pfad = "/x"', "sources.hooks.webhook.pfad: is not a setting"),
        (ALONE + 'path = "x"', 'sources.hooks.webhook.path: must be a path like "/webhook"'),
        (ALONE + 'path = "/a b"', 'sources.hooks.webhook.path: must be a path like "/webhook"'),
        (ALONE + 'path = "/a?b"', 'sources.hooks.webhook.path: must be a path like "/webhook"'),
        (ALONE.replace("127.0.0.1:8080", ""), "sources.hooks.webhook.listen: is empty"),
        (ALONE.replace("127.0.0.1:8080", "8080"), "sources.hooks.webhook.listen: must be host:port"),
        (ALONE.replace('listen = "127.0.0.1:8080"\n', ""), "sources.hooks.webhook.listen: is missing"),
        (ALONE.replace('secret_token = "word"\n', ""), "sources.hooks.webhook.secret_token: is missing"),
        (ALONE + 'max_body_bytes = "much"', "sources.hooks.webhook.max_body_bytes: "),
        (ALONE + 'key_file = "/nowhere"', "sources.hooks.webhook.key_file: needs cert_file"),
        (ALONE + 'cert_file = "/nowhere"', "sources.hooks.webhook.cert_file: /nowhere is not a file"),
        (
            '[sources.hooks]\nsubscriptions = ["abc"]\n' + ALONE,
            "sources.hooks.client_id: is missing: subscriptions need it",
        ),
        (
            APP.replace("abc", "webhook") + '[sources.main.webhook]\nlisten = ":1"\nsecret_token = "x"',
            "sources.main.subscriptions: webhook is no id of a subscription",
        ),
        (
            ALONE.replace("127.0.0.1:8080", "127.0.0.1:9464"),
            "sources.hooks.webhook.listen: is the address of admin.listen too",
        ),
        (ALONE.replace("127.0.0.1:8080", ":9464"), "sources.hooks.webhook.listen: is the address of admin"),
        (
            ALONE + ALONE.replace("hooks", "more"),
            "sources.more.webhook.listen: is the address of sources.hooks.webhook.listen too",
        ),
    ],
)
def test_what_is_wrong_with_it(loaded: Callable[..., Config], text: str, expected: str) -> None:
    (problem,) = problems(loaded, text)
    assert problem.startswith(expected)
    assert "word" not in problem


def test_a_variable_that_is_none(loaded: Callable[..., Config]) -> None:
    (problem,) = problems(loaded, ALONE, ZOOMRELAY_SOURCES__HOOKS__WEBHOOK__LISTNE=":1")
    assert problem.startswith("environment ZOOMRELAY_SOURCES__HOOKS__WEBHOOK__LISTNE: is not a setting")
    assert "did you mean ZOOMRELAY_SOURCES__HOOKS__WEBHOOK__LISTEN?" in problem


@pytest.mark.parametrize("ports", [(":0", ":0"), ("127.0.0.1:8080", "127.0.0.2:8080")])
def test_addresses_that_differ(loaded: Callable[..., Config], ports: tuple[str, str]) -> None:
    first, second = (ALONE.replace("127.0.0.1:8080", port) for port in ports)
    assert len(loaded(first + second.replace("hooks", "more")).sources) == 2


def test_an_app_without_a_webhook_is_asked_for_its_id(loaded: Callable[..., Any]) -> None:
    found = problems(loaded, "[sources.main]\n")
    assert [problem.partition(":")[0] for problem in found] == [
        "sources.main.client_id",
        "sources.main.client_secret",
    ]
