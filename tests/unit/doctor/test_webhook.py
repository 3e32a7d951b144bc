"""A webhook's address, as the doctor sees it; and as a relay tells."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from tests.unit.admin.fakes import path, source, status
from zoomrelay import causes
from zoomrelay.admin.health import Status
from zoomrelay.config.models import SourceConfig, WebhookConfig
from zoomrelay.doctor.finding import Report, Verdict
from zoomrelay.doctor.walk import walk
from zoomrelay.doctor.webhook import webhook_step
from zoomrelay.event import WEBHOOK


async def looked(relay: Status | None = None, **settings: Any) -> Report:
    webhook = WebhookConfig(**{"listen": "127.0.0.1:0", "secret_token": "planted-word", **settings})
    step = webhook_step(SourceConfig(name="main", webhook=webhook), webhook, lambda: relay)
    (report,) = [report async for report in walk([step])]
    assert "planted" not in repr(report)
    return report


async def test_a_free_address() -> None:
    report = await looked()
    assert report.verdict is Verdict.PASS and "validated in the Marketplace" in report.detail


async def test_an_address_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        report = await looked(listen=f"127.0.0.1:{taken.getsockname()[1]}")
    assert (report.verdict, report.reason) == (Verdict.FAIL, causes.WEBHOOK_ADDRESS.key)
    assert "sources.main.webhook.listen" in report.detail and report.cure


async def test_a_certificate_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("nonsense")
    report = await looked(cert_file=tmp_path / "cert.pem")
    assert report.verdict is Verdict.FAIL and "sources.main.webhook.cert_file" in report.detail


@pytest.mark.parametrize(
    ("told", "verdict", "words"),
    [
        ({}, Verdict.PASS, "nothing has come yet"),
        ({"first": 3, "merged": 2}, Verdict.PASS, "3 events first, 2 merged, 0 missed"),
        ({"deaf": True, "trouble": "deaf: x"}, Verdict.FAIL, "deaf: x"),
        ({"quiet": True, "trouble": "quiet: x"}, Verdict.FAIL, "quiet: x"),
        ({"accepted": False, "accepted_since": None}, Verdict.FAIL, "it is closed"),
    ],
)
async def test_what_a_relay_tells(told: dict[str, Any], verdict: Verdict, words: str) -> None:
    relay = status(sources=[source(path(subscription=WEBHOOK, **told))])
    report = await looked(relay)
    assert report.verdict is verdict and words in report.detail


async def test_a_relay_that_does_not_know_it() -> None:
    assert (await looked(status())).verdict is Verdict.SKIPPED
