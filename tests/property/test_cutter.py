"""The cutter, against the library that it spares: the same messages and the same end, however it is cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from zoomrelay.session.cutter import Cutter

MAX_BYTES = 70_000
SIZES = st.sampled_from([0, 1, 5, 125, 126, 127, 1000, 65_535, 65_536, MAX_BYTES, MAX_BYTES + 1])


def library() -> ClientProtocol:
    return ClientProtocol(parse_uri("ws://localhost/"), max_size=MAX_BYTES, state=State.OPEN)


def seen(protocol: ClientProtocol) -> list[tuple[int, bool, bytes]]:
    return [
        (int(event.opcode), event.fin, bytes(event.data))
        for event in protocol.events_received()
        if isinstance(event, Frame)
    ]


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    kind = draw(
        st.sampled_from(["plain"] * 6 + ["ping", "first", "next", "last", "close", "broken", "masked"])
    )
    data = bytes([draw(st.integers(0, 255))]) * (draw(SIZES) if kind == "plain" else draw(st.integers(0, 50)))
    text = draw(st.sampled_from([Opcode.TEXT, Opcode.BINARY]))
    match kind:
        case "plain":
            return Frame(text, data).serialize(mask=False)
        case "ping":
            return Frame(Opcode.PING, data).serialize(mask=False)
        case "first":
            return Frame(text, data, fin=False).serialize(mask=False)
        case "next":
            return Frame(Opcode.CONT, data, fin=False).serialize(mask=False)
        case "last":
            return Frame(Opcode.CONT, data).serialize(mask=False)
        case "close":
            return Frame(Opcode.CLOSE, Close(1000, "Bye").serialize()).serialize(mask=False)
        case "masked":
            return Frame(text, data).serialize(mask=True)
        case _:
            return draw(st.sampled_from([b"\x8f\x00", b"\xc1\x02ab", b"\x91\x00"])) + data


@given(st.lists(frames(), max_size=12), st.lists(st.integers(1, 100_000), max_size=20))
def test_nothing_is_seen_differently(stream: list[bytes], cuts: list[int]) -> None:
    wire = b"".join(stream)
    alone, helped = library(), library()
    cutter = Cutter(MAX_BYTES)
    expected, got = [], []
    at = 0
    for size in [*cuts, len(wire)]:
        data = wire[at : at + size]
        at += size
        if not data:
            break
        alone.receive_data(data)
        expected += seen(alone)
        for piece in cutter.feed(data):
            if isinstance(piece, list):
                got += [(1, True, payload) for payload in piece]
            else:
                helped.receive_data(piece)
                got += seen(helped)
                if helped.parser_exc is not None:
                    cutter.surrender()
    assert [(fin, data) for _, fin, data in got] == [(fin, data) for _, fin, data in expected]
    assert (helped.state, str(helped.parser_exc)) == (alone.state, str(alone.parser_exc))
