"""The judge of the fault tests, judged: it must see what breaks the rule."""

from __future__ import annotations

from tests.support import oracle
from zoomrelay.intake.ledger import Gap
from zoomrelay.simulator.journal import Connection, Sent

SUBSCRIPTION = "s"


def sent(number: int, at: float, connection: int = 1, *, heard: bool = True) -> Sent:
    return Sent(number, at, SUBSCRIPTION, connection, heard, "event", b"event %d" % number)


def connection(number: int, start: float, end: float | None, ending: str) -> Connection:
    return Connection(number, SUBSCRIPTION, start, start, end, ending)


def gap(start: float, end: float) -> Gap:
    return Gap("main", SUBSCRIPTION, int(start * 1000), int(end * 1000), end - start, "reset")


def test_everything_arrived() -> None:
    truth = oracle.Truth([sent(1, 10), sent(2, 11)], [connection(1, 9, None, "")], [])
    assert not oracle.problems(truth, "sink", [b"event 1", b"event 2"], ordered=True)


def test_a_loss_is_excused_by_an_interval_only() -> None:
    events, connections = [sent(1, 10), sent(2, 11)], [connection(1, 9, 12, "reset")]
    assert not oracle.problems(
        oracle.Truth(events, connections, [gap(10.5, 13)]), "sink", [b"event 1"], ordered=True
    )
    (problem,) = oracle.problems(
        oracle.Truth(events, connections, [gap(11.5, 13)]), "sink", [b"event 1"], ordered=True
    )
    assert "in no interval" in problem


def test_nothing_excuses_a_loss_from_a_socket_that_was_closed_properly() -> None:
    events, connections = [sent(1, 10)], [connection(1, 9, 12, "closed")]
    truth = oracle.Truth(events, connections, [gap(9, 13)])
    (problem,) = oracle.problems(truth, "sink", [], ordered=True)
    assert "ended properly" in problem
    killed = oracle.Truth(events, connections, [gap(9, 13)], kills=[12.5])
    assert not oracle.problems(killed, "sink", [], ordered=True)


def test_order_and_bytes() -> None:
    truth = oracle.Truth([sent(1, 10), sent(2, 11)], [connection(1, 9, None, "")], [])
    assert "out of order" in oracle.problems(truth, "sink", [b"event 2", b"event 1"], ordered=True)[0]
    assert not oracle.problems(truth, "sink", [b"event 2", b"event 1"], ordered=False)
    assert not oracle.problems(truth, "sink", [b"event 1", b"event 2", b"event 1"], ordered=True)
    changed = oracle.problems(truth, "sink", [b"event 1", b"event 2", b"event 2 "], ordered=True)
    assert "nobody sent" in changed[0]


def test_times_of_deafness_must_be_covered() -> None:
    connections = [connection(1, 9, 12, "closed"), connection(2, 14, None, "")]
    assert not oracle.uncovered(oracle.Truth([], connections, [gap(12, 14)]), SUBSCRIPTION)
    assert not oracle.uncovered(oracle.Truth([], connections, [gap(13, 14), gap(12, 13)]), SUBSCRIPTION)
    assert oracle.uncovered(oracle.Truth([], connections, [gap(12, 13), gap(13.1, 14)]), SUBSCRIPTION)
    assert oracle.uncovered(oracle.Truth([], connections, [gap(12.1, 14)]), SUBSCRIPTION)
    assert oracle.uncovered(oracle.Truth([], connections, [gap(12, 13.9)]), SUBSCRIPTION)


def test_repetitions_are_counted() -> None:
    assert oracle.repeated([b"a", b"b", b"a", b"a"]) == {b"a": 2}
