"""What came by webhook heals the gaps of the sockets, across kills and restarts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.unit.intake.fakes import HandClock
from tests.unit.intake.test_ledger import House
from zoomrelay.event import WEBHOOK, Event
from zoomrelay.intake import gaps as gaps_file
from zoomrelay.intake.gaps import GAPS, Gap
from zoomrelay.intake.healing import Healings, healed
from zoomrelay.intake.ledger import read

SOCKET, HOOK = ("main", "sub"), ("main", WEBHOOK)


class Hooked(House):
    """A relay with one subscription and a webhook."""

    def start(self, *paths: tuple[str, str]) -> None:
        super().start(*(paths or (SOCKET, HOOK)))

    def open_both(self) -> None:
        for path in (SOCKET, HOOK):
            self.ledger.path(*path).accepted(self.clock.wall())

    def second(self) -> None:
        for path in (SOCKET, HOOK):
            if self.ledger.path(*path).listening:
                self.ledger.path(*path).alive(self.clock.wall())

    def lose(self) -> None:  # type: ignore[override]
        self.ledger.path(*SOCKET).lost("closed", "", clean=True, heard_until=self.clock.wall())

    def came(self, *event_ts: int | None) -> None:
        now_ms = int(self.clock.wall() * 1000)
        self.ledger.came_by_webhook(
            [Event(b"d" * 16, "main", WEBHOOK, "meeting.started", ts, "", now_ms, b"{}") for ts in event_ts]
        )

    @property
    def now_ms(self) -> int:
        return int(self.clock.wall() * 1000)

    def socket_gap(self) -> Gap:
        (gap,) = [
            gap
            for gap in read(self.directory, self.clock, boot_id=lambda: self.boot)
            if gap.subscription == "sub"
        ]
        return gap


@pytest.fixture
def house(tmp_path: Path) -> Hooked:
    return Hooked(tmp_path)


async def outage(house: Hooked, *, seconds: float = 600, every: float = 60) -> int:
    """Sockets down for so long, an event every so often by webhook; how many."""
    house.open_both()
    await house.ledger.write()
    house.clock.sleep(100)
    house.second()
    house.lose()
    count = int(seconds / every)
    for _ in range(count):
        house.clock.sleep(every)
        house.came(house.now_ms - 20)
        house.second()
        await house.ledger.write()
    house.clock.sleep(seconds - count * every)
    return count


async def test_an_outage_with_an_open_webhook_is_healed(house: Hooked) -> None:
    count = await outage(house)
    lasting = house.socket_gap()
    assert (lasting.to_ms, lasting.healed_events, lasting.healed) == (None, count, False)
    assert lasting.may_heal_until_ms is not None and not lasting.lossless
    house.ledger.path(*SOCKET).accepted(house.clock.wall())
    await house.ledger.write()
    gap = house.socket_gap()
    assert (gap.healed_events, gap.healed, gap.lossless) == (count, True, True)
    assert not gap.covered_by, "that it listens proves nothing"
    told = gap.as_json()
    assert told["healed"] is True and told["healed_events"] == count
    loss = {"source": "main", "cause": "closed"}
    assert house.registry.get_sample_value("zoomrelay_gap_loss_seconds_total", loss) is None
    came = {"source": "main", "subscription": "sub"}
    assert house.registry.get_sample_value("zoomrelay_gap_healed_events_total", came) == count


async def test_without_events_it_is_not_healed_but_may_be(house: Hooked) -> None:
    await outage(house, seconds=600, every=601)
    house.ledger.path(*SOCKET).accepted(house.clock.wall())
    await house.ledger.write()
    gap = house.socket_gap()
    assert (gap.healed_events, gap.healed, gap.lossless) == (0, False, False)
    assert gap.may_heal_until_ms == (gap.to_ms or 0) + 90 * 60_000
    house.clock.sleep(91 * 60)
    house.second()
    await house.ledger.write()
    assert (
        house.socket_gap().may_heal_until_ms is None and "may_heal_until" not in house.socket_gap().as_json()
    )


async def test_what_zoom_tries_again_after_the_relay_was_away_heals(house: Hooked) -> None:
    house.open_both()
    house.clock.sleep(10)
    house.second()
    await house.ledger.write()
    house.clock.sleep(600)
    away = house.now_ms - 300_000
    house.start()
    house.open_both()
    await house.ledger.write()
    house.clock.sleep(1200)
    house.second()
    house.came(away, away + 1, house.now_ms, None)
    await house.ledger.write()
    gap = house.socket_gap()
    assert (gap.cause, gap.healed_events, gap.healed) == ("crash", 2, True)


async def test_counts_survive_a_kill_at_any_time(house: Hooked) -> None:
    """Whatever the last stamp says is known; what was written and is in the stamp too counts once."""
    count = await outage(house, seconds=90, every=10)
    house.start()  # killed
    house.ledger.path(*HOOK).accepted(house.clock.wall())
    house.came(house.now_ms - 5)
    await house.ledger.write()
    assert house.socket_gap().healed_events == count + 1
    house.clock.sleep(61)
    house.second()
    stamp = (house.directory / "alive.json").read_bytes()
    await house.ledger.write()  # the counts go into the ledger
    assert b'"healed"' in (house.directory / GAPS).read_bytes()
    assert house.socket_gap().healed_events == count + 1
    (house.directory / "alive.json").write_bytes(stamp)  # killed before the stamp was made anew
    assert house.socket_gap().healed_events == count + 1
    house.start()
    house.open_both()
    house.ledger.stop()
    await house.ledger.run()
    assert house.socket_gap().healed_events == count + 1


async def test_what_comes_while_counts_are_written_counts_once(house: Hooked) -> None:
    healings = Healings()
    gap = Gap("main", "sub", 1000, 2000, 1.0, "closed")
    healings.ended(gap)
    event = Event(b"d" * 16, "main", WEBHOOK, "x", 1500, "", 5000, b"{}")
    healings.note(event, {})
    (first,) = healings.due(5000, finish=True)
    healings.note(event, {})
    healings.written([first])
    (rest,) = healings.unwritten()
    assert (first.events, rest.events) == (1, 1) and first.since_ms != rest.since_ms
    assert healed([gap], [first, rest], set(), 0)[0].healed_events == 2


async def test_only_what_happened_in_it_heals_a_gap(house: Hooked) -> None:
    await outage(house, seconds=60, every=61)
    house.ledger.path(*SOCKET).accepted(house.clock.wall())
    await house.ledger.write()
    gap = house.socket_gap()
    assert gap.to_ms is not None
    house.came(gap.from_ms - 1, gap.to_ms + 1, 0)
    assert house.socket_gap().healed_events == 0
    house.came(gap.from_ms, gap.to_ms)
    await house.ledger.write()
    assert house.socket_gap().healed_events == 2


async def test_a_webhook_that_was_closed_for_too_long_heals_nothing_for_certain(house: Hooked) -> None:
    house.open_both()
    house.second()
    await house.ledger.write()
    house.clock.sleep(86 * 60)
    house.start()
    house.open_both()
    house.came(house.now_ms - 80 * 60_000)
    await house.ledger.write()
    gap = house.socket_gap()
    assert (gap.healed_events, gap.healed, gap.lossless) == (1, False, False)
    (hook,) = [gap for gap in read(house.directory, house.clock) if gap.subscription == WEBHOOK]
    assert not hook.lossless, "Zoom has given up"


async def test_a_webhook_that_was_closed_for_a_while_has_lost_nothing(house: Hooked) -> None:
    house.open_both()
    house.second()
    await house.ledger.write()
    house.clock.sleep(80 * 60)
    house.start()
    house.open_both()
    await house.ledger.write()
    (hook,) = [gap for gap in read(house.directory, house.clock) if gap.subscription == WEBHOOK]
    assert hook.lossless and not hook.covered_by and hook.cause == "crash"


async def test_the_ledger_stays_readable_for_older_versions_and_line_by_line(house: Hooked) -> None:
    await outage(house, seconds=300)
    house.ledger.path(*SOCKET).accepted(house.clock.wall())
    house.ledger.stop()
    with capture_logs() as logs:
        await house.ledger.run()
    text = (house.directory / GAPS).read_bytes()
    lines = [json.loads(line) for line in text.splitlines()]
    counts = [line for line in lines if "healed" in line and "cause" not in line]
    assert sum(line["healed"] for line in counts) == 5
    assert all(line["subscription"] == "sub" and line["from"] <= line["to"] for line in counts)
    assert len(gaps_file.entries(text)) == len(lines) - len(counts)
    assert [log["event"] for log in logs if log["event"] == "gap.healed"]


async def test_a_gap_after_a_step_of_the_clock_is_one_gap(house: Hooked) -> None:
    """Where it begins may be told differently from one look to the next."""
    await outage(house, seconds=30, every=10)
    assert isinstance(house.clock, HandClock)
    house.clock.step(-5)
    house.came(house.now_ms)
    await house.ledger.write()
    house.ledger.path(*SOCKET).accepted(house.clock.wall())
    await house.ledger.write()
    assert house.socket_gap().healed_events >= 3
