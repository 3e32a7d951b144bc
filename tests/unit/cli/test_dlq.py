"""`zoomrelay dlq`, on a real spool file and through a real control socket."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.unit.admin.fakes import dead_letter
from tests.unit.delivery.fakes import event
from zoomrelay.admin.control import ControlServer
from zoomrelay.cli import entry, exits
from zoomrelay.cli.portions import in_portions
from zoomrelay.cli.selection import Selection, newest
from zoomrelay.clock import SystemClock
from zoomrelay.spool.base import DeadLetter, Death, Quarantined, Settlement, SinkStart, Spool
from zoomrelay.spool.sqlite import SqliteSpool
from zoomrelay.spool.statedir import StateDirectory
from zoomrelay.telemetry import redaction

RAW = b'\xff{"not": an event\x1b[2J'


class Place:
    """A configuration with a sink `crm`, and its state directory."""

    def __init__(self, directory: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
        self.config = directory / "zoomrelay.toml"
        self.state = directory / "state"
        self._capture = capfdbinary
        self.write("sqlite")

    def write(self, spool: str) -> None:
        self.config.write_text(
            f'state_dir = "{self.state}"\n'
            '[sources.main]\nclient_id = "client"\nclient_secret = "planted-secret"\n'
            'subscriptions = ["Sub0"]\n'
            f'[spool]\ntype = "{spool}"\n'
            '[sinks.crm]\ntype = "http"\nurl = "http://127.0.0.1:9/"\n'
        )

    def run(self, command: str, *arguments: str) -> tuple[int, str, str]:
        code, out, err = self.run_raw(command, *arguments)
        return code, out.decode(), err

    def run_raw(self, command: str, *arguments: str) -> tuple[int, bytes, str]:
        code = entry.run(["dlq", command, "--config", str(self.config), *arguments])
        captured = self._capture.readouterr()
        return code, captured.out, captured.err.decode()

    def lines(self, *arguments: str) -> list[dict[str, Any]]:
        code, out, _ = self.run("list", "--json", *arguments)
        assert code == exits.OK
        return [json.loads(line) for line in out.splitlines()]

    def numbers(self) -> list[int]:
        return [line["number"] for line in self.lines()]

    def ask(self, question: Callable[[Spool], Awaitable[Any]]) -> Any:
        """Of the spool file, as a relay would."""

        async def answer() -> Any:
            spool = SqliteSpool(self.state, max_bytes=2**30, clock=SystemClock())
            await spool.open([SinkStart("crm")])
            try:
                return await question(spool)
            finally:
                await spool.close()

        return asyncio.run(answer())


async def bury(spool: Spool) -> None:
    """Three events of the sink, and a frame of the source."""
    await spool.append([event(n) for n in (1, 2, 3)], [Quarantined("main", "Sub0", 5, RAW, "not JSON")])
    items = await spool.read("crm", 10, 10**6)
    excerpt = 'no planted-secret\n{"field": "x"}'
    spool.settle("crm", Settlement(dead=[Death(item, "HTTP 400", 3, 400, excerpt) for item in items]))
    await spool.flush()


@pytest.fixture
def empty(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> Place:
    return Place(tmp_path, capfdbinary)


@pytest.fixture
def stopped(empty: Place) -> Place:
    empty.state.mkdir(mode=0o700)
    empty.ask(bury)
    return empty


@pytest.fixture
def running(capfdbinary: pytest.CaptureFixture[bytes]) -> Iterator[Place]:
    """A relay's control socket before a spool with the same letters. The path of a socket must be short."""
    directory = Path(tempfile.mkdtemp(prefix="dlq"))
    place = Place(directory, capfdbinary)
    place.state.mkdir(mode=0o700)
    ready, loop = threading.Event(), asyncio.new_event_loop()
    ended = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(place.state, ready, ended),))
    thread.start()
    assert ready.wait(10)
    yield place
    loop.call_soon_threadsafe(ended.set)
    thread.join(10)
    loop.close()
    shutil.rmtree(directory)


async def serve(state: Path, ready: threading.Event, ended: asyncio.Event) -> None:
    lock = StateDirectory(state)
    lock.acquire(create=False)
    redaction.protect("planted-secret")  # as a relay does with what its configuration holds
    spool = SqliteSpool(state, max_bytes=2**30, clock=SystemClock())
    await spool.open([SinkStart("crm")])
    await bury(spool)

    class Target:
        dead_letters = staticmethod(spool.dead_letters)
        dead_letter = staticmethod(spool.dead_letter)
        redrive = staticmethod(spool.redrive)
        discard = staticmethod(spool.discard)

    server = ControlServer(state, Target())  # type: ignore[arg-type]
    await server.open()
    ready.set()
    await ended.wait()
    await server.close()
    await spool.close()
    lock.release()


@pytest.fixture(params=["stopped", "running"])
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue(request.param)
    return found


# --- looking ----------------------------------------------------------------------------------------


def test_a_list(place: Place) -> None:
    code, out, err = place.run("list")
    head, *rows = out.splitlines()
    assert (code, err) == (exits.OK, "")
    assert head.split() == ["number", "died", "sink", "event", "attempts", "reason"]
    assert len(rows) == 4
    assert (
        sum(" crm " in row and " meeting.started " in row and row.endswith("HTTP 400") for row in rows) == 3
    )
    assert sum("(source main)" in row and "not JSON" in row for row in rows) == 1


def test_a_list_of_one_sink_and_of_the_newest(place: Place) -> None:
    assert {line["sink"] for line in place.lines("--sink", "crm")} == {"crm"}
    assert place.lines("--sink", "nobody") == []
    assert [line["number"] for line in place.lines("--limit", "1")] == place.numbers()[-1:]
    assert place.run("list", "--sink", "nobody")[1] == "no dead letters\n"


def test_lines_of_json(place: Place) -> None:
    line = place.lines("--sink", "crm")[0]
    assert line["id"] == event(1).id and line["name"] == "meeting.started"
    assert (line["status"], line["attempts"], line["redriving"]) == (400, 3, False)
    assert line["received"] == "2023-11-14T22:13:20.001Z" and "content" not in line


def test_show(place: Place) -> None:
    number = place.lines("--sink", "crm")[0]["number"]
    code, out, _ = place.run("show", str(number))
    assert code == exits.OK
    for words in ("HTTP 400", "attempts", event(1).id, event(1).content.decode(), '{"field": "x"}'):
        assert words in out
    assert "planted-secret" not in out, "a receiver's answer may echo what it was sent"


def test_the_content_as_it_came(place: Place) -> None:
    lines = place.lines()
    contents = [place.run_raw("show", str(line["number"]), "--raw")[1] for line in lines]
    assert sorted(contents) == sorted([RAW, *(event(n).content for n in (1, 2, 3))])
    assert contents[[line["sink"] for line in lines].index("")] == RAW


def test_what_is_no_text_harms_no_terminal(place: Place) -> None:
    (number,) = [line["number"] for line in place.lines() if not line["sink"]]
    _, out, _ = place.run("show", str(number))
    assert "\x1b" not in out and "an event" in out
    shown = json.loads(place.run("show", str(number), "--json")[1])
    assert "content" not in shown and shown["content_base64"]


def test_show_as_json(place: Place) -> None:
    number = place.lines("--sink", "crm")[0]["number"]
    shown = json.loads(place.run("show", str(number), "--json")[1])
    assert shown["content"] == event(1).content.decode() and shown["number"] == number


def test_one_that_is_not_there(place: Place) -> None:
    code, out, err = place.run("show", "999")
    assert (code, out) == (1, "") and "no dead letter 999" in err


# --- doing ------------------------------------------------------------------------------------------


def test_redrive_marks_them(place: Place) -> None:
    numbers = [str(line["number"]) for line in place.lines("--sink", "crm")][:2]
    code, out, err = place.run("redrive", *numbers, numbers[0])
    assert (code, err) == (exits.OK, "") and out.startswith("2 to be delivered again, ")
    assert [str(line["number"]) for line in place.lines() if line["redriving"]] == numbers
    assert "on its way again" in place.run("list")[1]
    # Asked once more, and with one that is not there: they are left as they are.
    code, out, err = place.run("redrive", numbers[0], "999")
    assert code == 1 and out.startswith("0 ") and err.startswith("zoomrelay: 2 left as they are")


def test_redrive_all_leaves_frames_alone(place: Place) -> None:
    code, out, err = place.run("redrive", "--all")
    assert code == exits.OK and out.startswith("3 ") and "1 left" in err
    assert sum(line["redriving"] for line in place.lines()) == 3


def test_discard(place: Place) -> None:
    numbers = place.numbers()
    assert place.run("discard", str(numbers[0]))[:2] == (exits.OK, "1 discarded\n")
    assert place.numbers() == numbers[1:]
    code, _, err = place.run("discard", str(numbers[0]), str(numbers[1]))
    assert code == 1 and "1 left as they are: not there" in err
    assert place.run("discard", "--all", "--sink", "crm")[0] == exits.OK
    assert all(not line["sink"] for line in place.lines())
    assert place.run("discard", "--all")[0] == exits.OK
    assert place.numbers() == []
    assert place.run("discard", "--all")[:2] == (exits.OK, "0 discarded\n")


@pytest.mark.parametrize("command", ["redrive", "discard"])
@pytest.mark.parametrize(
    "arguments", [[], ["1", "--all"], ["1", "--sink", "crm"], ["--sink", "crm"], ["x"], ["1.5"]]
)
def test_usage(place: Place, command: str, arguments: list[str]) -> None:
    before = place.lines()
    assert place.run(command, *arguments)[0] == exits.USAGE
    assert place.lines() == before


def test_redriven_while_stopped_the_next_relay_hands_them_out(stopped: Place) -> None:
    assert (
        stopped.run("redrive", "--all", "--sink", "crm")[1] == "3 to be delivered again, at the next start\n"
    )

    async def first(spool: Spool) -> list[int]:
        items = await spool.read("crm", 10, 10**6)
        spool.settle("crm", Settlement(delivered=[item.token for item in items]))
        return [item.event.event_ts or 0 for item in items if item.redriven]

    assert stopped.ask(first) == [1, 2, 3]
    assert {line["sink"] for line in stopped.lines()} == {""}


def test_a_running_relay_is_asked(running: Place) -> None:
    (number, *_) = [line["number"] for line in running.lines("--sink", "crm")]
    assert running.run("redrive", str(number))[1] == "1 to be delivered again, now\n"


# --- trouble ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["list"], ["show", "1"], ["redrive", "1"], ["discard", "--all"]])
def test_no_state_directory_is_named_and_not_created(empty: Place, command: list[str]) -> None:
    code, out, err = empty.run(*command)
    assert (code, out) == (exits.CONFIG, "") and str(empty.state) in err
    assert not empty.state.exists()


def test_looking_makes_no_spool(empty: Place) -> None:
    empty.state.mkdir(mode=0o700)
    assert empty.run("list")[:2] == (exits.OK, "no dead letters\n")
    assert not [file for file in empty.state.iterdir() if "spool" in file.name]


def test_a_state_directory_that_is_held_by_somebody_who_does_not_answer(stopped: Place) -> None:
    holder = StateDirectory(stopped.state)
    holder.acquire(create=False)
    try:
        code, _, err = stopped.run("list")
    finally:
        holder.release()
    assert code == exits.CONFIG and "in use by the process with id" in err


def test_a_spool_in_memory_ends_with_its_relay(empty: Place) -> None:
    empty.state.mkdir()
    empty.write("memory")
    code, out, err = empty.run("list")
    assert (code, out) == (1, "") and "in memory" in err


def test_a_spool_of_a_newer_version_is_left_alone(stopped: Place) -> None:
    import sqlite3

    with sqlite3.connect(stopped.state / "spool.sqlite") as connection:
        connection.execute("PRAGMA user_version = 9999")
    connection.close()
    code, _, err = stopped.run("list")
    assert code == exits.CONFIG and "newer" in err


# --- which, how fast, and whether at all ------------------------------------------------------------


@pytest.mark.parametrize(
    ("conditions", "numbers"),
    [
        (["--events", "meeting.*"], [2, 3, 4]),
        (["--events", "meeting.*,!meeting.started"], []),
        (["--events", "meeting.*", "--events", "!meeting.started"], []),
        (["--events", "*"], [2, 3, 4]),
        (["--reason", "http 4"], [2, 3, 4]),
        (["--reason", "not json"], [1]),
        (["--since", "1h"], [2, 3, 4]),
        (["--until", "1h"], [1]),
        (["--since", "1970-01-01", "--until", "2h"], [1]),
        (["--sink", "crm", "--reason", "400", "--limit", "2"], [3, 4]),
        (["--sink", "other"], []),
    ],
)
def test_conditions(place: Place, conditions: list[str], numbers: list[int]) -> None:
    assert [line["number"] for line in place.lines(*conditions)] == numbers


@pytest.mark.parametrize("command", ["redrive", "discard"])
def test_a_dry_run_lists_and_changes_nothing(place: Place, command: str) -> None:
    before = place.lines()
    code, out, _ = place.run(command, "--all", "--events", "meeting.*", "--dry-run", "--json")
    assert code == exits.OK
    assert [json.loads(line) for line in out.splitlines()] == before[1:]
    code, out, _ = place.run(command, "3", "99", "--dry-run", "--json")
    assert [json.loads(line)["number"] for line in out.splitlines()] == [3]
    assert place.lines() == before


def test_conditions_choose_what_is_discarded(place: Place) -> None:
    code, out, _ = place.run("discard", "--all", "--reason", "not json", "--json")
    assert (code, json.loads(out)) == (exits.OK, {"count": 1})
    assert place.numbers() == [2, 3, 4]


@pytest.mark.parametrize("wrong", [["--since", "noon"], ["--until", "x"], ["--events", "a b"]])
def test_conditions_that_mean_nothing_are_refused(place: Place, wrong: list[str]) -> None:
    assert place.run("list", *wrong)[0] == exits.USAGE


def test_a_rate_needs_somebody_who_delivers(stopped: Place) -> None:
    code, _, err = stopped.run("redrive", "--all", "--rate", "5")
    assert (code, "running relay" in err) == (exits.USAGE, True)


def test_a_rate_is_kept(running: Place) -> None:
    code, out, _ = running.run("redrive", "--all", "--sink", "crm", "--rate", "1000")
    assert (code, out) == (exits.OK, "3 to be delivered again, now\n")


def test_pages_join_to_the_whole() -> None:
    class Paged:
        page_size = 7

        def listed(self, sink: str | None, limit: int, before: int | None) -> list[DeadLetter]:
            del sink
            there = [dead_letter(n) for n in range(1, 51) if before is None or n < before]
            return there[-limit:]

    assert [letter.number for letter in newest(Paged(), Selection(), 10**9)] == list(range(1, 51))
    assert [letter.number for letter in newest(Paged(), Selection(), 9)] == list(range(42, 51))


def test_portions_keep_the_rate_and_add_up() -> None:
    clock, seen = [0.0], []

    def do(numbers: Sequence[int]) -> int:
        seen.append((clock[0], len(numbers)))
        return len(numbers) - 1

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    done = in_portions(do, list(range(45)), 50.0, "x", now=lambda: clock[0], sleep=sleep)
    assert done == 40
    assert seen == [(0.0, 10), (0.2, 10), (0.4, 10), (pytest.approx(0.6), 10), (0.8, 5)]
    assert in_portions(do, list(range(2500)), None, "x", now=lambda: 0.0, sleep=sleep) == 2497
