from zoomrelay.simulator.journal import NOBODY, Journal
from zoomrelay.simulator.wire import Frame


def _note(journal: Journal, count: int, *, heard: bool = True) -> None:
    frames = [Frame(b"event", b"wire")] * count
    journal.note(frames, 1.0, "main", 1 if heard else NOBODY, heard=heard)


def test_numbers_count_on_without_gaps() -> None:
    journal = Journal(limit=100)
    _note(journal, 3)
    _note(journal, 2, heard=False)
    assert [sent.number for sent in journal.since()] == [1, 2, 3, 4, 5]
    assert (journal.count, journal.unheard) == (5, 2)


def test_since_gives_what_came_after() -> None:
    journal = Journal(limit=100)
    _note(journal, 5)
    assert [sent.number for sent in journal.since(3)] == [4, 5]
    assert list(journal.since(5)) == []


def test_the_oldest_are_dropped_beyond_the_limit_and_still_counted() -> None:
    journal = Journal(limit=3)
    _note(journal, 5)
    assert [sent.number for sent in journal.since()] == [3, 4, 5]
    assert [sent.number for sent in journal.since(4)] == [5]
    assert journal.count == 5


def test_connections_are_open_between_acceptance_and_end() -> None:
    connection = Journal(limit=1).connected("main", 1.0)
    assert (connection.number, connection.open) == (1, False)
    connection.accepted_at = 2.0
    assert connection.open
    connection.ending = "closed"
    assert not connection.open
