"""What the demo prints, for every event that the simulator can make."""

from __future__ import annotations

from collections import Counter
from random import Random

from rich.console import Console

from zoomrelay.cli.demo_view import event_line, going_on, happening, summary
from zoomrelay.simulator.script import Script


def plain(text: str) -> str:
    console = Console(width=400, highlight=False, soft_wrap=True)
    with console.capture() as captured:
        console.print(text)
    return captured.get()


def test_every_event_becomes_one_line() -> None:
    script = Script(Random(3))
    for number in range(500):
        line = plain(event_line(script.next(1_700_000_000_000 + number)))
        assert line.count("\n") == 1
        assert line.strip()


def test_markup_in_an_event_is_shown_as_it_is() -> None:
    content = b'{"event":"meeting.started","payload":{"object":{"topic":"[bold]x[/bold]"}}}'
    assert "[bold]x[/bold]" in plain(event_line(content))


def test_a_loss_and_its_cause_are_told() -> None:
    told = happening({"event": "session.closed", "cause": "closed", "detail": "1000 Bye"})
    assert "socket lost (closed, 1000 Bye)" in plain(told)


def test_errors_are_told_whatever_they_are_called() -> None:
    told = plain(happening({"event": "crash", "level": "critical", "exception": "Boom"}))
    assert "crash Boom" in told
    assert happening({"event": "relay.started", "level": "info"}) == ""


def test_the_summary_names_the_gaps() -> None:
    text = " ".join(summary(10, 2, 8, [(0.5, "closed")]))
    assert "10 events sent" in text
    assert "8 delivered" in text
    assert "0.50 s in 1 intervals (closed 0.50 s)" in text
    assert "listening all the time" in " ".join(summary(1, 0, 1, []))


def test_the_line_between_names_the_busiest_families() -> None:
    line = plain(going_on(3, 2, 1, Counter({"meeting": 2, "phone": 1})))
    assert "3 sent, 2 delivered, connection 1; most: 2 meeting, 1 phone" in line
