from __future__ import annotations

import json

import msgspec
import pytest

from zoomrelay.session.messages import (
    Accepted,
    EventFrame,
    HeartbeatReply,
    Message,
    Refusal,
    Unknown,
    Unreadable,
    parse,
    read_header,
)

EVENT = '{"event":"meeting.started","event_ts":1,"payload":{"object":{"topic":"Grüße 🎉"}}}'


def frame(**fields: object) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode()


def event_of(raw: bytes) -> EventFrame:
    message = parse(raw)
    assert isinstance(message, EventFrame), message
    return message


def test_content_is_handed_over_byte_for_byte() -> None:
    content = EVENT.replace(":", " :\n\t") + "  "
    message = event_of(frame(module="message", content=content, header={"a": "b"}))
    assert message.content == content.encode()
    assert message.verbatim
    assert read_header(message.header) == {"a": "b"}


def test_escaped_and_plain_letters_of_the_envelope_are_the_same_content() -> None:
    escaped = json.dumps({"module": "message", "content": EVENT}, ensure_ascii=True).encode()
    assert event_of(escaped).content == EVENT.encode()


def test_an_object_is_written_compactly_and_keeps_its_numbers_and_doubles() -> None:
    raw = (
        b'{"module":"message","content":{"event" : "a b", "n": [1.50, 1e999, 123456789012345678901], "n": 1}}'
    )
    message = event_of(raw)
    assert message.content == b'{"event":"a b","n":[1.50,1e999,123456789012345678901],"n":1}'
    assert not message.verbatim


def test_an_event_without_envelope_is_the_frame_itself() -> None:
    raw = b' {"event":"meeting.ended",  "event_ts":"soon"}'
    assert event_of(raw).content == raw
    assert event_of(raw).verbatim


@pytest.mark.parametrize("module", ["messages", "", "v2.message"])
def test_an_event_of_an_unknown_module_is_an_event(module: str) -> None:
    assert event_of(frame(module=module, content=EVENT)).content == EVENT.encode()
    assert event_of(frame(module=module, content=json.loads(EVENT))).content == EVENT.encode()


def test_an_event_is_one_even_if_its_frame_claims_failure() -> None:
    assert event_of(frame(module="message", success=False, content=EVENT)).content == EVENT.encode()


def test_a_lone_surrogate_is_escaped_again_and_means_the_same() -> None:
    raw = b'{"module":"message","content":"{\\"event\\":\\"x\\",\\"name\\":\\"a\\ud83d\\udc80\\udc80\\"}"}'
    message = event_of(raw)
    assert message.content == '{"event":"x","name":"a💀\\udc80"}'.encode()
    assert json.loads(message.content)["name"] == "a💀\udc80"
    assert not message.verbatim


def test_bytes_that_are_no_utf8_stay_what_they_are() -> None:
    raw = b'{"module":"message","content":"{\\"event\\":\\"x\\",\\"name\\":\\"\xff\xfe\\"}"}'
    assert event_of(raw).content == b'{"event":"x","name":"\xff\xfe"}'


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_other_encodings_are_understood(encoding: str) -> None:
    raw = frame(module="message", content=EVENT).decode().encode(encoding)
    assert event_of(raw).content == EVENT.encode()


@pytest.mark.parametrize(
    "raw",
    [
        b'{"module":"message","content":"%s","size":1%s}' % (b"{}", b"0" * 400),
        b'{"module":"message","content":"first","content":"{}"}',
        b'{"module":"message","content":"{}","success":"maybe"}',
        b'{"module":"message","content":"{}","success":null,"header":null}',
        b'{"module":"message","content":"{}","header":[1,{"a":"\\ud800"}]}',
        b'{"module":"message","content":"{}","note":"tab\there"}',
        b'{"module":"message","content":"{}","nan":NaN}',
    ],
)
def test_oddities_around_the_content_do_not_matter(raw: bytes) -> None:
    assert event_of(raw).content == b"{}"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (frame(module="build_connection", success=True, content="ok", header={}), Accepted()),
        (frame(module="build_connection", content="whatever"), Accepted()),
        (frame(module="heartbeat", success=True, content="live", header={}), HeartbeatReply()),
        (frame(module="heartbeat", success=True, content=None), HeartbeatReply()),
        (frame(module="heartbeat", success=False, content="no"), Refusal("heartbeat", "no")),
        (
            frame(module="build_connection", success=False, content={"a": 1}),
            Refusal("build_connection", '{"a":1}'),
        ),
        (frame(module="build_connection", success="false"), Refusal("build_connection", "null")),
        (frame(module="novelty", success=False, content="x"), Refusal("novelty", "x")),
        (
            frame(module="message", success=False, content="Invalid Token"),
            Refusal("message", "Invalid Token"),
        ),
        (frame(module="novelty", content="x"), Unknown("novelty")),
        (frame(module=17), Unknown("17")),
        (frame(other=1), Unknown("")),
    ],
)
def test_control_messages(raw: bytes, expected: Message) -> None:
    assert parse(raw) == expected


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "not JSON: Expecting value at 0"),
        (b"heartbeat", "not JSON: Expecting value at 0"),
        (b'{"module":"message","content":"{}"', "not JSON: Expecting ',' delimiter at 34"),
        (b"[1]", "not an object"),
        (b'"text"', "not an object"),
        (b'{"module":"message"}', "message without content"),
        (b'{"module":"message","content":""}', "message without content"),
        (b'{"module":"message","content":[1]}', "message without content"),
        (b"[" * 100_000, "nested too deeply"),
        (b"1" * 10_000, "a number too long"),
    ],
)
def test_what_is_unreadable_is_kept_with_the_reason(raw: bytes, reason: str) -> None:
    assert parse(raw) == Unreadable(raw, reason)


def test_header_reading_is_tolerant() -> None:
    assert read_header(msgspec.Raw(b'{"X-Zm-Signature":"v0","n":1}')) == {"x-zm-signature": "v0"}
    for odd in (b"null", b"[]", b"{", b"[" * 100_000):
        assert read_header(msgspec.Raw(odd)) == {}
