"""What is written down is what came, whatever came."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from zoomrelay.event import Event
from zoomrelay.sinks import encode

LONE = st.text(alphabet=st.characters(), max_size=20)
"""Text with lone surrogates in it, as Zoom may send."""
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | LONE,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(LONE, inner, max_size=3),
    max_leaves=8,
)
EVENTS = st.dictionaries(LONE, VALUES, max_size=4)


@st.composite
def contents(draw: st.DrawFn) -> bytes:
    """JSON in any of its spellings: escaped or not, on one line or several."""
    text = json.dumps(
        draw(EVENTS), ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 0, 2, "\r\n"]))
    )
    return text.encode("utf-8", "surrogatepass")


def event(content: bytes, *, subscription: str = "abc", received_ms: int = 1_767_225_600_123) -> Event:
    return Event(bytes(range(16)), "main", subscription, "x", None, "", received_ms, content)


def meaning(text: bytes) -> object:
    return json.loads(text.decode("utf-8", "surrogatepass"))


@settings(derandomize=True, deadline=None)
@given(st.lists(contents(), min_size=1, max_size=5))
def test_raw_lines_are_the_contents_themselves(given: list[bytes]) -> None:
    lines = encode.lines([event(content) for content in given], "raw")
    assert lines.endswith(b"\n")
    found = lines[:-1].split(b"\n")
    assert found == [content.replace(b"\n", b" ").replace(b"\r", b" ") for content in given]
    assert [meaning(line) for line in found] == [meaning(content) for content in given]


@settings(derandomize=True, deadline=None)
@given(st.lists(st.binary(max_size=60), min_size=1, max_size=5), st.sampled_from(["raw", "envelope"]))
def test_there_is_one_line_per_event_whatever_it_is(given: list[bytes], format: Any) -> None:
    events = [event(content) for content in given]
    lines = encode.lines(events, format)
    assert lines.count(b"\n") == len(events)
    assert b"\r" not in lines
    assert lines == b"".join(encode.line(each, format) for each in events)


@settings(derandomize=True, deadline=None)
@given(contents(), st.text(max_size=20), st.integers(0, 253_402_300_799_999))
@example(b'{"event":"x"}', 'say "hello"\\', 0)
def test_an_envelope_is_json_that_holds_the_event(
    content: bytes, subscription: str, received_ms: int
) -> None:
    made = event(content, subscription=subscription, received_ms=received_ms)
    body = encode.envelope(made)
    found = json.loads(body.decode("utf-8"))  # strict: an envelope is always valid UTF-8
    assert list(found) == ["id", "source", "subscription", "received_at", "event"]
    assert (found["id"], found["source"], found["subscription"]) == (made.id, "main", subscription)
    assert found["event"] == meaning(content)


@settings(derandomize=True, deadline=None)
@given(st.binary(max_size=200))
@example(b'{"event":NaN}')
@example(b'{"event":"x"} trailing')
@example(b'{"event":"\xff"}')
@example(b"[" * 100_000)
@example(b"")
def test_an_envelope_is_json_even_where_the_content_is_not(content: bytes) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    found = json.loads(encode.envelope(event(content)).decode("utf-8"), parse_constant=refuse)
    assert set(found) == {"id", "source", "subscription", "received_at", "event"}


@settings(derandomize=True, deadline=None)
@given(st.dictionaries(st.text(max_size=9), st.text(max_size=20) | st.integers(), max_size=4))
def test_an_envelope_leaves_the_bytes_of_the_event_untouched(given: dict[str, object]) -> None:
    content = json.dumps(given, ensure_ascii=False, indent=1).encode()
    assert encode.envelope(event(content)).endswith(b'"event":' + content + b"}")
