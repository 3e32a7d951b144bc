"""Rules between groups, and about files that must be there.

Each rule looks at what could be built; what could not has been reported already.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from zoomrelay.config.files import is_file
from zoomrelay.config.http_rules import broken_http_rules
from zoomrelay.config.models import (
    FileSinkConfig,
    General,
    HttpSinkConfig,
    PrivacyConfig,
    Settings,
    SinkBase,
    SourceConfig,
    SpoolConfig,
    StdoutSinkConfig,
)
from zoomrelay.config.path_template import may_meet
from zoomrelay.config.schema import Path, dotted, nearest
from zoomrelay.config.sizes import size_text
from zoomrelay.config.subscriptions import subscription_id
from zoomrelay.config.webhook_rules import broken_webhook_rules
from zoomrelay.errors import Problem
from zoomrelay.event import RELAY_SOURCE

SPOOL_AT_LEAST_BYTES = 1024**2
PSEUDONYM_KEY_AT_LEAST = 16


@dataclass(slots=True)
class Built:
    """The tables that are valid in themselves, by their paths."""

    tables: dict[Path, Settings] = field(default_factory=dict)
    names: dict[str, set[str]] = field(default_factory=dict)
    """Every named table that was mentioned, the invalid ones too."""

    @property
    def general(self) -> General:
        """Only there when the top level was valid."""
        table = self.tables[()]
        assert isinstance(table, General)
        return table

    @property
    def sources(self) -> list[SourceConfig]:
        return [table for table in self.tables.values() if isinstance(table, SourceConfig)]

    @property
    def sinks(self) -> list[SinkBase]:
        return [table for table in self.tables.values() if isinstance(table, SinkBase)]


def broken_rules(built: Built) -> Iterator[Problem]:
    """What is wrong between tables that are right by themselves."""
    yield from _own_name_is_free(built)
    yield from _subscriptions_once(built)
    yield from broken_webhook_rules(built.tables)
    yield from _sinks_name_sources(built)
    yield from _one_sink_per_output(built)
    yield from _one_sink_per_file(built)
    yield from _messages_fit_the_spool(built)
    yield from _memory_retains_nothing(built)
    yield from _files_are_there(built)
    yield from _pseudonyms_have_a_key(built)
    for sink in built.sinks:
        if isinstance(sink, HttpSinkConfig):
            yield from broken_http_rules(sink)


def _memory_retains_nothing(built: Built) -> Iterator[Problem]:
    for table in built.tables.values():
        if isinstance(table, SpoolConfig) and table.type == "memory" and table.retain_seconds:
            what = 'needs type = "sqlite": a spool in memory keeps nothing that was delivered'
            yield Problem("spool.retain_seconds", what)


def _own_name_is_free(built: Built) -> Iterator[Problem]:
    if RELAY_SOURCE in built.names["sources"]:
        yield Problem(
            f"sources.{RELAY_SOURCE}", "is the source of the relay's own events", "choose another name"
        )


def _subscriptions_once(built: Built) -> Iterator[Problem]:
    owners: dict[str, str] = {}
    for source in built.sources:
        for number, text in enumerate(source.subscriptions, 1):
            where = f"sources.{source.name}.subscriptions entry {number}"
            owner = owners.setdefault(subscription_id(text), where)
            if owner != where:
                cure = "Zoom serves one connection per subscription: remove one, or make another subscription"
                yield Problem(where, f"is the same subscription as {owner}", cure)


def _sinks_name_sources(built: Built) -> Iterator[Problem]:
    for sink in built.sinks:
        for name in sink.sources:
            if name not in built.names["sources"]:
                meant = nearest(name, sorted(built.names["sources"]))
                cure = f"did you mean {meant}?" if meant else ""
                yield Problem(f"sinks.{sink.name}.sources", f"there is no source {name}", cure)


def _one_sink_per_output(built: Built) -> Iterator[Problem]:
    users: dict[str, list[str]] = defaultdict(list)
    for sink in built.sinks:
        if isinstance(sink, StdoutSinkConfig):
            users["stdout"].append(sink.name)
    for output, (first, *others) in users.items():
        for name in others:
            yield Problem(f"sinks.{name}", f"writes to {output}, as sinks.{first} does", "keep one")


def _one_sink_per_file(built: Built) -> Iterator[Problem]:
    sinks = [sink for sink in built.sinks if isinstance(sink, FileSinkConfig)]
    for at, sink in enumerate(sinks):
        path = sink.path.resolve()
        first = next((one for one in sinks[:at] if may_meet(one.path.resolve(), path)), None)
        if first is None:
            continue
        if first.path.resolve() == path:
            yield Problem(
                f"sinks.{sink.name}", f"writes to the file {path}, as sinks.{first.name} does", "keep one"
            )
        else:
            what = f"may lead to the same file as sinks.{first.name}.path"
            yield Problem(f"sinks.{sink.name}.path", what, "give it a directory of its own")


def _messages_fit_the_spool(built: Built) -> Iterator[Problem]:
    spool = built.tables.get(("spool",))
    if not isinstance(spool, SpoolConfig):
        return
    if spool.max_bytes < SPOOL_AT_LEAST_BYTES:
        yield Problem("spool.max_bytes", f"must be at least {size_text(SPOOL_AT_LEAST_BYTES)}")
        return
    for source in built.sources:
        if source.max_message_bytes > spool.max_bytes:
            where = f"sources.{source.name}.max_message_bytes"
            yield Problem(where, "must not be larger than spool.max_bytes")


def _files_are_there(built: Built) -> Iterator[Problem]:
    for path, table in built.tables.items():
        for key in ("ca_file", "cert_file", "key_file"):
            file = getattr(table, key, None)
            if file and not (is_file(file) and os.access(file, os.R_OK)):
                yield Problem(dotted((*path, key)), f"{file} is not a file that can be read")


def _pseudonyms_have_a_key(built: Built) -> Iterator[Problem]:
    privacy = built.tables.get(("privacy",))
    users = [sink.name for sink in built.sinks if sink.privacy == "pseudonym"]
    if not users or not isinstance(privacy, PrivacyConfig):
        return
    key = privacy.key.get_secret_value() if privacy.key else ""
    if len(key) < PSEUDONYM_KEY_AT_LEAST:
        what = "is missing" if not key else f"must have at least {PSEUDONYM_KEY_AT_LEAST} characters"
        cure = f"sinks.{users[0]}.privacy needs it: set privacy.key_file, made with `openssl rand -hex 32`"
        yield Problem("privacy.key", what, cure)
