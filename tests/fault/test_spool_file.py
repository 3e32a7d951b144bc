"""The spool's file under everything that can happen to a file."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sqlite3
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from random import Random

import pytest

from tests.unit.spool.spools import (
    READ_BYTES,
    Spools,
    bury,
    check_books,
    deliver,
    event,
    events,
    numbers,
    park,
    take,
)
from zoomrelay.errors import SpoolError, SpoolFormatError
from zoomrelay.spool import sqlite_store
from zoomrelay.spool.base import Item, SinkCounts, SinkStart, Spool, SpoolStats
from zoomrelay.spool.sqlite import SqliteSpool
from zoomrelay.spool.sqlite_file import FORMAT
from zoomrelay.spool.sqlite_writer import Done, Job, run_job
from zoomrelay.spool.statedir import StateDirectory

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

PAGE_BYTES = 8192


@pytest.fixture
async def spools(tmp_path: Path) -> AsyncIterator[Spools]:
    spools = Spools("sqlite", tmp_path)
    yield spools
    await spools.close()


def contents(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir() if not file.name.endswith("-shm")}


@contextmanager
def edited(file: Path) -> Iterator[sqlite3.Connection]:
    """The file, open in a shell of its own."""
    with closing(sqlite3.connect(file, isolation_level=None)) as shell:
        yield shell


def flip(file: Path, at: int) -> None:
    with file.open("r+b") as opened:
        opened.seek(at)
        byte = opened.read(1)[0]
        opened.seek(at)
        opened.write(bytes([byte ^ 0x10]))


def overwrite(file: Path, at: int, data: bytes) -> None:
    with file.open("r+b") as opened:
        opened.seek(at)
        opened.write(data)


def asides(directory: Path) -> list[Path]:
    return [
        file for file in directory.glob("spool.sqlite.damaged-*") if not file.name.endswith(("-wal", "-shm"))
    ]


# --- a file that is not ours to touch ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        (f"PRAGMA user_version = {FORMAT + 1}", "newer version"),
        ("PRAGMA application_id = 1234", "another program"),
        (f"PRAGMA application_id = 1234; PRAGMA user_version = {FORMAT}", "another program"),
    ],
)
@pytest.mark.parametrize("killed", [False, True])
async def test_another_format_is_refused_and_left_untouched(
    spools: Spools, tmp_path: Path, statement: str, words: str, killed: bool
) -> None:
    spool = await spools.open("a")
    await spool.append(events(10))
    await spool.close()
    file = tmp_path / "spool.sqlite"
    with edited(file) as shell:
        shell.executescript(statement)
        if killed:  # the log stands beside the file, as if whoever wrote it had been killed
            shell.execute("INSERT INTO meta VALUES ('later', 1)")
            files = contents(tmp_path)
    if killed:
        for name, data in files.items():
            (tmp_path / name).write_bytes(data)
    before = contents(tmp_path)
    assert ("spool.sqlite-wal" in before) == killed
    with pytest.raises(SpoolFormatError, match=words):
        await spools.make().open([SinkStart("a")])
    after = contents(tmp_path)
    assert after == before


async def test_a_foreign_database_without_an_id_is_left_untouched(spools: Spools, tmp_path: Path) -> None:
    with edited(tmp_path / "spool.sqlite") as shell:
        shell.execute("CREATE TABLE recipes (name TEXT)")
    before = contents(tmp_path)
    with pytest.raises(SpoolFormatError, match="another program"):
        await spools.make().open([SinkStart("a")])
    assert contents(tmp_path) == before


async def test_a_spool_that_could_not_open_can_be_closed(spools: Spools, tmp_path: Path) -> None:
    (tmp_path / "spool.sqlite").mkdir()
    spool = spools.make()
    with pytest.raises(SpoolError, match="directory"):
        await spool.open([SinkStart("a")])
    await spool.close()


# --- damage -----------------------------------------------------------------------------------------


async def filled(spools: Spools) -> None:
    """600 events in many pages: 100 settled, ten parked, two dead; the file is closed and whole."""
    spool = await spools.open("a", "b")
    for at in range(0, 600, 20):
        await spool.append(events(20, start=at + 1, size=2000))
    items = await take(spool, "a", 130)
    deliver(spool, "a", items[:100])
    park(spool, "a", "x", items[100:110], seconds=5)
    bury(spool, "a", items[110:112])
    await spool.close()


async def what_is_left(spool: Spool, sink: str) -> list[int]:
    """Everything that still comes, in the end."""
    got: list[Item] = []
    with suppress(TimeoutError):
        while spool.stats().sinks[sink].pending:
            async with asyncio.timeout(600):  # what is lost ends while we wait, and then nothing comes
                items = await spool.read(sink, 1000, READ_BYTES)
            deliver(spool, sink, items)
            got += items
    check_books(spool)
    assert spool.stats().sinks[sink].pending == 0
    return sorted(numbers(got))


async def works(spool: Spool) -> None:
    """It takes events, and gives them out."""
    await spool.append([event(9001)])
    for sink in ("a", "b"):
        assert 9001 in await what_is_left(spool, sink)
    await spool.flush()


def zero_the_first_page(file: Path) -> None:
    overwrite(file, 0, bytes(PAGE_BYTES))


def garble_the_header(file: Path) -> None:
    overwrite(file, 0, b"this is no SQLite file, not any more")


def garble_the_list_of_tables(file: Path) -> None:
    overwrite(file, 100, Random(1).randbytes(PAGE_BYTES - 100))


@pytest.mark.parametrize("damage", [zero_the_first_page, garble_the_header, garble_the_list_of_tables])
async def test_a_damaged_head_costs_nothing(
    spools: Spools, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    await filled(spools)
    damage(tmp_path / "spool.sqlite")
    damaged = (tmp_path / "spool.sqlite").read_bytes()
    spool = await spools.open("a", "b")
    (aside,) = asides(tmp_path)
    assert aside.read_bytes() == damaged
    assert spools.set_aside == [0]
    assert len(await spool.dead_letters()) == 2
    assert spool.stats().sinks["a"].parked == 10
    assert await what_is_left(spool, "a") == [*range(101, 111), *range(113, 601)]
    assert await what_is_left(spool, "b") == list(range(1, 601))
    await works(spool)


@pytest.mark.parametrize(("keep", "at_least"), [(0.9, 500), (0.5, 200), (0.1, 0)])
async def test_of_a_truncated_file_the_rest_is_recovered(
    spools: Spools, tmp_path: Path, keep: float, at_least: int
) -> None:
    await filled(spools)
    file = tmp_path / "spool.sqlite"
    os.truncate(file, int(file.stat().st_size * keep))
    spool = await spools.open("a", "b")
    assert len(asides(tmp_path)) == 1
    left = await what_is_left(spool, "b")
    assert at_least <= len(left) < 600
    lost_of_a = 498 - len(await what_is_left(spool, "a"))
    assert spools.set_aside == [max(600 - len(left), lost_of_a)]
    assert spool.stats().sinks["b"].dead == 600 - len(left)
    await works(spool)


async def test_a_file_cut_to_nothing_is_made_anew(spools: Spools, tmp_path: Path) -> None:
    await filled(spools)
    os.truncate(tmp_path / "spool.sqlite", 0)
    spool = await spools.open("a", "b")
    assert spool.stats().events == 0
    await works(spool)


async def test_an_empty_file_does_not_cost_its_log(spools: Spools, tmp_path: Path) -> None:
    """SQLite would throw the log away."""
    spool = await spools.open("a", "b")
    await spool.append(events(50, size=3000))
    files = contents(tmp_path)
    await spool.close()
    (tmp_path / "spool.sqlite").write_bytes(b"")
    (tmp_path / "spool.sqlite-wal").write_bytes(files["spool.sqlite-wal"])
    spool = await spools.open("a", "b")
    assert len(asides(tmp_path)) == 1
    assert await what_is_left(spool, "a") == list(range(1, 51))
    await works(spool)


async def test_a_garbage_tail_harms_nothing(spools: Spools, tmp_path: Path) -> None:
    await filled(spools)
    with (tmp_path / "spool.sqlite").open("ab") as file:
        file.write(Random(2).randbytes(5 * PAGE_BYTES + 77))
    spool = await spools.open("a", "b")
    assert await what_is_left(spool, "b") == list(range(1, 601))
    await works(spool)


async def test_an_overwritten_tail_costs_what_stood_there(spools: Spools, tmp_path: Path) -> None:
    await filled(spools)
    file = tmp_path / "spool.sqlite"
    overwrite(file, file.stat().st_size - 10 * PAGE_BYTES, Random(3).randbytes(10 * PAGE_BYTES))
    spool = await spools.open("a", "b")
    left = await what_is_left(spool, "b")
    assert len(left) > 500
    assert spool.stats().sinks["b"].dead == 600 - len(left)
    await works(spool)


@pytest.mark.parametrize("cut", [100, 5000, 60_000])
async def test_a_truncated_log_costs_its_end(spools: Spools, tmp_path: Path, cut: int) -> None:
    spool = await spools.open("a", "b")
    for at in range(0, 400, 20):
        await spool.append(events(20, start=at + 1, size=2000))
    files = contents(tmp_path)
    await spool.close()
    (tmp_path / "spool.sqlite").write_bytes(files["spool.sqlite"])
    (tmp_path / "spool.sqlite-wal").write_bytes(files["spool.sqlite-wal"][:-cut])
    spool = await spools.open("a", "b")
    left = await what_is_left(spool, "a")
    assert left == list(range(1, len(left) + 1))
    assert len(left) >= 340
    await works(spool)


async def test_a_file_that_is_no_database_is_set_aside(spools: Spools, tmp_path: Path) -> None:
    (tmp_path / "spool.sqlite").write_bytes(b"dear diary, " * 5000)
    spool = await spools.open("a", "b")
    (aside,) = asides(tmp_path)
    assert aside.read_bytes() == b"dear diary, " * 5000
    assert spools.set_aside == [None]
    await works(spool)


@pytest.mark.parametrize("seed", range(24))
async def test_random_damage_is_survived(spools: Spools, tmp_path: Path, seed: int) -> None:
    """Pages overwritten anywhere, before the start or while it runs: every event ends, the books balance."""
    random = Random(seed)
    await filled(spools)
    file = tmp_path / "spool.sqlite"
    pages = file.stat().st_size // PAGE_BYTES
    running = await spools.open("a", "b") if seed % 2 else None
    for _ in range(random.choice([1, 1, 3])):
        at = random.randrange(pages) * PAGE_BYTES + random.choice([0, 0, random.randrange(PAGE_BYTES - 8)])
        overwrite(file, at, random.randbytes(random.choice([1, 8, PAGE_BYTES])))
    spool = running or await spools.open("a", "b")
    lost = 600 - len(await what_is_left(spool, "b"))
    assert lost <= 500
    await what_is_left(spool, "a")
    await works(spool)
    for letter in await spool.dead_letters():
        await spool.dead_letter(letter.number)
    if running:
        await spool.flush()
        before = spool.stats()
        await spool.close()
        spool = await spools.open("a", "b")
        assert spool.stats().sources == before.sources
        assert spool.stats().sinks == before.sinks


async def test_a_flipped_byte_costs_one_event(spools: Spools, tmp_path: Path) -> None:
    spool = await spools.open("a", "b")
    await spool.append([event(n, size=300) for n in range(1, 11)])
    await spool.close()
    file = tmp_path / "spool.sqlite"
    flip(file, file.read_bytes().index(b'"n":7}') + 1)
    spool = await spools.open("a", "b")
    assert await what_is_left(spool, "a") == [1, 2, 3, 4, 5, 6, 8, 9, 10]
    (letter,) = await spool.dead_letters()
    assert (letter.sink, letter.name, letter.source) == ("a", "meeting.started", "main")
    assert "checksum" in letter.reason
    assert event(7).id in letter.excerpt
    whole = await spool.dead_letter(letter.number)
    assert whole is not None
    assert len(whole.content) == 300
    # What is not as Zoom sent it is never sent on.
    assert await spool.redrive([letter.number]) == 0
    assert spool.stats().sinks["a"].dead == 1
    assert asides(tmp_path) == []
    assert await what_is_left(spool, "b") == [1, 2, 3, 4, 5, 6, 8, 9, 10]


async def test_a_flipped_byte_of_the_index_costs_its_segment(spools: Spools, tmp_path: Path) -> None:
    spool = await spools.open("a")
    for at in range(0, 30, 10):
        await spool.append([event(n, size=300) for n in range(at + 1, at + 11)])
    await spool.close()
    file = tmp_path / "spool.sqlite"
    flip(file, file.read_bytes().index(event(15).digest.hex().encode()))
    spool = await spools.open("a")
    assert await what_is_left(spool, "a") == [*range(1, 11), *range(21, 31)]
    (letter,) = await spool.dead_letters()
    assert "10 of the events 11 to 20" in letter.reason
    assert spool.stats().sinks["a"].dead == 10
    whole = await spool.dead_letter(letter.number)
    assert whole is not None
    assert whole.content.count(b"meeting.started") == 10


async def test_a_flipped_byte_of_a_parked_event_costs_that_one(spools: Spools, tmp_path: Path) -> None:
    spool = await spools.open("a")
    await spool.append([event(n, "x", size=300) for n in range(1, 6)])
    park(spool, "a", "x", await take(spool, "a", 5), seconds=1)
    await spool.flush()
    await spool.close()
    file = tmp_path / "spool.sqlite"
    for at in _places(file, b'"n":2}'):
        flip(file, at + 1)
    spool = await spools.open("a")
    assert await what_is_left(spool, "a") == [1, 3, 4, 5]
    (letter,) = await spool.dead_letters()
    assert "checksum" in letter.reason


def _places(file: Path, words: bytes) -> list[int]:
    data = file.read_bytes()
    return [at for at in range(len(data)) if data.startswith(words, at)]


async def test_damaged_marks_bring_the_events_again(spools: Spools, tmp_path: Path) -> None:
    spool = await spools.open("a", "b")
    await spool.append(events(10))
    deliver(spool, "a", await take(spool, "a", 6))
    await spool.close()
    with edited(tmp_path / "spool.sqlite") as shell:
        shell.execute("UPDATE sinks SET state = replace(state, '\"low\":6', '\"low\":9') WHERE name = 'a'")
    spool = await spools.open("a", "b")
    assert await what_is_left(spool, "a") == list(range(1, 11))
    assert await what_is_left(spool, "b") == list(range(1, 11))


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE meta SET value = 'x'",
        "UPDATE paths SET source = 7",
        "UPDATE paths SET appended = 'x'",
        "UPDATE segments SET last = 'x' WHERE first = 11",
        "UPDATE sinks SET state = 7 WHERE name = 'a'",
        "UPDATE sinks SET crc = crc + 1 WHERE name = 'a'",
        "DELETE FROM sinks",
        "UPDATE parked SET digest = 'x' WHERE seq = 12",
        "UPDATE parked SET key = x'00' WHERE seq = 12",
        "UPDATE lanes SET due = 'x'",
        "UPDATE dead SET content = 'x'",
        "UPDATE dead SET sink = 7",
    ],
)
async def test_a_value_of_another_type_costs_its_row(spools: Spools, tmp_path: Path, change: str) -> None:
    """One byte says what type a value has."""
    spool = await spools.open("a")
    await spool.append(events(10))
    deliver(spool, "a", await take(spool, "a", 9))
    bury(spool, "a", await take(spool, "a", 1))
    await spool.append([event(n, "x", size=300) for n in range(11, 15)])
    park(spool, "a", "x", await take(spool, "a", 2), seconds=1)
    await spool.close()
    with edited(tmp_path / "spool.sqlite") as shell:
        assert shell.execute(change).rowcount == 1
    spool = await spools.open("a")
    left = await what_is_left(spool, "a")
    gone = [12] if "seq = 12" in change else [13, 14] if "segments" in change else []
    assert [n for n in left if n > 10] == [n for n in (11, 12, 13, 14) if n not in gone]
    assert left == sorted(set(left))
    await spool.append([event(15)])
    assert await what_is_left(spool, "a") == [15]


async def test_a_kill_during_recovery_is_no_loss(
    spools: Spools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every rename, the next start goes on or begins anew."""
    await filled(spools)
    zero_the_first_page(tmp_path / "spool.sqlite")
    rename = Path.rename
    for last in range(10):
        left = iter(range(last))

        def killed(self: Path, target: Path, left: Iterator[int] = left) -> Path:
            if next(left, None) is None:
                raise KeyboardInterrupt
            return rename(self, target)

        with monkeypatch.context() as patched:
            patched.setattr(Path, "rename", killed)
            spool = spools.make()
            try:
                await spool.open([SinkStart("a"), SinkStart("b")])
            except KeyboardInterrupt:
                continue
            finally:
                await spool.close()
            break
    assert last >= 2
    spool = await spools.open("a", "b")
    assert await what_is_left(spool, "b") == list(range(1, 601))
    assert len(asides(tmp_path)) == 1
    assert not list(tmp_path.glob("*.recovered*"))
    assert not list(tmp_path.glob("*.salvage*"))


async def test_repairs_do_not_fill_the_disk(spools: Spools, tmp_path: Path) -> None:
    await filled(spools)
    spool = await spools.open("a", "b")
    file = tmp_path / "spool.sqlite"
    for _ in range(5):
        overwrite(file, PAGE_BYTES, Random(1).randbytes(file.stat().st_size - PAGE_BYTES))
        for at in range(3):
            try:
                await spool.append([event(1000 + at)])
                await spool.dead_letters()
            except SpoolError:
                pass
    assert len(asides(tmp_path)) == 1


# --- somebody at the files while they are open ------------------------------------------------------


@pytest.mark.parametrize("statement", ["PRAGMA wal_checkpoint(TRUNCATE)", "VACUUM", "PRAGMA quick_check"])
async def test_a_shell_that_tidies_up_is_no_damage(spools: Spools, tmp_path: Path, statement: str) -> None:
    """Files become shorter by this, and hold what they held."""
    spool = await spools.open("a", "b")
    await spool.append(events(500, size=2000))
    deliver(spool, "a", await take(spool, "a", 500))
    deliver(spool, "b", await take(spool, "b", 490))
    await spool.append(events(1, start=501))
    with edited(tmp_path / "spool.sqlite") as shell:
        shell.execute(statement)
    await spool.append(events(9, start=502))
    assert asides(tmp_path) == []
    assert await what_is_left(spool, "a") == list(range(501, 511))
    assert await what_is_left(spool, "b") == list(range(491, 511))


def durable(stats: SpoolStats) -> dict[str, SinkCounts]:
    """Without what is known of events that were handed out only."""
    return {name: dataclasses.replace(counts, oldest_pending_ms=None) for name, counts in stats.sinks.items()}


def remove(directory: Path) -> None:
    for file in directory.glob("spool.sqlite*"):
        file.unlink()


def remove_log(directory: Path) -> None:
    (directory / "spool.sqlite-wal").unlink()


def replace(directory: Path) -> None:
    (directory / "other").write_bytes(b"dear diary, " * 5000)
    (directory / "other").rename(directory / "spool.sqlite")


@pytest.mark.parametrize("take_away", [remove, remove_log, replace])
@pytest.mark.parametrize("then", ["append", "settle", "close"])
async def test_files_that_were_taken_away_are_put_back(
    spools: Spools, tmp_path: Path, take_away: Callable[[Path], None], then: str
) -> None:
    """With everything that they held, whatever is written next."""
    spool = await spools.open("a", "b")
    await spool.append(events(40, keys=4))
    items = await take(spool, "a", 40)
    park(spool, "a", "key0", [item for item in items if item.event.key == "key0"], seconds=5)
    bury(spool, "a", [items[0]])
    await spool.flush()
    take_away(tmp_path)
    if then == "append":
        await spool.append(events(10, start=41))
    elif then == "settle":
        deliver(spool, "a", [items[1]])
        await spool.flush()
    before = spool.stats()
    await spool.close()
    spool = await spools.open("a", "b")
    assert durable(spool.stats()) == durable(before)
    assert spool.stats().sources == before.sources
    assert len(await spool.dead_letters()) == 1
    assert len(await what_is_left(spool, "b")) == (50 if then == "append" else 40)
    await works(spool)
    assert not list(tmp_path.glob("*.new*")) + list(tmp_path.glob("*.recovered*"))


async def test_files_that_go_while_nobody_has_them_open_are_made_anew(spools: Spools, tmp_path: Path) -> None:
    """As right after a recovery. What is still in memory comes from there."""
    spool = await spools.open("a", "b")
    await spool.append(events(10))
    assert isinstance(spool, SqliteSpool)
    await spool._database.repair()
    remove(tmp_path)
    await spool.append(events(5, start=11))
    for sink in "ab":
        assert await what_is_left(spool, sink) == list(range(1, 16))
    await works(spool)


@pytest.mark.parametrize("name", ["spool.sqlite", "spool.sqlite-wal"])
async def test_a_file_cut_while_it_is_open_is_found_before_the_next_commit(
    spools: Spools, tmp_path: Path, name: str
) -> None:
    """What is committed afterwards outlives a kill."""
    spool = await spools.open("a", "b")
    for at in range(0, 6000, 100):
        await spool.append(events(100, start=at + 1, size=2000))
    os.truncate(tmp_path / name, (tmp_path / name).stat().st_size // 2)
    await spool.append(events(100, start=6001))
    assert len(asides(tmp_path)) == 1
    killed = contents(tmp_path)
    await spool.close()
    for file in ("spool.sqlite", "spool.sqlite-wal"):
        (tmp_path / file).write_bytes(killed[file])
    spool = await spools.open("a", "b")
    left = await what_is_left(spool, "b")
    assert left[-100:] == list(range(6001, 6101))
    assert spool.stats().sinks["b"].dead == 6100 - len(left)


# --- whose it is ------------------------------------------------------------------------------------


async def test_only_we_may_look(tmp_path: Path) -> None:
    home = tmp_path / "state"
    previous = os.umask(0)
    try:
        directory = StateDirectory(home)
        directory.acquire(create=True)
        spools = Spools("sqlite", home)
        spool = await spools.open("a")
        await spool.append(events(1))
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in home.iterdir()}
        assert modes.keys() >= {"lock", "spool.sqlite", "spool.sqlite-wal", "spool.sqlite-shm"}
        assert set(modes.values()) == {0o600}
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        zero_the_first_page(home / "spool.sqlite")
        await spools.close()
        (home / "spool.sqlite").chmod(0o644)
        zero_the_first_page(home / "spool.sqlite")
        await spools.open("a")
        assert asides(home)
        assert {stat.S_IMODE(file.stat().st_mode) for file in home.iterdir()} == {0o600}
        await spools.close()
        directory.release()
    finally:
        os.umask(previous)


# --- a disk that does not take it -------------------------------------------------------------------


class Disk:
    """Fails commits with what sqlite3 raises, for as long as `error` is set."""

    def __init__(self) -> None:
        self.error: sqlite3.Error | None = None
        self.attempts = 0

    def run_job(self, connection: sqlite3.Connection, job: Job) -> Done:
        self.attempts += 1
        if self.error is not None:
            raise self.error
        return run_job(connection, job)

    def fail(self, words: str) -> None:
        self.error = sqlite3.OperationalError(words)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(sqlite_store, "run_job", disk.run_job)
    return disk


@pytest.mark.parametrize("words", ["disk I/O error", "database or disk is full", "database is locked"])
async def test_what_cannot_be_written_is_not_held_and_nothing_is_forgotten(
    spools: Spools, disk: Disk, words: str
) -> None:
    spool = await spools.open("a", "b")
    await spool.append([event(n, "x" if n % 2 else "y") for n in range(1, 41)])
    items = await take(spool, "a", 40)
    disk.fail(words)
    for _ in range(3):
        with pytest.raises(SpoolError, match=words):
            await spool.append(events(5, start=41))
    assert (spool.stats().writable, words in spool.stats().trouble) == (False, True)
    assert spool.stats().sinks["a"].appended == 40
    # Meanwhile sinks go on, lanes included.
    deliver(spool, "a", items[1:20:2])
    bury(spool, "a", items[21:24:2])
    park(spool, "a", "x", items[0:40:2], seconds=1)
    assert numbers(await take(spool, "b", 40)) == list(range(1, 41))
    lane = await take(spool, "a", 20)
    assert numbers(lane) == list(range(1, 41, 2))
    deliver(spool, "a", lane[:5])
    park(spool, "a", "x", lane[5:], seconds=1)
    assert numbers(await take(spool, "a", 15)) == list(range(11, 41, 2))
    check_books(spool)
    # It comes back by itself.
    disk.error = None
    await spool.append(events(5, start=41))
    assert (spool.stats().writable, spool.stats().trouble) == (True, "")
    counts = spool.stats().sinks["a"]
    assert (counts.delivered, counts.dead, counts.parked) == (15, 2, 15)
    await spool.close()
    spool = await spools.open("a", "b")
    after = spool.stats().sinks["a"]
    assert (after.delivered, after.dead, after.parked) == (15, 2, 15)
    assert len(await spool.dead_letters()) == 2
    ended = [2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 1, 3, 5, 7, 9]
    assert await what_is_left(spool, "a") == [n for n in range(1, 46) if n not in ended]
    assert await what_is_left(spool, "b") == list(range(1, 46))


async def test_trouble_is_tried_again_about_once_a_second(spools: Spools, disk: Disk) -> None:
    spool = await spools.open("a")
    disk.fail("disk I/O error")
    with pytest.raises(SpoolError):
        await spool.append(events(1))
    before = disk.attempts
    await asyncio.sleep(60)
    assert 20 <= disk.attempts - before <= 61


async def test_a_full_disk_for_real(spools: Spools, tmp_path: Path) -> None:
    """SQLite's own bound on pages behaves as a full disk does, in the middle of a transaction."""
    spool = await spools.open("a")

    def bound(connection: sqlite3.Connection, pages: int) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages}")

    database = spool._database  # type: ignore[attr-defined]
    await database.write(bound, 60)
    held = 0
    with pytest.raises(SpoolError, match="full"):
        while True:
            await spool.append(events(20, start=held + 1, size=2000))
            held += 20
    assert held > 50
    assert spool.stats().sinks["a"].appended == held
    items = await take(spool, "a", held)
    deliver(spool, "a", items[: held // 2])
    park(spool, "a", "x", items[held // 2 :], seconds=1)  # these copies do not fit
    with pytest.raises(SpoolError, match="full"):
        await spool.flush()
    assert not spool.stats().writable
    await database.write(bound, 10_000)
    await spool.flush()
    assert not spool.stats().writable  # what is known is only that a little could be written
    await spool.append(events(20, start=held + 1, size=2000))
    assert spool.stats().writable
    await spool.close()
    spool = await spools.open("a")
    assert await what_is_left(spool, "a") == list(range(held // 2 + 1, held + 21))


async def test_a_failed_commit_does_not_show_later_ones_before_it(spools: Spools, disk: Disk) -> None:
    """A dead letter that was not written must not be missing while its event counts as dead."""
    spool = await spools.open("a")
    await spool.append(events(10))
    items = await take(spool, "a", 10)
    disk.fail("disk I/O error")
    bury(spool, "a", items[:3])
    first = asyncio.ensure_future(spool.flush())
    await asyncio.sleep(0)
    bury(spool, "a", items[3:5])
    with pytest.raises(SpoolError):
        await first
    disk.error = None
    with closing(sqlite3.connect(spools.path / "spool.sqlite")) as shell:
        for _ in range(50):
            await spool.append([event(1000)])
            (letters,) = shell.execute("SELECT count(*) FROM dead").fetchone()
            (died,) = shell.execute("SELECT json_extract(state, '$.counts.dead') FROM sinks").fetchone()
            assert letters == died == 5


async def test_a_reader_survives_a_database_that_is_busy(spools: Spools, tmp_path: Path) -> None:
    """Somebody with a shell holds the file; nothing is lost when they let go."""
    spool = await spools.open("a")
    await spool.append(events(5))
    with edited(tmp_path / "spool.sqlite") as shell:
        shell.execute("BEGIN EXCLUSIVE")
        assert numbers(await take(spool, "a", 5)) == [1, 2, 3, 4, 5]
        appending = asyncio.ensure_future(spool.append(events(5, start=6)))
        await asyncio.sleep(0.2)
        assert not appending.done()
        shell.execute("ROLLBACK")
        await appending
    assert numbers(await take(spool, "a", 5)) == [6, 7, 8, 9, 10]


# --- what it may cost -------------------------------------------------------------------------------


def resident_bytes() -> int:
    """0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


async def test_the_log_and_the_memory_stay_bounded(
    spools: Spools, capsys: pytest.CaptureFixture[str]
) -> None:
    """200,000 events, one sink that keeps up and one that is far behind all the time."""
    spool = await spools.open("quick", "slow", max_bytes=24 * 1024 * 1024)
    batch = events(1000, size=900)
    before_bytes = resident_bytes()
    most_wal = most_held = 0
    settled = 0
    for _ in range(200):
        await spool.append(batch)
        deliver(spool, "quick", await take(spool, "quick", 1000))
        slow = await spool.read("slow", 50, READ_BYTES)
        deliver(spool, "slow", slow)
        settled += len(slow)
        stats = spool.stats()
        most_wal, most_held = max(most_wal, stats.wal_bytes), max(most_held, stats.bytes)
    counts = spool.stats().sinks
    grown_bytes = resident_bytes() - before_bytes
    with capsys.disabled():
        figures = (
            f"log {most_wal / 1e6:.1f}, held {most_held / 1e6:.1f}, memory grown by {grown_bytes / 1e6:.1f}"
        )
        print(f" [at most, in MB: {figures}] ", end="")
    assert grown_bytes < 96 * 1024 * 1024
    assert most_wal < 32 * 1024 * 1024
    assert most_held <= 24 * 1024 * 1024
    assert (counts["quick"].delivered, counts["slow"].delivered) == (200_000, settled)
    assert (spools.path / "spool.sqlite").stat().st_size < 64 * 1024 * 1024
    assert counts["slow"].shed > 100_000
