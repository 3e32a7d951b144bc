"""Strangers at a webhook's door, as fast as they are let in: `python -m bench.strangers PORT KIND`.

KIND: `unsigned`, small requests without a signature; `invalid`, requests of 64 KiB that are signed by
somebody else; `oversize`, requests that announce a gigabyte and begin to send it. Runs until its standard
input ends, then prints how many were answered.
"""

from __future__ import annotations

import asyncio
import sys

_AT_ONCE = 64
_HEAD = "POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n"
_SIGNED = "x-zm-request-timestamp: 1700000000\r\nx-zm-signature: v0=" + "0" * 64 + "\r\n"
_PIECE = b"x" * 65536


def request(kind: str) -> tuple[bytes, int]:
    """The request, and how many pieces more to send."""
    if kind == "unsigned":
        body = b'{"event":"meeting.started"}'
        return (_HEAD.format(size=len(body)) + "\r\n").encode() + body, 0
    if kind == "invalid":
        return (_HEAD.format(size=len(_PIECE)) + _SIGNED + "\r\n").encode() + _PIECE, 0
    return (_HEAD.format(size=2**30) + _SIGNED + "\r\n").encode(), 16


async def knock(port: int, kind: str, answered: list[int]) -> None:
    first, more = request(kind)
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
            continue
        try:
            writer.write(first)
            for _ in range(more):
                writer.write(_PIECE)
                await writer.drain()
            if await reader.read(4096):
                answered[0] += 1
        except OSError:
            answered[0] += 1  # closed while it was sending
        finally:
            writer.transport.abort()


async def main(port: int, kind: str) -> None:
    answered = [0]
    tasks = [asyncio.create_task(knock(port, kind, answered)) for _ in range(_AT_ONCE)]
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for task in tasks:
        task.cancel()
    print(answered[0])


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
