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
    for kill in (
        8.8,
        9.5,
        10.5,
        12.5,
    ):  # on its last dial, before it was sent, on its way, before it was held
        killed = oracle.Truth(events, connections, [gap(9, 13)], kills=[kill])
        assert not oracle.problems(killed, "sink", [], ordered=True)
    for kill in (8, 14):
        killed = oracle.Truth(events, connections, [gap(9, 13)], kills=[kill])
        assert oracle.problems(killed, "sink", [], ordered=True)


def test_what_a_damaged_spool_cost_must_be_told() -> None:
    events, connections = [sent(1, 10), sent(2, 11)], [connection(1, 9, 12, "closed")]
    truth = oracle.Truth(events, connections, [], damages=[oracle.Damage(11.5, silent=False)])
    assert (
        "2 lost with a damaged spool, 1 told" in oracle.problems(truth, "sink", [], ordered=True, told=1)[0]
    )
    assert not oracle.problems(truth, "sink", [], ordered=True, told=2)
    silent = oracle.Truth(events, connections, [], damages=[oracle.Damage(11.5, silent=True)])
    assert not oracle.problems(silent, "sink", [], ordered=True)
    for damage in (oracle.Damage(10.5, silent=True), oracle.Damage(10.5, silent=False)):
        before = oracle.Truth(events, connections, [], damages=[damage])
        assert "in no interval" in oracle.problems(before, "sink", [b"event 1"], ordered=True, told=9)[0]


def test_damage_excuses_a_repetition_across_it() -> None:
    events, connections = [sent(1, 10)], [connection(1, 9, None, "")]
    taken = [oracle.Taken(10.1, b"event 1"), oracle.Taken(14, b"event 1")]
    for at, found in ((12.0, 0), (15.0, 1), (10.0, 1)):
        truth = oracle.Truth(events, connections, [], damages=[oracle.Damage(at, silent=False)])
        assert len(oracle.twins(truth, "sink", taken)) == found


def test_a_ledger_that_was_removed_before_a_kill_is_missed_only_until_the_next_acceptance() -> None:
    connections = [connection(1, 9, 12, "reset"), connection(2, 14, 16, "reset"), connection(3, 18, None, "")]
    events = [sent(1, 11), sent(2, 15, 2)]
    truth = oracle.Truth(events, connections, [], kills=[13.0], amnesia=[13.0])
    (problem,) = oracle.problems(truth, "sink", [], ordered=True)
    assert "1 events lost, and in no interval" in problem
    (deaf,) = oracle.uncovered(truth, SUBSCRIPTION)
    assert "from 16" in deaf


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


# --- the ledger's length ----------------------------------------------------------------------------


def test_an_interval_may_not_be_much_longer_than_its_outage() -> None:
    connections = [connection(1, 9, 12, "closed"), connection(2, 14, None, "")]
    events = [sent(number, 9 + number) for number in range(3)]
    assert not oracle.excessive(oracle.Truth(events, connections, [gap(10.5, 14)]), SUBSCRIPTION)
    assert oracle.excessive(oracle.Truth(events, connections, [gap(8.5, 14)]), SUBSCRIPTION)
    assert oracle.excessive(oracle.Truth(events, connections, [gap(12, 17.5)]), SUBSCRIPTION)
    blind = oracle.Truth(events, connections, [gap(8.5, 14)], blind=[(9, 11)])
    assert not oracle.excessive(blind, SUBSCRIPTION)


def test_an_interval_without_any_outage_is_too_long() -> None:
    connections = [connection(1, 9, None, "")]
    events = [sent(number, 9 + number) for number in range(20)]
    assert oracle.excessive(oracle.Truth(events, connections, [gap(20, 25)]), SUBSCRIPTION)


def test_silence_before_a_break_is_detection_and_not_excess() -> None:
    connections = [connection(1, 9, 40, "half-open"), connection(2, 60, None, "")]
    events = [sent(1, 10), sent(2, 20), sent(3, 39)]
    assert not oracle.excessive(oracle.Truth(events, connections, [gap(19, 60)]), SUBSCRIPTION)
    assert oracle.excessive(oracle.Truth(events, connections, [gap(15, 60)]), SUBSCRIPTION)


# --- twins ------------------------------------------------------------------------------------------

TWIN = Sent(2, 10.0, "t", 2, True, "event", b"event 1")


def took(*times: float, acknowledged: bool = True) -> list[oracle.Taken]:
    return [oracle.Taken(at, b"event 1", acknowledged) for at in times]


def test_a_twin_pair_is_seen() -> None:
    connections = [connection(1, 9, None, ""), Connection(2, "t", 9, 9, None, "")]
    truth = oracle.Truth([sent(1, 10), TWIN], connections, [])
    assert not oracle.twins(truth, "sink", took(10.1))
    assert oracle.twins(truth, "sink", took(10.1, 10.2))
    # What the receiver did not acknowledge comes again by right.
    assert not oracle.twins(truth, "sink", took(10.1, 10.2, acknowledged=False))


def test_what_one_path_brought_twice_may_come_twice() -> None:
    truth = oracle.Truth([sent(1, 10), sent(1, 10.5)], [connection(1, 9, None, "")], [])
    assert not oracle.twins(truth, "sink", took(10.1, 10.6))
    assert oracle.twins(truth, "sink", took(10.1, 10.6, 10.7))


def test_a_kill_excuses_only_what_could_not_be_noted() -> None:
    events, connections = [sent(1, 10)], [connection(1, 9, None, "")]
    assert not oracle.twins(oracle.Truth(events, connections, [], kills=[10.3]), "sink", took(10.1, 12))
    assert oracle.twins(oracle.Truth(events, connections, [], kills=[11.5]), "sink", took(10.1, 12))
    blind = oracle.Truth(events, connections, [], kills=[11.5], blind=[(10, 11.4)])
    assert not oracle.twins(blind, "sink", took(10.1, 12))


def test_a_healthy_twin_leaves_no_excuse() -> None:
    """One path broke and lists its gap; the other carried the event to its orderly end."""
    connections = [connection(1, 9, 10.5, "reset"), Connection(2, "t", 9, 9, None, "")]
    truth = oracle.Truth([sent(1, 10), TWIN], connections, [gap(9.5, 13)])
    assert any("ended properly" in problem for problem in oracle.problems(truth, "sink", [], ordered=False))
    assert any("in no interval" in problem for problem in oracle.problems(truth, "sink", [], ordered=False))


def test_before_the_first_acceptance_nothing_is_promised() -> None:
    early = Sent(1, 5.0, SUBSCRIPTION, 0, False, "event", b"event 1")
    truth = oracle.Truth([early], [connection(1, 9, None, "")], [])
    assert not oracle.problems(truth, "sink", [], ordered=True)
