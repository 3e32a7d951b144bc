import hashlib
import hmac
import json

import pytest

from zoomrelay.simulator import wire
from zoomrelay.simulator.rubbish import Rubbish, in_pieces, rubbish
from zoomrelay.simulator.wire import Opcode

EVENT = '{"event":"meeting.started","payload":{"object":{"topic":"Ü 🌻 \\"a\\/b\\""}}}'.encode()


def _split(data: bytes) -> list[tuple[int, bool, bytes]]:
    """The frames in `data`, read as RFC 6455 describes them: opcode, final, payload."""
    frames = []
    while data:
        first, size, start = data[0], data[1], 2
        if size == 126:
            size, start = int.from_bytes(data[2:4], "big"), 4
        elif size == 127:
            size, start = int.from_bytes(data[2:10], "big"), 10
        assert len(data) >= start + size
        frames.append((first & 0x0F, bool(first & 0x80), data[start : start + size]))
        data = data[start + size :]
    return frames


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 100_000])
def test_frames_of_every_length_encoding(size: int) -> None:
    payload = b"x" * size
    assert _split(wire.encode_frame(Opcode.TEXT, payload)) == [(1, True, payload)]


def test_an_event_is_encoded_twice_and_stays_itself() -> None:
    ((opcode, final, payload),) = _split(wire.event_frame(EVENT).wire)
    envelope = json.loads(payload)
    assert (opcode, final) == (1, True)
    assert envelope["module"] == "message"
    assert envelope["header"] == {}
    assert envelope["content"].encode() == EVENT


def test_a_signature_verifies_after_its_second_unescaping() -> None:
    header = wire.signed_header(EVENT, "secret", 1_790_000_000)
    ((_, _, payload),) = _split(wire.event_frame(EVENT, header).wire)
    seen = json.loads(payload)["header"]
    digest = hmac.new(b"secret", b"v0:1790000000:" + EVENT, hashlib.sha256).hexdigest()
    assert seen["x-zm-request-timestamp"] == "1790000000"
    assert seen["x-zm-signature"] == rf"v0\u003d{digest}"
    assert json.loads(f'"{seen["x-zm-signature"]}"') == f"v0={digest}"


def test_replies_are_spelt_as_captured() -> None:
    ((_, _, payload),) = _split(wire.reply("heartbeat", "live"))
    assert payload == b'{"module":"heartbeat","success":true,"content":"live","header":{}}'


@pytest.mark.parametrize("code", [0, 1000, 1006, 4001])
def test_closing_frames_take_any_code(code: int) -> None:
    ((opcode, _, payload),) = _split(wire.close_frame(code, "Bye"))
    assert (opcode, payload) == (8, code.to_bytes(2, "big") + b"Bye")


def test_fragments_add_up() -> None:
    frames = _split(in_pieces(wire.event_frame(EVENT), 5).wire)
    assert [opcode for opcode, _, _ in frames] == [1, 0, 0, 0, 0]
    assert [final for _, final, _ in frames] == [False, False, False, False, True]
    assert json.loads(b"".join(payload for _, _, payload in frames))["content"].encode() == EVENT


@pytest.mark.parametrize("kind", [kind for kind in Rubbish if kind is not Rubbish.HARMLESS])
def test_rubbish_holds_no_event(kind: Rubbish) -> None:
    frame = rubbish(kind, 1, oversize_bytes=100_000)
    ((opcode, _, payload),) = _split(frame.wire)
    assert frame.kind == kind
    assert payload == frame.content
    match kind:
        case Rubbish.BINARY:
            assert opcode == 2
        case Rubbish.OVERSIZE:
            assert len(payload) == 100_000
        case Rubbish.NO_EVENT:
            with pytest.raises(json.JSONDecodeError):
                json.loads(json.loads(payload)["content"])
        case Rubbish.INVALID_UTF8:
            with pytest.raises(UnicodeDecodeError):
                payload.decode()
        case _:
            with pytest.raises(json.JSONDecodeError):
                json.loads(payload)


def test_harmless_rubbish_takes_turns() -> None:
    kinds = [rubbish(Rubbish.HARMLESS, number).kind for number in range(10)]
    assert len(set(kinds)) == 5
    assert not set(kinds) & {Rubbish.INVALID_UTF8, Rubbish.OVERSIZE}
