"""`zoomrelay bundle`: everything that helps to find out what is wrong, in one file, without secrets."""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from zoomrelay import __version__
from zoomrelay.admin.words import size
from zoomrelay.cli.diagnosis import Part, parts
from zoomrelay.cli.options import ConfigOption

_MASKED = """\
Secrets, tokens and account ids are masked, and so are mail addresses and telephone numbers with a country
code. No event is in here, neither of the spool nor of the dead letters. What is left are names of sources and
sinks, ids of clients and subscriptions, hosts, paths, and what Zoom, receivers and the system said: look
through it before you hand it over.
"""

OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        metavar="FILE",
        help="Where to write it; else zoomrelay-bundle-TIME.tar.gz in this directory.",
        show_default=False,
    ),
]
NoDoctorOption = Annotated[
    bool, typer.Option("--no-doctor", help="Leave out what `zoomrelay doctor` finds; that may take a minute.")
]


def command(
    config: ConfigOption = None, output: OutputOption = None, no_doctor: NoDoctorOption = False
) -> None:
    """Write a support archive: version, configuration, status, metrics, last lines of the log, gap ledger,
    stacks, and what the doctor finds. Secrets are masked, and no event is in it.

    A relay may run or not, and the configuration may be invalid: the archive says what could not be had.
    No socket to Zoom is opened.
    """
    made = datetime.now(UTC)
    file = output or Path(f"zoomrelay-bundle-{made:%Y%m%dT%H%M%SZ}.tar.gz")
    if not os.access(file.absolute().parent, os.W_OK | os.X_OK):
        raise typer.BadParameter(f"{file.absolute().parent} cannot be written", param_hint="--output")
    held = list(parts(config, examine=not no_doctor, announce=lambda words: typer.echo(words, err=True)))
    held.insert(0, Part("README.txt", "what is in here, and what is not", _readme(held, made)))
    try:
        _write(file, archive(held, made))
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}", param_hint="--output") from error
    typer.echo(f"{file}, {size(file.stat().st_size)}, for you alone to read:")
    typer.echo(f"{_contents(held)}\n{_MASKED}", nl=False)


def _readme(held: Sequence[Part], made: datetime) -> str:
    head = f"Support archive of zoomrelay {__version__}, made {made:%Y-%m-%d %H:%M:%S} UTC"
    return f"{head}\n\n{_contents(held)}\n{_MASKED}"


def _contents(held: Sequence[Part]) -> str:
    width = max(len(part.name) for part in held)
    lines = [f"  {part.name:{width}}  {part.about}" for part in held if not part.missing]
    if any(part.missing for part in held):
        lines += ["", "Not in it:"]
        lines += [f"  {part.name:{width}}  {part.missing}" for part in held if part.missing]
    return "\n".join(lines) + "\n"


def archive(held: Sequence[Part], made: datetime) -> bytes:
    """A tar.gz with one directory."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for part in held:
            if not part.missing:
                content = part.text.encode(errors="replace")
                member = tarfile.TarInfo(f"zoomrelay-bundle/{part.name}")
                member.size, member.mode, member.mtime = len(content), 0o600, int(made.timestamp())
                tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _write(file: Path, content: bytes) -> None:
    """Mode 0600 from the first byte on, and whole or not at all."""
    descriptor, beside = tempfile.mkstemp(dir=file.absolute().parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(content)
        Path(beside).replace(file)
    except OSError:
        Path(beside).unlink(missing_ok=True)
        raise
