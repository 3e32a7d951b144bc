"""Files by a template, in segments: on a disk that fails, and is killed, at every step."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from tests.unit.sinks.fake_disk import FakeDisk
from tests.unit.sinks.segmented import PATH, FakeClock, Process, event, finished, lines
from zoomrelay.event import Event
from zoomrelay.sinks.filetree import MOST_OPEN

LINE_BYTES = len(event(100).content) + 1
TEMPLATE = "/log/{date}/{source}-{event_family}.ndjson"


@pytest.fixture
def disk() -> FakeDisk:
    return FakeDisk()


def contents(*events: Event) -> list[bytes]:
    return [one.content for one in events]


# --- templates --------------------------------------------------------------------------------------


def test_each_event_goes_where_the_template_says(disk: FakeDisk) -> None:
    one, two, three = event(1), event(2, name="phone.call", source="other"), event(3)
    Process(disk, path=TEMPLATE).live([[one, two, three]], [])
    found = {str(path): lines(disk, [path]) for path in disk.files}
    assert found == {
        "/log/2026-01-01/main-meeting.ndjson": contents(one, three),
        "/log/2026-01-01/other-phone.ndjson": contents(two),
    }
    assert disk.named.keys() == disk.files.keys()
    assert Path("/log") in disk.synced_directories  # which holds the name of the new folder


def test_only_so_many_files_are_open(disk: FakeDisk) -> None:
    process = Process(disk, path="/log/{event_family}.ndjson")
    process.tree.open()
    events = [event(number, name=f"family{number}.x") for number in range(3 * MOST_OPEN)]
    process.tree.append(events)
    process.tree.append(events)
    assert disk.descriptors == MOST_OPEN
    process.tree.close()
    assert disk.descriptors == 0
    assert all(len(lines(disk, [path])) == 2 for path in disk.files)
    assert len(disk.files) == 3 * MOST_OPEN


def test_the_file_of_yesterday_is_let_go(disk: FakeDisk) -> None:
    process = Process(disk, path="/log/{date}.ndjson")
    process.tree.append([event(1)])
    process.tree.append([event(2, day=1)])
    assert disk.descriptors == 1
    process.tree.append([event(3)])  # a late one
    assert lines(disk, [Path("/log/2026-01-01.ndjson")]) == contents(event(1), event(3))


def test_of_a_batch_that_failed_nothing_stays(disk: FakeDisk) -> None:
    process = Process(disk, path="/log/{event_family}.ndjson")
    process.tree.append([event(1)])
    before = bytes(disk.files[Path("/log/meeting.ndjson")].content)
    disk.faults = {}
    for _ in range(3):
        disk.fail("write", errno.EIO, after=1)
        with pytest.raises(OSError):
            process.tree.append([event(2), event(3, name="phone.x")])
        assert bytes(disk.files[Path("/log/meeting.ndjson")].content) == before
    process.tree.append([event(2), event(3, name="phone.x")])
    assert lines(disk, [Path("/log/meeting.ndjson")]) == contents(event(1), event(2))
    assert lines(disk, [Path("/log/phone.ndjson")]) == contents(event(3))


def test_a_folder_that_was_taken_away_is_made_anew(disk: FakeDisk) -> None:
    process = Process(disk, path="/log/{source}/events.ndjson")
    process.tree.append([event(1)])
    disk.remove(Path("/log/main/events.ndjson"))
    disk.directories.remove(Path("/log/main"))
    process.tree.append([event(2)])
    assert lines(disk, [Path("/log/main/events.ndjson")]) == contents(event(2))


def test_reopen_lets_go_of_what_was_renamed(disk: FakeDisk) -> None:
    process = Process(disk, path="/log/{source}.ndjson")
    process.tree.append([event(1)])
    disk.rename(Path("/log/main.ndjson"), Path("/log/main.1"))
    process.tree.append([event(2)])
    process.tree.reopen()
    process.tree.append([event(3)])
    assert lines(disk, [Path("/log/main.1")]) == contents(event(1), event(2))
    assert lines(disk, [Path("/log/main.ndjson")]) == contents(event(3))


def test_a_folder_that_was_taken_away_keeps_no_other_file_from_being_let_go(disk: FakeDisk) -> None:
    process = Process(disk, path="/log/{source}/events.ndjson")
    process.tree.append([event(1, source="gone"), event(2, source="other")])
    disk.remove(Path("/log/gone/events.ndjson"))
    disk.directories.remove(Path("/log/gone"))
    disk.rename(Path("/log/other/events.ndjson"), Path("/log/other/events.1"))
    process.tree.reopen()
    assert disk.descriptors == 0
    process.tree.append([event(3, source="gone"), event(4, source="other")])
    found = {str(path): lines(disk, [path]) for path in disk.files}
    assert found == {
        "/log/gone/events.ndjson": contents(event(3)),
        "/log/other/events.1": contents(event(2)),
        "/log/other/events.ndjson": contents(event(4)),
    }


# --- segments ---------------------------------------------------------------------------------------


def test_segments_end_by_size(disk: FakeDisk) -> None:
    events = [event(number) for number in range(100, 107)]
    process = Process(disk, rotate_bytes=2 * LINE_BYTES)
    process.live([[one] for one in events], [])
    assert [path.name for path in finished(disk)] == [
        "events-20260101T000002.000Z.ndjson",
        "events-20260101T000004.000Z.ndjson",
        "events-20260101T000006.000Z.ndjson",
        "events-20260101T000007.000Z.ndjson",
    ]
    assert all(len(lines(disk, [path])) <= 2 for path in finished(disk))
    assert lines(disk, finished(disk)) == contents(*events)
    assert disk.files.keys() == disk.named.keys() == set(finished(disk))


def test_a_segment_s_time_begins_with_its_first_event(disk: FakeDisk) -> None:
    process = Process(disk, rotate_seconds=10)
    assert process.tree.finish_due() is None
    process.tree.append([event(1)])
    process.clock.now += 4
    assert process.tree.finish_due() == 6
    assert list(disk.files) == [Path("/log/events.ndjson.part")]
    process.clock.now += 6
    assert process.tree.finish_due() is None
    assert lines(disk, finished(disk)) == contents(event(1))


def test_an_event_that_comes_late_begins_the_next_segment(disk: FakeDisk) -> None:
    process = Process(disk, rotate_seconds=10)
    process.tree.append([event(1)])
    process.clock.now += 10
    process.tree.append([event(2)])
    assert lines(disk, finished(disk)) == contents(event(1))
    assert lines(disk, [Path("/log/events.ndjson.part")]) == contents(event(2))


def test_the_segment_of_yesterday_ends(disk: FakeDisk) -> None:
    process = Process(disk, path="/log/{date}.ndjson", rotate_bytes=10**9)
    process.tree.append([event(1)])
    process.tree.append([event(2, day=1)])
    assert lines(disk, finished(disk)) == contents(event(1))


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_segments_are_compressed(disk: FakeDisk, kind: str) -> None:
    events = [event(number) for number in range(100, 110)]
    Process(disk, rotate_bytes=3 * LINE_BYTES, compression=kind).live([[one] for one in events], [])
    ending = {"gzip": ".gz", "zstd": ".zst"}[kind]
    assert disk.files.keys() == set(finished(disk)) <= disk.named.keys()
    assert {path.suffix for path in disk.files} == {ending}
    assert lines(disk, finished(disk)) == contents(*events)


def test_names_are_taken_once_and_sort_in_order_whatever_the_clock_does(disk: FakeDisk) -> None:
    clock = FakeClock()
    process = Process(disk, clock, rotate_seconds=1)
    events = [event(number) for number in range(6)]
    for one in events:
        process.tree.append([one])
        clock.now += 1
        process.tree.finish_due()
        clock.now -= 1  # somebody sets it back, again and again
    assert len(finished(disk)) == 6
    assert lines(disk, finished(disk)) == contents(*events)
    again = Process(disk, clock, rotate_seconds=1)
    again.live([[event(7)]], [])
    assert len(finished(disk)) == 7


def test_a_segment_that_somebody_took_away_is_no_trouble(disk: FakeDisk) -> None:
    process = Process(disk, rotate_seconds=1)
    process.tree.append([event(1)])
    disk.remove(Path("/log/events.ndjson.part"))
    process.clock.now += 1
    process.tree.append([event(2)])
    process.tree.close()
    assert lines(disk, finished(disk)) == contents(event(2))


def test_what_another_put_in_the_place_of_a_segment_stays_his(disk: FakeDisk) -> None:
    process, part = Process(disk, rotate_bytes=1000), Path("/log/events.ndjson.part")
    process.tree.append([event(1)])
    disk.rename(part, Path("/log/ended"))
    disk.put(part, b"his\n")
    process.tree.close()
    assert {path.name: bytes(inode.content) for path, inode in disk.files.items()} == {
        "ended": event(1).content + b"\n",
        part.name: b"his\n",
    }
    assert disk.descriptors == 0


def test_what_cannot_be_ended_now_is_ended_later(disk: FakeDisk) -> None:
    process = Process(disk, rotate_seconds=1)
    process.tree.append([event(1)])
    process.clock.now += 1
    disk.fail("rename", errno.EIO)
    with pytest.raises(OSError):
        process.tree.append([event(2)])
    process.tree.append([event(2)])
    process.tree.close()
    assert lines(disk, finished(disk)) == contents(event(1), event(2))


def test_too_little_room_puts_off_the_compression_and_loses_nothing(disk: FakeDisk) -> None:
    process = Process(disk, rotate_bytes=1, compression="gzip", min_free_bytes=1000)
    process.tree.append([event(1)])
    process.tree.close()
    disk.room = 1010
    with pytest.raises(OSError):
        process.pack()
    assert [path.suffix for path in disk.files] == [".full"]
    disk.room = None
    process.pack()
    assert lines(disk, finished(disk)) == contents(event(1))


def test_a_segment_that_cannot_be_read_does_not_hold_up_the_others(disk: FakeDisk) -> None:
    process = Process(disk, rotate_bytes=1, compression="gzip")
    process.tree.append([event(1)])
    process.tree.append([event(2)])
    process.tree.close()
    disk.fail("read", errno.EIO)
    with pytest.raises(OSError):
        process.pack()
    process.pack()
    assert lines(disk, finished(disk)) == contents(event(1), event(2))
    assert disk.descriptors == 0


def test_other_people_s_files_are_left_alone(disk: FakeDisk) -> None:
    stamp = "20260101T000002.000Z"
    names = ["other.ndjson.part", "events.ndjson.tmp", "events-1.ndjson.full", "notes.part"]
    names += [f"events-{stamp}.ndjson.gz.tmp", f"events-{stamp}.txt.full"]
    for name in names:
        disk.put(PATH.with_name(name), b"{}\n")
    Process(disk, rotate_bytes=1).live([], [])
    assert {path.name for path in disk.files} == set(names)


def test_a_change_of_the_compression_finds_what_waits(disk: FakeDisk) -> None:
    process = Process(disk, rotate_bytes=1, compression="gzip")
    process.tree.append([event(1)])
    process.tree.close()  # killed before it could be compressed
    Process(disk, rotate_bytes=1).live([[event(2)]], [])
    assert lines(disk, finished(disk)) == contents(event(1), event(2))
    assert disk.files.keys() == set(finished(disk))


# --- killed at every step ---------------------------------------------------------------------------


class Killed(BaseException):
    """As SIGKILL: nothing is done after it."""


class MortalDisk(FakeDisk):
    """Kills its user at the call of this number, before or after it is done."""

    CALLS = ("open", "write", "fdatasync", "truncate", "sync_directory", "rename", "unlink", "make_directory")

    def __init__(self) -> None:
        super().__init__()
        self.left: int | None = None
        self.calls = 0
        self.after = False
        for name in self.CALLS:
            setattr(self, name, self._mortal(getattr(self, name)))

    def _mortal(self, call: Any) -> Any:
        def called(*arguments: Any) -> Any:
            self.calls += 1
            fatal = self.left is not None and self.calls == self.left
            if self.left is not None and (self.calls > self.left or (fatal and not self.after)):
                raise Killed
            done = call(*arguments)
            if fatal:
                raise Killed
            return done

        return called

    def revive(self, *, power: bool) -> None:
        self.left, self.calls = None, 0
        if power:
            self.crash()
        self._descriptors.clear()


SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {"rotate_bytes": 2 * LINE_BYTES},
    "gzip": {"rotate_bytes": 2 * LINE_BYTES, "compression": "gzip"},
    "template": {"path": TEMPLATE, "rotate_seconds": 2, "compression": "gzip"},
    "no rotation": {"path": TEMPLATE},
}
BATCHES = [
    [event(100), event(101, source="other")],
    [event(102)],
    [event(103, source="other"), event(104)],
    [event(105, day=1)],
    [event(106, day=1), event(107, day=1)],
]


def _life(disk: MortalDisk, settings: dict[str, Any], clock: FakeClock, given: list[list[Event]]) -> int:
    """One process; how many of the batches it acknowledged."""
    acknowledged: list[Event] = []
    try:
        Process(disk, clock, **settings).live(given, acknowledged)
    except Killed:
        pass
    return len([batch for batch in given if batch[0] in acknowledged])


@pytest.mark.parametrize("power", [False, True], ids=["kill", "power"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_killed_at_every_step(settings: dict[str, Any], after: bool, power: bool) -> None:
    """Wherever it dies: whole lines, all that was acknowledged, in order within a file; and nothing that has
    ended is ever changed."""
    whole = MortalDisk()
    _life(whole, settings, FakeClock(), BATCHES)
    assert whole.calls >= 15
    for step in range(1, whole.calls + 1):
        disk, clock = MortalDisk(), FakeClock()
        disk.left, disk.after = step, after
        taken = _life(disk, settings, clock, BATCHES)
        disk.revive(power=power)
        seen = {
            path: bytes(disk.files[path].content) for path in finished(disk) if settings.get("rotate_bytes")
        }
        assert _life(disk, settings, clock, BATCHES[taken:]) == len(BATCHES) - taken
        under_way = len(BATCHES[taken]) if taken < len(BATCHES) else 0
        _judge(disk, settings, seen, under_way, f"step {step} of {whole.calls}")


def _judge(
    disk: FakeDisk, settings: dict[str, Any], seen: dict[Path, bytes], under_way: int, where: str
) -> None:
    assert disk.files.keys() == set(finished(disk)), where
    for path, content in seen.items():
        assert bytes(disk.files[path].content) == content, where
    found = lines(disk, finished(disk))
    wanted = contents(*(one for batch in BATCHES for one in batch))
    assert set(found) == set(wanted), where
    if "path" not in settings:
        assert list(dict.fromkeys(found)) == wanted, where
    assert len(found) <= len(wanted) + under_way, where
