"""The alerts and the dashboard name what there is, Prometheus takes them, and they fire when they should."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientError, ClientSession, web

from tests.support.fronted import Running, running, toml
from tests.support.process import ROOT
from tests.support.receiver import Receiver
from tests.support.require import require
from tests.unit.telemetry.test_metrics_doc import exported
from zoomrelay.simulator.server import Simulator

RULES_FILE = ROOT / "deploy/prometheus/zoomrelay.rules.yml"
RULES = RULES_FILE.read_text()
DASHBOARD = json.loads((ROOT / "deploy/grafana/zoomrelay.json").read_text())
OPERATIONS = (ROOT / "docs/operations.md").read_text()
ALERTS = re.findall(r"- alert: (\w+)", RULES)


# --- what they name -----------------------------------------------------------------------------------


def _names(expression: str) -> set[str]:
    """The metrics of an expression, histograms under their own names."""
    found = re.findall(r"\b(?:zoomrelay|process|python)_\w+", expression)
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in found}


def _without_comments(text: str) -> str:
    return re.sub(r"^ *#.*$", "", text, flags=re.MULTILINE)


def test_alerts_ask_for_metrics_that_there_are() -> None:
    assert _names(_without_comments(RULES)) <= set(exported())


def test_panels_ask_for_metrics_that_there_are() -> None:
    asked = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    asked += [variable["query"] for variable in DASHBOARD["templating"]["list"]]
    assert len(asked) > 20
    assert set().union(*map(_names, asked)) <= set(exported())


def test_panels_show_what_alerts_ask_for() -> None:
    shown = _names(json.dumps(DASHBOARD))
    not_drawn = {
        "zoomrelay_refresh_token_expires_timestamp_seconds",
        "process_start_time_seconds",
        "zoomrelay_token_usable",
        "zoomrelay_spool_writable",
    }
    assert _names(_without_comments(RULES)) - shown <= not_drawn


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_has_a_runbook_a_severity_and_a_test(alert: str) -> None:
    rule = re.split(rf"- alert: {alert}\n", RULES)[1].partition("- alert: ")[0]
    assert re.search(r"severity: (critical|warning)\n", rule)
    assert f"runbook: docs/operations.md#{alert.lower()}\n" in rule
    assert f"\n### {alert}\n" in OPERATIONS
    cases = (ROOT / "tests/deploy/alerts.test.yml").read_text()
    assert re.search(rf"alertname: {alert}\n +exp_alerts:\n +- exp_labels", cases)


# --- that they work -----------------------------------------------------------------------------------


@pytest.mark.full
def test_prometheus_takes_them_and_they_fire_as_they_should() -> None:
    promtool = require("promtool")
    for arguments in (
        ("check", "rules", "--lint=all", "--lint-fatal", RULES_FILE),
        ("check", "config", ROOT / "deploy/prometheus/prometheus.yml"),
        ("test", "rules", ROOT / "tests/deploy/alerts.test.yml"),
    ):
        ended = subprocess.run([promtool, *map(str, arguments)], capture_output=True, text=True, timeout=60)
        assert ended.returncode == 0, ended.stdout + ended.stderr


def quickened(rules: str) -> str:
    """The rules with every duration a sixtieth: minutes become seconds."""
    rules = re.sub(r"(for: |\[|offset )(\d+)m\b", r"\1\2s", rules)
    return re.sub(r"(for: |\[|offset )(\d+)h\b", lambda m: f"{m[1]}{int(m[2]) * 60}s", rules)


class Pager:
    """Whom the Alertmanager calls."""

    def __init__(self) -> None:
        self.firing: set[str] = set()
        self.fired: list[str] = []
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        for alert in (await request.json())["alerts"]:
            name = alert["labels"]["alertname"]
            if alert["status"] == "firing":
                self.firing.add(name)
                if name not in self.fired:
                    self.fired.append(name)
            else:
                self.firing.discard(name)
        return web.Response()

    async def until(self, happened: Callable[[], bool], what: str, seconds: float = 90) -> None:
        deadline = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < deadline, f"{what} did not come; {self.fired}, {self.firing} firing"
            await asyncio.sleep(0.1)


@asynccontextmanager
async def pager() -> AsyncIterator[Pager]:
    one = Pager()
    app = web.Application()
    app.router.add_post("/", one.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    one.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    try:
        yield one
    finally:
        await runner.cleanup()


@contextmanager
def program(directory: Path, name: str, *arguments: str) -> Iterator[None]:
    with (directory / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            [require(name), *arguments], cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            yield
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()
            process.wait()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@contextmanager
def watched(directory: Path, target: str, pager_url: str) -> Iterator[None]:
    """A Prometheus that scrapes `target` every second, and an Alertmanager that calls `pager_url`."""
    alerts_port, port = free_port(), free_port()
    (directory / "rules.yml").write_text(quickened(RULES))
    (directory / "prometheus.yml").write_text(
        "global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\n"
        "rule_files: [rules.yml]\n"
        f"alerting: {{alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:{alerts_port}']}}]}}]}}\n"
        f"scrape_configs: [{{job_name: zoomrelay, static_configs: [{{targets: ['{target}']}}]}}]\n"
    )
    (directory / "alertmanager.yml").write_text(
        "route: {receiver: pager, group_by: ['...'], group_wait: 0s, group_interval: 1s,"
        " repeat_interval: 1h}\n"
        f"receivers: [{{name: pager, webhook_configs: [{{url: '{pager_url}', send_resolved: true}}]}}]\n"
    )
    manager = ("--config.file=alertmanager.yml", "--storage.path=alerts", "--cluster.listen-address=")
    prometheus = ("--config.file=prometheus.yml", "--storage.tsdb.path=metrics")
    with (
        program(
            directory, "prometheus-alertmanager", *manager, f"--web.listen-address=127.0.0.1:{alerts_port}"
        ),
        program(directory, "prometheus", *prometheus, f"--web.listen-address=127.0.0.1:{port}"),
    ):
        yield


@pytest.mark.full
async def test_a_relay_in_trouble_calls_for_the_right_things_only(tmp_path: Path) -> None:
    async with Simulator() as zoom, Receiver(status=503) as receiver, pager() as called:
        file = tmp_path / "zoomrelay.toml"
        crm = f'[sinks.crm]\ntype = "http"\nurl = "{receiver.url}"\ndead_letter_on = [422]\n'
        file.write_text(toml(zoom, tmp_path, more=crm))
        async with running(file) as relay:
            await relay.until_ready(True)
            host, port = relay.front.admin.addresses[0]
            with watched(tmp_path, f"{host}:{port}", called.url):
                await _troubles(zoom, receiver, relay, called)
    assert called.fired == ["ZoomrelaySinkFailing", "ZoomrelayNotAccepted", "ZoomrelayDeadLetters"]


async def _troubles(zoom: Simulator, receiver: Receiver, relay: Running, called: Pager) -> None:
    """One after the other, each until it was told and is over."""

    async def told_and_over(name: str, cure: Callable[[], Any]) -> None:
        await called.until(lambda: name in called.firing, name)
        cure()
        await called.until(lambda: not called.firing, f"the end of {name}")

    receiver.refuse_part = 1.0
    await zoom.burst(5)
    await told_and_over("ZoomrelaySinkFailing", lambda: setattr(receiver, "refuse_part", 0.0))
    zoom.faults.upgrade_status = 503
    zoom.end("close", 1000, "Bye")
    await told_and_over("ZoomrelayNotAccepted", lambda: setattr(zoom.faults, "upgrade_status", 0))
    await relay.until_ready(True)
    receiver.status, receiver.refuse_part = 422, 1.0
    await zoom.burst(1)
    await told_and_over("ZoomrelayDeadLetters", lambda: setattr(receiver, "refuse_part", 0.0))


# --- the admin port's token ---------------------------------------------------------------------------


def _documented_scrape(token: Path, target: str) -> str:
    """The example of docs/operations.md, for this machine."""
    block = (
        OPERATIONS.partition("## A token for the admin port")[2].partition("```yaml\n")[2].partition("```")[0]
    )
    text = re.sub(r"(credentials_file: ).*", rf"\g<1>{token}", block)
    return "global: {scrape_interval: 1s, scrape_timeout: 1s}\n" + text.replace("127.0.0.1:9464", target)


@pytest.mark.full
@pytest.mark.parametrize("given", ["admin-token-0123456789", "another-token-0123456789"])
async def test_prometheus_reads_with_the_token_only(tmp_path: Path, given: str) -> None:
    token = tmp_path / "token"
    token.write_text(given + "\n")
    async with Simulator() as zoom:
        file = tmp_path / "zoomrelay.toml"
        admin = '[admin]\nbearer_token = "admin-token-0123456789"'
        file.write_text(toml(zoom, tmp_path).replace("[admin]", admin))
        async with running(file) as relay:
            host, port = relay.front.admin.addresses[0]
            (tmp_path / "prometheus.yml").write_text(_documented_scrape(token, f"{host}:{port}"))
            arguments = ("--config.file=prometheus.yml", "--storage.tsdb.path=metrics")
            api = free_port()
            with program(tmp_path, "prometheus", *arguments, f"--web.listen-address=127.0.0.1:{api}"):
                health, error = await _scraped(f"http://127.0.0.1:{api}/api/v1/targets")
    right = given.startswith("admin")
    assert (health, "401" in error) == ("up" if right else "down", not right)


async def _scraped(url: str) -> tuple[str, str]:
    """What became of the only target: health and last error."""
    deadline = time.monotonic() + 60
    async with ClientSession() as session:
        while time.monotonic() < deadline:
            with contextlib.suppress(ClientError):
                async with session.get(url) as response:
                    targets = (await response.json())["data"]["activeTargets"]
                if targets and targets[0]["health"] != "unknown":
                    return targets[0]["health"], targets[0]["lastError"]
            await asyncio.sleep(0.1)
    pytest.fail("Prometheus has not scraped")


@pytest.mark.full
def test_prometheus_takes_the_lines_in_comments_too(tmp_path: Path) -> None:
    shipped = (ROOT / "deploy/prometheus/prometheus.yml").read_text()
    uncommented = re.sub(r"(?m)^( +)#(authorization:|  credentials_file:)", r"\1\2", shipped)
    assert uncommented != shipped
    (tmp_path / "zoomrelay.rules.yml").write_text(RULES)
    (tmp_path / "prometheus.yml").write_text(uncommented)
    ended = subprocess.run(
        [require("promtool"), "check", "config", "--syntax-only", tmp_path / "prometheus.yml"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
