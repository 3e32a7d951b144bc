"""The gap ledger: every interval in which a subscription had no accepted socket, with its cause; and what
else kept events from where they were wanted (`troubles`).

It is kept in two files of the state directory (`gaps`, `stamp`), independent of the spool, which they must
outlive. A gap begins at the last moment until which everything was received and held, not where the trouble
was noticed, and a little before: what the other side had sent just then may have been under way. It ends
with acceptance. A gap may therefore be longer than the loss it stands for, never shorter; where the wall
clock was set back meanwhile, its beginning is moved back so that it is as long as it was.

Before the very first acceptance of a path there is no gap: nothing was listened to yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import structlog
from msgspec.structs import replace

from zoomrelay.clock import Clock, boot_id
from zoomrelay.durable import sync_directory
from zoomrelay.event import WEBHOOK, Event
from zoomrelay.intake import announce, stamp
from zoomrelay.intake.gaps import GAPS, Gap, append, entries, mend, read_text
from zoomrelay.intake.healing import Healings, left_over, read_healings
from zoomrelay.intake.path_ledger import UNCLEAN_MARGIN_SECONDS, PathLedger
from zoomrelay.intake.rate import Rate
from zoomrelay.intake.record import NO_STOP, not_among, read, still_begun
from zoomrelay.intake.stamp import PathStamp, Stamp
from zoomrelay.intake.troubles import Troubles, cut_short
from zoomrelay.telemetry.metrics import Metrics

__all__ = ["Gap", "Ledger", "PathLedger", "append", "read"]

log = structlog.get_logger()

_STAMP_SECONDS = 1.0
_MAX_UNWRITTEN = 200
_MAX_ANNOUNCING = 50
"""Bounds of what is kept in the stamp, which is written every second. With more unwritten entries it is left
as it is: then a crash is one long gap."""
_NO_STAMP = "there is no record of what happened after the last event"


class Ledger:
    """Owns both files. `run` is the service that stamps and writes."""

    def __init__(
        self,
        directory: Path,
        clock: Clock,
        metrics: Metrics,
        held_until_ms: Callable[[int], int] = lambda last_frame_ms: last_frame_ms,
        *,
        troubles: Troubles | None = None,
        received: Callable[[str, str], int] = lambda _source, _subscription: 0,
        covers: Callable[[str, str], bool] = lambda _source, _subscription: True,
        announce: Callable[[str, bytes], bool] = lambda _source, _content: False,
        boot_id: Callable[[], str] = boot_id,
    ) -> None:
        """`held_until_ms`: given until when everything was heard, until when it is durable. `received`: how
        many events a path has brought. `covers`: whether one that listens brings what its twins bring, as far
        as is known. `announce`: make an event of this source and content; whether
        anybody wants it."""
        self.clock = clock
        self._held_until_ms = held_until_ms
        self._received = received
        self._covers = covers
        self._send = announce
        self._troubles = troubles or Troubles(clock)
        self._troubles.listening = self._listening
        self._announcing: list[tuple[int, str, bytes]] = []
        self._directory = directory
        self._metrics = metrics
        self._boot = boot_id()
        self._paths: dict[tuple[str, str], PathLedger] = {}
        self._unwritten: list[Gap] = []
        self._healings = Healings()
        self._wake = asyncio.Event()
        self._stopping = False
        self._in_trouble = False

    def open(
        self,
        paths: Sequence[tuple[str, str]],
        last_received: Mapping[tuple[str, str], int],
        accepted: Mapping[tuple[str, str], tuple[float, float]] | None = None,
    ) -> None:
        """Begin with these paths; what the last process left behind becomes their open gaps.
        `last_received` is what the spool knows, for a path without a stamp. It is not to be preferred to
        one: an event may be received long after it came, while others still wait in the socket. `accepted`:
        since when (wall, elapsed) this process listens already, where it took over from another."""
        left = stamp.read(self._directory)
        text = read_text(self._directory)
        ended = entries(text)
        self._inherit(left, ended)
        self._healings = Healings(left_over(read_healings(text), left.healings))
        for gap in [*ended, *self._unwritten]:
            self._healings.ended(gap)
        written = {(gap.source, gap.subscription): gap for gap in [*ended, *self._unwritten]}
        for key in paths:
            self._paths[key] = path = PathLedger(self, *key)
            path.rate = Rate(left.paths[_name(path)].rate if _name(path) in left.paths else None)
            since = (accepted or {}).get(key)
            self._resume(path, left, last_received.get(key), written.get(key), since)
        self.settle_troubles()
        try:
            mend(self._directory / GAPS)
            stamp.write(self._directory, replace(self._stamp(), unwritten=tuple(self._unwritten)), sync=True)
            sync_directory(self._directory)
        except OSError as error:
            self._note_trouble(error)

    def _inherit(self, left: Stamp, ended: Sequence[Gap]) -> None:
        """Take over what the last process could not finish, apart from the gaps of its paths."""
        self._unwritten += not_among(left.unwritten, ended)
        for source, content in left.announcing:
            self._announce(source, content.encode())
        for gap in still_begun(left.troubles, [*ended, *self._unwritten]):
            self.ended(cut_short(gap))

    def _resume(
        self,
        path: PathLedger,
        left: Stamp,
        last_received_ms: int | None,
        written: Gap | None,
        accepted: tuple[float, float] | None = None,
    ) -> None:
        """Open the gap that the last process left behind."""
        known = left.paths.get(_name(path))
        if known is not None and accepted is not None and _was_killed_later(known, accepted[0]):
            path.accepted(accepted[0], at=accepted[1])
            return
        away = left.age_seconds(self.clock, self._boot)
        if known is None:
            # A stamp that is younger than the last event knows that the path was removed.
            if last_received_ms is not None and last_received_ms > left.at:
                path.crashed(last_received_ms, _NO_STAMP, age_seconds=None)
        elif known.held_ms is not None:
            age = _plus(away, left.lasted_seconds(known.held_ms))
            path.crashed(known.held_ms, NO_STOP, age_seconds=age)
        elif written and known.from_ms is not None and (until_ms := _ended_ms(written, known.from_ms)):
            # It was accepted, wrote the gap, and was killed before it stamped that.
            self._announce(written.source, announce.closed(written))
            path.crashed(until_ms, NO_STOP, age_seconds=None)
        elif known.from_ms is not None:
            age = _plus(away, left.lasted_seconds(known.from_ms, known.age_seconds))
            path.begin(known.from_ms, known.cause, known.detail, age_seconds=age)
            path.surely_heard(known.heard_ms)

    def path(self, source: str, subscription: str) -> PathLedger:
        return self._paths[source, subscription]

    def add(self, source: str, subscription: str) -> PathLedger:
        """A path that is new to the configuration: it begins without a gap, whatever it did earlier. One that
        is known stays as it is."""
        if (source, subscription) not in self._paths:
            self._paths[source, subscription] = PathLedger(self, source, subscription)
            self.stamp_soon()
        return self._paths[source, subscription]

    def remove(self, source: str, subscription: str) -> None:
        """This path is gone from the configuration: nothing is missed on it any more. A gap that lasts ends
        now."""
        self._paths.pop((source, subscription)).removed()
        self.stamp_soon()

    def held_until_ms(self, heard_ms: int) -> int:
        """Given until when everything was heard, until when it is durable."""
        return self._held_until_ms(heard_ms)

    def received(self, source: str, subscription: str) -> int:
        """How many events this path has brought so far."""
        return self._received(source, subscription)

    def twins(self, path: PathLedger) -> list[PathLedger]:
        """The other subscriptions of its source, but for those that are known to bring less. That a webhook
        is listened to says nothing: what comes there heals (`healing`)."""
        others = [twin for twin in self._paths.values() if twin.source == path.source and twin is not path]
        others = [twin for twin in others if twin.subscription != WEBHOOK]
        return [twin for twin in others if self._covers(twin.source, twin.subscription)]

    def opened(self, gap: Gap) -> None:
        """A gap was noticed: tell those who want to know."""
        self._announce(gap.source, announce.opened(gap))

    def ended(self, gap: Gap) -> None:
        """A gap has ended: count it, tell it, and write it soon."""
        log.info("gap.ended", **_told(gap))
        self._metrics.gaps.labels(gap.source, gap.cause).inc()
        self._metrics.gap_seconds.labels(gap.source, gap.cause).inc(gap.seconds)
        self._healings.ended(gap)
        if not (gap.lossless or self._healings.heal(gap)):
            self._metrics.gap_loss_seconds.labels(gap.source, gap.cause).inc(gap.seconds)
        self._unwritten.append(gap)
        self._announce(gap.source, announce.closed(gap))

    def came_by_webhook(self, events: Iterable[Event]) -> None:
        """These are durable, and came by webhook first: they heal the gaps in which they happened."""
        lasting: dict[str, dict[str, int]] = {}
        for event in events:
            if event.source not in lasting:
                lasting[event.source] = self._lasting(event.source)
            for subscription in self._healings.note(event, lasting[event.source]):
                self._metrics.gap_healed_events.labels(event.source, subscription).inc()

    def _lasting(self, source: str) -> dict[str, int]:
        """Subscriptions of this source that are not listened to, and since when."""
        paths = [path for path in self._paths.values() if path.source == source]
        gaps = [gap for path in paths if path.subscription != WEBHOOK and (gap := path.open_gap())]
        return {gap.subscription: gap.from_ms for gap in gaps}

    def settle_troubles(self, *, finish: bool = False) -> None:
        """Note the episodes that have begun or ended. `finish`: the relay stops; those that are over do not
        wait for a return."""
        opened, ended = self._troubles.take(finish=finish)
        for gap in opened:
            self.opened(gap)
        for gap in ended:
            self.ended(gap)

    def _announce(self, source: str, content: bytes) -> None:
        if self._send(source, content):
            # Taken afterwards: not earlier than its time of receipt, by which it counts as held.
            self._announcing.append((int(self.clock.wall() * 1000), source, content))

    def _listening(self) -> list[str]:
        return [_name(path) for path in self._paths.values() if path.listening]

    # --- the service --------------------------------------------------------------------------------

    def stamp_soon(self) -> None:
        self._wake.set()

    def stop(self) -> None:
        """`run` returns after a last write."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Stamp every second, and at once when something changed."""
        while not self._stopping:
            try:
                async with asyncio.timeout(_STAMP_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            await self.write()
        if self._wake.is_set():  # the stop came while something was being written
            await self.write()

    async def write(self) -> None:
        """Write what there is. Trouble with the disk is logged once; nothing is forgotten meanwhile: what
        the ledger does not take goes into the stamp, which needs no new space."""
        self.settle_troubles(finish=self._stopping)
        # Taken together: a stamp must not say that a gap has ended which is not written yet.
        gaps, now = self._unwritten[:], self._stamp()
        healings = self._healings.due(now.at, finish=self._stopping)
        try:
            if gaps or healings:
                lines = [healing.line() for healing in healings]
                await asyncio.to_thread(append, self._directory / GAPS, gaps, lines)
                del self._unwritten[: len(gaps)]
                self._healings.written(healings)
                for healing in healings:
                    log.info("gap.healed", **healing.told())
        except OSError as error:
            self._note_trouble(error)
            await self._stamp_with(gaps, now)
        else:
            await self._write_stamp(now)

    async def _stamp_with(self, unwritten: Sequence[Gap], now: Stamp) -> None:
        if len(unwritten) <= _MAX_UNWRITTEN:
            try:
                await asyncio.to_thread(
                    stamp.write, self._directory, replace(now, unwritten=tuple(unwritten))
                )
            except OSError:
                pass  # the last stamp holds: a crash is a gap from then on

    async def _write_stamp(self, now: Stamp) -> None:
        try:
            await asyncio.to_thread(stamp.write, self._directory, now)
        except OSError as error:
            self._note_trouble(error)
            return
        if self._in_trouble:
            log.info("ledger.write_recovered", directory=str(self._directory))
        self._in_trouble = False

    def _note_trouble(self, error: OSError) -> None:
        if not self._in_trouble:
            log.error("ledger.write_failed", directory=str(self._directory), error=error.strerror)
        self._in_trouble = True

    def _stamp(self) -> Stamp:
        now_ms = int(self.clock.wall() * 1000)
        held_ms = self._held_until_ms(now_ms)
        self._announcing = [one for one in self._announcing if one[0] >= held_ms]
        return Stamp(
            now_ms,
            self._boot,
            round(self.clock.elapsed(), 3),
            {_name(path): path.stamp() for path in self._paths.values()},
            troubles=tuple(self._troubles.lasting()),
            healings=tuple(self._healings.unwritten()),
            announcing=tuple(
                (source, content.decode()) for _, source, content in self._announcing[:_MAX_ANNOUNCING]
            ),
        )


def _ended_ms(written: Gap, from_ms: int) -> int | None:
    """When the gap that is said to be open has ended, if the last written one of its path is the same."""
    if written.to_ms is None or not written.from_ms <= from_ms < written.to_ms:
        return None
    return written.to_ms


def _was_killed_later(known: PathStamp, accepted: float) -> bool:
    """We listened already when the last process still held everything."""
    return known.held_ms is not None and accepted <= known.held_ms / 1000 - UNCLEAN_MARGIN_SECONDS


def _plus(seconds: float | None, more: float) -> float | None:
    return None if seconds is None else max(0.0, seconds + more)


def _told(gap: Gap) -> dict[str, object]:
    """What there is to say of it; that no event was lost is something, too."""
    return {name: value for name, value in gap.as_json().items() if value or name == "events"}


def _name(path: PathLedger) -> str:
    return f"{path.source}/{path.subscription}"
