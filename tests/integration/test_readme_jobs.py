"""The batch jobs of the README do what they promise, a token that died on the way included."""

import asyncio
import json
import os
import re
import sys
from pathlib import Path

import pytest

from tests.support.process import ROOT, environment
from tests.support.require import require
from tests.support.token_place import SECONDS, TokenPlace

BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
JOBS = {kind: text for kind, text in BLOCKS if "api.zoom.us" in text}


@pytest.mark.parametrize("kind", ["sh", "python"])
async def test_a_job_survives_a_dead_token(tmp_path: Path, kind: str) -> None:
    command = {"sh": require("sh"), "python": sys.executable}[kind]
    require("curl")
    async with TokenPlace(tmp_path) as place:
        job = tmp_path / "job"
        job.write_text(JOBS[kind].replace("https://api.zoom.us/v2", place.zoom.api_url))
        environ = _with_zoomrelay(tmp_path, place)
        await place.token()
        place.zoom.revoke_tokens()
        process = await asyncio.create_subprocess_exec(
            command, str(job), cwd=tmp_path, env=environ, stdout=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(SECONDS):
            out, _ = await process.communicate()
        assert process.returncode == 0
        said = json.loads((tmp_path / "user.json").read_text())["email"] if kind == "sh" else out.decode()
        assert said.strip() == "user1@example.com"
        assert place.zoom.token_requests == 2, "the dead one was replaced, once"


def _with_zoomrelay(directory: Path, place: TokenPlace) -> dict[str, str]:
    """An environment in which `zoomrelay` is this tree's, and finds its configuration."""
    binaries = directory / "bin"
    binaries.mkdir()
    zoomrelay = binaries / "zoomrelay"
    zoomrelay.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m zoomrelay "$@"\n')
    zoomrelay.chmod(0o755)
    path = f"{binaries}{os.pathsep}{os.environ['PATH']}"
    return environment({"PATH": path, "ZOOMRELAY_CONFIG": str(place.relay.config_file)})
