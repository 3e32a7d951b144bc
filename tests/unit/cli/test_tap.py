"""`zoomrelay tap`: what is shown of what the relay sends."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoomrelay.cli import exits
from zoomrelay.cli.tap import Screen, _follow, _printer, text
from zoomrelay.errors import RelayNotRunning

EVENT = {
    "event": "meeting.started",
    "payload": {"object": {"id": 1, "host_email": "ada@example.com", "p": [7]}},
}
DOCUMENT = {"id": "z1_0", "source": "main", "subscription": "s", "received_at": "now", "event": EVENT}


def line(document: Any) -> bytes:
    return json.dumps(document).encode() + b"\n"


def run(
    capsys: pytest.CaptureFixture[str], *lines: bytes, fields: tuple[str, ...] = (), **options: bool
) -> tuple[int, list[str], str]:
    show = _printer(options.get("pretty", False))
    code = _follow(lines, Screen(show, fields=fields, redact=options.get("redact", False)))
    captured = capsys.readouterr()
    return code, captured.out.splitlines(), captured.err


def test_one_line_for_each_event_and_what_was_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, line(DOCUMENT), line({"dropped": 12}), line(DOCUMENT))
    assert [json.loads(one) for one in out] == [EVENT, EVENT]
    assert "12 events left out here" in err and "has ended" in err
    assert code == exits.OK


def test_fields(capsys: pytest.CaptureFixture[str]) -> None:
    paths = ("source", "payload.object.id", "payload.object.p.0", "payload.object.p.1", "event.x", "none")
    _, (out,), _ = run(capsys, line(DOCUMENT), fields=paths)
    assert json.loads(out) == dict(zip(paths, ["main", 1, 7, None, None, None], strict=True))


def test_redacted(capsys: pytest.CaptureFixture[str]) -> None:
    odd = DOCUMENT | {"event": "ada@example.com, which is no event"}
    deep = b'{"event":' + b"[" * 100_000 + b'"ada@example.com"' + b"]" * 100_000 + b"}\n"
    _, out, err = run(capsys, line(DOCUMENT), line(odd), deep, redact=True)
    assert "ada@" not in "".join(out) + err
    assert json.loads(out[0])["payload"]["object"]["host_email"] == "a***@example.com"
    assert json.loads(out[1]) == {"event": ""}
    assert "cannot be shown (RecursionError)" in err


def test_redacted_as_the_relay_s_own_settings_say(capsys: pytest.CaptureFixture[str]) -> None:
    own = line({"privacy": {"id": "secret", "topic": None}})
    kept = DOCUMENT | {"event": {"topic": "Weekly", "id": 5, "agenda": "Money"}}
    _, (out,), _ = run(capsys, own, line(kept), redact=True)
    assert json.loads(out) == {"topic": "Weekly", "id": "***", "agenda": "***"}


def test_numbers_without_end_do_not_end_it(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, err = run(capsys, b'{"event":{"n":' + b"1" * 10_000 + b"}}\n", line(DOCUMENT))
    assert (len(out), err.count("cannot be shown")) == (1, 1)


def test_pretty(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, line(DOCUMENT), pretty=True)
    assert len(out) > 5
    assert json.loads("".join(out)) == EVENT


@given(st.text(st.characters()) | st.text("\x1b\x9b\n\u202e\ud83d\x7f\u2028"))
def test_nothing_moves_the_cursor(words: str) -> None:
    written = text({words: [words]})
    assert written.isprintable()
    assert json.loads(written) == {words: [words]}


def test_a_relay_that_breaks_off_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    def lines() -> Any:
        yield line(DOCUMENT)
        raise RelayNotRunning("the relay ended")

    assert _follow(lines(), Screen(_printer(False), fields=(), redact=False)) == exits.CRASH
    captured = capsys.readouterr()
    assert json.loads(captured.out) == EVENT
    assert captured.err == "zoomrelay: the relay ended\n"
