"""A file of whole lines, on a disk that fails in every way it can."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.sinks.fake_disk import FakeDisk
from zoomrelay.sinks.linefile import LineFile, is_torn

PATH = Path("/log/events.ndjson")
FIRST, SECOND = b'{"event":"a"}\n{"event":"b"}\n', b'{"event":"c"}\n'


@pytest.fixture
def disk() -> FakeDisk:
    return FakeDisk()


@pytest.fixture
def file(disk: FakeDisk) -> LineFile:
    return LineFile(PATH, fsync=True, disk=disk)


def content(disk: FakeDisk) -> bytes:
    return bytes(disk.files[PATH].content)


def durable(disk: FakeDisk) -> bytes:
    return bytes(disk.files[PATH].durable)


def test_append_is_durable_and_the_directory_too(file: LineFile, disk: FakeDisk) -> None:
    file.append(FIRST)
    assert durable(disk) == FIRST
    assert disk.synced_directories == [PATH.parent]


def test_without_fsync_nothing_is_synced(disk: FakeDisk) -> None:
    LineFile(PATH, fsync=False, disk=disk).append(FIRST)
    assert (content(disk), durable(disk)) == (FIRST, b"")


def test_a_directory_that_could_not_be_synced_is_synced_at_the_next_open(
    file: LineFile, disk: FakeDisk
) -> None:
    disk.fail("sync_directory", errno.EIO)
    with pytest.raises(OSError):
        file.open()
    assert (disk.descriptors, disk.synced_directories) == (0, [])
    file.open()
    assert disk.synced_directories == [PATH.parent]


def test_short_writes_are_completed(file: LineFile, disk: FakeDisk) -> None:
    disk.longest_write = 5
    file.append(FIRST)
    assert durable(disk) == FIRST


@pytest.mark.parametrize("room", range(len(SECOND)))
def test_a_full_disk_leaves_whole_lines_and_then_takes_the_batch(
    file: LineFile, disk: FakeDisk, room: int
) -> None:
    file.append(FIRST)
    disk.room = room
    with pytest.raises(OSError) as failure:
        file.append(SECOND)
    assert failure.value.errno == errno.ENOSPC
    assert content(disk) == FIRST
    disk.room = None
    file.append(SECOND)
    assert durable(disk) == FIRST + SECOND


@pytest.mark.parametrize("call", ["write", "fdatasync"])
def test_after_an_error_of_the_disk_the_batch_is_written_anew_through_a_new_descriptor(
    file: LineFile, disk: FakeDisk, call: str
) -> None:
    file.append(FIRST)
    disk.fail(call, errno.EIO)
    with pytest.raises(OSError):
        file.append(SECOND)
    assert disk.descriptors == 0
    file.append(SECOND)
    assert (content(disk), durable(disk)) == (FIRST + SECOND, FIRST + SECOND)


def test_the_fake_disk_makes_a_retried_fdatasync_a_lie(disk: FakeDisk) -> None:
    """Else the test above would prove nothing."""
    descriptor = disk.open(PATH)
    disk.write(descriptor, memoryview(FIRST))
    disk.fail("fdatasync", errno.EIO)
    with pytest.raises(OSError):
        disk.fdatasync(descriptor)
    disk.fdatasync(descriptor)
    assert durable(disk) == b""


def test_a_batch_that_cannot_be_cut_off_is_repaired_at_the_next_open(file: LineFile, disk: FakeDisk) -> None:
    file.append(FIRST)
    disk.longest_write = 6
    disk.fail("write", errno.EIO, after=1)
    disk.fail("truncate", errno.EIO)
    with pytest.raises(OSError):
        file.append(SECOND)
    assert content(disk) == FIRST + SECOND[:6]
    file.append(SECOND)
    assert durable(disk) == FIRST + SECOND


def test_nothing_is_written_before_a_failed_batch_is_cut_off(file: LineFile, disk: FakeDisk) -> None:
    """What a failed fdatasync left in memory alone would be a hole in the file after a loss of power."""
    file.append(FIRST)
    disk.fail("fdatasync", errno.EIO)
    disk.fail("truncate", errno.EIO, after=0)
    disk.fail("truncate", errno.EIO, after=0)
    for _ in range(2):
        with pytest.raises(OSError):
            file.append(SECOND)
    file.append(SECOND)
    assert (content(disk), durable(disk)) == (FIRST + SECOND, FIRST + SECOND)


def test_a_failed_batch_is_not_cut_off_another_file(file: LineFile, disk: FakeDisk) -> None:
    file.append(SECOND)
    disk.fail("fdatasync", errno.EIO)
    disk.fail("truncate", errno.EIO)
    with pytest.raises(OSError):
        file.append(SECOND)
    disk.rename(PATH, PATH.with_suffix(".1"))
    disk.put(PATH, FIRST)
    file.append(SECOND)
    assert durable(disk) == FIRST + SECOND


def test_what_somebody_else_appended_is_not_cut_off(file: LineFile, disk: FakeDisk) -> None:
    file.append(FIRST)
    disk.fail("fdatasync", errno.EIO)
    write = disk.write

    def write_and_be_joined(descriptor: int, data: memoryview) -> int:
        written = write(descriptor, data)
        write(descriptor, memoryview(b"from somebody else\n"))
        return written

    disk.write = write_and_be_joined  # type: ignore[method-assign]
    with pytest.raises(OSError):
        file.append(SECOND)
    assert content(disk) == FIRST + SECOND + b"from somebody else\n"


def test_a_deleted_file_is_created_anew(file: LineFile, disk: FakeDisk) -> None:
    file.append(FIRST)
    disk.remove(PATH)
    file.append(SECOND)
    assert durable(disk) == SECOND
    assert disk.descriptors == 1


def test_a_renamed_file_is_written_until_reopen(file: LineFile, disk: FakeDisk) -> None:
    file.append(FIRST)
    disk.rename(PATH, PATH.with_suffix(".1"))
    file.append(SECOND)
    file.reopen()
    file.append(SECOND)
    assert bytes(disk.files[PATH.with_suffix(".1")].durable) == FIRST + SECOND
    assert durable(disk) == SECOND
    assert disk.descriptors == 1


def test_a_stale_handle_is_let_go(file: LineFile, disk: FakeDisk) -> None:
    file.append(FIRST)
    disk.fail("status", errno.ESTALE)
    with pytest.raises(OSError):
        file.append(SECOND)
    file.append(SECOND)
    assert durable(disk) == FIRST + SECOND


def test_close_never_raises(file: LineFile, disk: FakeDisk) -> None:
    file.close()
    file.open()
    disk.fail("close", errno.EIO)
    file.close()
    file.close()
    assert disk.descriptors == 0


@pytest.mark.parametrize(
    ("found", "left"),
    [
        (b"", b""),
        (FIRST, FIRST),
        (FIRST + b'{"event":"c","pay', FIRST),
        (b'{"event":"c","pay', b""),
        (FIRST + b'  {"event":', FIRST),
        (FIRST + b'{"event":\0\0\0\0', FIRST),
        (FIRST + b"\0\0\0\0", FIRST),
        (FIRST + b'{"event":"c"}', FIRST + b'{"event":"c"}\n'),
        (b"a note of mine", b"a note of mine\n"),
        (b"one\ntwo", b"one\ntwo\n"),
    ],
)
def test_the_last_line_is_repaired_at_open(file: LineFile, disk: FakeDisk, found: bytes, left: bytes) -> None:
    disk.put(PATH, found)
    file.open()
    assert content(disk) == left


def test_a_long_last_line_is_found(file: LineFile, disk: FakeDisk) -> None:
    disk.put(PATH, FIRST + b'{"event":"c","filler":"' + b"x" * 300_000)
    file.open()
    assert content(disk) == FIRST


def test_a_file_without_lines_is_left_alone(
    file: LineFile, disk: FakeDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoomrelay.sinks.linefile._REACHES", (16, 64))
    disk.put(PATH, b"{" * 65)
    with pytest.raises(OSError, match="not a file of lines"):
        file.open()
    assert (content(disk), disk.descriptors) == (b"{" * 65, 0)


def test_deep_nesting_is_nobodys_proof() -> None:
    assert not is_torn(b'{"a":' + b"[" * 100_000)


FAULTS = st.sampled_from(["write", "fdatasync", "truncate", "close", "open", "status", "sync_directory"])


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data())
def test_whatever_fails_what_was_acknowledged_survives_a_loss_of_power(data: st.DataObject) -> None:
    """Whole lines only, in order, nothing acknowledged missing, nothing that was never sent."""
    disk = FakeDisk()
    file = LineFile(PATH, fsync=True, disk=disk)
    acknowledged: list[bytes] = []
    batches = [
        b"".join(
            b'{"event":"e%d","n":%d}\n' % (batch, number) for number in range(data.draw(st.integers(1, 4)))
        )
        for batch in range(data.draw(st.integers(1, 6)))
    ]
    for batch in batches:
        for _ in range(data.draw(st.integers(0, 3))):
            disk.fail(data.draw(FAULTS), errno.EIO, after=data.draw(st.integers(0, 2)))
        disk.longest_write = data.draw(st.none() | st.integers(1, 40))
        disk.room = data.draw(st.none() | st.integers(0, 120))
        for _ in range(data.draw(st.integers(1, 3))):  # as delivery does: the same batch until it is taken
            try:
                file.append(batch)
            except OSError:
                disk.room = None
            else:
                acknowledged.append(batch)
                break
        else:
            break  # power is lost while this batch is still being tried
    disk.crash()
    after = LineFile(PATH, fsync=True, disk=disk)
    after.open()
    found = content(disk)
    lines = found.splitlines(keepends=True)
    expected = b"".join(acknowledged).splitlines(keepends=True)
    assert all(line.endswith(b"\n") for line in lines)
    assert set(lines) <= set(b"".join(batches).splitlines(keepends=True))
    assert _first_seen(line for line in lines if line in set(expected)) == expected


def _first_seen(lines: object) -> list[bytes]:
    return list(dict.fromkeys(lines))  # type: ignore[call-overload]
