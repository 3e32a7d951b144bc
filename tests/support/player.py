"""Plays a schedule of faults against the real relay process and the simulator, and judges it."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

from tests.support import oracle
from tests.support.blackhole import BlackHole
from tests.support.lab import Lab
from tests.support.receiver import Receiver
from tests.support.schedule import Bounds, Kind, Schedule, Step
from zoomrelay.simulator.rubbish import Rubbish

BOUNDS = Bounds(
    kinds=[
        *(Kind.KILL, Kind.KILL, Kind.STOP, Kind.CLOSE, Kind.CLOSE, Kind.RESET, Kind.RESET, Kind.HALF_OPEN),
        *(Kind.REFUSE, Kind.UPGRADE, Kind.REVOKE, Kind.TOKEN, Kind.STALL, Kind.RECEIVER, Kind.RUBBISH),
        Kind.DISORDER,
    ],
    seconds=(1.5, 4.0),
    faults=(1, 4),
    portions=(10, 30),
    longest_seconds=1.0,
)
DEAD_AFTER_SECONDS = 5.5
SOURCE = f"heartbeat_seconds = 5\ndead_after_seconds = {DEAD_AFTER_SECONDS}\nmax_message_bytes = 131072"
_LAG_SECONDS = 0.1
_AROUND_SECONDS = 1.0
"""A machine that is late here is late elsewhere, a little earlier or later."""


async def play(schedule: Schedule, directory: Path) -> str:
    """Raises `AssertionError` where the rule was broken; else the figures in one line."""
    receiver = Receiver(seed=schedule.seed)
    names = [f"SimulatedSubscription{number}" for number in range(schedule.paths)]
    lab = Lab(
        directory,
        seed=schedule.seed,
        receiver=receiver,
        http_options="timeout_seconds = 1",
        source=SOURCE,
        subscriptions=names,
    )
    async with lab, BlackHole(lab.zoom.port) as hole, watching(lab):
        lab.ws_url = urlsplit(lab.zoom.ws_url)._replace(netloc=f"127.0.0.1:{hole.port}").geturl()
        lab.configure()
        await lab.start()
        await Player(lab, receiver, hole, seed=schedule.seed).run(schedule)
        await lab.end()
        _judge(lab, receiver)
        return lab.figures()


def _judge(lab: Lab, receiver: Receiver) -> None:
    truth = lab.truth()
    found = [problem for name in lab.zoom.subscriptions for problem in oracle.excessive(truth, name)]
    taken = [oracle.Taken(*one) for one in zip(receiver.taken_at, receiver.taken, strict=True)]
    found += oracle.twins(truth, "crm", taken)
    assert not found, "\n".join([f"seed {lab.seed}", *found, lab.relay.tail()])


@asynccontextmanager
async def watching(lab: Lab) -> AsyncIterator[None]:
    """Notes in `lab.blind` when the machine was late: where this process does not get its turn, the relay
    does not either."""

    async def watch() -> None:
        before = time.time()
        while True:
            await asyncio.sleep(_LAG_SECONDS)
            now = time.time()
            if now - before > 2 * _LAG_SECONDS:
                lab.blind.append((before - _AROUND_SECONDS, now + _AROUND_SECONDS))
            before = now

    task = asyncio.create_task(watch(), name="lag")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class Player:
    """Does to the relay, its Zoom, its network and its receiver what steps say."""

    def __init__(self, lab: Lab, receiver: Receiver, hole: BlackHole, *, seed: int) -> None:
        self._lab = lab
        self._receiver = receiver
        self._hole = hole
        self._random = Random(f"player {seed}")
        self._undo: list[asyncio.Task[None]] = []

    async def run(self, schedule: Schedule) -> None:
        """Everything of the schedule, each at its time or as soon as the one before is done; then calm."""
        start = time.monotonic()
        for at, item in sorted(
            [*((step.at, step) for step in schedule.steps), *schedule.portions],
            key=lambda entry: entry[0],
        ):
            await asyncio.sleep(max(0.0, start + at - time.monotonic()))
            if isinstance(item, Step):
                await self.do(item)
            else:
                await self._lab.zoom.burst(item)
        await self.calm()

    async def calm(self) -> None:
        """Nothing misbehaves any more."""
        await asyncio.gather(*self._undo)
        self._undo.clear()
        self._lab.zoom.faults.clear()

    async def do(self, step: Step) -> None:
        """One fault; what lasts is over by `calm`."""
        lab, zoom, faults = self._lab, self._lab.zoom, self._lab.zoom.faults
        name = zoom.subscriptions[step.path]
        match step.kind:
            case Kind.KILL:
                lab.kill()
                await self._again(step.seconds)
            case Kind.STOP:
                await lab.accepted()  # a stop while it starts is a matter of other tests
                await lab.relay.stop()
                await self._again(step.seconds)
            case Kind.CLOSE:
                zoom.end("close", int(step.word), "Bye", name)
            case Kind.RESET:
                zoom.end("reset", subscription=name)
            case Kind.HALF_OPEN:
                zoom.end("half-open")
                self._hole.swallow()
            case Kind.REFUSE:
                text = step.word if "token" in step.word.lower() else "Invalid Token"
                faults.change({"refuse": text, "refuse_times": 1})
                zoom.end("close", 1000, "Bye", name)
            case Kind.UPGRADE:
                faults.change({"upgrade_status": max(500, int(step.word)), "upgrade_times": 1})
                zoom.end("close", 1001, "going away", name)
            case Kind.TOKEN:
                faults.change(_TOKEN.get(step.word, _TOKEN["html"]) | {"token_times": 1})
                zoom.revoke_tokens()
                zoom.end("close", 1000, "Bye", name)
            case Kind.REVOKE:
                zoom.revoke_tokens()
                zoom.end("close", 1000, "Bye", name)
            case Kind.STALL:
                await self._stall(step.seconds)
            case Kind.RECEIVER:
                self._displease(step.word)
                self._later(step.seconds, self._please)
            case Kind.RELOAD:
                lab.relay.send(signal.SIGHUP)
            case Kind.RUBBISH:
                await zoom.send_rubbish(Rubbish(step.word), name)
            case Kind.DISORDER:
                fault = f"{step.word}_every"
                faults.change({fault: self._random.randint(1, 4), "late_seconds": 0.5})
                self._later(step.seconds, lambda: faults.change({fault: 0}))
            case _:
                raise ValueError(f"{step.kind} is for virtual time")

    async def _again(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._lab.relay.start()

    async def _stall(self, seconds: float) -> None:
        lab, start = self._lab, time.time()
        lab.relay.send(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        lab.relay.send(signal.SIGCONT)
        lab.blind.append((start, time.time()))

    def _displease(self, mood: str) -> None:
        self._receiver.status = 418 if mood == "nonsense" else 503
        self._receiver.hanging = mood in ("slow", "torn")
        self._receiver.refuse_part = 0.0 if self._receiver.hanging else 1.0

    def _please(self) -> None:
        self._receiver.hanging, self._receiver.refuse_part = False, 0.0

    def _later(self, seconds: float, act: object) -> None:
        async def wait() -> None:
            await asyncio.sleep(seconds)
            assert callable(act)
            act()

        self._undo.append(asyncio.create_task(wait(), name="undo"))


_TOKEN = {
    "down": {"token_status": 503},
    "429": {"token_status": 429, "token_retry_after": "1"},
    "html": {"token_status": 200, "token_body": "html"},
}
