"""Rules for every test."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import hypothesis  # noqa: F401 - its plugin imports it at the end, where a finalizer may break that (CPython 3.11)
import pytest

TOGETHER = ("tests/deploy/test_container.py", "tests/deploy/test_systemd.py")
"""Files whose tests share something that takes long to make: one worker runs all of a file."""

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # What a script starts in its background, and all that this starts, would not feel Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """Where ZOOMRELAY_TEST_REQUIRE=all, nothing may be missing: a skip is a failure."""
    report = yield
    if report.skipped and os.environ.get("ZOOMRELAY_TEST_REQUIRE") == "all":
        report.outcome = "failed"
        report.longrepr = f"skipped although ZOOMRELAY_TEST_REQUIRE=all: {report.longrepr}"
    return report


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """xdist's own mark for groups is not heeded by its version 3.8 with pytest 9."""
    from xdist.scheduler import LoadScopeScheduling

    class TogetherScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return file if file in TOGETHER else nodeid

    return TogetherScheduling(config, log)
