"""Lines that a person pastes, waited for without hanging for ever."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator

from zoomrelay.errors import ConsentError


def pasted_lines(descriptor: int, patience_seconds: float) -> Iterator[str]:
    """Lines that are not empty, until the end of the input. Raises `ConsentError` when none has come for
    too long.

    By the descriptor itself: a buffered stream would keep lines from `select`, and a thread that waits in
    `readline` cannot be ended.
    """
    deadline = time.monotonic() + patience_seconds
    rest = b""
    while True:
        if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise ConsentError(f"nothing was pasted within {patience_seconds:g} s; start the login again")
        chunk = os.read(descriptor, 65536)
        *lines, rest = (rest + chunk).split(b"\n") if chunk else [rest, b""]
        yield from (line.decode(errors="replace").strip() for line in lines if line.strip())
        if not chunk:
            return
