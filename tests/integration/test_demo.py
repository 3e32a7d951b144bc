"""`zoomrelay demo`, as `make demo` runs it."""

from __future__ import annotations

import signal
import subprocess
import sys


def test_shows_events_and_recovers_from_a_fault() -> None:
    arguments = ["demo", "--seconds", "6", "--rate", "20", "--fault-seconds", "2"]
    ended = subprocess.run(
        [sys.executable, "-m", "zoomrelay", *arguments], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    assert "meeting.participant_joined" in ended.stdout
    assert ended.stdout.count("relay: accepted by Zoom") >= 2
    assert "relay: socket lost (closed, 1000 Bye)" in ended.stdout
    assert "each at least once" in ended.stdout


def test_ctrl_c_ends_it_with_a_summary() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "zoomrelay", "demo", "--rate", "20"], stdout=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "meeting." in line:
                break
        demo.send_signal(signal.SIGINT)
        rest = demo.stdout.read()
    assert demo.returncode == 0
    assert "The relay was listening all the time." in rest
