"""Steps, and the walk along them: in order, each with a bound, none without what it needs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

from zoomrelay import causes
from zoomrelay.doctor.finding import Finding, Report, Verdict, failed, skipped
from zoomrelay.telemetry.redaction import redact

STEP_SECONDS = 10.0

Probe = Callable[[], Awaitable[Finding]]


@dataclass(frozen=True, eq=False, slots=True)
class Step:
    """One thing to look at. `probe` does not raise for what it is there to find."""

    name: str
    probe: Probe
    needs: tuple[Step, ...] = ()
    """Steps that must not have failed, or been skipped, before this makes sense."""
    source: str = ""
    sink: str = ""
    target: str = ""


async def walk(steps: Sequence[Step], *, step_seconds: float = STEP_SECONDS) -> AsyncIterator[Report]:
    """The reports, as they come. Whatever a step needs stands before it."""
    ended: dict[Step, Verdict] = {}
    now = asyncio.get_running_loop().time
    for step in steps:
        began = now()
        finding = _without(step, ended) or await _bounded(step, step_seconds)
        ended[step] = finding.verdict
        yield Report(
            step=step.name,
            source=step.source,
            sink=step.sink,
            target=step.target,
            verdict=finding.verdict,
            detail=redact(finding.detail),
            reason=finding.reason,
            cure=finding.cure,
            seconds=round(now() - began, 3),
        )


def _without(step: Step, ended: dict[Step, Verdict]) -> Finding | None:
    """Why it makes no sense now."""
    for need in step.needs:
        if ended[need] is Verdict.FAIL:
            return skipped(f"{_named(need)} failed")
        if ended[need] is Verdict.SKIPPED:
            return skipped(f"{_named(need)} was skipped")
    return None


def _named(step: Step) -> str:
    return f"{step.name} of {step.target}" if step.target else step.name


async def _bounded(step: Step, seconds: float) -> Finding:
    try:
        async with asyncio.timeout(seconds):
            return await step.probe()
    except TimeoutError:
        return failed(causes.TIMEOUT, f"no end within {seconds:g} s")
