"""Logs: structlog and the standard library's records through one formatter, redacted as the last step.

One line (or, on a console, one line and a traceback) per happening, to standard error.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from types import TracebackType
from typing import Any, TextIO

import structlog

from zoomrelay.config.models import Config, HttpSinkConfig, LogConfig
from zoomrelay.telemetry.recent_lines import RecentLines
from zoomrelay.telemetry.redaction import (
    Redactor,
    protect,
    protect_pair,
    protect_rotating,
    redact,
)

__all__ = [
    "Redactor",
    "configure_logging",
    "crashed",
    "protect",
    "protect_config",
    "protect_pair",
    "protect_rotating",
    "recent_lines",
    "redact",
    "set_level",
]

_OURS = "zoomrelay"
_HEADER_SECRET_LENGTH = 12

recent_lines = RecentLines()
"""What this process has logged last, as JSON: of libraries warnings and errors only, whatever the level, for
at `debug` they show the events that they carry."""


def protect_config(config: Config) -> None:
    """Protects every secret of `config`, and the account ids."""
    protect(*config.admin.secrets())
    for source in config.sources.values():
        protect(source.account_id)
        for client_secret in (source.client_secret, source.client_secret_next):
            if client_secret:
                protect_pair(source.client_id, client_secret.get_secret_value())
        for secret_token in (source.secret_token, source.webhook and source.webhook.secret_token):
            if secret_token:
                protect(secret_token.get_secret_value())
    for sink in config.sinks.values():
        if isinstance(sink, HttpSinkConfig):
            _protect_sink(sink)


def _protect_sink(sink: HttpSinkConfig) -> None:
    """Short values of headers stay: words like "production" are no secrets and occur everywhere."""
    if sink.password:
        protect_pair(sink.username, sink.password.get_secret_value())
    named = [secret for secret in (sink.secret_token, sink.bearer_token) if secret]
    protect(*(part for secret in named for part in secret.get_secret_value().split()))
    values = [secret.get_secret_value() for secret in sink.headers.values()]
    protect(*(value for value in values if len(value) >= _HEADER_SECRET_LENGTH))


def configure_logging(config: LogConfig, *, stream: TextIO | None = None) -> None:
    """Sends all logs of the process to `stream` (standard error), and uncaught exceptions and warnings
    with them. May be called again; the last call holds."""
    stream = stream or sys.stderr
    console = config.format == "console" or (config.format == "auto" and stream.isatty())
    handler = _Handler(stream)
    handler.setFormatter(_formatter(console, colors=stream.isatty() and not os.environ.get("NO_COLOR")))
    kept = _Keeping(recent_lines)
    kept.setFormatter(_formatter(console=False, colors=False))
    logging.getLogger().handlers[:] = [handler, kept]
    logging.captureWarnings(True)
    _configure_structlog()
    set_level(config.level)
    sys.excepthook = crashed
    sys.unraisablehook = _unraisable
    threading.excepthook = _thread_died


def set_level(level: str) -> None:
    """Sets the level from now on. Libraries are heard from `warning` on, at `debug` entirely."""
    logging.getLogger(_OURS).setLevel(level.upper())
    logging.getLogger().setLevel("DEBUG" if level == "debug" else "WARNING")


def crashed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Logs what nobody caught; fits `sys.excepthook`."""
    if not issubclass(kind, Exception):
        return
    if not any(isinstance(handler, _Handler) for handler in logging.getLogger().handlers):
        configure_logging(LogConfig())
    logging.getLogger(_OURS).critical("crash", exc_info=(kind, error, trace))


class _Handler(logging.StreamHandler[TextIO]):
    """The only way out."""

    def handleError(self, record: logging.LogRecord) -> None:
        """The default prints the record's arguments as they are."""
        cause = sys.exc_info()[0]
        words = f"log line lost: {record.name} at {record.pathname}:{record.lineno}"
        try:
            self.stream.write(f"{words} ({cause.__name__ if cause else 'unknown'})\n")
        except (OSError, ValueError):
            pass  # standard error is gone; nobody is left to tell


class _Keeping(_Handler):
    """For `recent_lines`."""

    def filter(self, record: logging.LogRecord) -> bool:
        ours = record.name == _OURS or record.name.startswith(f"{_OURS}.")
        return (ours or record.levelno >= logging.WARNING) and bool(super().filter(record))


class _Redacting(structlog.stdlib.ProcessorFormatter):
    """Whatever the renderers made, secrets do not get past here."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


_SHARED: tuple[structlog.typing.Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


def _configure_structlog() -> None:
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        # A cached logger would keep the processors of an earlier call.
        cache_logger_on_first_use=False,
    )


def _on_one_line(
    _logger: structlog.typing.WrappedLogger, _method: str, happening: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """What others sent must not move the cursor or begin a line of its own on somebody's terminal."""
    for key, value in happening.items():
        if isinstance(value, str) and not value.isprintable():
            happening[key] = repr(value)[1:-1]
    return happening


def _without_empty(
    _logger: structlog.typing.WrappedLogger, _method: str, happening: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """A field that says nothing is left out: no `cure=None`, no `detail=""`."""
    return {key: value for key, value in happening.items() if value is not None and value != ""}


def _formatter(console: bool, *, colors: bool) -> logging.Formatter:
    renderers: list[structlog.typing.Processor]
    if console:
        # Tracebacks stay plain: the pretty ones show local variables.
        plain = structlog.dev.plain_traceback
        renderers = [
            _on_one_line,
            structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain),
        ]
    else:
        renderers = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    cleaned = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    return _Redacting(foreign_pre_chain=_SHARED, processors=[cleaned, _without_empty, *renderers])


def _unraisable(info: Any) -> None:
    trace = (type(info.exc_value), info.exc_value, info.exc_traceback)
    logging.getLogger(_OURS).error("exception.ignored", exc_info=trace)


def _thread_died(info: threading.ExceptHookArgs) -> None:
    if info.exc_value is not None:
        trace = (info.exc_type, info.exc_value, info.exc_traceback)
        logging.getLogger(_OURS).error("thread.died", exc_info=trace)
