"""What tests need of the machine: without it they are skipped, or fail where it must be there."""

from __future__ import annotations

import os
import shutil

import pytest


def require(program: str) -> str:
    """The path of `program`. Without it the test is skipped, or fails if ZOOMRELAY_TEST_REQUIRE=all."""
    found = shutil.which(program)
    if found is None:
        missing(f"{program} is not installed")
    return str(found)


def missing(why: str) -> None:
    """End the test: something that it needs is not there."""
    if os.environ.get("ZOOMRELAY_TEST_REQUIRE") == "all":
        pytest.fail(why)
    pytest.skip(why)
