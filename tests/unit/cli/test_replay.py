"""`zoomrelay replay` where no relay runs, and what it refuses."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.unit.delivery.fakes import event
from zoomrelay.cli import entry, exits
from zoomrelay.clock import SystemClock
from zoomrelay.config.models import Config
from zoomrelay.spool.base import Settlement, SinkStart
from zoomrelay.spool.sqlite import SqliteSpool

SPOOL = 'type = "sqlite"\nretain_seconds = 1e9'


class Place:
    def __init__(self, directory: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
        self.config, self.state = directory / "zoomrelay.toml", directory / "state"
        self.state.mkdir(mode=0o700)
        self._capture = capfdbinary
        self.write(SPOOL)

    def write(self, spool: str) -> None:
        self.config.write_text(
            f'state_dir = "{self.state}"\n[sources.main]\nclient_id = "client"\nclient_secret = "planted"\n'
            f'subscriptions = ["Sub0"]\n[spool]\n{spool}\n[sinks.crm]\ntype = "http"\nurl = "http://127.0.0.1:9/"\n'
        )

    def run(self, *arguments: str) -> tuple[int, bytes, str]:
        code = entry.run(["replay", "--config", str(self.config), *arguments])
        captured = self._capture.readouterr()
        return code, captured.out, captured.err.decode()


async def deliver(state: Path) -> None:
    spool = SqliteSpool(state, max_bytes=2**30, clock=SystemClock(), retain_seconds=1e9)
    await spool.open([SinkStart("crm")])
    await spool.append([event(n, name=f"meeting.{'started' if n % 2 else 'ended'}") for n in range(1, 7)])
    items = await spool.read("crm", 10, 10**6)
    spool.settle("crm", Settlement(delivered=[item.token for item in items[:4]]))
    await spool.close()


@pytest.fixture
def place(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> Place:
    place = Place(tmp_path, capfdbinary)
    asyncio.run(deliver(place.state))
    return place


def contents(*numbers: int) -> bytes:
    names = {n: f"meeting.{'started' if n % 2 else 'ended'}" for n in numbers}
    return b"".join(event(n, name=name).content + b"\n" for n, name in names.items())


def test_what_is_held_is_printed(place: Place) -> None:
    assert place.run()[:2] == (exits.OK, contents(1, 2, 3, 4, 5, 6))
    assert place.run("--to", "-")[:2] == (exits.OK, contents(1, 2, 3, 4, 5, 6))


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        (["--events", "meeting.ended"], [2, 4, 6]),
        (["--events", "meeting.*,!meeting.ended"], [1, 3, 5]),
        (["--since", "2023-11-14T22:13:20.003"], [3, 4, 5, 6]),
        (["--until", "2023-11-14T22:13:20.003"], [1, 2]),
        (["--since", "2023-11-14T22:13:20.002", "--until", "2023-11-14T22:13:20.004"], [2, 3]),
        (["--since", "1h"], []),
    ],
)
def test_what_is_chosen(place: Place, options: list[str], numbers: list[int]) -> None:
    assert place.run(*options)[:2] == (exits.OK, contents(*numbers))


@pytest.mark.parametrize(
    "wrong",
    [
        ["--since", "noon"],
        ["--until", "x"],
        ["--events", "a b"],
        ["--rate", "5"],
        ["--rate", "0", "--to", "crm"],
    ],
)
def test_usage(place: Place, wrong: list[str]) -> None:
    assert place.run(*wrong)[:2] == (exits.USAGE, b"")


def test_to_a_sink_needs_the_relay(place: Place) -> None:
    code, _, err = place.run("--to", "crm")
    assert (code, "no relay is running" in err) == (exits.CRASH, True)


@pytest.mark.parametrize(
    ("spool", "words"), [('type = "memory"', "in memory"), ('type = "sqlite"', "retain_seconds")]
)
def test_who_keeps_nothing_says_so(place: Place, spool: str, words: str) -> None:
    place.write(spool)
    code, out, err = place.run()
    assert (code, out, words in err) == (exits.CRASH, b"", True)


def test_memory_and_retention_do_not_go_together(place: Place) -> None:
    place.write('type = "memory"\nretain_seconds = 60')
    code, _, err = place.run()
    assert (code, "spool.retain_seconds" in err) == (exits.CONFIG, True)


def test_before_the_first_run_there_is_nothing(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    place = Place(tmp_path, capfdbinary)
    assert place.run()[:2] == (exits.OK, b"")
    assert not (place.state / "spool.sqlite").exists()


def test_the_setting_is_off_by_default() -> None:
    assert Config.model_fields["spool"].default.retain_seconds == 0
