"""The exact shape of what is written down."""

from __future__ import annotations

import pytest

from zoomrelay.event import Event
from zoomrelay.sinks import encode


def event(content: bytes, received_ms: int = 1_769_860_800_000) -> Event:
    digest = bytes.fromhex("0f" * 16)
    return Event(digest, "main", "ZhPGtK84QbapRWXzEBW7MA", "x", None, "", received_ms, content)


def test_envelope() -> None:
    assert encode.line(event(b'{ "event":"meeting.started" }'), "envelope") == (
        b'{"id":"z1_0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f","source":"main","subscription":"ZhPGtK84QbapRWXzEBW7MA",'
        b'"received_at":"2026-01-31T12:00:00.000Z","event":{ "event":"meeting.started" }}\n'
    )


@pytest.mark.parametrize(
    ("milliseconds", "stamp"),
    [
        (0, b"1970-01-01T00:00:00.000Z"),
        (1_769_860_799_999, b"2026-01-31T11:59:59.999Z"),
        (1007, b"00:00:01.007Z"),
    ],
)
def test_received_at_keeps_its_milliseconds(milliseconds: int, stamp: bytes) -> None:
    assert stamp in encode.envelope(event(b"{}", milliseconds))


def test_a_lone_surrogate_is_escaped_in_an_envelope_and_passed_on_in_raw() -> None:
    content = '{"event":"x","name":"\ud83d"}'.encode("utf-8", "surrogatepass")
    assert encode.envelope(event(content)).endswith(b'"event":{"event":"x","name":"\\ud83d"}}')
    assert encode.line(event(content), "raw") == content + b"\n"


def test_content_that_is_not_json_is_a_string_in_an_envelope() -> None:
    assert encode.envelope(event(b'say "hi" \xff')).endswith(b'"event":"say \\"hi\\" \\ufffd"}')
