"""The journal: what was written is read again, up to where a kill cut it short."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest

from zoomrelay.errors import StateDirectoryError
from zoomrelay.takeover import journal
from zoomrelay.takeover.journal import HEAD, Journal, Record, claim, frame, journals, read


def record(number: int) -> Record:
    return Record("main", "sub", number, [b'{"event":"x"}' * number, b"\xff"])


async def written(directory: Path, records: list[Record]) -> Journal:
    own = Journal.create(directory)
    service = asyncio.create_task(own.run())
    for each in records:
        own.add(each)
    own.stop()
    await service
    return own


async def test_what_was_written_is_read(tmp_path: Path) -> None:
    records = [record(number) for number in range(1, 50)]
    records.append(Record("main", "sub", 7, [b"raw"], "unreadable", "the content is not JSON"))
    own = await written(tmp_path, records)
    assert list(read(own.path)) == records
    assert own.path.stat().st_mode & 0o777 == 0o600
    own.close()


async def test_every_cut_leaves_what_is_before_it(tmp_path: Path) -> None:
    records = [record(number) for number in (1, 2, 3)]
    (await written(tmp_path, records)).close()
    (path,) = journals(tmp_path)
    whole = path.read_bytes()
    ends = [len(HEAD)]
    for each in records:
        ends.append(ends[-1] + len(frame(each)))
    assert ends[-1] == len(whole)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert list(read(path)) == records[: sum(end <= length for end in ends[1:])]


async def test_a_damaged_record_ends_it(tmp_path: Path) -> None:
    records = [record(1), record(2)]
    (await written(tmp_path, records)).close()
    (path,) = journals(tmp_path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert list(read(path)) == records[:1]
    path.write_bytes(b"something else")
    assert list(read(path)) == []


async def test_nobody_imports_one_that_is_being_written(tmp_path: Path) -> None:
    own = Journal.create(tmp_path)
    assert claim(own.path) is None
    own.close()
    own.close()
    claimed = claim(own.path)
    assert claimed is not None
    assert claim(own.path) is None, "one of two imports it"
    claimed.remove()
    claimed.release()
    assert claim(own.path) is None
    assert journals(tmp_path) == []


async def test_what_comes_after_the_stop_is_at_hand(tmp_path: Path) -> None:
    own = await written(tmp_path, [record(1)])
    own.add(record(2))
    assert (list(read(own.path)), own.rest) == ([record(1)], [record(2)])
    own.remove()
    assert journals(tmp_path) == []


async def test_the_rest_is_left_behind_too(tmp_path: Path) -> None:
    own = await written(tmp_path, [record(1)])
    own.add(record(2))
    own.close()
    assert list(read(own.path)) == [record(1), record(2)]


async def test_it_is_bounded(tmp_path: Path) -> None:
    own = Journal.create(tmp_path, max_bytes=1000)
    service = asyncio.create_task(own.run())
    assert not own.full
    own.add(Record("main", "sub", 1, [b"x" * 1000]))
    own.stop()
    await service
    assert own.full, "it stays so: nothing leaves it"
    own.close()


async def test_a_disk_that_takes_nothing_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_RETRY_SECONDS", 0.0)
    write, failures = os.pwrite, [errno.ENOSPC, errno.EIO]

    def failing(descriptor: int, data: bytes, at: int) -> int:
        if failures:
            write(descriptor, data[:5], at)
            raise OSError(failures.pop(), "no")
        return write(descriptor, data, at)

    own = Journal.create(tmp_path)
    monkeypatch.setattr(os, "pwrite", failing)
    service = asyncio.create_task(own.run())
    own.add(record(3))
    own.stop()
    await service
    assert (failures, list(read(own.path))) == ([], [record(3)])
    own.close()


def test_where_none_can_be_made(tmp_path: Path) -> None:
    with pytest.raises(StateDirectoryError, match="cannot make the journal"):
        Journal.create(tmp_path / "nowhere")
