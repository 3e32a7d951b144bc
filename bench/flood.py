"""A Zoom that floods: token endpoint and WebSocket on one loopback port, with frames built beforehand.

A process of its own, `python -m bench.flood COUNT RATE`: prints its port, serves connections, and sends
each of them COUNT different events (frames of about 900 bytes; above 100,000 a multiple of that), and stays
until its standard input ends. RATE 0 means as fast as the other side reads. It is kept as lean as can be, so
that it is not what is measured.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import suppress
from random import Random

from websockets.utils import accept_key

from zoomrelay.simulator.script import Script
from zoomrelay.simulator.wire import Opcode, encode_frame, envelope, reply

TOKEN = json.dumps({"access_token": "t" * 700, "token_type": "bearer", "expires_in": 3599, "scope": "a"})
_CHUNK = 64
_TICK_SECONDS = 0.002


_DIFFERENT = 100_000
_PASS = b"PPPPPP"
"""Stands in every event for the number of its pass: built once, sent often, and all different. With the
number behind it, `bench` rises from event to event."""


def frames(count: int) -> list[bytes]:
    """`count` different events, ready for the wire but for the number of the pass."""
    script = Script(Random(1))
    return [
        encode_frame(Opcode.TEXT, envelope(_marked(script.next(1_700_000_000_000 + n), n)))
        for n in range(count)
    ]


def _marked(content: bytes, number: int) -> bytes:
    return content[:-1] + b',"bench":"%b.%06d"}' % (_PASS, number)


def _in_pass(wire: bytes, number: int) -> bytes:
    return wire.replace(_PASS, b"%06d" % number)


async def serve(count: int, rate: int) -> None:
    prepared = frames(min(count, _DIFFERENT))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        if head.startswith("POST"):
            writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {len(TOKEN)}\r\n\r\n{TOKEN}".encode())
            await writer.drain()
        else:
            with suppress(ConnectionError, asyncio.CancelledError):  # the other side, or all, has seen enough
                await _websocket(head, reader, writer)
        writer.close()

    async def _websocket(head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        key = next(
            v
            for n, _, v in (line.partition(": ") for line in head.split("\r\n"))
            if n.lower() == "sec-websocket-key"
        )
        writer.write(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
            f"sec-websocket-accept: {accept_key(key)}\r\n\r\n".encode()
        )
        writer.write(reply("build_connection", "ok"))
        await asyncio.sleep(0.2)
        await (_paced(writer, prepared, count, rate) if rate else _flood(writer, prepared, count))
        while await reader.read(65536):
            pass

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def _flood(writer: asyncio.StreamWriter, prepared: list[bytes], count: int) -> None:
    chunks = [b"".join(prepared[start : start + _CHUNK]) for start in range(0, len(prepared), _CHUNK)]
    for number in range(count // len(prepared)):
        for chunk in chunks:
            writer.write(_in_pass(chunk, number))
            await writer.drain()


async def _paced(writer: asyncio.StreamWriter, prepared: list[bytes], count: int, rate: int) -> None:
    clock = asyncio.get_running_loop().time
    begin, sent = clock(), 0
    while sent < count and not writer.is_closing():
        due = min(count, int((clock() - begin) * rate) + 1)
        for at in range(sent, due):
            number, place = divmod(at, len(prepared))
            writer.write(_in_pass(prepared[place], number))
        sent = due
        await asyncio.sleep(_TICK_SECONDS)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2])))
