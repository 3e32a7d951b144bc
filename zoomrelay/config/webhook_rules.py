"""Rules of webhooks: what they need, and an address of their own. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from zoomrelay.config.addresses import listen_address
from zoomrelay.config.models import AdminConfig, Settings, SourceConfig, WebhookConfig
from zoomrelay.config.schema import Path, dotted
from zoomrelay.config.subscriptions import subscription_id
from zoomrelay.errors import Problem
from zoomrelay.event import WEBHOOK

_ANYWHERE = ("", "0.0.0.0", "::")


def broken_webhook_rules(tables: Mapping[Path, Settings]) -> Iterator[Problem]:
    """What is wrong between tables that are right by themselves."""
    for path, table in tables.items():
        if isinstance(table, SourceConfig) and table.webhook is not None:
            yield from _source_has_what_it_needs(path, table, tables)
    yield from _addresses_are_their_own(tables)


def _source_has_what_it_needs(
    path: Path, source: SourceConfig, tables: Mapping[Path, Settings]
) -> Iterator[Problem]:
    if source.webhook_secret is None and (*path, "webhook") in tables:
        cure = "set it, or secret_token of the source: the Secret Token on the app's Feature page"
        yield Problem(dotted((*path, "webhook", "secret_token")), "is missing", cure)
    if source.subscriptions and not source.has_app:
        cure = "set it, or remove subscriptions: a webhook alone needs no app credentials"
        yield Problem(dotted((*path, "client_id")), "is missing: subscriptions need it", cure)
    if WEBHOOK in map(subscription_id, source.subscriptions):
        yield Problem(dotted((*path, "subscriptions")), f"{WEBHOOK} is no id of a subscription")


def _addresses_are_their_own(tables: Mapping[Path, Settings]) -> Iterator[Problem]:
    taken: list[tuple[str, str, int]] = []
    for path, table in sorted(tables.items(), key=lambda item: not isinstance(item[1], AdminConfig)):
        if not isinstance(table, AdminConfig | WebhookConfig) or not table.listen:
            continue
        where, (host, port) = dotted((*path, "listen")), listen_address(table.listen) or ("", 0)
        for owner, its_host, its_port in taken:
            if port == its_port != 0 and (host == its_host or {host, its_host} & set(_ANYWHERE)):
                yield Problem(where, f"is the address of {owner} too", "give each a port of its own")
        taken.append((where, host, port))
