"""Doing something to many, portion by portion, with a bar on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

PORTION = 1000
_EVERY_SECONDS = 0.2


def in_portions(
    do: Callable[[Sequence[int]], int],
    numbers: Sequence[int],
    rate: float | None,
    what: str,
    *,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Give all of these to `do`, at most `rate` of them per second; the sum of what it answered."""
    size = PORTION if rate is None else max(1, min(PORTION, int(rate * _EVERY_SECONDS)))
    begun, done = now(), 0
    with bar(what, len(numbers)) as advance:
        for start in range(0, len(numbers), size):
            if rate is not None:
                sleep(max(0.0, begun + start / rate - now()))
            portion = numbers[start : start + size]
            done += do(portion)
            advance(len(portion))
    return done


@contextmanager
def bar(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error where that is a terminal, and nothing elsewhere; call what it gives
    with the number of those that are done now."""
    if not sys.stderr.isatty():
        yield lambda _count: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda count: progress.update(task, advance=count)
