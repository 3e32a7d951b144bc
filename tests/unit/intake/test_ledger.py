"""The gap ledger: every interval without an accepted socket, whatever happens to process, clock and disk."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from tests.unit.intake.fakes import WALL, HandClock
from zoomrelay.intake import gaps as gaps_file
from zoomrelay.intake import ledger as ledger_module
from zoomrelay.intake import stamp
from zoomrelay.intake.gaps import GAPS, Gap, Trouble
from zoomrelay.intake.ledger import Ledger, read
from zoomrelay.intake.path_ledger import CLEAN_MARGIN_SECONDS, UNCLEAN_MARGIN_SECONDS, PathLedger
from zoomrelay.intake.stamp import ALIVE
from zoomrelay.intake.troubles import Troubles
from zoomrelay.telemetry.metrics import Metrics

PATH = ("main", "sub")
TWIN = ("main", "twin")


class House:
    """A state directory and the relays that live in it one after the other."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = HandClock()
        self.boot = "boot-1"
        self.last_received: dict[tuple[str, str], int] = {}
        self.unheld_since: float | None = None
        self.received: Counter[tuple[str, str]] = Counter()
        self.announced: list[tuple[str, dict[str, Any]]] = []
        self.somebody_listens = True
        self.deaf: set[tuple[str, str]] = set()
        self.registry = CollectorRegistry()
        self.start()

    def start(
        self, *paths: tuple[str, str], accepted: dict[tuple[str, str], tuple[float, float]] | None = None
    ) -> None:
        self.registry = CollectorRegistry()
        self.troubles = Troubles(self.clock)
        self.ledger = Ledger(
            self.directory,
            self.clock,
            Metrics(self.registry),
            self._held_until_ms,
            troubles=self.troubles,
            received=lambda source, subscription: self.received[source, subscription],
            covers=lambda *path: path not in self.deaf,
            announce=self._announce,
            boot_id=lambda: self.boot,
        )
        self.ledger.open(paths or [PATH], self.last_received, accepted)

    def _held_until_ms(self, heard_ms: int) -> int:
        return heard_ms if self.unheld_since is None else min(heard_ms, int(self.unheld_since * 1000))

    def _announce(self, source: str, content: bytes) -> bool:
        if self.somebody_listens:
            self.announced.append((source, json.loads(content)))
        return self.somebody_listens

    @property
    def told(self) -> list[tuple[str, str]]:
        """What was announced: event and cause."""
        return [(told["event"], told["payload"]["object"]["cause"]) for _, told in self.announced]

    @property
    def twin(self) -> PathLedger:
        return self.ledger.path(*TWIN)

    @property
    def path(self) -> PathLedger:
        return self.ledger.path(*PATH)

    @property
    def now_ms(self) -> int:
        return int(self.clock.wall() * 1000)

    async def accept(self) -> None:
        self.path.accepted(self.clock.wall())
        await self.ledger.write()

    async def listen(self, seconds: float, *, events: int = 0) -> None:
        """Frames come all the time, so many events each second, and every second is stamped."""
        for _ in range(int(seconds)):
            self.clock.sleep(1)
            self.received[PATH] += events
            self.path.alive(self.clock.wall())
            await self.ledger.write()

    async def lose(self, cause: str = "closed", *, clean: bool = True, silent_seconds: float = 0.0) -> None:
        self.clock.sleep(silent_seconds)
        heard_until = self.clock.wall() - silent_seconds
        self.path.lost(cause, "words", clean=clean, heard_until=heard_until)
        await self.ledger.write()

    def gaps(self) -> list[Gap]:
        return read(self.directory, self.clock, boot_id=lambda: self.boot)

    def gap(self) -> Gap:
        (gap,) = self.gaps()
        return gap


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


# --- while it runs ----------------------------------------------------------------------------------


async def test_before_the_first_acceptance_there_is_no_gap(house: House) -> None:
    house.clock.sleep(100)
    await house.ledger.write()
    house.start()
    house.clock.sleep(100)
    await house.accept()
    assert house.gaps() == []


@pytest.mark.parametrize(("clean", "margin"), [(True, CLEAN_MARGIN_SECONDS), (False, UNCLEAN_MARGIN_SECONDS)])
async def test_a_gap_from_a_little_before_the_last_frame_to_acceptance(
    house: House, clean: bool, margin: float
) -> None:
    await house.accept()
    await house.listen(10)
    end = house.now_ms
    await house.lose("reset", clean=clean, silent_seconds=4.0)
    house.clock.sleep(26)
    await house.accept()
    expected = Gap(
        *PATH, end - int(margin * 1000), end + 30_000, pytest.approx(30 + margin), "reset", "words"
    )
    assert replace(house.gap(), estimated_events=None) == expected


async def test_the_open_gap_is_listed_as_it_grows(house: House) -> None:
    await house.accept()
    await house.listen(5)
    await house.lose()
    house.clock.sleep(60)
    gap = house.gap()
    assert gap.to_ms is None and gap.seconds == pytest.approx(60.25, abs=0.01)
    assert house.path.open_gap() == gap
    house.clock.sleep(60)
    assert house.gap().seconds == pytest.approx(120.25, abs=0.01)
    await house.accept()
    assert house.path.open_gap() is None and house.gap().to_ms is not None


async def test_a_gap_that_was_written_but_not_yet_stamped_is_listed_once(house: House) -> None:
    await house.accept()
    await house.listen(5)
    await house.lose()
    house.clock.sleep(1)
    left = stamp.read(house.directory)
    house.clock.sleep(1)
    await house.accept()
    stamp.write(house.directory, left)
    assert house.gap().to_ms == house.now_ms


async def test_paths_are_apart(house: House) -> None:
    house.start(PATH, ("main", "other"))
    house.ledger.path("main", "other").accepted(house.clock.wall())
    await house.accept()
    await house.lose()
    house.clock.sleep(5)
    await house.accept()
    assert [gap.subscription for gap in house.gaps()] == ["sub"]


async def test_the_line_is_what_it_is_documented_to_be(house: House) -> None:
    await house.accept()
    await house.listen(5, events=4)
    await house.lose()
    house.clock.sleep(1.5)
    await house.accept()
    (line,) = (house.directory / GAPS).read_text().splitlines()
    assert json.loads(line) == {
        "from": "2023-11-14T22:13:24.750Z",
        "to": "2023-11-14T22:13:26.500Z",
        "seconds": 1.75,
        "cause": "closed",
        "detail": "words",
        "source": "main",
        "subscription": "sub",
        "paths": ["main/sub"],
        "covered": False,
        "estimated_events": 7.0,
    }
    assert (house.directory / GAPS).stat().st_mode & 0o777 == 0o600


async def test_gaps_are_counted_and_told(house: House) -> None:
    await house.accept()
    await house.listen(5)
    with capture_logs() as logs:
        house.path.lost("silent", "", clean=False, heard_until=house.clock.wall())
        house.clock.sleep(9)
        await house.accept()
    labels = {"source": "main", "cause": "silent"}
    assert house.registry.get_sample_value("zoomrelay_gaps_total", labels) == 1
    assert house.registry.get_sample_value("zoomrelay_gap_seconds_total", labels) == pytest.approx(10)
    (told,) = logs
    assert told["event"] == "gap.ended" and told["seconds"] == 10 and "detail" not in told


async def test_a_long_story_is_cut_short(house: House) -> None:
    house.somebody_listens = False
    await house.accept()
    house.path.lost("closed", "x" * 5000, clean=True, heard_until=house.clock.wall())
    await house.ledger.write()
    assert len(house.gap().detail) == 200
    # A shorter stamp over a longer one.
    await house.accept()
    assert len((house.directory / ALIVE).read_bytes()) == 512
    assert len(house.gaps()) == 1


# --- across restarts --------------------------------------------------------------------------------


async def test_an_orderly_stop_and_a_start(house: House) -> None:
    await house.accept()
    await house.listen(5)
    stopped = house.now_ms
    await house.lose("stopped")
    house.clock.sleep(3600)
    assert house.gap().seconds == pytest.approx(3600.25, abs=0.01)
    house.start()
    house.clock.sleep(2)
    await house.accept()
    gap = house.gap()
    assert (gap.cause, gap.from_ms, gap.to_ms) == ("stopped", stopped - 250, house.now_ms)
    assert gap.seconds == pytest.approx(3602.25, abs=0.01)


async def test_a_crash_is_a_gap_from_the_last_stamp(house: House) -> None:
    await house.accept()
    await house.listen(5)
    stamped = house.now_ms
    house.clock.sleep(0.9)  # killed here
    house.clock.sleep(60)
    gap = house.gap()  # no relay runs, and it is listed all the same
    assert (gap.cause, gap.from_ms, gap.to_ms) == ("crash", stamped - 1000, None)
    assert gap.seconds == pytest.approx(61.9, abs=0.01)
    house.start()
    assert house.gap() == gap
    house.clock.sleep(1)
    await house.accept()
    gap = house.gap()
    assert (gap.cause, gap.from_ms, gap.to_ms) == ("crash", stamped - 1000, house.now_ms)
    assert gap.seconds == pytest.approx(62.9, abs=0.01)


async def test_a_relay_that_runs_is_not_taken_for_a_crashed_one(house: House) -> None:
    await house.accept()
    await house.listen(5)
    house.clock.sleep(3)
    assert house.gaps() == []


@pytest.mark.parametrize("clean", [True, False])
async def test_gaps_that_follow_each_other_do_not_overlap(house: House, clean: bool) -> None:
    await house.accept()
    for _ in range(3):
        house.clock.sleep(0.05)
        await house.lose(clean=clean, silent_seconds=0.02)
        house.clock.sleep(0.5)
        await house.accept()
    first, *others = gaps = house.gaps()
    # Before the first acceptance no gap covers what the first socket missed at its very beginning.
    assert first.seconds == pytest.approx(0.52 + (0.25 if clean else 1.0), abs=0.002)
    assert [gap.seconds for gap in others] == [pytest.approx(0.57, abs=0.002)] * 2
    assert all(after.from_ms == pytest.approx(before.to_ms, abs=1) for before, after in pairwise(gaps))


async def test_a_later_event_in_the_spool_does_not_shorten_the_gap(house: House) -> None:
    """Others that were sent before it may have waited in the socket."""
    await house.accept()
    await house.listen(5)
    stamped = house.now_ms
    house.last_received[PATH] = stamped + 700
    house.clock.sleep(30)
    house.start()
    await house.accept()
    assert house.gap().from_ms == stamped - 1000


async def test_what_was_not_durable_yet_is_in_the_gap(house: House) -> None:
    await house.accept()
    await house.listen(5)
    house.unheld_since = house.clock.wall()
    await house.listen(20)
    house.clock.sleep(1)
    house.unheld_since, unheld = None, house.unheld_since
    house.start()
    await house.accept()
    assert house.gap().from_ms == int(unheld * 1000) - 1000


async def test_also_where_the_socket_had_ended_before_the_crash(house: House) -> None:
    await house.accept()
    await house.listen(5)
    house.unheld_since = house.clock.wall()
    house.clock.sleep(10)
    await house.lose()
    unheld, house.unheld_since = house.unheld_since, None
    house.start()
    await house.accept()
    assert house.gap().from_ms == int(unheld * 1000) - 1000


async def test_two_crashes_in_a_row_are_one_gap(house: House) -> None:
    await house.accept()
    await house.listen(2)
    stamped = house.now_ms
    for _ in range(3):
        house.clock.sleep(20)
        house.start()
        house.clock.sleep(2)
        await house.ledger.write()
    await house.accept()
    assert (house.gap().from_ms, house.gap().to_ms) == (stamped - 1000, house.now_ms)


async def test_killed_between_the_gap_and_the_stamp(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.accept()
    await house.lose()
    house.clock.sleep(10)
    alive = (house.directory / ALIVE).read_bytes()
    await house.accept()
    accepted = house.now_ms
    (house.directory / ALIVE).write_bytes(alive)
    house.last_received[PATH] = accepted + 4000
    house.clock.sleep(60)
    house.start()
    await house.accept()
    first, second = house.gaps()
    assert (first.cause, first.to_ms) == ("closed", accepted)
    assert (second.cause, second.from_ms, second.to_ms) == ("crash", accepted - 1000, house.now_ms)


async def test_killed_before_the_gap_was_written(house: House) -> None:
    await house.accept()
    await house.lose()
    began = house.gap().from_ms
    house.clock.sleep(10)
    house.path.accepted(house.clock.wall())  # and nothing of that reaches the disk
    house.clock.sleep(60)
    house.start()
    await house.accept()
    assert (house.gap().from_ms, house.gap().to_ms) == (began, house.now_ms)


@pytest.mark.parametrize("stamp", [None, b"", b"\0" * 512, b'{"at": 17', b"[]", b'{"at":"x"}', b"\xff\xfe"])
async def test_without_a_stamp_the_spool_tells_from_when_nothing_is_known(
    house: House, stamp: bytes | None
) -> None:
    await house.accept()
    await house.listen(5)
    if stamp is None:
        (house.directory / ALIVE).unlink()
    else:
        (house.directory / ALIVE).write_bytes(stamp)
    house.last_received[PATH] = house.now_ms - 60_000
    assert house.gaps() == []
    house.start()
    await house.accept()
    assert (house.gap().cause, house.gap().from_ms) == ("crash", house.now_ms - 61_000)


# --- clocks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [-7200.0, -5.0, 5.0, 7200.0])
@pytest.mark.parametrize("moment", ["in the gap", "while stopped", "while crashed"])
async def test_a_clock_that_is_set_shortens_no_gap(house: House, step: float, moment: str) -> None:
    await house.accept()
    await house.listen(3)
    if moment != "while crashed":
        await house.lose("stopped")
    house.clock.sleep(30)
    house.clock.step(step)
    assert house.gap().seconds == pytest.approx(30.6, abs=0.5)
    if moment != "in the gap":
        house.start()
    house.clock.sleep(30)
    await house.accept()
    gap = house.gap()
    assert gap.to_ms == house.now_ms
    assert gap.seconds == pytest.approx(60.6, abs=0.5)
    assert gap.to_ms - gap.from_ms >= int(gap.seconds * 1000)


@pytest.mark.parametrize("step", [-7200.0, 7200.0])
async def test_a_clock_that_is_set_between_the_end_and_the_stamp(house: House, step: float) -> None:
    """A stamp tells how long ago everything was, by the clock that is in force when it is made."""
    await house.accept()
    await house.listen(3)
    house.path.lost("stopped", "", clean=True, heard_until=house.clock.wall())
    house.clock.step(step)
    house.clock.sleep(1)
    await house.ledger.write()
    house.start()
    house.clock.sleep(1)
    await house.accept()
    assert house.gap().seconds == pytest.approx(2.25, abs=0.01)


@pytest.mark.parametrize("step", [-7200.0, 7200.0])
async def test_killed_soon_after_the_clock_was_set(house: House, step: float) -> None:
    await house.accept()
    await house.listen(3)
    house.clock.step(step)
    await house.ledger.write()
    house.clock.sleep(1)
    house.start()
    await house.accept()
    assert house.gap().seconds == pytest.approx(2, abs=0.01)


async def test_a_clock_set_back_while_listening(house: House) -> None:
    await house.accept()
    await house.listen(3)
    house.last_received[PATH] = house.now_ms
    house.clock.step(-3600)
    await house.listen(3)
    stamped = house.now_ms
    house.clock.sleep(10)
    house.start()
    await house.accept()
    gap = house.gap()
    assert gap.from_ms == pytest.approx(stamped - 1000, abs=5)
    assert gap.seconds == pytest.approx(11, abs=0.01)


async def test_a_reboot_leaves_only_the_wall_clock(house: House) -> None:
    await house.accept()
    await house.listen(3)
    stamped = house.now_ms
    house.clock.sleep(300)
    house.clock.reboot()
    house.boot = "boot-2"
    assert house.gap().seconds == pytest.approx(301, abs=0.01)
    house.start()
    house.clock.sleep(5)
    await house.accept()
    gap = house.gap()
    assert (gap.from_ms, gap.seconds) == (stamped - 1000, pytest.approx(306, abs=0.01))


async def test_a_suspended_machine(house: House) -> None:
    await house.accept()
    await house.listen(3)
    awake = house.now_ms
    await house.lose("suspended", clean=False, silent_seconds=8 * 3600)
    await house.accept()
    gap = house.gap()
    assert (gap.cause, gap.from_ms, gap.to_ms) == ("suspended", awake - 1000, house.now_ms)
    assert gap.seconds == pytest.approx(8 * 3600 + 1)


# --- the disk ---------------------------------------------------------------------------------------


async def test_a_last_line_that_was_cut_short(house: House) -> None:
    for _ in range(3):
        await house.accept()
        await house.lose()
        house.clock.sleep(5)
    ended = house.gaps()[:-1]
    file = house.directory / GAPS
    os.truncate(file, file.stat().st_size - 20)
    assert house.gaps()[:-1] == ended[:-1]
    house.start()
    await house.accept()
    assert house.gaps()[:-1] == ended[:-1] and len(file.read_bytes().splitlines()) == 3


async def test_trouble_with_the_disk_forgets_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.accept()
    await house.lose()
    full = OSError(28, "No space left on device")

    def fails(*_: object, **__: object) -> None:
        raise full

    append = ledger_module.append
    monkeypatch.setattr(ledger_module, "append", fails)
    with capture_logs() as logs:
        for _ in range(3):
            house.clock.sleep(5)
            await house.accept()
            await house.lose()
        assert (house.directory / GAPS).exists() is False
        monkeypatch.setattr(ledger_module, "append", append)
        await house.ledger.write()
    assert len(house.gaps()) == 4
    told = [line["event"] for line in logs if line["event"] != "gap.ended"]
    assert told == ["ledger.write_failed", "ledger.write_recovered"]


async def test_a_stamp_never_says_that_an_unwritten_gap_has_ended(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second gap ends while the first one is being written; then the process is killed."""
    await house.accept()
    await house.lose()
    house.clock.sleep(5)
    house.path.accepted(house.clock.wall())
    append = ledger_module.append

    def slowly(file: Path, gaps: list[Gap], _more: list[bytes]) -> None:
        append(file, gaps)
        house.path.lost("reset", "", clean=False, heard_until=house.clock.wall())
        house.clock.sleep(7)
        house.path.accepted(house.clock.wall())

    monkeypatch.setattr(ledger_module, "append", slowly)
    await house.ledger.write()
    house.clock.sleep(60)
    house.start()
    monkeypatch.setattr(ledger_module, "append", append)
    await house.accept()
    first, second = house.gaps()
    assert first.cause == "closed"
    assert second.cause == "crash" and second.seconds >= 67


def test_half_a_write_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / GAPS
    one = Gap("main", "sub", 0, 1000, 1.0, "closed")
    gaps_file.append(file, [one])
    write, calls = os.write, []

    def half(descriptor: int, content: bytes) -> int:
        calls.append(1)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        return write(descriptor, content[: len(content) // 2])

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(OSError):
        gaps_file.append(file, [one, one])
    monkeypatch.undo()
    gaps_file.append(file, [one])
    assert gaps_file.read_ended(tmp_path) == [one, one]


async def test_an_unwritable_directory_does_not_keep_the_relay_from_running(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("zoomrelay.intake.stamp.write", fails)
    with capture_logs() as logs:
        house.start()
        await house.accept()
    assert [line["event"] for line in logs] == ["ledger.write_failed"]


async def test_what_the_disk_does_not_take_outlives_a_kill(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger cannot grow, but the stamp lies in space that it has already."""

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    append = ledger_module.append
    monkeypatch.setattr(ledger_module, "append", fails)
    await house.accept()
    for cause in ("closed", "reset"):
        await house.listen(5)
        await house.lose(cause)
        house.clock.sleep(5)
        await house.accept()
    assert [gap.cause for gap in house.gaps()] == ["closed", "reset"]
    house.start()  # after a kill, and the disk is still full
    house.start()  # and once more
    assert [gap.cause for gap in house.gaps()] == ["closed", "reset", "crash"]
    monkeypatch.setattr(ledger_module, "append", append)
    await house.accept()
    house.start()
    await house.accept()
    assert [gap.cause for gap in house.gaps()] == ["closed", "reset", "crash", "crash"]
    assert len((house.directory / GAPS).read_bytes().splitlines()) == 4


async def test_an_entry_that_was_written_after_all_is_there_once(house: House) -> None:
    await house.accept()
    await house.lose()
    house.clock.sleep(5)
    await house.accept()
    left = stamp.read(house.directory)
    stamp.write(house.directory, replace(left, unwritten=(house.gap(),)))
    assert len(house.gaps()) == 1
    house.start()
    await house.accept()
    assert [gap.cause for gap in house.gaps()] == ["closed", "crash"]


def test_a_stamp_that_finds_no_space_leaves_the_last_one_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = stamp.Stamp(at=1, boot="b", paths={"main/sub": stamp.PathStamp(held_ms=1)})
    stamp.write(tmp_path, small)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    large = replace(small, announcing=(("main", "x" * 5000),))
    with pytest.raises(OSError, match="No space"):
        stamp.write(tmp_path, large)
    assert stamp.read(tmp_path) == small
    stamp.write(tmp_path, replace(small, at=2))  # which needs none
    assert stamp.read(tmp_path).at == 2


async def test_lines_of_older_versions_are_read(house: House) -> None:
    line = (
        '{"from": "2023-11-14T22:13:24.750Z", "to": "2023-11-14T22:13:26.500Z", "seconds": 1,'
        ' "cause": "closed", "detail": "words", "source": "main", "subscription": "sub"}'
    )
    (house.directory / GAPS).write_text(line + "\n")
    assert house.gap() == Gap(*PATH, 1_700_000_004_750, 1_700_000_006_500, 1.0, "closed", "words")


# --- how much was missed ----------------------------------------------------------------------------


async def test_the_estimate_goes_by_the_rate_before(house: House) -> None:
    await house.accept()
    await house.listen(600, events=3)
    await house.lose()
    house.clock.sleep(19.75)
    assert house.gap().estimated_events == 60  # as it grows
    house.clock.sleep(10)
    await house.accept()
    assert house.gap().estimated_events == 90


async def test_the_silence_of_a_dead_socket_does_not_lower_the_estimate(house: House) -> None:
    await house.accept()
    await house.listen(600, events=10)
    heard = house.clock.wall()
    for _ in range(75):
        house.clock.sleep(1)
        house.path.alive(heard)
    house.path.lost("silent", "", clean=False, heard_until=heard)
    await house.accept()
    assert house.gap().estimated_events == 760


async def test_the_rate_outlives_a_crash(house: House) -> None:
    await house.accept()
    await house.listen(600, events=2)
    house.clock.sleep(29)
    assert house.gap().estimated_events == 60
    house.start()
    await house.accept()
    assert house.gap().estimated_events == 60


async def test_without_any_rate_there_is_no_estimate(house: House) -> None:
    (house.directory / ALIVE).unlink()
    house.last_received[PATH] = house.now_ms
    house.clock.sleep(10)
    house.start()
    await house.accept()
    assert house.gap().estimated_events is None


# --- twins ------------------------------------------------------------------------------------------


async def both(house: House) -> None:
    house.start(PATH, TWIN)
    house.twin.accepted(house.clock.wall())
    await house.accept()
    await house.listen(5)


async def test_a_twin_that_listened_all_the_time_covers_a_gap(house: House) -> None:
    await both(house)
    await house.lose()
    house.clock.sleep(5)
    assert house.gap().covered_by == ("twin",)
    await house.accept()
    assert house.gap().covered_by == ("twin",) and house.gap().lossless
    labels = {"source": "main", "cause": "closed"}
    assert house.registry.get_sample_value("zoomrelay_gap_seconds_total", labels) == pytest.approx(5.25)
    assert house.registry.get_sample_value("zoomrelay_gap_loss_seconds_total", labels) is None


async def test_a_twin_that_was_away_for_a_moment_does_not(house: House) -> None:
    await both(house)
    await house.lose()
    house.clock.sleep(2)
    house.twin.lost("reset", "", clean=True, heard_until=house.clock.wall())
    house.clock.sleep(2)
    house.twin.accepted(house.clock.wall())
    house.clock.sleep(2)
    await house.accept()
    assert [(gap.subscription, gap.covered_by) for gap in house.gaps()] == [("twin", ()), ("sub", ())]


async def test_a_twin_that_was_deaf_without_knowing_does_not(house: House) -> None:
    """A half-open socket is found out after the gap that it seemed to cover was written."""
    await both(house)
    heard = house.clock.wall()
    house.clock.sleep(10)
    await house.lose()
    house.clock.sleep(2)
    await house.accept()
    assert house.gap().covered_by == ("twin",)
    house.clock.sleep(60)
    house.twin.lost("silent", "", clean=False, heard_until=heard)
    await house.ledger.write()
    assert [(gap.subscription, gap.covered_by) for gap in house.gaps()] == [("sub", ()), ("twin", ())]


async def test_a_twin_that_is_known_to_be_deaf_does_not(house: House) -> None:
    await both(house)
    house.deaf.add(TWIN)
    await house.lose()
    house.clock.sleep(2)
    await house.accept()
    assert house.gap().covered_by == () and not house.gap().lossless


async def test_no_twin_covers_a_crash(house: House) -> None:
    await both(house)
    house.clock.sleep(30)
    house.start(PATH, TWIN)
    house.twin.accepted(house.clock.wall())
    house.clock.sleep(1)
    await house.accept()
    assert [gap.covered_by for gap in house.gaps()] == [(), ()]


# --- gap events -------------------------------------------------------------------------------------

OPENED, CLOSED = "zoomrelay.gap_opened", "zoomrelay.gap_closed"


async def test_a_gap_is_announced_as_it_opens_and_as_it_closes(house: House) -> None:
    await house.accept()
    await house.listen(5, events=2)
    start = house.now_ms - 250
    await house.lose()
    house.clock.sleep(3)
    await house.accept()
    (source, opened), (_, closed) = house.announced
    entry = house.gap().as_json()
    assert source == "main"
    known = {name: entry[name] for name in ("from", "cause", "detail", "source", "subscription", "paths")}
    assert opened == {
        "event": OPENED,
        "event_ts": start,
        "payload": {"object": {"id": "main/sub", **known}},
    }
    assert closed == {
        "event": CLOSED,
        "event_ts": house.now_ms,
        "payload": {"object": {"id": "main/sub", **entry}},
    }


async def test_a_crash_is_announced_by_the_next_start(house: House) -> None:
    await house.accept()
    await house.listen(5)
    house.clock.sleep(30)
    house.start()
    assert house.told == [(OPENED, "crash")]
    await house.accept()
    assert house.told == [(OPENED, "crash"), (CLOSED, "crash")]


async def test_a_stop_is_announced_once(house: House) -> None:
    await house.accept()
    await house.lose("stopped")
    house.clock.sleep(1)
    await house.ledger.write()
    house.start()
    house.start()
    await house.accept()
    assert house.told == [(OPENED, "stopped"), (CLOSED, "stopped")]


async def test_what_was_not_durable_is_announced_again(house: House) -> None:
    """The very same content, so it is the same event."""
    await house.accept()
    await house.listen(5)
    house.unheld_since = house.clock.wall()
    await house.lose()
    first = house.announced[:]
    house.clock.sleep(5)
    await house.ledger.write()
    house.start()
    assert house.announced == first * 2
    house.unheld_since = None
    house.clock.sleep(1)
    await house.ledger.write()
    house.start()
    assert house.announced == first * 2


async def test_where_nobody_wants_it_nothing_is_kept(house: House) -> None:
    house.somebody_listens = False
    await house.accept()
    await house.lose()
    assert house.announced == [] and stamp.read(house.directory).announcing == ()


# --- troubles ---------------------------------------------------------------------------------------


async def test_a_trouble_is_listed_while_it_lasts_and_when_it_is_over(house: House) -> None:
    await house.accept()
    house.troubles.begin(Trouble.SPOOL_UNWRITABLE, "disk full")
    await house.ledger.write()
    house.clock.sleep(7)
    await house.ledger.write()
    gap = house.gap()
    assert (gap.source, gap.subscription, gap.to_ms, gap.seconds) == ("", "", None, 7)
    assert gap.paths == ("main/sub",) and "disk full" in gap.detail
    house.troubles.end(Trouble.SPOOL_UNWRITABLE)
    house.clock.sleep(6)
    await house.ledger.write()
    assert house.gap().to_ms == gap.from_ms + 7000
    assert house.told == [(OPENED, "spool_unwritable"), (CLOSED, "spool_unwritable")]
    labels = {"source": "", "cause": "spool_unwritable"}
    assert house.registry.get_sample_value("zoomrelay_gaps_total", labels) == 1
    assert house.registry.get_sample_value("zoomrelay_gap_seconds_total", labels) == 7
    assert house.registry.get_sample_value("zoomrelay_gap_loss_seconds_total", labels) is None


async def test_a_kill_ends_a_trouble_at_the_last_stamp(house: House) -> None:
    await house.accept()
    house.troubles.add(Trouble.SHED, 40, sink="crm")
    await house.ledger.write()
    house.clock.sleep(3)
    house.troubles.add(Trouble.SHED, 2, sink="crm")
    await house.ledger.write()
    house.clock.sleep(100)
    (shed, crash) = house.gaps()
    assert (shed.cause, shed.sink, shed.events, shed.seconds) == ("shed", "crm", 42, 3)
    assert shed.to_ms == shed.from_ms + 3000 and crash.cause == "crash"
    house.start()
    await house.ledger.write()
    assert house.gaps()[0] == shed
    house.start()
    assert [gap.cause for gap in house.gaps()] == ["shed", "crash"]


async def test_a_trouble_that_was_written_but_not_yet_stamped_is_listed_once(house: House) -> None:
    house.somebody_listens = False
    await house.accept()
    house.troubles.add(Trouble.SHED, 40, sink="crm")
    await house.ledger.write()
    left = stamp.read(house.directory)
    house.ledger.settle_troubles(finish=True)
    await house.ledger.write()
    stamp.write(house.directory, left)
    assert [gap.cause for gap in house.gaps()] == ["shed"]
    house.start()
    await house.ledger.write()
    assert [gap.cause for gap in house.gaps()] == ["shed", "crash"]


async def test_a_trouble_of_a_path_is_not_taken_for_its_gap(house: House) -> None:
    """Entries of a source must not end the gap that a kill left open."""
    await house.accept()
    await house.lose()
    house.clock.sleep(5)
    house.troubles.add(Trouble.SIGNATURE_REFUSED, 1, source="main", paths=["main/sub"])
    house.ledger.settle_troubles(finish=True)
    await house.ledger.write()
    house.start()
    await house.accept()
    assert [gap.cause for gap in house.gaps()] == ["signature_refused", "closed"]


# --- the service ------------------------------------------------------------------------------------


@pytest.mark.looptime(noop_cycles=1)
async def test_a_stop_during_a_write_is_followed_by_another(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slowly(call: Any, *arguments: object) -> None:
        call(*arguments)
        await asyncio.sleep(0.3)

    monkeypatch.setattr(asyncio, "to_thread", slowly)
    running = asyncio.create_task(house.ledger.run())
    await asyncio.sleep(1.1)  # a stamp is being written
    house.path.accepted(house.clock.wall())
    house.path.lost("stopped", "", clean=True, heard_until=house.clock.wall())
    house.ledger.stop()
    await asyncio.wait_for(running, 5)
    assert house.gap().cause == "stopped"


@pytest.mark.looptime(noop_cycles=1)
async def test_it_stamps_every_second_and_at_once_on_a_change(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamps: list[float] = []
    loop = asyncio.get_running_loop()
    monkeypatch.setattr("zoomrelay.intake.stamp.write", lambda *_: stamps.append(loop.time()))

    async def here(call: object, *arguments: object) -> None:
        call(*arguments)  # type: ignore[operator]

    monkeypatch.setattr(asyncio, "to_thread", here)
    running = asyncio.create_task(house.ledger.run())
    await asyncio.sleep(2.5)
    house.path.accepted(WALL)
    await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    assert stamps == [pytest.approx(at) for at in (1.0, 2.0, 2.5)]
    house.path.lost("stopped", "", clean=True, heard_until=WALL)
    house.ledger.stop()
    await asyncio.wait_for(running, 1)
    assert len(stamps) == 4


# --- paths that come and go -------------------------------------------------------------------------


async def test_a_path_that_is_new_begins_without_a_gap(house: House) -> None:
    await house.accept()
    await house.listen(5)
    twin = house.ledger.add(*TWIN)
    house.clock.sleep(5)
    twin.accepted(house.clock.wall())
    await house.listen(5)
    assert house.gaps() == [] and house.ledger.add(*TWIN) is twin


async def test_what_is_removed_misses_nothing_any_more(house: House) -> None:
    await house.accept()
    await house.listen(5)
    house.ledger.remove(*PATH)
    await house.ledger.write()
    house.clock.sleep(100)
    assert house.gaps() == [] and house.announced == []


async def test_an_open_gap_ends_with_its_path(house: House) -> None:
    await house.accept()
    await house.listen(5)
    await house.lose("reset")
    house.clock.sleep(60)
    house.ledger.remove(*PATH)
    await house.ledger.write()
    gap, now_ms = house.gap(), house.now_ms
    house.clock.sleep(60)
    assert (gap.cause, gap.to_ms, gap.seconds) == ("reset", now_ms, pytest.approx(60.25, abs=0.01))
    assert gap.detail == "words; ended when the subscription was removed from the configuration"
    assert house.gap() == gap and house.told[-1] == ("zoomrelay.gap_closed", "reset")


async def test_a_removed_path_that_is_there_again_at_a_start_begins_without_a_gap(house: House) -> None:
    """Though the spool knows when it brought its last event."""
    house.last_received[PATH] = house.now_ms
    house.clock.sleep(1)
    house.ledger.remove(*PATH)
    await house.ledger.write()
    house.clock.sleep(60)
    house.start()
    assert house.gaps() == []


async def test_a_path_that_came_after_the_last_stamp_is_not_taken_for_removed(house: House) -> None:
    house.ledger.remove(*PATH)
    await house.ledger.write()
    house.clock.sleep(10)
    house.last_received[PATH] = house.now_ms
    house.clock.sleep(10)
    house.start()
    assert house.gap().cause == "crash"
