"""`zoomrelay gaps`, on real files."""

from __future__ import annotations

import json
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.support.unprivileged import reachable_directory, unprivileged
from zoomrelay.cli import entry, exits
from zoomrelay.cli.moments import milliseconds
from zoomrelay.clock import SystemClock, boot_id
from zoomrelay.intake import stamp
from zoomrelay.intake.gaps import GAPS, Gap, append, iso
from zoomrelay.intake.healing import Healing
from zoomrelay.intake.stamp import PathStamp, Stamp

NOW_MS = int(time.time() * 1000)
HOUR_MS = 3_600_000


def gap(start_ms: int, seconds: float, cause: str = "closed", detail: str = "") -> Gap:
    return Gap("main", "Sub0", start_ms, start_ms + int(seconds * 1000), seconds, cause, detail)


OLD = gap(NOW_MS - 100 * HOUR_MS, 1200.0, "crash", "the process ended without a stop")
NEW = gap(NOW_MS - HOUR_MS, 2.5)


class Place:
    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.config = directory / "zoomrelay.toml"
        self.state = directory / "state"
        self.config.write_text(
            f'state_dir = "{self.state}"\n'
            '[sources.main]\nclient_id = "client"\nclient_secret = "secret"\nsubscriptions = ["Sub0"]\n'
        )
        self._capsys = capsys

    def hold(self, *gaps: Gap) -> None:
        self.state.mkdir(exist_ok=True)
        append(self.state / GAPS, gaps)

    def stamp(self, path: PathStamp, *, age_seconds: float = 0.0) -> None:
        self.state.mkdir(exist_ok=True)
        elapsed = SystemClock().elapsed() - age_seconds
        at = int((time.time() - age_seconds) * 1000)
        stamp.write(self.state, Stamp(at, boot_id(), elapsed, {"main/Sub0": path}))

    def run(self, *arguments: str) -> tuple[int, str, str]:
        code = entry.run(["gaps", "--config", str(self.config), *arguments])
        captured = self._capsys.readouterr()
        return code, captured.out, captured.err


@pytest.fixture
def place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Place:
    return Place(tmp_path, capsys)


def test_no_state_directory_is_named_and_not_created(place: Place) -> None:
    code, out, err = place.run()
    assert code == exits.CONFIG and str(place.state) in err and out == ""
    assert not place.state.exists()


def test_no_gaps(place: Place) -> None:
    place.state.mkdir()
    assert place.run("--fail-if-any") == (exits.OK, "no gaps\n", "")
    assert place.run("--json") == (exits.OK, "", "")
    assert list(place.state.iterdir()) == []


def test_a_list_and_its_sum(place: Place) -> None:
    place.hold(NEW, OLD, gap(NOW_MS - 2 * HOUR_MS, 7.5))
    code, out, _ = place.run()
    head, first, *_, last, total = out.splitlines()
    assert code == exits.OK
    assert head.split() == ["from", "to", "seconds", "cause", "source", "subscription", "missed", "detail"]
    assert first.startswith(iso(OLD.from_ms)) and first.endswith("the process ended without a stop")
    assert last.split() == [iso(NEW.from_ms), iso(NEW.to_ms or 0), "2.5", "closed", "main", "Sub0", "unknown"]
    assert total == "3 gaps, 1,210.0 s: crash 1 (1,200.0 s), closed 2 (10.0 s)"


def test_json_is_one_object_per_line_and_nothing_else(place: Place) -> None:
    place.hold(OLD, NEW)
    _, out, _ = place.run("--json")
    assert [json.loads(line) for line in out.splitlines()] == [OLD.as_json(), NEW.as_json()]


def test_fail_if_any(place: Place) -> None:
    place.hold(OLD)
    assert place.run("--fail-if-any")[0] == 1
    assert place.run("--fail-if-any", "--json")[0] == 1
    assert place.run("--fail-if-any", "--since", "2h")[0] == exits.OK


SHED = replace(gap(NOW_MS - HOUR_MS, 9, "shed"), source="", subscription="", sink="crm", events=1234)
MISSED = {
    "~12": replace(NEW, estimated_events=12.4),
    "unknown": NEW,
    "1,234": SHED,
    "covered": replace(NEW, estimated_events=12.4, covered_by=("Sub1",)),
    "nothing": replace(NEW, subscription="", cause="paused"),
}


@pytest.mark.parametrize(("words", "one"), MISSED.items())
def test_what_was_missed_in_a_word(place: Place, words: str, one: Gap) -> None:
    place.hold(one)
    assert words in place.run()[1].splitlines()[1].split()


def test_what_concerns_a_sink_names_it(place: Place) -> None:
    place.hold(SHED)
    assert " sink crm " in place.run()[1].splitlines()[1]


def test_loss_leaves_out_what_cost_nothing(place: Place) -> None:
    place.hold(*MISSED.values())
    code, out, _ = place.run("--loss", "--json", "--fail-if-any")
    listed = [json.loads(line) for line in out.splitlines()]
    assert code == 1 and {one["cause"] for one in listed} == {"closed", "shed"}
    assert len(listed) == 3 and not any(one["covered"] for one in listed)


def test_without_loss_everything_is_any(place: Place) -> None:
    place.hold(MISSED["covered"], MISSED["nothing"])
    assert place.run("--fail-if-any")[0] == 1
    assert place.run("--fail-if-any", "--loss") == (exits.OK, "no gaps\n", "")


@pytest.mark.parametrize(("since", "count"), [("2h", 1), ("7d", 2), ("1s", 0), ("6000m", 2), ("2w", 2)])
def test_since(place: Place, since: str, count: int) -> None:
    place.hold(OLD, NEW)
    assert len(place.run("--json", "--since", since)[1].splitlines()) == count


def test_since_counts_a_gap_that_reaches_into_it(place: Place) -> None:
    place.hold(gap(NOW_MS - 3 * HOUR_MS, 2.5 * 3600))
    assert len(place.run("--json", "--since", "2h")[1].splitlines()) == 1


@pytest.mark.parametrize("since", ["yesterday", "2", "h", "-1h", "2026-13-01", "9" * 30 + "w"])
def test_since_in_words_that_mean_nothing(place: Place, since: str) -> None:
    place.hold(OLD)
    code, out, err = place.run("--since", since)
    assert code == exits.USAGE and out == "" and "ISO time" in err


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        ("90s", "2026-01-31T11:58:30.000Z"),
        ("1.5h", "2026-01-31T10:30:00.000Z"),
        ("2026-01-30", "2026-01-30T00:00:00.000Z"),
        ("2026-01-30T10:00", "2026-01-30T10:00:00.000Z"),
        ("2026-01-30T10:00:00Z", "2026-01-30T10:00:00.000Z"),
        ("2026-01-30T10:00:00+02:00", "2026-01-30T08:00:00.000Z"),
    ],
)
def test_what_since_means(since: str, expected: str) -> None:
    assert iso(milliseconds(since, datetime(2026, 1, 31, 12, tzinfo=UTC), "--since")) == expected


def test_a_gap_that_lasts(place: Place) -> None:
    place.stamp(PathStamp(from_ms=NOW_MS - 60_000, cause="silent", detail="no frame for 75 s"))
    code, out, _ = place.run("--fail-if-any", "--since", "1s")
    assert code == 1 and "lasts" in out and "silent" in out
    (line,) = place.run("--json")[1].splitlines()
    shown = json.loads(line)
    lasts = 60 + time.time() - NOW_MS / 1000
    assert shown["to"] is None and abs(shown["seconds"] - lasts) < 30


def test_a_relay_that_was_killed_and_not_started_again(place: Place) -> None:
    place.stamp(PathStamp(held_ms=NOW_MS - 60_000), age_seconds=60)
    (line,) = place.run("--json")[1].splitlines()
    assert json.loads(line)["cause"] == "crash" and json.loads(line)["to"] is None


def test_a_relay_that_listens(place: Place) -> None:
    place.stamp(PathStamp(held_ms=NOW_MS))
    assert place.run("--json")[1] == ""


def test_words_of_others_move_no_cursor(place: Place) -> None:
    place.hold(gap(NOW_MS - HOUR_MS, 1.0, detail="Bye\x1b[2J\nx"))
    assert "\x1b" not in place.run()[1] and len(place.run()[1].splitlines()) == 3


@pytest.mark.parametrize("closed", [".", "state", "state/gaps.ndjson"])
def test_a_ledger_that_cannot_be_read(capsys: pytest.CaptureFixture[str], closed: str) -> None:
    with reachable_directory() as directory:
        (directory / "state").mkdir(mode=0o755)
        (directory / "state" / GAPS).touch()
        (directory / "zoomrelay.toml").write_text(f'state_dir = "{directory}/state"\n')
        config = Path(shutil.copy(directory / "zoomrelay.toml", f"{directory}.toml"))
        (directory / closed).chmod(0)
        try:
            with unprivileged():
                code = entry.run(["gaps", "--config", str(config)])
        finally:
            (directory / closed).chmod(0o755)
            config.unlink()
    err = capsys.readouterr().err
    assert code == exits.CONFIG and f"{directory}/state" in err and "Permission denied" in err


def test_a_ledger_that_is_a_directory(place: Place) -> None:
    (place.state / GAPS).mkdir(parents=True)
    code, _, err = place.run()
    assert code == exits.CONFIG and str(place.state) in err and "Traceback" not in err


def test_a_table_on_a_terminal(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.hold(OLD, NEW)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = place.run()
    assert code == exits.OK and iso(NEW.from_ms) in out and "2 gaps, 1,202.5 s" in out


# --- what a webhook healed --------------------------------------------------------------------------------


def by_webhook(place: Place, healed_gap: Gap, events: int) -> None:
    moment = healed_gap.from_ms + 1000
    line = Healing("main", healed_gap.subscription, moment, moment, moment, events).line()
    append(place.state / GAPS, [], [line])


def listening(place: Place) -> None:
    """A relay that runs, with a socket and a webhook."""
    now_ms = int(time.time() * 1000)
    held = PathStamp(held_ms=now_ms)
    paths = {"main/Sub0": held, "main/webhook": held}
    stamp.write(place.state, Stamp(now_ms, boot_id(), SystemClock().elapsed(), paths))


def test_healed_gaps_are_said_to_be_healed(place: Place) -> None:
    place.hold(OLD)
    by_webhook(place, OLD, 12)
    code, text, _ = place.run("--fail-if-any")
    assert code == 1 and "healed: 12 came by webhook" in text
    assert place.run("--loss", "--fail-if-any")[:2] == (0, "no gaps\n")
    told = json.loads(place.run("--json")[1])
    assert (told["healed"], told["healed_events"]) == (True, 12) and "may_heal_until" not in told


def test_what_may_still_come(place: Place) -> None:
    recent = gap(NOW_MS - 600_000, 60.0)
    place.hold(recent)
    listening(place)
    code, text, _ = place.run("--loss", "--fail-if-any")
    until = iso((recent.to_ms or 0) + 5_400_000)
    assert code == 1 and f"unknown, may come by webhook until {until[11:16]}Z" in text
    assert json.loads(place.run("--json")[1])["may_heal_until"] == until
    by_webhook(place, recent, 3)
    assert place.run("--loss", "--fail-if-any")[0] == 0


def test_a_gap_that_lasts_is_not_healed_yet(place: Place) -> None:
    place.state.mkdir()
    now_ms = int(time.time() * 1000)
    lasting = PathStamp(from_ms=now_ms - 30_000, cause="closed", rate=2.0)
    paths = {"main/Sub0": lasting, "main/webhook": PathStamp(held_ms=now_ms)}
    counts = (Healing("main", "Sub0", now_ms, now_ms - 20_000, now_ms - 1000, 40),)
    stamp.write(place.state, Stamp(now_ms, boot_id(), SystemClock().elapsed(), paths, healings=counts))
    code, text, _ = place.run("--loss", "--fail-if-any")
    assert code == 1 and ", 40 came by webhook, more may come" in text


def test_a_gap_of_the_webhook_itself_comes_again(place: Place) -> None:
    place.hold(replace(NEW, subscription="webhook"), replace(OLD, subscription="webhook", seconds=5100.0))
    text = place.run()[1]
    assert "comes again" in text and "unknown" in text
    assert len(place.run("--loss", "--json")[1].splitlines()) == 1
