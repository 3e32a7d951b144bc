"""Reading any JSON, and any bytes: an answer or `Unidentifiable`, and equal copies have equal ids."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from zoomrelay.event import Event
from zoomrelay.intake.identity import VOLATILE_FIELDS, Identifier, Unidentifiable

names = st.sampled_from(
    [
        *sorted(VOLATILE_FIELDS),
        "uuid",
        "id",
        "call_id",
        "call_logs",
        "user_id",
        "object",
        "payload",
        "event_ts",
        "x",
    ]
)
text = st.text(st.characters(exclude_categories=()), max_size=8)  # lone surrogates included
scalars = st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False) | text
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names | text, inner, max_size=5),
    max_leaves=15,
)
events = st.dictionaries(names | text, values, max_size=6)


def read(content: bytes, source: str = "main") -> Event:
    return Identifier(source).read(content, "sub", 0)


@given(events, text)
@settings(max_examples=150, deadline=None)
def test_an_object_with_an_event_is_always_read(event: dict[str, Any], name: str) -> None:
    reading = read(json.dumps(event | {"event": name}).encode())
    assert reading.name == name.encode("utf-8", "replace").decode()
    reading.name.encode()
    reading.key.encode()
    assert reading.event_ts is None or -(2**63) <= reading.event_ts < 2**63


@given(st.binary(max_size=60) | st.binary(max_size=20).map(lambda raw: b'{"event":"x","a":' + raw + b"}"))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    try:
        assert len(read(raw).digest) == 16
    except Unidentifiable as error:
        assert str(error)


def with_volatile(value: Any, given: str) -> Any:
    """The same with every volatile field set to this; Zoom's are tokens and URLs, plain text."""
    if isinstance(value, dict):
        return {k: given if k in VOLATILE_FIELDS else with_volatile(v, given) for k, v in value.items()}
    return [with_volatile(inner, given) for inner in value] if isinstance(value, list) else value


@given(events)
@settings(max_examples=150, deadline=None)
def test_copies_have_one_id(event: dict[str, Any]) -> None:
    copies = [with_volatile(event | {"event": "x"}, given) for given in ("https://a/1", "https://b/2")]
    assert len({read(json.dumps(copy).encode()).digest for copy in copies}) == 1
