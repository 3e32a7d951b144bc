"""What the ledger's files say, for whoever reads them; a relay may run or not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec.structs import replace

from zoomrelay.clock import Clock, SystemClock, boot_id
from zoomrelay.event import WEBHOOK
from zoomrelay.intake import stamp
from zoomrelay.intake.cover import corrected
from zoomrelay.intake.gaps import Gap, entries, read_text
from zoomrelay.intake.healing import healed, left_over, read_healings
from zoomrelay.intake.path_ledger import CRASH, UNCLEAN_MARGIN_SECONDS
from zoomrelay.intake.stamp import Stamp
from zoomrelay.intake.troubles import cut_short

NO_STOP = "the process ended without a stop"
_STALE_SECONDS = 10.0
"""A stamp older than this was left behind by a process that is gone."""


def read(directory: Path, clock: Clock | None = None, *, boot_id: Callable[[], str] = boot_id) -> list[Gap]:
    """Every entry, ended ones first, then those that last (`to_ms` is None): also where the relay was
    stopped, or killed and not started again. Raises `OSError`."""
    # In this order: what ends between the two is there twice, and not missing.
    clock = clock or SystemClock()
    left, text = stamp.read(directory), read_text(directory)
    ended = entries(text)
    ended += not_among(left.unwritten, ended)
    gaps = corrected(ended + still_begun(_still_open(left, clock, boot_id()), ended))
    healings = read_healings(text)
    healings += left_over(healings, left.healings)
    return healed(gaps, healings, _open_webhooks(gaps, left), int(clock.wall() * 1000))


def _open_webhooks(gaps: Sequence[Gap], left: Stamp) -> set[str]:
    """Sources whose webhook was listened to at the last stamp, and is not known to be closed now."""
    known = {name.partition("/")[::2] for name, path in left.paths.items() if path.held_ms is not None}
    closed = {gap.source for gap in gaps if gap.to_ms is None and gap.subscription == WEBHOOK}
    return {source for source, subscription in known if subscription == WEBHOOK} - closed


def still_begun(lasting: Sequence[Gap], ended: Sequence[Gap]) -> list[Gap]:
    """Those that are not among the ended ones: a gap is written before the stamp says that it has ended."""
    begun = {(gap.name, gap.cause, gap.from_ms + step) for gap in ended for step in (-1, 0, 1)}
    return [gap for gap in lasting if (gap.name, gap.cause, gap.from_ms) not in begun]


def not_among(unwritten: Sequence[Gap], ended: Sequence[Gap]) -> list[Gap]:
    """Those that did not get into the ledger after all, just before a kill."""
    known = {(gap.name, gap.from_ms, gap.to_ms, gap.cause) for gap in ended}
    return [gap for gap in unwritten if (gap.name, gap.from_ms, gap.to_ms, gap.cause) not in known]


def _still_open(left: Stamp, clock: Clock, boot: str) -> list[Gap]:
    age = left.age_seconds(clock, boot)
    age = age if age is not None else clock.wall() - left.at / 1000
    gaps = [cut_short(gap) if age > _STALE_SECONDS else gap for gap in left.troubles]
    for name, known in left.paths.items():
        source, _, subscription = name.partition("/")
        from_ms, cause, detail = known.from_ms, known.cause, known.detail
        if known.held_ms is not None and age > _STALE_SECONDS:
            from_ms, cause, detail = known.held_ms - int(UNCLEAN_MARGIN_SECONDS * 1000), CRASH, NO_STOP
        if from_ms is not None:
            seconds = round(left.lasted_seconds(from_ms, known.age_seconds) + max(0.0, age), 3)
            estimate = None if known.rate is None else round(known.rate * seconds, 1)
            gap = Gap(source, subscription, from_ms, None, seconds, cause, detail)
            gaps.append(replace(gap, estimated_events=estimate, covered_by=known.covered_by))
    return gaps
