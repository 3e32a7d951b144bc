"""What the two sides of a takeover tell each other (docs/decisions/0010-takeover.md has the order)."""

from __future__ import annotations

from hashlib import blake2b

import msgspec

from zoomrelay.config.models import Config


class Begin(msgspec.Struct, frozen=True):
    """New to old, with the first request, which stays open."""

    version: str
    pid: int
    journal: str
    """Its file's name in the state directory."""
    settings: dict[str, str] = {}
    """See `fingerprints`."""


class Offer(msgspec.Struct, frozen=True):
    """Old to new: it has begun."""

    version: str
    pid: int
    spool_format: int
    differs: list[str]
    """Settings that the two do not have in common."""
    paths: dict[str, bool]
    """`source/subscription` -> whether the old one listens to it."""


class Paths(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """New to old: those that it is about."""

    journal: str
    """Says who it is."""
    paths: list[str]


class Released(msgspec.Struct, frozen=True):
    """Old to new: everything is durable."""

    timeless: list[str] = []
    """Identities (hexadecimal) of its last minute's events without `event_ts`, which nothing else tells."""


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the answer to the first request; the others are empty and say that the old one lives."""

    offer: Offer | None = None
    cancelled: str | None = None
    """Why the old one goes on by itself."""
    released: Released | None = None


def fingerprints(config: Config) -> dict[str, str]:
    """Setting (a section, or one source or sink of it) -> a hash of its values. Secrets are not in it."""
    sections = {
        **{f"sources.{name}": source for name, source in config.sources.items()},
        **{f"sinks.{name}": sink for name, sink in config.sinks.items()},
        **{name: getattr(config, name) for name in ("spool", "privacy", "admin", "log")},
    }
    return {
        name: blake2b(section.model_dump_json().encode(), digest_size=8).hexdigest()
        for name, section in sections.items()
    }


def differing(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """Settings that are not the same in both."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
