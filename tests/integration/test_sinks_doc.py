"""The receivers printed in docs/sinks.md take what the sink beside them sends, and nobody else's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from tests.support.node import node_packages
from tests.support.process import ROOT
from tests.unit.sinks.test_formats import CONTENTS, event
from zoomrelay.clock import SystemClock
from zoomrelay.config import load
from zoomrelay.config.models import HttpSinkConfig
from zoomrelay.errors import SinkError, SinkRejected
from zoomrelay.sinks.http import HttpSink

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ANOTHER = "whsec_b3RoZXItb3RoZXItb3RoZXItb3RoZXI="
SOURCE = '[sources.main]\nclient_id = "a"\nclient_secret = "b"\n'
FORMATS = ["raw and envelope", "zoom-webhook", "cloudevents", "standard-webhooks", "splunk-hec"]
DOCUMENT = (ROOT / "docs" / "sinks.md").read_text()


def block(section: str, language: str) -> str:
    text = DOCUMENT.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return str(found)


def test_every_format_has_its_section() -> None:
    assert re.findall(r"^## (.*)$", DOCUMENT, re.MULTILINE)[:5] == FORMATS


def sink_of(section: str, directory: Path, port: int, secret: str) -> HttpSinkConfig:
    """The sink that the section prints, at our receiver."""
    text = re.sub(r'(_file = )"[^"]*"', rf'\1"{directory / "secret"}"', block(section, "toml"))
    (directory / "secret").write_text(secret + "\n")
    (directory / "zoomrelay.toml").write_text(SOURCE + text)
    loaded = load(directory / "zoomrelay.toml", environ={}, secrets_directory=directory)
    (config,) = loaded.config.sinks.values()
    assert isinstance(config, HttpSinkConfig)
    return config.model_copy(update={"url": f"http://127.0.0.1:{port}/"})


@contextmanager
def running(command: list[str], cwd: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A receiver that prints its port first."""
    process = subprocess.Popen(
        command, cwd=cwd, env=os.environ | {"SECRET": SECRET}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield process, int(process.stdout.readline())
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


def python(section: str) -> list[str]:
    last = 'HTTPServer(("", 8080), Receiver).serve_forever()\n'
    code = block(section, "python")
    assert code.endswith(last)
    serve = 'server = HTTPServer(("127.0.0.1", 0), Receiver)\nprint(server.server_port, flush=True)\n'
    quiet = "Receiver.log_message = lambda *_: None\n"
    return [sys.executable, "-c", code.removesuffix(last) + quiet + serve + "server.serve_forever()\n"]


def node(section: str) -> list[str]:
    code = block(section, "js")
    assert code.endswith(".listen(8080);\n")
    listen = '.listen(0, "127.0.0.1", function () { console.log(this.address().port); });\n'
    return ["node", "--input-type=module", "-e", code.removesuffix(".listen(8080);\n") + listen]


async def send_everything(config: HttpSinkConfig, process: subprocess.Popen[str]) -> None:
    """Every kind of content arrives, is verified and understood."""
    assert process.stdout is not None
    sink = HttpSink(config, SystemClock())
    await sink.open()
    for content in CONTENTS.values():
        await sink.send((event(content),), 1)
        name = process.stdout.readline().split()[0]
        assert name in (event().name, "x", "app_deauthorized")
    await sink.close()


async def send_with_another_secret(config: HttpSinkConfig) -> None:
    given: dict[str, Any] = {key: SecretStr(ANOTHER) for key in ("secret_token", "bearer_token")}
    wrong = {key: value for key, value in given.items() if getattr(config, key)}
    sink = HttpSink(config.model_copy(update=wrong | {"validate_receiver": False}), SystemClock())
    await sink.open()
    try:
        with pytest.raises(SinkRejected, match=r"HTTP 40[13]"):
            await sink.send((event(),), 1)
    finally:
        await sink.close()


async def try_receiver(section: str, command: list[str], cwd: Path, tmp_path: Path) -> None:
    with running(command, cwd) as (process, port):
        config = sink_of(section, tmp_path, port, SECRET)
        await send_everything(config, process)
        if config.format != "cloudevents":
            await send_with_another_secret(config)


@pytest.mark.parametrize("section", FORMATS)
async def test_the_receiver_in_python(section: str, tmp_path: Path) -> None:
    await try_receiver(section, python(section), tmp_path, tmp_path)


@pytest.mark.full
@pytest.mark.xdist_group("node")
@pytest.mark.parametrize("section", FORMATS)
async def test_the_receiver_in_node(section: str, tmp_path: Path) -> None:
    await try_receiver(section, node(section), node_packages(), tmp_path)


@pytest.mark.full
@pytest.mark.xdist_group("node")
async def test_binary_cloudevents_are_read_in_node_too(tmp_path: Path) -> None:
    with running(node("cloudevents"), node_packages()) as (process, port):
        config = sink_of("cloudevents", tmp_path, port, SECRET)
        await send_everything(config.model_copy(update={"cloudevents_mode": "binary"}), process)


async def test_the_challenge_fails_where_the_secret_is_another(tmp_path: Path) -> None:
    with running(python("zoom-webhook"), tmp_path) as (_, port):
        config = sink_of("zoom-webhook", tmp_path, port, ANOTHER)
        with pytest.raises(SinkError, match=r"endpoint\.url_validation: HTTP 401"):
            await HttpSink(config, SystemClock()).open()
