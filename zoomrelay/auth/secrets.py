"""The client secrets as they are now: changed files are picked up, and of two the one that works is used."""

from __future__ import annotations

import hashlib

import structlog

from zoomrelay.config.models import SourceConfig
from zoomrelay.config.secrets import FileSecret
from zoomrelay.telemetry.redaction import protect_pair

log = structlog.get_logger()


class ClientSecrets:
    """`client_secret` and `client_secret_next` of one source."""

    def __init__(self, source: SourceConfig) -> None:
        self._source = source
        self._first = "client_secret"
        self._good: dict[str, str] = {}
        """The last values, by setting."""
        self._unreadable: set[str] = set()

    def candidates(self) -> list[tuple[str, str]]:
        """Setting and secret, in the order in which to try them; `("", "")` for a client without any."""
        found = [(name, self._value(name)) for name in ("client_secret", "client_secret_next")]
        given = [(name, secret) for name, secret in found if secret]
        return sorted(given, key=lambda one: one[0] != self._first) or [("", "")]

    def worked(self, name: str) -> None:
        """Zoom took this one: it is tried first from now on."""
        if name and name != self._first:
            self._first = name
            log.info("auth.client_secret_worked", source=self._source.name, setting=name)

    def fingerprint(self) -> str:
        told = "\0".join(secret for _, secret in sorted(self.candidates()))
        key = self._source.client_id.encode()[:64]
        return hashlib.blake2b(told.encode(), key=key, digest_size=8).hexdigest()

    def _value(self, name: str) -> str:
        given = getattr(self._source, name)
        if given is None:
            return ""
        if not isinstance(given, FileSecret):
            return str(given.get_secret_value())
        try:
            value = given.read()
        except ValueError as error:
            self._note_unreadable(name, given, str(error))
            return self._good.get(name, given.get_secret_value())
        self._note_readable(name, given, value)
        return value

    def _note_readable(self, name: str, given: FileSecret, value: str) -> None:
        self._unreadable.discard(name)
        if value != self._good.get(name, given.get_secret_value()):
            protect_pair(self._source.client_id, value)
            log.info("auth.client_secret_changed", source=self._source.name, setting=name)
        self._good[name] = value

    def _note_unreadable(self, name: str, given: FileSecret, problem: str) -> None:
        if name not in self._unreadable:
            self._unreadable.add(name)
            log.warning(
                "auth.client_secret_unreadable",
                source=self._source.name,
                setting=name,
                path=str(given.path),
                problem=problem,
                effect="the last value that could be read is used",
            )
