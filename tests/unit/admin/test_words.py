"""A status in words."""

from __future__ import annotations

import msgspec
import pytest

from tests.unit.admin.fakes import START, lost_path, path, sink, source, spool, status
from zoomrelay.admin import words
from zoomrelay.admin.health import PathStatus
from zoomrelay.cli.status_view import plain
from zoomrelay.event import WEBHOOK
from zoomrelay.spool.base import SinkCounts


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (185, "3 min 5 s"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (100 * 86400 + 14400, "100 d 4 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "0.977 KiB"),
        (12_000, "11.7 KiB"),
        (300 * 1024**2, "300 MiB"),
        (1024**3, "1 GiB"),
        (5 * 1024**4, "5 TiB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert words.size(count) == text


def test_paths() -> None:
    now = START + 60
    assert words.path_state(path(), now) == "listening for 58 s"
    doubt = "listening for 58 s; another program seems to use this subscription too"
    assert words.path_state(path(contested=True), now) == doubt
    assert words.path_trouble(path(last_error="closed: Bye"), now) == ""
    assert words.path_state(lost_path(), now) == "closed; attempt 4 in 30 s"
    dialling = lost_path(state="dialling", next_attempt_at=None, gap_since=None, cure="", last_error="")
    assert words.path_state(dialling, now) == "connecting, attempt 3"
    assert words.path_trouble(dialling, now) == ""
    assert words.path_trouble(lost_path(), now) == (
        "gap of 30 s so far; no_token: the client secret is wrong; copy the secret from the app's page"
    )


def test_nothing_moves_the_cursor() -> None:
    evil = "\x1b[2J\r\nfake line\u202e"
    now = status(
        sources=[source(lost_path(last_error=evil, cure=evil))],
        sinks=[sink(ok=False, last_error=evil)],
        spool=spool(writable=False, trouble=evil),
    )
    assert all(line.isprintable() for line in plain(now).split("\n"))
    assert "fake line" not in plain(now).split("\n")
    assert words.summary(now).isprintable()


def test_sinks() -> None:
    assert words.sink_state(sink()) == "ok"
    assert words.sink_state(sink(ok=False, last_error="HTTP 503")) == "failing: HTTP 503"
    assert "configured right" in words.sink_state(sink(ok=False, last_error="HTTP 404", misconfigured=True))
    assert words.sink_state(sink(backlog_seconds=4.0)) == "ok"
    assert (
        words.sink_state(sink(backlog_seconds=185.0)) == "ok, through its backlog in 3 min 5 s at this rate"
    )
    assert words.sink_state(sink(backlog_seconds=None)) == "ok, its backlog does not shrink"
    assert words.sink_figures(sink(counts=SinkCounts())) == {"delivered": 0, "pending": 0, "dead": 0}
    assert words.sink_figures(sink(counts=SinkCounts(shed=4)))["shed"] == 4


@pytest.mark.parametrize(
    ("seconds", "end"),
    [(None, "used"), (0.0, "used, full"), (7200.0, "full in 2 h at this rate"), (1e7, "used")],
)
def test_spool(seconds: float | None, end: str) -> None:
    text = words.spool_state(spool(events=1, seconds_until_full=seconds))
    assert text.startswith("1 event, 11.7 KiB of 1 GiB") and text.endswith(end)


def test_a_spool_that_cannot_be_written() -> None:
    text = words.spool_state(spool(writable=False, trouble="disk I/O error"))
    assert text.startswith("cannot be written: disk I/O error")


def test_headlines_name_everything_that_is_wrong() -> None:
    assert words.headline(status()).startswith("Ready")
    now = status(sources=[source(lost_path())], spool=spool(writable=False), stopping=True)
    assert words.headline(now) == (
        "Not ready: source main is not listened to; the spool cannot be written; the relay is stopping"
    )
    assert words.headline(status(starting=True)) == "Not ready: the relay is starting"


def test_summaries_for_the_service_manager() -> None:
    assert words.summary(status()) == "1 of 1 subscription accepted"
    assert words.summary(status(starting=True)) == "Starting"
    assert words.summary(status(stopping=True)) == "Stopping"
    lost = words.summary(status(sources=[source(lost_path(), lost_path())]))
    assert lost.startswith("0 of 2 subscriptions accepted; source main: no subscription")
    assert "copy the secret" in lost


def test_the_plain_status_holds_everything() -> None:
    text = plain(
        status(sources=[source(path(first=10, merged=1, missed=2), lost_path(subscription="Sub1", first=2))])
    )
    assert text == (
        "zoomrelay 1.2.3, process 4711, running for 1 min\n"
        "Ready: every source is listened to and the spool can be written\n"
        "source main: 12 events held, 1 merged, unaccounted for 0\n"
        "  Sub0: listening for 58 s\n"
        "    10 events first, 1 merged, 2 missed\n"
        "  Sub1: closed; attempt 4 in 30 s\n"
        "    gap of 30 s so far; no_token: the client secret is wrong; copy the secret from the app's page\n"
        "    2 events first, 0 merged, 0 missed\n"
        "sink crm (http): ok\n"
        "  delivered 9, pending 2, dead 1, dead letters kept 1, unaccounted for 0\n"
        "spool (sqlite): 12 events, 11.7 KiB of 1 GiB used"
    )


def test_tokens() -> None:
    refused = {"token_refused": True, "token_error": "Zoom refused the credentials", "token_cure": "mend it"}
    listening = msgspec.structs.replace(source(), **refused)
    assert words.token_trouble(listening) == "Zoom refused the credentials; mend it"
    assert not status(sources=[listening]).ready
    assert words.headline(status(sources=[listening])) == "Not ready: source main gets no token"
    assert status(sources=[listening]).not_ready_because == [
        "source main: no token can be had: Zoom refused the credentials (mend it)"
    ]
    assert "  token: Zoom refused the credentials; mend it" in plain(status(sources=[listening]))
    passing = msgspec.structs.replace(source(), token_usable=False, token_error="no answer")
    assert status(sources=[passing]).ready, "the socket is open, and it is tried again"
    told_by_the_path = msgspec.structs.replace(source(lost_path()), token_usable=False, **refused)
    assert words.token_trouble(told_by_the_path) == ""
    assert words.headline(status(sources=[told_by_the_path])) == "Not ready: source main is not listened to"


def test_a_source_of_tokens_only() -> None:
    tokens_only = msgspec.structs.replace(source(), paths=[])
    assert status(sources=[tokens_only]).ready
    assert words.token_trouble(tokens_only) == ""
    waiting = msgspec.structs.replace(tokens_only, token_usable=False)
    assert not status(sources=[waiting]).ready
    assert words.token_trouble(waiting) == "no token yet"
    assert status(sources=[waiting]).not_ready_because == ["source main: no token can be had: not yet"]


def hook(**changes: object) -> PathStatus:
    return path(subscription=WEBHOOK, state="listening", **changes)


def closed_hook() -> PathStatus:
    return path(subscription=WEBHOOK, state="closed", accepted=False, accepted_since=None)


def test_a_webhook_beside_a_socket_is_no_reason_to_be_ready() -> None:
    """Nobody knows whether Zoom sends there."""
    beside = status(sources=[source(lost_path(), hook())])
    assert not beside.ready and "no subscription is accepted" in beside.not_ready_because[0]
    assert status(sources=[source(path(), closed_hook())]).ready
    assert (
        words.summary(status(sources=[source(path(), hook())]))
        == "1 of 1 subscription accepted, 1 of 1 webhook open"
    )


def test_a_webhook_alone_is_ready_while_it_listens() -> None:
    alone = status(sources=[source(hook(first=3))])
    assert alone.ready and words.summary(alone) == "1 of 1 webhook open"
    assert "  webhook: listening for 58 s" in plain(alone)
    closed = status(sources=[source(closed_hook())])
    assert closed.not_ready_because == ["source main: the webhook is closed"]
    quiet = status(sources=[source(hook(quiet=True, trouble="quiet: no event for 60 s (look)"))])
    assert quiet.not_ready_because == ["source main: the webhook is quiet: no event for 60 s (look)"]
