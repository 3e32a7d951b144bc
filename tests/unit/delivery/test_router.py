"""Which events a sink wants."""

from __future__ import annotations

import pytest

from zoomrelay.delivery.router import Route
from zoomrelay.event import GAP_EVENTS, GAP_OPENED, RELAY_SOURCE


@pytest.mark.parametrize(
    ("globs", "wanted", "unwanted"),
    [
        ([], ["meeting.started", "app_deauthorized", ""], []),
        (["meeting.*"], ["meeting.started", "meeting.a.b"], ["meeting", "webinar.started", "xmeeting.a"]),
        (["*"], ["meeting.started", "bot_installed"], []),
        (["*_qos*"], ["meeting.participant_qos", "webinar.participant_qos_summary"], ["meeting.started"]),
        (["*.rtms_*"], ["meeting.rtms_started"], ["rtms.concurrency_near_limit"]),
        # A first negative starts from everything.
        (["!meeting.*"], ["webinar.started"], ["meeting.started"]),
        # A first positive starts from nothing.
        (["meeting.*", "!meeting.ended"], ["meeting.started"], ["meeting.ended", "user.created"]),
        # The last match wins.
        (
            ["meeting.*", "!meeting.p*", "meeting.participant_left"],
            ["meeting.participant_left"],
            ["meeting.p"],
        ),
        (["!meeting.*", "meeting.ended", "!*.ended"], ["user.created"], ["meeting.ended", "session.ended"]),
        (["meeting.?tarted"], ["meeting.started"], ["meeting.tarted", "meeting.sstarted"]),
        # Nothing but * and ? is special.
        (["meeting.started"], ["meeting.started"], ["meetingXstarted", "meeting.started.x"]),
        (["user.[ab]"], ["user.[ab]"], ["user.a"]),
    ],
)
def test_globs(globs: list[str], wanted: list[str], unwanted: list[str]) -> None:
    route = Route(globs)
    assert [name for name in wanted if not route.wants(name, "main")] == []
    assert [name for name in unwanted if route.wants(name, "main")] == []


def test_sources() -> None:
    route = Route(["meeting.*"], ["main", "other"])
    assert route.wants("meeting.started", "main") and route.wants("meeting.started", "other")
    assert not route.wants("meeting.started", "third")
    assert not route.wants("user.created", "main")


@pytest.mark.parametrize("name", sorted(GAP_EVENTS))
def test_gap_events_are_for_those_who_ask_whatever_their_globs(name: str) -> None:
    assert not Route().wants(name, "main") and not Route(["*", "zoomrelay.*"]).wants(name, "main")
    for globs in ([], ["meeting.*"], ["!*"]):
        assert Route(globs, gap_events=True).wants(name, "main")


def test_gap_events_keep_to_the_sources_but_for_those_of_the_whole_relay() -> None:
    route = Route([], ["main"], gap_events=True)
    assert route.wants(GAP_OPENED, "main") and not route.wants(GAP_OPENED, "other")
    assert route.wants(GAP_OPENED, RELAY_SOURCE) and not route.wants("meeting.started", RELAY_SOURCE)


def test_a_name_with_a_line_break_is_a_name() -> None:
    assert Route(["meeting.*"]).wants("meeting.a\nb", "main")


@pytest.mark.parametrize(
    ("events", "sources", "everything"),
    [([], [], True), (["*"], [], False), ([], ["main"], False), (["!x"], [], False)],
)
def test_taking_everything_is_known(events: list[str], sources: list[str], everything: bool) -> None:
    assert Route(events, sources).takes_everything is everything


def test_names_come_from_outside_so_memory_is_bounded() -> None:
    route = Route(["a*"])
    for number in range(20_000):
        assert route.wants(f"a{number}", "main") and not route.wants(f"b{number}", "main")
    assert len(route._answers) <= 4096
