"""One thread for blocking calls."""

from __future__ import annotations

import asyncio
import errno
import gc
import threading
import weakref
from queue import SimpleQueue

import pytest

from zoomrelay.sinks import thread
from zoomrelay.sinks.thread import IoThread, check_not_left_behind


async def test_calls_run_in_order_in_a_daemon_thread_of_that_name() -> None:
    it = IoThread("sink-a")
    order: list[int] = []
    await asyncio.gather(*(it.run(lambda n=n: order.append(n)) for n in range(50)))  # type: ignore[misc]
    ran_in = await it.run(threading.current_thread)
    await it.stop(lambda: None)
    ran_in.join(5)
    assert order == list(range(50))
    assert (ran_in.name, ran_in.daemon, ran_in.is_alive()) == ("sink-a", True, False)


async def test_what_a_call_raises_is_raised_and_the_thread_lives_on() -> None:
    it = IoThread("sink-a")
    with pytest.raises(ZeroDivisionError):
        await it.run(lambda: 1 // 0)
    assert await it.run(lambda: 42) == 42
    await it.stop(lambda: None)


async def test_stop_runs_its_last_call_even_behind_a_stuck_one() -> None:
    it, going, ended = IoThread("sink-a"), threading.Event(), threading.Event()
    stuck = asyncio.create_task(it.run(lambda: going.wait(10)))
    await asyncio.sleep(0)
    began = asyncio.get_running_loop().time()
    await it.stop(ended.set)
    took = asyncio.get_running_loop().time() - began
    assert not ended.is_set()
    assert took + 0.01 >= thread.GRACE_SECONDS
    assert await it.run(lambda: "a new thread") == "a new thread"
    going.set()
    await stuck
    assert ended.wait(5)
    await it.stop(lambda: None)


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_thread_that_was_left_behind_knows_it(cancelled: bool) -> None:
    it, going, found = IoThread("sink-a"), threading.Event(), SimpleQueue[OSError | None]()

    def look() -> None:
        try:
            check_not_left_behind()
        except OSError as error:
            found.put(error)
        else:
            found.put(None)

    await it.run(look)
    assert found.get(timeout=5) is None
    stuck = asyncio.create_task(it.run(lambda: going.wait(10)))
    await asyncio.sleep(0)
    stopping = asyncio.create_task(it.stop(look))
    await asyncio.sleep(0)
    if cancelled:
        stopping.cancel()
    await asyncio.wait([stopping])
    await it.run(look)
    assert found.get(timeout=5) is None
    going.set()
    await stuck
    error = found.get(timeout=5)
    assert error is not None and error.errno == errno.ECANCELED
    await it.stop(look)
    assert found.get(timeout=5) is None


async def test_stop_without_a_thread_does_nothing() -> None:
    await IoThread("sink-a").stop(pytest.fail)


async def test_an_idle_thread_holds_on_to_nothing() -> None:
    class Batch(list[int]):
        pass

    it = IoThread("sink-a")
    batch = Batch()
    watch = weakref.ref(batch)
    await it.run(lambda batch=batch: batch.append(1))  # type: ignore[misc]
    del batch
    await it.run(lambda: None)
    gc.collect()
    assert watch() is None
    await it.stop(lambda: None)
