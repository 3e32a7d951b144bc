import os

import pytest

from zoomrelay.cli.pasted import pasted_lines
from zoomrelay.errors import ConsentError


def _pipe(content: bytes, *, ended: bool = True) -> int:
    reading, writing = os.pipe()
    os.write(writing, content)
    if ended:
        os.close(writing)
    return reading


def test_lines_come_as_they_are_pasted_and_the_last_needs_no_end() -> None:
    assert list(pasted_lines(_pipe(b" one \n\n\ntwo\r\nthr\xffee"), 5)) == ["one", "two", "thr�ee"]
    assert list(pasted_lines(_pipe(b""), 5)) == []


def test_waiting_has_an_end() -> None:
    lines = pasted_lines(_pipe(b"one\nhalf", ended=False), 0.05)
    assert next(lines) == "one"
    with pytest.raises(ConsentError, match="nothing was pasted within"):
        next(lines)
