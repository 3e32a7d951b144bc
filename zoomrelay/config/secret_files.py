"""The files in which secrets of a configuration stand, and who may read them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from zoomrelay.config.files import RUN_SECRETS
from zoomrelay.config.load import Loaded
from zoomrelay.config.models import Config, HttpSinkConfig
from zoomrelay.config.schema import field_at, is_secret
from zoomrelay.config.secrets import FileSecret


def secret_files(loaded: Loaded, environ: Mapping[str, str] = os.environ) -> list[Path]:
    """Files in which a secret stands, without those that a service manager or container keeps for us."""
    private = [Path(d) for d in (environ.get("CREDENTIALS_DIRECTORY"), RUN_SECRETS) if d]
    inline = any(origin == str(loaded.file) for path, origin in loaded.origins.items() if _is_secret(path))
    inline = inline or _has_inline_headers(loaded.config)
    files = [file for file in loaded.files_read if file != loaded.file or inline]
    files += _keys(loaded.config)
    return [file for file in files if not any(file.is_relative_to(directory) for directory in private)]


def open_to_all(files: Iterable[Path]) -> list[str]:
    """Those that everybody on this machine can read. The group may, for that is how services share."""
    return [str(file) for file in files if _others_read(file)]


def _keys(config: Config) -> Iterator[Path]:
    """Private keys of certificates, which are opened by whoever connects."""
    for sink in config.sinks.values():
        if isinstance(sink, HttpSinkConfig) and (file := sink.key_file or sink.cert_file):
            yield file


def _is_secret(path: str) -> bool:
    field = field_at(tuple(path.split(".")))
    return field is not None and is_secret(field)


def _has_inline_headers(config: Config) -> bool:
    """Whether a header's value stands in the file itself; only there it can."""
    sinks = [sink for sink in config.sinks.values() if isinstance(sink, HttpSinkConfig)]
    return any(not isinstance(value, FileSecret) for sink in sinks for value in sink.headers.values())


def _others_read(file: Path) -> bool:
    try:
        return bool(file.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False
