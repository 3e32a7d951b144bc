"""One daemon thread for blocking calls, so that neither the event loop nor the end of the process waits
for a full pipe or a disk that hangs."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread, current_thread
from typing import Any, TypeVar

T = TypeVar("T")

GRACE_SECONDS = 0.2
"""How long `stop` waits for a call that is under way before it leaves it behind."""


class _Thread(Thread):
    left_behind = False


def check_not_left_behind() -> None:
    """Raises `OSError` in a thread that `IoThread.stop` left behind: a successor may have its files."""
    thread = current_thread()
    if isinstance(thread, _Thread) and thread.left_behind:
        raise OSError(errno.ECANCELED, "another thread has taken over")


class IoThread:
    """Runs calls one after the other, in the order in which they were given.

    A call that is cancelled before its turn never runs; one that is under way runs to its end, before
    the next. The thread starts with the first call.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._thread: _Thread | None = None

    async def run(self, call: Callable[[], T]) -> T:
        """What `call` returns or raises."""
        future: Future[T] = Future()
        self._calls.put((future, call))
        if self._thread is None:
            self._thread = _Thread(target=_work, args=(self._calls,), name=self._name, daemon=True)
            self._thread.start()
        return await asyncio.wrap_future(future)

    async def stop(self, last: Callable[[], None]) -> None:
        """Run `last` after everything given before and end the thread; a thread that is stuck is left
        behind (see `check_not_left_behind`). Does nothing where no thread was started. The next `run` starts
        a new one."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        ended: Future[None] = Future()
        self._calls.put((Future(), last))
        self._calls.put((ended, lambda: None))
        self._calls.put(None)
        # A stuck thread keeps its own queue, so that nothing given from now on waits behind it.
        self._calls = SimpleQueue()
        waiter = asyncio.wrap_future(ended)
        try:
            await asyncio.wait([waiter], timeout=GRACE_SECONDS)
        finally:
            thread.left_behind = not ended.done()
            waiter.cancel()


def _work(calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]) -> None:
    while (entry := calls.get()) is not None:
        future, call = entry
        if not future.set_running_or_notify_cancel():
            continue
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - it is raised where `run` waits for the call
            future.set_exception(error)
        del entry, future, call  # an idle thread must not hold on to the last batch
