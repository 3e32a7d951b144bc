"""What holds of frames and connections whatever comes."""

from __future__ import annotations

import json
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from zoomrelay.errors import ConnectionEnded
from zoomrelay.session.endings import Cause, Ending, connection_ended, refusal
from zoomrelay.session.messages import EventFrame, Refusal, Unreadable, parse, read_header
from zoomrelay.session.protocol import SendHeartbeat, SessionProtocol, State
from zoomrelay.session.reconnect import Reconnect

any_text = st.text(st.characters(exclude_categories=()), max_size=40)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | any_text
any_json = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=12,
)
modules = st.sampled_from(["message", "build_connection", "heartbeat", "", "novelty"]) | any_json
frames = st.fixed_dictionaries(
    {},
    optional={
        "module": modules,
        "content": any_json,
        "header": any_json,
        "success": any_json,
        "event": any_json,
    },
)


@given(st.binary(max_size=200))
def test_parse_takes_any_bytes(raw: bytes) -> None:
    message = parse(raw)
    if isinstance(message, Unreadable):
        assert message.raw == raw


@given(any_json | frames, st.booleans(), st.integers(0, 3))
def test_parse_reads_any_json(value: object, ascii_only: bool, cut: int) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    raw = text.encode("utf-8", "surrogatepass")
    message = parse(raw[: len(raw) - cut] if cut else raw)
    if isinstance(message, EventFrame):
        read_header(message.header)


@given(st.dictionaries(any_text, any_json, max_size=4), any_json, st.booleans(), st.booleans())
def test_an_event_is_never_lost(
    payload: dict[str, object], header: object, ascii_inner: bool, ascii_outer: bool
) -> None:
    event = {"event": "meeting.started", "payload": payload}
    content = json.dumps(event, ensure_ascii=ascii_inner)
    envelope = {"module": "message", "content": content, "header": header}
    raw = json.dumps(envelope, ensure_ascii=ascii_outer)
    message = parse(raw.encode("utf-8", "surrogatepass") if ascii_outer else _to_utf8(raw))
    assert isinstance(message, EventFrame)
    assert _same(json.loads(message.content), event)
    if message.verbatim:
        assert message.content == content.encode()


@given(st.dictionaries(any_text, any_json, max_size=4), st.booleans())
def test_nor_one_in_an_object_or_without_envelope(payload: dict[str, object], wrapped: bool) -> None:
    event = {"event": "meeting.started", "payload": payload}
    raw = json.dumps({"module": "message", "content": event} if wrapped else event).encode()
    message = parse(raw)
    assert isinstance(message, EventFrame)
    assert _same(json.loads(message.content), event)


@given(any_text)
def test_a_refusal_always_has_a_cause(text: str) -> None:
    assert refusal(text).cause in {Cause.REFUSED, Cause.REFUSED_TOKEN, Cause.DISPLACED}
    assert connection_ended(ConnectionEnded("closed", code=1000, reason=text)).cause in {
        Cause.CLOSED,
        Cause.DISPLACED,
    }


quarters = st.integers(0, 120).map(lambda quarter: quarter / 4)  # exact, so that sums are
steps = st.lists(
    st.tuples(quarters, st.sampled_from(["tick", "frame", "event", "pause", "resume"])), max_size=60
)


@given(steps, st.integers(5, 55))
def test_a_connection_beats_in_time_and_dies_only_of_silence(
    moves: list[tuple[float, str]], heartbeat_seconds: int
) -> None:
    protocol = SessionProtocol(heartbeat_seconds=heartbeat_seconds, dead_after_seconds=75)
    now = last_received = beat = 0.0
    protocol.opened(now)
    protocol.received(parse(b'{"module":"build_connection","success":true}'), now)
    assert isinstance(protocol.tick(now, now, now), SendHeartbeat)
    paused = False
    heard = now
    for seconds, move in moves:
        now += seconds
        if move == "frame" and not paused:
            last_received = heard = now
        elif move == "event" and not paused:
            last_received = heard = now
            protocol.received(parse(b'{"event":"x"}'), now)
            assert protocol.state is State.RECEIVING
        elif move == "pause":
            paused = True
            protocol.paused()
        elif move == "resume" and paused:
            paused, heard = False, now
            protocol.resumed(now)
        command = protocol.tick(now, now, last_received)
        silent = not paused and now - heard >= 75
        assert isinstance(command, Ending) == silent
        if silent:
            return
        assert isinstance(command, SendHeartbeat) == (now - beat >= heartbeat_seconds)
        beat = now if isinstance(command, SendHeartbeat) else beat
        assert 0 <= protocol.due_seconds(now, last_received) <= 1


endings = st.builds(
    Ending,
    st.sampled_from([cause for cause in Cause if cause is not Cause.STOPPED]),
    retry_after=st.none() | st.floats(0, 1e6),
    believed_permanent=st.booleans(),
)


@given(
    st.lists(st.tuples(endings, st.none() | st.floats(0, 1000), st.booleans()), max_size=30), st.integers()
)
def test_waits_are_bounded_and_only_a_few_in_a_row_are_none(
    story: list[tuple[Ending, float | None, bool]], seed: int
) -> None:
    reconnect = Reconnect(Random(seed))
    none_in_a_row = 0
    for ending, accepted_seconds, token_left in story:
        slow = reconnect.slow(ending, token_left=token_left)
        delay = reconnect.delay_seconds(ending, accepted_seconds=accepted_seconds, token_left=token_left)
        asked_for = min(ending.retry_after or 0, 3600)
        contest = reconnect.contest
        assert contest.displaced <= (ending.cause is Cause.DISPLACED)
        bound = 3960 if contest.displaced else 300 if slow else 30 if contest.unsaid else 5
        assert delay <= max(bound, asked_for)
        assert delay >= asked_for
        stable = accepted_seconds is not None and accepted_seconds >= 10
        none_in_a_row = 0 if delay > 0 or stable else none_in_a_row + 1
        assert none_in_a_row <= 4


@given(st.text())
def test_refusals_of_any_module_are_refusals(module: str) -> None:
    message = parse(json.dumps({"module": module, "success": False, "content": "no"}).encode())
    assert isinstance(message, Refusal)


def _to_utf8(text: str) -> bytes:
    """As a sender must: what has no UTF-8 goes out escaped."""
    return "".join(f"\\u{ord(c):04x}" if "\ud800" <= c <= "\udfff" else c for c in text).encode()


def _same(one: object, other: object) -> bool:
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
