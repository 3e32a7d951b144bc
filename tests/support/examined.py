"""A doctor's look at a pretend Zoom, in this process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from zoomrelay.clock import Clock
from zoomrelay.config.load import load
from zoomrelay.config.models import Config
from zoomrelay.doctor.examination import Examination
from zoomrelay.doctor.finding import Report, Verdict
from zoomrelay.simulator.server import Simulator

ROOM = 'spool = { max_bytes = "1MiB" }'
"""So that a small disk is no finding."""


def toml(zoom: Simulator, directory: Path, *, grant: str = "account_credentials", more: str = "") -> str:
    """A relay's configuration before this Zoom; `more` goes into the source's table, or after it."""
    return f"""
state_dir = "{directory}/state"
{ROOM}
admin = {{ listen = "127.0.0.1:0" }}
[sinks.archive]
type = "file"
path = "{directory}/archive.ndjson"
[sources.main]
account_id = "{zoom.credentials.account_id}"
client_id = "{zoom.credentials.client_id}"
client_secret = "{zoom.credentials.client_secret}"
subscriptions = ["{zoom.subscriptions[0]}"]
token_url = "{zoom.token_url}"
ws_url = "{zoom.ws_url}"
api_url = "{zoom.api_url}"
max_message_bytes = "256KiB"
grant = "{grant}"
{more}"""


def configured(text: str, directory: Path) -> Config:
    file = directory / "zoomrelay.toml"
    file.write_text(text)
    return load(file, environ={}).config


async def examine(
    config: Config,
    *,
    step_seconds: float = 5.0,
    clock: Clock | None = None,
    send_test: bool = False,
    sources: Sequence[str] = (),
    announced: list[str] | None = None,
) -> list[Report]:
    """Every report; what was said before sockets were opened goes to `announced`."""
    examination = Examination(
        config,
        step_seconds=step_seconds,
        still_seconds=0.1,
        clock=clock,
        send_test=send_test,
        sources=sources,
        before_sockets=lambda names: (announced if announced is not None else []).extend(names),
    )
    return [report async for report in examination.run()]


def troubles(reports: Sequence[Report]) -> list[tuple[str, str, str]]:
    """Step, verdict and reason of everything that is wrong, in order."""
    bad = (Verdict.WARN, Verdict.FAIL)
    return [(one.step, one.verdict.value, one.reason) for one in reports if one.verdict in bad]


def without_proxies(monkeypatch: object) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)  # type: ignore[attr-defined]
