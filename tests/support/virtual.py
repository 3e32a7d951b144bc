"""Virtual time for a whole relay: an event loop whose waiting, threads and network are one list of dates.

Nothing here looks at the machine's clock, so a run is the same each time. The loop waits by going to the
next date; what others do (the pretend Zoom, the disk, a kill) happens at dates of its own in `Dates`, also
while the loop itself is stalled. Threads are no threads: a job is done on the spot at a date drawn by chance.
"""

from __future__ import annotations

import asyncio
import heapq
import selectors
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from random import Random
from typing import Any

Act = Callable[[], None]
Trouble = Callable[[object, Callable[..., Any]], Exception | None]
"""Given the executor of a job, and the job: what fails it instead of doing it, or None."""

_MANY_TURNS = 200
_TURN_SECONDS = 1e-6
"""What a turn of the loop takes where many follow each other without a moment passing, as for a timer that is
due in less than the clock can tell."""


class Dates:
    """The true time, and what happens when. Seconds from 0."""

    def __init__(self) -> None:
        self.now = 0.0
        self._acts: list[tuple[float, int, Act]] = []
        self._order = count()

    def at(self, when: float, act: Act) -> None:
        """At equal dates in the order of asking."""
        heapq.heappush(self._acts, (max(when, self.now), next(self._order), act))

    def after(self, seconds: float, act: Act) -> None:
        self.at(self.now + seconds, act)

    def step(self, until: float) -> bool:
        """Do the next thing that happens up to then, or let the time pass; whether something happened."""
        if self._acts and self._acts[0][0] <= until:
            when, _, act = heapq.heappop(self._acts)
            self.now = max(self.now, when)
            act()
            return True
        self.now = max(self.now, until)
        return False

    @property
    def next(self) -> float | None:
        return self._acts[0][0] if self._acts else None


class Jobs:
    """What threads would do: one job after the other per executor, each at once on its date.

    A slow disk takes its time before or after the deed, so that a kill may find it done and untold, or
    undone.
    """

    def __init__(self, dates: Dates, random: Random) -> None:
        self._dates = dates
        self._random = random
        self._free: dict[int, float] = {}
        self.trouble: Trouble = lambda _executor, _work: None
        self.at_once: Callable[[], bool] = lambda: False
        """Asked at each job: no waiting for this one."""

    def submit(self, executor: object, work: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        before, after = (0.0, 0.0) if self.at_once() else self._seconds()
        start = (
            self._dates.now if executor is None else max(self._free.get(id(executor), 0.0), self._dates.now)
        )
        self._free[id(executor)] = start + before + after
        self._dates.at(start + before, lambda: self._do(executor, partial(work, *arguments), future, after))
        return future

    def _seconds(self) -> tuple[float, float]:
        """Mostly a flash disk, now and then a busy one."""
        total = self._random.choice((0.0005, 0.002, 0.004, 0.02 if self._random.random() < 0.9 else 0.4))
        share = self._random.random()
        return total * share, total * (1 - share)

    def _do(
        self, executor: object, work: Callable[[], Any], future: asyncio.Future[Any], after: float
    ) -> None:
        if future.cancelled():  # before its turn
            return
        result, error = None, self.trouble(executor, work)
        if error is None:
            try:
                result = work()
            except Exception as raised:  # noqa: BLE001 - it is raised where the job is waited for
                error = raised
        self._dates.after(after, lambda: _tell(future, result, error))


def _tell(future: asyncio.Future[Any], result: object, error: Exception | None) -> None:
    if future.done():  # nobody waits any more
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its clock is `dates`, less what the machine has slept."""

    def __init__(self, dates: Dates, jobs: Jobs) -> None:
        super().__init__(_Waiting(self))
        self.dates = dates
        self._jobs = jobs
        self.slept_seconds = 0.0

    def time(self) -> float:
        return self.dates.now - self.slept_seconds

    def stall(self, seconds: float, *, unless: Callable[[], bool] = lambda: False) -> None:
        """Stand still for so long while the world goes on; ends early once `unless()`."""
        until = self.dates.now + seconds
        while not unless() and (self.dates.step(until) or self.dates.now < until):
            pass

    def sleep_through(self, seconds: float) -> None:
        """A suspended machine: the loop's own clock stands still too."""
        before = self.dates.now
        self.stall(seconds)
        self.slept_seconds += self.dates.now - before

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        return self._jobs.submit(executor, func, *args)


class _Waiting(selectors.SelectSelector):
    """Waits for nothing but dates."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop
        self._turns, self._last = 0, -1.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        dates = self._loop.dates
        if timeout is None:
            if dates.next is None:
                raise RuntimeError("everything waits for ever")
            timeout = dates.next - dates.now
        dates.step(dates.now + max(0.0, timeout))
        self._turns = self._turns + 1 if dates.now == self._last else 0
        if self._turns > _MANY_TURNS:
            dates.now += _TURN_SECONDS
        self._last = dates.now
        return []


def run(main: Callable[[], Any], dates: Dates, jobs: Jobs) -> Any:
    """Run a coroutine function to its end on a virtual loop, and leave nothing behind."""
    loop = VirtualLoop(dates, jobs)
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(main())
    finally:
        _cancel_rest(loop)
        asyncio.set_event_loop(None)
        loop.close()


def _cancel_rest(loop: asyncio.AbstractEventLoop) -> None:
    rest: Sequence[asyncio.Task[Any]] = sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name())
    for task in rest:
        task.cancel()
    if rest:
        loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))
