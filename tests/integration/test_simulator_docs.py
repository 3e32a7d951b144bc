"""docs/simulator.md tells the truth."""

import inspect
import re
import shlex
from pathlib import Path

import aiohttp
import pytest

from zoomrelay.cli.simulate import command
from zoomrelay.simulator.faults import Faults
from zoomrelay.simulator.server import Simulator
from zoomrelay.simulator.stories import DEFAULT_MIX, parse_mix
from zoomrelay.simulator.tokens import ERRORS

TEXT = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text()
CURLS = [line for line in TEXT.splitlines() if line.startswith("curl ")]


@pytest.mark.parametrize("line", CURLS)
async def test_every_curl_example_works(line: str) -> None:
    words = shlex.split(line)
    method = words[words.index("-X") + 1] if "-X" in words else "GET"
    body = words[words.index("-d") + 1] if "-d" in words else None
    (url,) = (word for word in words if word.startswith("http://"))
    async with Simulator() as zoom, aiohttp.ClientSession() as session:
        url = url.replace(":8700", f":{zoom.port}")
        async with session.request(method, url, data=body) as response:
            assert response.status == 200, await response.text()


def test_every_fault_is_described_once() -> None:
    table = TEXT.partition("## Faults")[2].partition("## ")[0]
    cells = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    assert sorted(name for cell in cells for name in re.findall(r"`(\w+)`", cell)) == sorted(
        Faults.__struct_fields__
    )


def test_every_flag_is_described_once() -> None:
    flags = re.findall(r"^\| `--([a-z-]+)", TEXT, re.MULTILINE)
    assert sorted(flags) == sorted(name.replace("_", "-") for name in inspect.signature(command).parameters)


def test_defaults_and_errors_are_those_of_the_code() -> None:
    (mix,) = re.findall(r"^\| `--events` \| `([^`]+)`", TEXT, re.MULTILINE)
    assert parse_mix(mix) == DEFAULT_MIX
    assert all(f"`{error}`" in TEXT for error in ERRORS)
    assert all(f"export {name}={value}" in TEXT for name, value in Simulator(port=8700).environment.items())
