"""What a support archive holds, part by part. Whatever cannot be had is named, with the reason."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

from zoomrelay import __version__
from zoomrelay.admin.client import ControlClient
from zoomrelay.auth.stores.file import FileStore
from zoomrelay.cli import doctor
from zoomrelay.cli.check import text as effective
from zoomrelay.cli.options import load_config, load_state_dir
from zoomrelay.config.load import Loaded
from zoomrelay.config.models import Config, HttpSinkConfig
from zoomrelay.config.secret_files import secret_files
from zoomrelay.doctor.examination import Examination
from zoomrelay.doctor.finding import Report
from zoomrelay.errors import (
    ConfigError,
    ControlRefused,
    RelayNotRunning,
    StateDirectoryError,
    TokenStoreError,
)
from zoomrelay.intake import ledger
from zoomrelay.privacy.text import without_contacts
from zoomrelay.telemetry.logs import protect, protect_rotating, redact
from zoomrelay.telemetry.recent_lines import SAVED
from zoomrelay.telemetry.stalls import DIRECTORY as STALLS

_ASK_SECONDS = 10.0
_DOCTOR_SECONDS = 180.0
_MOST_GAPS = 10_000
_TOKEN_CHARACTERS = 16
"""A part of a path that is as long as this may be what lets in whoever knows it."""
_NO_ANSWER = (RelayNotRunning, ControlRefused, StateDirectoryError)


class Part(NamedTuple):
    """One file of the archive."""

    name: str
    about: str
    text: str = ""
    """Secrets and contacts masked."""
    missing: str = ""
    """Why it is not there."""


def parts(path: Path | None, *, examine: bool, announce: Callable[[str], None]) -> Iterator[Part]:
    """All of them, whatever state relay and configuration are in. Opens no socket to Zoom, and changes
    nothing, but for a token that the doctor may ask for. `announce` is told what will take its time."""
    for part in _raw(path, examine, announce):
        yield part._replace(text=_clean(part.text), missing=_clean(part.missing))


def _clean(text: str) -> str:
    return without_contacts(redact(text))


def _raw(path: Path | None, examine: bool, announce: Callable[[str], None]) -> Iterator[Part]:
    loaded, problems = _loaded(path)
    if loaded is not None:
        doctor.quiet(loaded)
        _protect(loaded.config)
    yield Part("version.txt", "versions of zoomrelay, of what it stands on, and of the system", _versions())
    about = "the effective configuration, as `zoomrelay check` shows it"
    yield Part("config.toml", about, effective(loaded) if loaded else problems)
    state_dir = _state_dir(path)
    if state_dir is not None:
        yield from _of_relay(ControlClient(state_dir, timeout_seconds=_ASK_SECONDS), state_dir)
        yield _gaps(state_dir)
        yield from _stalls(state_dir)
        yield _files(state_dir)
    yield _examination(loaded, examine, announce)


# --- the configuration --------------------------------------------------------------------------------


def _loaded(path: Path | None) -> tuple[Loaded | None, str]:
    """And where it is invalid, why."""
    try:
        return load_config(path), ""
    except ConfigError as error:
        return None, "".join(f"# {line}\n" for line in ("It is invalid:", *map(str, error.problems)))


def _state_dir(path: Path | None) -> Path | None:
    try:
        return load_state_dir(path)
    except ConfigError:
        return None


def _protect(config: Config) -> None:
    """Besides the secrets: tokens at hand, and what may let somebody in by a receiver's address."""
    for source in config.sources.values():
        try:
            record = asyncio.run(FileStore(config.state_dir, source).read())
        except (TokenStoreError, OSError):
            continue
        for token in (record.access, record.refresh):
            if token is not None:
                protect_rotating(token.value)
    for sink in config.sinks.values():
        if isinstance(sink, HttpSinkConfig):
            url = urlsplit(sink.url)
            protect(*(value for _, value in parse_qsl(url.query)))
            protect(*(part for part in url.path.split("/") if len(part) >= _TOKEN_CHARACTERS))


# --- what the relay says ------------------------------------------------------------------------------


def _of_relay(client: ControlClient, state_dir: Path) -> Iterator[Part]:
    """The first that is not answered is the last that is asked."""
    trouble = ""
    for name, path, about in _TOLD:
        text = ""
        if not trouble:
            try:
                text = client.text(path)
            except _NO_ANSWER as error:
                trouble = str(error)
        if trouble and name == "log.ndjson":
            yield _left_log(state_dir, about)
        else:
            yield Part(name, about, _pretty(text) if name.endswith(".json") else text, trouble)


_TOLD = (
    ("status.json", "/status", "how the relay is doing"),
    ("metrics.txt", "/metrics", "its metrics"),
    ("stacks.txt", "/stacks", "what each of its threads and tasks was doing"),
    ("log.ndjson", "/log", "the last lines of its log"),
)


def _left_log(state_dir: Path, about: str) -> Part:
    """Of the relay that ended here last, unless it was killed."""
    file = state_dir / SAVED
    try:
        when = _moment(file.stat().st_mtime)
        return Part("log.ndjson", f"the last lines of a relay that ended at {when}", file.read_text("utf-8"))
    except OSError:
        why = "no relay answers, and none that ended by itself left its last lines; look where it logs to"
        return Part("log.ndjson", about, missing=why)


def _pretty(text: str) -> str:
    return json.dumps(json.loads(text), indent=2, ensure_ascii=False) + "\n" if text else ""


# --- what is in the state directory -------------------------------------------------------------------


def _gaps(state_dir: Path) -> Part:
    name, about = "gaps.ndjson", "the gap ledger: what was missed, and why"
    try:
        if not state_dir.is_dir():
            return Part(name, about, missing=f"there is no state directory {state_dir}")
        gaps = ledger.read(state_dir)
    except OSError as error:
        return Part(name, about, missing=error.strerror or str(error))
    if len(gaps) > _MOST_GAPS:
        about = f"{about}; the last {_MOST_GAPS:,} of {len(gaps):,} entries"
    lines = [json.dumps(gap.as_json(), ensure_ascii=False) + "\n" for gap in gaps[-_MOST_GAPS:]]
    return Part(name, about, "".join(lines))


def _stalls(state_dir: Path) -> Iterator[Part]:
    try:
        files = sorted((state_dir / STALLS).glob("*.txt"))
        for file in files:
            yield Part(
                f"{STALLS}/{file.name}", "stacks, from when the event loop stood still", file.read_text()
            )
    except OSError as error:
        yield Part(f"{STALLS}/", "stacks of stalls", missing=error.strerror or str(error))


def _files(state_dir: Path) -> Part:
    name, about = "files.txt", "names, sizes, modes and times of the files in the state directory"
    try:
        if not state_dir.is_dir():
            return Part(name, about, missing=f"there is no state directory {state_dir}")
        found = sorted(state_dir.rglob("*"))
        disk = os.statvfs(state_dir)
        lines = [f"{state_dir}: {disk.f_bavail * disk.f_frsize:,} bytes of its disk are free"]
        lines += [_listed(path, state_dir) for path in (state_dir, *found)]
    except OSError as error:
        return Part(name, about, missing=error.strerror or str(error))
    return Part(name, about, "\n".join(lines) + "\n")


def _listed(path: Path, state_dir: Path) -> str:
    try:
        known = path.lstat()
    except FileNotFoundError:  # it is just being replaced
        return f"(gone) {path.relative_to(state_dir)}"
    mode, name = stat.filemode(known.st_mode), path.relative_to(state_dir)
    return f"{mode} {known.st_uid} {known.st_size:>14,} {_moment(known.st_mtime)} {name}"


def _moment(wall: float) -> str:
    return f"{datetime.fromtimestamp(wall, UTC):%Y-%m-%dT%H:%M:%SZ}"


# --- this machine -------------------------------------------------------------------------------------


def _versions() -> str:
    lines = [
        f"zoomrelay {__version__}",
        f"{platform.python_implementation()} {platform.python_version()}",
        f"{platform.platform()}, {os.cpu_count()} processors",
        *_packages(),
    ]
    return "\n".join(lines) + "\n"


def _packages() -> Iterator[str]:
    try:
        required = metadata.requires("zoomrelay") or []
    except metadata.PackageNotFoundError:
        return
    for requirement in required:
        found = re.match(r"[\w.-]+", requirement)
        if found and "extra ==" not in requirement:
            try:
                yield f"{found[0]} {metadata.version(found[0])}"
            except metadata.PackageNotFoundError:
                yield f"{found[0]} is not installed"


def _examination(loaded: Loaded | None, wanted: bool, announce: Callable[[str], None]) -> Part:
    name, about = "doctor.txt", "every step of the way, as `zoomrelay doctor` finds it"
    if loaded is None:
        return Part(name, about, missing="the configuration is invalid")
    if not wanted:
        return Part(name, about, missing="left out by --no-doctor")
    announce("Looking at every step from here to Zoom and the sinks (--no-doctor leaves that out) ...")
    reports = asyncio.run(_reports(loaded))
    return Part(name, about, doctor.as_text(reports))


async def _reports(loaded: Loaded) -> Sequence[Report]:
    """Those that came in time."""
    reports: list[Report] = []
    examination = Examination(loaded.config, secret_files=secret_files(loaded), opens_sockets=False)
    try:
        async with asyncio.timeout(_DOCTOR_SECONDS):
            async for report in examination.run():
                reports.append(report)
    except TimeoutError:
        pass
    return reports
