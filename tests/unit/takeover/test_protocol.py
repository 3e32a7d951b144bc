"""What each side does next."""

from __future__ import annotations

import pytest

from zoomrelay.errors import TakeoverRefused
from zoomrelay.takeover.protocol import (
    ACCEPT_SECONDS,
    LIMIT_SECONDS,
    Ask,
    OldSide,
    PathNow,
    Phase,
    Ready,
    next_step,
)


def test_one_at_a_time() -> None:
    side = OldSide()
    side.begin(0)
    with pytest.raises(TakeoverRefused, match="another takeover"):
        side.begin(1)
    assert side.cancel()
    side.begin(2)
    side.ready(["main/a"], ["main/a"])
    with pytest.raises(TakeoverRefused, match="another takeover"):
        side.begin(3)


def test_who_listens_gives_way_only_to_one_who_listens() -> None:
    side = OldSide()
    side.begin(0)
    with pytest.raises(TakeoverRefused, match="listens to main/b"):
        side.ready(["main/a"], ["main/a", "main/b"])
    assert side.phase is Phase.BEGUN
    side.ready(["main/a", "main/c"], ["main/a"])
    assert side.phase is Phase.STOPPING


def test_nobody_is_ready_unasked() -> None:
    with pytest.raises(TakeoverRefused, match="no takeover"):
        OldSide().ready([], [])


def test_a_stop_is_not_taken_back() -> None:
    side = OldSide()
    assert not side.cancel()
    side.begin(0)
    side.ready([], [])
    assert not side.cancel()
    assert not side.overdue(1e9)


def test_patience_ends() -> None:
    side = OldSide()
    side.begin(100)
    assert not side.overdue(100 + LIMIT_SECONDS - 0.1)
    assert side.overdue(100 + LIMIT_SECONDS)
    assert side.seconds(103) == 3
    assert ACCEPT_SECONDS < LIMIT_SECONDS


def test_the_new_one_waits_for_all() -> None:
    assert next_step({"a": PathNow(accepted=True), "b": PathNow()}, 1) is None
    assert isinstance(next_step({"a": PathNow(accepted=True)}, 1), Ready)
    assert isinstance(next_step({}, 0), Ready)
    assert isinstance(next_step({"a": PathNow()}, ACCEPT_SECONDS), Ready)


def test_the_new_one_asks_for_what_zoom_refuses() -> None:
    step = next_step({"a": PathNow(refused=True), "b": PathNow(), "c": PathNow(accepted=True)}, 1)
    assert step == Ask(["a"])
