"""One relay for a long time: events at a steady rate, a fault a minute, and what it uses meanwhile."""

from __future__ import annotations

import asyncio
import math
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

from tests.support import books, oracle, vitals
from tests.support.blackhole import BlackHole
from tests.support.lab import Lab
from tests.support.player import DEAD_AFTER_SECONDS, SOURCE, Player, watching
from tests.support.receiver import Receiver
from tests.support.schedule import Kind, Step
from tests.support.tally import FILL, Tally
from tests.support.vitals import Vitals
from zoomrelay.simulator.wire import event_frame

RATE = 200
KILLING = 1 / 4
"""In this part of the time the relay may be killed or stopped: what grows shows in a long life."""
SUBSCRIPTIONS = ("SimulatedSubscription0", "SimulatedSubscription1")
_SAMPLE_SECONDS = 5.0
_LONGEST_SECONDS = 15.0
"""Of a fault that lasts."""
_AFTER_SECONDS = 25.0
"""When a fault is over: a sink may pause for 15 s once more, and then has to catch up."""
_ARCHIVE = 'rotate_bytes = "8MiB"\ncompression = "gzip"\n'
_HTTP = 'timeout_seconds = 5\nevents = ["!soak.fill"]'
_FILL_PORTION = 20_000
_FILL_SECONDS = 120.0
"""The longest that a portion may take."""

_ONCE = (
    *((Kind.CLOSE, code) for code in ("1000", "1001", "1011", "4000")),
    *((Kind.RESET, ""), (Kind.HALF_OPEN, ""), (Kind.REVOKE, ""), (Kind.STALL, ""), (Kind.RELOAD, "")),
    *((Kind.REFUSE, words) for words in ("Invalid Token", "Token is invalid")),
    *((Kind.UPGRADE, status) for status in ("500", "503")),
    *((Kind.TOKEN, answer) for answer in ("down", "429", "html")),
    *((Kind.RECEIVER, mood) for mood in ("down", "slow", "nonsense")),
    *((Kind.RUBBISH, kind) for kind in ("harmless", "oversize")),
    *((Kind.DISORDER, how) for how in ("duplicate", "late", "reorder")),
)
_ENDS = ((Kind.KILL, ""), (Kind.STOP, ""))
_OF_ONE_PATH = (Kind.CLOSE, Kind.RESET, Kind.REFUSE, Kind.UPGRADE, Kind.TOKEN, Kind.REVOKE, Kind.RUBBISH)


def faults(seed: int, minutes: int) -> list[list[Step]]:
    """One fault for each minute, as steps at nearly the same time, seconds from its beginning.

    The first is a kill. Each kind comes before any comes again, kills and stops only at first.
    """
    random = Random(f"soak {seed}")
    deck: list[tuple[Kind, str]] = []
    drawn = [(Kind.KILL, "")]
    while len(drawn) < minutes:
        if not deck:
            deck = random.sample([*_ONCE, *_ENDS], len(_ONCE) + len(_ENDS))
        kind, word = deck.pop()
        if kind not in (Kind.KILL, Kind.STOP) or len(drawn) < minutes * KILLING:
            drawn.append((kind, word))
    return [_steps(random, kind, word) for kind, word in drawn]


def _steps(random: Random, kind: Kind, word: str) -> list[Step]:
    at = random.uniform(2.0, 15.0)
    longest = 3.0 if kind in (Kind.KILL, Kind.STOP, Kind.STALL) else _LONGEST_SECONDS
    paths = random.choice(((0,), (1,), (0, 1))) if kind in _OF_ONE_PATH else (0,)
    return [Step(at, kind, random.uniform(longest / 3, longest), word, path) for path in paths]


@dataclass
class Life:
    """One process of the relay."""

    pid: int
    vitals: list[Vitals] = field(default_factory=list)
    filled_at: float = 0.0
    """When it had as much to remember as it ever will; monotonic clock."""

    @property
    def seconds(self) -> float:
        return self.vitals[-1].at - self.vitals[0].at

    def after_warm_up(self, figure: Callable[[Vitals], float]) -> list[vitals.Point]:
        """(hours, figure) of each sample, without the first minutes."""
        begin = max(self.filled_at, self.vitals[0].at + min(300.0, self.seconds / 4))
        return [(one.at / 3600, figure(one)) for one in self.vitals if one.at >= begin]


class Soak:
    """What goes on, and what was found; `running` makes one."""

    def __init__(self, lab: Lab, receiver: Receiver, hole: BlackHole, *, seed: int) -> None:
        self.lab, self.receiver = lab, receiver
        self.player = Player(lab, receiver, hole, seed=seed)
        self.tally = Tally(lab.zoom.journal, receiver, lab.archive_file)
        self.lives: list[Life] = []
        self.faulty: list[oracle.Interval] = []
        """When a fault was on, or could still be felt; wall clock."""
        self.conservation_errors: list[int] = []
        """The sum over sinks and sources, each minute."""

    async def fill(self, count: int) -> None:
        """Bring the relay's memory of identities to where it is after a day, so that it grows no more."""
        self.lab.zoom.set_rate(0)
        for first in range(0, count, _FILL_PORTION):
            before = await self._received()
            now_ms = int(time.time() * 1000)
            frames = [event_frame(_filling(now_ms, first + n)) for n in range(_FILL_PORTION)]
            assert await self.lab.zoom.flood(frames)
            self.tally.absorb()
            # What waits in the network must not grow beyond what is merged.
            async with asyncio.timeout(_FILL_SECONDS):
                wanted = before + len(SUBSCRIPTIONS) * _FILL_PORTION
                while await self._received() < wanted:  # noqa: ASYNC110 - it tells only who asks
                    await asyncio.sleep(0.05)
        await self.lab.finish(ask=False)
        self.look()
        self.lives[-1].filled_at = time.monotonic()
        self.lab.zoom.set_rate(RATE)

    async def _received(self) -> float:
        """Events that the relay has counted so far, from all subscriptions."""
        figures = await self.ask()
        return figures["zoomrelay_path_first_events_total"] + figures["zoomrelay_path_merged_events_total"]

    async def fault(self, steps: Sequence[Step]) -> None:
        """All of these, and then calm."""
        begin = time.time()
        for step in steps:
            await self.player.do(step)
        await self.lab.accepted()
        await self.player.calm()
        await self.lab.accepted()
        self.faulty.append((begin - 1.0, time.time() + _AFTER_SECONDS))

    async def sample(self) -> None:
        """For ever: read vitals, absorb and collect what came."""
        while True:
            await asyncio.sleep(_SAMPLE_SECONDS)
            self.look()
            await asyncio.to_thread(self.tally.collect)

    def look(self) -> None:
        self.tally.absorb()
        if not self.lab.relay.running:
            return  # killed, and not yet started again
        if not self.lives or self.lives[-1].pid != self.lab.relay.pid:
            self.lives.append(Life(self.lab.relay.pid))
        self.lives[-1].vitals.append(vitals.read(self.lab.relay.pid))

    async def ask(self) -> dict[str, float]:
        """What the relay tells by all its ways; its metrics without labels, each summed over these."""
        await self.lab.ask()
        figures: dict[str, float] = Counter()
        for family in text_string_to_metric_families(self.lab.answers["admin /metrics"].decode()):
            for sample in family.samples:
                figures[sample.name] += sample.value
        errors = ("zoomrelay_conservation_error", "zoomrelay_source_conservation_error")
        self.conservation_errors.append(int(sum(figures[name] for name in errors)))
        return figures

    async def end(self) -> None:
        """Everything arrives, and the relay stops in order."""
        self.lab.zoom.set_rate(0)
        await self.lab.finish()
        self.look()
        await self.lab.relay.stop()
        self.tally.absorb()
        self.tally.collect()
        self.tally.collect(".full")  # the last one waits for the next start

    def is_calm(self, moment: float) -> bool:
        return not any(start <= moment <= end for start, end in self.faulty)

    # --- judgement ----------------------------------------------------------------------------------

    def truth(self) -> oracle.Truth:
        truth = self.lab.truth()
        return oracle.Truth(self.tally.sent, truth.connections, truth.gaps, truth.kills, truth.blind)

    def problems(self) -> list[str]:
        """What breaks the rule, in words."""
        truth, tally = self.truth(), self.tally
        found = [*self.lab.unaccounted()]
        for name in self.lab.zoom.subscriptions:
            found += [*oracle.uncovered(truth, name), *self.excessive(truth, name)]
        found += oracle.problems(truth, "archive", list(tally.archive.elements()), ordered=False)
        found += oracle.problems(truth, "crm", list(tally.crm.elements()), ordered=False)
        found += self._twins(truth)
        for sink, account in books.accounts(self.lab.state_dir).items():
            if account.conservation_error or account.pending:
                found.append(f"{sink}: {account}")
        if any(self.conservation_errors):
            found.append(f"conservation errors, minute by minute: {self.conservation_errors}")
        return found

    def _twins(self, truth: oracle.Truth) -> list[str]:
        taken = self.tally.taken_repeatedly()
        again = {one.content for one in taken}
        sent = [one for one in truth.sent if one.content in again]
        return oracle.twins(_with(truth, sent=sent), "crm", taken)

    def excessive(self, truth: oracle.Truth, name: str) -> list[str]:
        """`oracle.excessive`, of each interval with what was sent around it."""
        found = []
        for start, end in truth.listed(name):
            gaps = [gap for gap in truth.gaps if start <= gap.from_ms / 1000 <= end]
            since = start - 2 * DEAD_AFTER_SECONDS - 10
            first, last = (bisect_left(truth.sent, at, key=lambda one: one.at) for at in (since, end))
            sent = [one for one in truth.sent[first:last] if one.subscription == name]
            found += oracle.excessive(_with(truth, sent=sent, gaps=gaps), name)
        return found


def _with(truth: oracle.Truth, **changes: object) -> oracle.Truth:
    return oracle.Truth(**{**vars(truth), **changes})


def _filling(now_ms: int, number: int) -> bytes:
    return b'{"event":%s,"event_ts":%d,"payload":{"number":%d}}' % (FILL, now_ms, number)


@asynccontextmanager
async def running(directory: Path, *, seed: int) -> AsyncIterator[Soak]:
    """A relay that is accepted."""
    receiver = Receiver(seed=seed)
    lab = Lab(
        directory,
        seed=seed,
        receiver=receiver,
        http_options=_HTTP,
        more=_ARCHIVE,
        source=SOURCE,
        subscriptions=SUBSCRIPTIONS,
    )
    async with lab, BlackHole(lab.zoom.port) as hole, watching(lab):
        lab.ws_url = urlsplit(lab.zoom.ws_url)._replace(netloc=f"127.0.0.1:{hole.port}").geturl()
        lab.configure()
        await lab.start()
        yield Soak(lab, receiver, hole, seed=seed)


def quantile(values: Sequence[float], part: float) -> float:
    """Not a number where there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else math.nan
