"""Rules for every test."""

from __future__ import annotations

import os
from collections.abc import Iterator

import hypothesis  # noqa: F401 - its plugin imports it at the end, where a finalizer may break that (CPython 3.11)
import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """Where ZOOMRELAY_TEST_REQUIRE=all, nothing may be missing: a skip is a failure."""
    report = yield
    if report.skipped and os.environ.get("ZOOMRELAY_TEST_REQUIRE") == "all":
        report.outcome = "failed"
        report.longrepr = f"skipped although ZOOMRELAY_TEST_REQUIRE=all: {report.longrepr}"
    return report
