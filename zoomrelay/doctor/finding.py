"""What one step of the way was found to be. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from zoomrelay.causes import Cause


class Verdict(StrEnum):
    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of a step. Holds no secret."""

    verdict: Verdict
    detail: str
    """What was seen, in words."""
    reason: str = ""
    """The key of a cause (`zoomrelay.causes`), or a more precise word of the room that met it."""
    cure: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """A step with its outcome: one line of the doctor's."""

    step: str
    """A stable name."""
    source: str
    sink: str
    target: str
    """Host and port, file, or subscription that it is about; empty where there is no need."""
    verdict: Verdict
    detail: str
    reason: str
    cure: str
    seconds: float


def passed(detail: str) -> Finding:
    return Finding(Verdict.PASS, detail)


def skipped(detail: str) -> Finding:
    return Finding(Verdict.SKIPPED, detail)


def warned(cause: Cause, detail: str) -> Finding:
    return Finding(Verdict.WARN, detail, cause.key, cause.cure)


def failed(cause: Cause, detail: str) -> Finding:
    return Finding(Verdict.FAIL, detail, cause.key, cause.cure)


def any_failed(reports: Iterable[Report]) -> bool:
    return any(report.verdict is Verdict.FAIL for report in reports)
