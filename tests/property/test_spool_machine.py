"""A spool driven at random, beside a simple model of what it owes to each sink.

Held against the model: nothing is lost, nothing is handed out twice without a release, events with the same
key keep their order, what is due is handed out, the books balance, and a crash takes back no more than the
settlements since the last commit. One of the two sinks has urgent events, which may be handed out before
their turn and have an order of their own.
"""

from __future__ import annotations

import asyncio
import copy
import math
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.unit.spool.spools import READ_BYTES, ROOMY_BYTES, WALL, event, number, starts
from zoomrelay.spool.base import Death, Item, Parked, Settlement, SinkStart, Spool, Urgency, lane_of
from zoomrelay.spool.memory import MemorySpool
from zoomrelay.spool.sqlite import SqliteSpool

SINKS = ("a", "b")
MOSTLY_X = ("x", "x", "x", "y", "", "!x", "!x", "!y", "!")
"""`!` is for urgent events."""
LANES = ("x", "y", lane_of("x", urgent=True), lane_of("y", urgent=True))
URGENCY = Urgency(lambda name: 1e9 if name == "urgent" else math.inf, 1e9)
LOOK_SECONDS = 0.01
GUARD_SECONDS = 30

T = TypeVar("T")

OUTCOMES = ("delivered", "filtered", "expired", "dead")
some = st.integers(0, 1)
"""Which of the sinks that come into question."""
masks = st.integers(0, 2**12 - 1)
"""Which of the things that come into question, one bit for each."""


def pick(known: Iterable[int], mask: int) -> list[int]:
    """Those whose bit is set, in order; at least one."""
    numbers = sorted(known)
    chosen = [n for at, n in enumerate(numbers) if mask >> at % 12 & 1]
    return chosen or numbers[:1]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def wall(self) -> float:
        return WALL + self.now

    def elapsed(self) -> float:
        return self.now


class QuietSpool(SqliteSpool):
    """Commits only when it is told to, so that a crash loses what the model says it loses."""

    def _flush_soon(self, seconds: float = 0.0) -> None:
        pass


# --- the model --------------------------------------------------------------------------------------


@dataclass
class Lane:
    until: float
    waiting: list[int] = field(default_factory=list)
    lent: set[int] = field(default_factory=set)


@dataclass
class SinkModel:
    """Events are known by their numbers, which are given in order of arrival."""

    keys: dict[int, str] = field(default_factory=dict)
    """Lanes, rather: urgent events keep their order among themselves."""
    urgent: set[int] = field(default_factory=set)
    stream: list[int] = field(default_factory=list)
    lent: dict[int, Item] = field(default_factory=dict)
    lanes: dict[str, Lane] = field(default_factory=dict)
    queued: set[str] = field(default_factory=set)
    """Keys of which events may have queued up behind a lane while they are in `stream` here."""
    dead: dict[int, float | None] = field(default_factory=dict)
    """Dead event -> when it is due again, if it is redriven."""
    lent_dead: dict[int, Item] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def pending(self) -> int:
        parked = sum(len(lane.waiting) for lane in self.lanes.values())
        return len(self.stream) + len(self.lent) + parked

    def is_due(self, now: float) -> bool:
        """Whether a read must return. It may return where this says no: events that have queued up behind
        a parked lane are in `stream` here."""
        if any(self.keys[n] not in self.lanes for n in self.stream):
            return True
        if any(at is not None and at <= now and n not in self.lent_dead for n, at in self.dead.items()):
            return True
        busy = {self.keys[n] for n in self.lent} | {name for name, lane in self.lanes.items() if lane.lent}
        due = {name for name, lane in self.lanes.items() if lane.waiting and lane.until <= now}
        return not self.stream and bool(due - busy)

    def handed_out(self, items: Sequence[Item], now: float, *, ahead: bool = False) -> None:
        """`ahead`: before their turn."""
        self.queued |= {name for name, lane in self.lanes.items() if lane.waiting}
        for item in items:
            n = number(item)
            if item.redriven:
                due = self.dead[n]
                assert due is not None
                assert due <= now
                assert n not in self.lent_dead
                self.lent_dead[n] = item
            else:
                self._handed_out(n, item, now, {number(one) for one in items})
        assert not ahead or {number(item) for item in items} <= self.urgent
        fresh = [number(item) for item in items if not item.redriven and number(item) in self.stream]
        # Urgent ones may have queued up behind a lane before their turn: they say nothing of the rest.
        in_turn = [n for n in fresh if n not in self.urgent]
        self.stream = [n for n in self.stream if n not in self.lent]
        if in_turn:
            self._pass_stream(max(in_turn))

    def _handed_out(self, n: int, item: Item, now: float, together: set[int]) -> None:
        assert n not in self.lent, "handed out twice"
        key = self.keys[n]
        lane = next((lane for lane in self.lanes.values() if n in lane.waiting), None)
        if key:
            owed = [*self.stream, *(w for lane in self.lanes.values() for w in lane.waiting)]
            overtaken = [m for m in owed if m < n and self.keys[m] == key and m not in together]
            assert not overtaken, f"{n} overtakes {overtaken}"
        if lane is not None:
            assert lane.until <= now
            assert lane.lent <= together
            lane.waiting.remove(n)
            lane.lent.add(n)
        elif key in self.lanes and n in self.stream and not self.lanes[key].lent:
            # It had queued up behind the lane, and came with it.
            self.stream.remove(n)
            self.lanes[key].lent.add(n)
        else:
            assert n in self.stream, "not owed"
        self.lent[n] = item

    def _pass_stream(self, newest: int) -> None:
        passed = [n for n in self.stream if n <= newest]
        self.stream = [n for n in self.stream if n > newest]
        for n in passed:
            lane = self.lanes.get(self.keys[n])
            if n not in self.lent and lane is not None:
                lane.waiting = sorted([*lane.waiting, n])
            elif n not in self.lent:
                assert self.keys[n] in self.queued, f"{n} was left out"
                self.stream.append(n)
        self.stream.sort()

    def end(self, n: int, outcome: str) -> None:
        del self.lent[n]
        for name, lane in list(self.lanes.items()):
            lane.lent.discard(n)
            if not lane.lent and not lane.waiting:
                del self.lanes[name]
        self.counts[outcome] += 1

    def park(self, name: str, numbers: Sequence[int], until: float) -> None:
        for n in numbers:
            home = next((lane for lane in self.lanes.values() if n in lane.lent), None)
            lane = home or self.lanes.setdefault(name, Lane(until))
            lane.lent.discard(n)
            lane.waiting.append(n)
            lane.waiting.sort()
            lane.until = until
            del self.lent[n]

    def release(self) -> None:
        for n in list(self.lent):
            lane = next((lane for lane in self.lanes.values() if n in lane.lent), None)
            if lane is not None:
                lane.waiting = sorted([*lane.waiting, n])
            else:
                self.stream = sorted([*self.stream, n])
        for lane in self.lanes.values():
            lane.lent.clear()
        self.lent.clear()
        self.lent_dead.clear()


# --- the machine ------------------------------------------------------------------------------------


class Machine(RuleBasedStateMachine):
    """Of the spool in memory; `SqliteMachine` adds closing and crashing."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = Clock()
        self.model = {sink: SinkModel() for sink in SINKS}
        self.appended = 0
        self.spool: Spool

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        async def guarded() -> T:
            async with asyncio.timeout(GUARD_SECONDS):
                return await work

        return self.runner.run(guarded())

    def make(self) -> Spool:
        return MemorySpool(max_bytes=ROOMY_BYTES, clock=self.clock)

    @initialize()
    def open(self) -> None:
        self.start()
        self.append(["x", "x", "y", "x", ""])

    def start(self) -> None:
        self.spool = self.make()
        self.run(self.spool.open(starts(SinkStart("a", urgency=URGENCY), "b")))

    def committed(self) -> None:
        """Everything up to now is durable."""

    @rule(keys=st.lists(st.sampled_from(MOSTLY_X), min_size=1, max_size=8))
    def append(self, keys: list[str]) -> None:
        batch = []
        for text in keys:
            self.appended += 1
            urgent, key = text.startswith("!"), text.removeprefix("!")
            batch.append(event(self.appended, key, name="urgent" if urgent else "meeting.started"))
            for sink, model in self.model.items():
                model.keys[self.appended] = lane_of(key, urgent=urgent and sink == "a")
                model.stream.append(self.appended)
                if urgent:
                    model.urgent.add(self.appended)
        self.run(self.spool.append(batch))
        self.committed()

    def which(self, at: int, fits: Callable[[SinkModel], object]) -> tuple[str, SinkModel]:
        """One of the sinks that fit."""
        found = [(name, model) for name, model in self.model.items() if fits(model)]
        return found[at % len(found)]

    def is_any(self, fits: Callable[[SinkModel], object]) -> bool:
        return any(fits(model) for model in self.model.values())

    @precondition(lambda self: self.is_any(lambda model: model.is_due(self.clock.now)))
    @rule(at=some, max_events=st.sampled_from([1, 1, 2, 3, 12]))
    def read(self, at: int, max_events: int) -> None:
        sink, model = self.which(at, lambda model: model.is_due(self.clock.now))
        items = self.run(self.spool.read(sink, max_events, READ_BYTES))
        assert 0 < len(items) <= max_events
        model.handed_out(items, self.clock.now)

    @precondition(lambda self: not self.model["a"].urgent.isdisjoint(self.model["a"].stream))
    @rule(max_events=st.sampled_from([1, 2, 12]))
    def read_ahead(self, max_events: int) -> None:
        """There may be none, where a lane is parked, or all had their turn and are kept back."""
        items = self.run(self.look(max_events))
        assert len(items) <= max_events
        self.model["a"].handed_out(items, self.clock.now, ahead=True)

    async def look(self, max_events: int) -> Sequence[Item]:
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                return await self.spool.read_urgent("a", max_events)
        except TimeoutError:
            return []

    @precondition(lambda self: self.is_any(lambda model: model.lent))
    @rule(at=some, outcome=st.sampled_from(OUTCOMES), mask=masks)
    def settle(self, at: int, outcome: str, mask: int) -> None:
        sink, model = self.which(at, lambda model: model.lent)
        chosen = pick(model.lent, mask)
        items = [model.lent[n] for n in chosen]
        if outcome == "dead":
            settlement = Settlement(dead=[Death(item, "HTTP 400", 1) for item in items])
        else:
            settlement = Settlement(**{outcome: [item.token for item in items]})
        self.spool.settle(sink, settlement)
        self.spool.settle(sink, settlement)  # a second time it means nothing
        for n in chosen:
            model.end(n, outcome)
            if outcome == "dead":
                model.dead[n] = None

    @precondition(lambda self: self.is_any(lambda model: model.lent))
    @rule(
        at=some,
        seconds=st.sampled_from([0, 5, 50]),
        part=st.sampled_from(["all", "head", "tail"]),
        mask=masks,
    )
    def park(self, at: int, seconds: float, part: str, mask: int) -> None:
        sink, model = self.which(at, lambda model: model.lent)
        head = pick(model.lent, mask)[0]
        key = model.keys[head]
        lane = [n for n in sorted(model.lent) if model.keys[n] == key] if key else [head]
        lane = {"all": lane, "head": lane[:1], "tail": lane[1:]}[part]
        name = key or f"\x00{head}"
        if lane:
            parked = Parked(name, [model.lent[n] for n in lane], seconds, 3, 7.0)
            self.spool.settle(sink, Settlement(parked=[parked]))
            model.park(name, lane, self.clock.now + seconds)

    @precondition(lambda self: self.is_any(lambda model: model.lent))
    @rule(at=some)
    def release(self, at: int) -> None:
        sink, model = self.which(at, lambda model: model.lent)
        self.spool.release(sink)
        model.release()

    @precondition(lambda self: self.is_any(lambda model: model.lanes))
    @rule(seconds=st.sampled_from([10, 100]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @precondition(lambda self: self.is_any(lambda model: model.dead))
    @rule(at=some, mask=masks)
    def redrive(self, at: int, mask: int) -> None:
        sink, model = self.which(at, lambda model: model.dead)
        known = self.known_letters(sink)
        chosen = pick(model.dead, mask)
        fresh = [n for n in chosen if model.dead[n] is None]
        assert self.run(self.spool.redrive([known[n] for n in chosen])) == len(fresh)
        model.dead.update(dict.fromkeys(fresh, self.clock.now))
        self.committed()

    @precondition(lambda self: self.is_any(lambda model: model.dead))
    @rule(at=some, mask=masks)
    def discard(self, at: int, mask: int) -> None:
        sink, model = self.which(at, lambda model: model.dead)
        known = self.known_letters(sink)
        chosen = pick(model.dead, mask)
        assert self.run(self.spool.discard([known[n] for n in chosen])) == len(chosen)
        for n in chosen:
            del model.dead[n]
            model.lent_dead.pop(n, None)
        self.committed()

    def known_letters(self, sink: str) -> dict[int, int]:
        letters = self.run(self.spool.dead_letters(sink=sink))
        self.committed()
        known = {int(letter.id[3:], 16): letter.number for letter in letters}
        assert known.keys() == self.model[sink].dead.keys()
        return known

    @precondition(lambda self: self.is_any(lambda model: model.lent_dead))
    @rule(at=some, outcome=st.sampled_from(["delivered", "dead", "parked"]))
    def settle_redriven(self, at: int, outcome: str) -> None:
        sink, model = self.which(at, lambda model: model.lent_dead)
        items = list(model.lent_dead.values())
        if outcome == "delivered":
            self.spool.settle(sink, Settlement(delivered=[item.token for item in items]))
        elif outcome == "dead":
            self.spool.settle(sink, Settlement(dead=[Death(item, "HTTP 410", 2) for item in items]))
        else:
            self.spool.settle(sink, Settlement(parked=[Parked("x", items, 5, 2, 7.0)]))
        for n in list(model.lent_dead):
            if outcome == "delivered":
                del model.dead[n]
                model.counts["redelivered"] += 1
            else:
                model.dead[n] = None if outcome == "dead" else self.clock.now + 5
        model.lent_dead.clear()

    def step(self, random: Random) -> None:
        """One of the things that can be done now, with arguments by chance."""
        can = self.possible()
        word = random.choices(can, [WEIGHTS[one] for one in can])[0]
        at, mask = random.randrange(2), random.randrange(2**12)
        if word == "append":
            self.append(random.choices(MOSTLY_X, k=random.randint(1, 8)))
        elif word == "read":
            self.read(at, random.choice([1, 2, 3, 12]))
        elif word == "read_ahead":
            self.read_ahead(random.choice([1, 2, 12]))
        elif word == "settle":
            self.settle(at, random.choice(OUTCOMES), mask)
        elif word == "park":
            self.park(at, random.choice([0, 5, 50]), random.choice(["all", "all", "head", "tail"]), mask)
        elif word == "wait":
            self.wait(random.choice([10, 100]))
        elif word == "settle_redriven":
            self.settle_redriven(at, random.choice(["delivered", "dead", "parked"]))
        elif word == "release":
            self.release(at)
        else:
            self.step_further(word, random, at, mask)

    def step_further(self, word: str, _random: Random, at: int, mask: int) -> None:
        {"redrive": self.redrive, "discard": self.discard}[word](at, mask)

    def possible(self) -> list[str]:
        needs: dict[str, Callable[[SinkModel], object]] = {
            "read": lambda model: model.is_due(self.clock.now),
            "settle": lambda model: model.lent,
            "park": lambda model: model.lent,
            "release": lambda model: model.lent,
            "wait": lambda model: model.lanes,
            "redrive": lambda model: model.dead,
            "discard": lambda model: model.dead,
            "settle_redriven": lambda model: model.lent_dead,
        }
        able = ["append", *(word for word, fits in needs.items() if self.is_any(fits))]
        ahead = not self.model["a"].urgent.isdisjoint(self.model["a"].stream)
        return [*able, *(["read_ahead"] if ahead else [])]

    @invariant()
    def the_books_balance(self) -> None:
        for sink, counts in self.spool.stats().sinks.items():
            model = self.model[sink]
            assert counts.conservation_error == 0
            assert counts.appended == self.appended
            assert counts.pending == model.pending()
            for outcome in ("delivered", "filtered", "expired", "dead", "redelivered"):
                assert getattr(counts, outcome) == model.counts[outcome], outcome
            assert counts.shed == counts.abandoned == 0

    def teardown(self) -> None:
        """Everything that is owed comes in the end."""
        try:
            self.drain()
            self.run(self.spool.close())
        finally:
            self.runner.close()

    def drain(self) -> None:
        for sink, model in self.model.items():
            self.known_letters(sink)
            self.clock.now += 1000
            self.settle_all(sink)
            self.spool.release(sink)
            model.release()
            redriven = [n for n, at in model.dead.items() if at is not None]
            got: list[int] = []
            while len(got) < model.pending() + len(redriven):
                items = self.run(self.spool.read(sink, 5, READ_BYTES))
                self.spool.settle(sink, Settlement(delivered=[item.token for item in items]))
                got += [number(item) for item in items]
            assert len(got) == len(set(got))
            counts = self.spool.stats().sinks[sink]
            assert (counts.pending, counts.conservation_error) == (0, 0)
            model.dead = {n: at for n, at in model.dead.items() if at is None}
            self.known_letters(sink)
            for key in LANES:
                of_key = [n for n in got if model.keys[n] == key and n not in redriven]
                assert of_key == sorted(of_key)

    def settle_all(self, sink: str) -> None:
        """First what the reader has, so that nothing is owed to `release` alone."""
        lent = self.model[sink].lent
        self.spool.settle(sink, Settlement(delivered=[item.token for item in lent.values()]))
        for n in list(lent):
            self.model[sink].end(n, "delivered")


class SqliteMachine(Machine):
    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="zoomrelay-spool-"))
        self.places = 0
        self.durable = copy.deepcopy(self.model)

    def make(self) -> Spool:
        self.place().mkdir(exist_ok=True)
        return QuietSpool(self.place(), max_bytes=ROOMY_BYTES, clock=self.clock)

    def place(self) -> Path:
        return self.root / str(self.places)

    def committed(self) -> None:
        self.durable = copy.deepcopy(self.model)

    @precondition(lambda self: self.model != self.durable)
    @rule(how=st.sampled_from(["flush", "reopen", "crash"]))
    def interrupt(self, how: str) -> None:
        if how == "flush":
            self.run(self.spool.flush())
            self.committed()
        elif how == "reopen":
            self.run(self.spool.close())
            self.start()
            self.start_again(self.model)
        else:
            self.crash()

    def possible(self) -> list[str]:
        return [*super().possible(), *(["interrupt"] if self.model != self.durable else [])]

    def step_further(self, word: str, random: Random, at: int, mask: int) -> None:
        if word == "interrupt":
            self.interrupt(random.choice(["flush", "reopen", "crash"]))
        else:
            super().step_further(word, random, at, mask)

    def crash(self) -> None:
        """Go on with a copy of the files as they are now."""
        before, crashed = self.place(), self.spool
        self.places += 1
        shutil.copytree(before, self.place())
        self.start()
        self.run(crashed.close())
        self.start_again(self.durable)

    def start_again(self, model: dict[str, SinkModel]) -> None:
        self.model = copy.deepcopy(model)
        for sink in self.model.values():
            sink.release()
            sink.dead = {n: at if at is None else self.clock.now for n, at in sink.dead.items()}
        self.committed()

    def teardown(self) -> None:
        super().teardown()
        shutil.rmtree(self.root)


TestMemory = Machine.TestCase
TestMemory.settings = settings(max_examples=25, stateful_step_count=50, deadline=None, derandomize=True)
TestSqlite = SqliteMachine.TestCase
TestSqlite.settings = settings(
    max_examples=8,
    stateful_step_count=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)


# --- long walks -------------------------------------------------------------------------------------
# What goes wrong here often needs many steps that fit together, which shrinkable examples rarely have.

WEIGHTS = {"append": 3, "read": 6, "settle": 4, "park": 4, "release": 1, "wait": 2, "redrive": 2}
WEIGHTS |= {"discard": 1, "settle_redriven": 3, "interrupt": 2, "read_ahead": 3}


@pytest.mark.parametrize("seed", range(20))
def test_walk_in_memory(seed: int) -> None:
    walk(Machine(), Random(seed), steps=300)


@pytest.mark.parametrize("seed", range(8))
def test_walk_in_sqlite(seed: int) -> None:
    walk(SqliteMachine(), Random(seed), steps=250)


def walk(machine: Machine, random: Random, steps: int) -> None:
    machine.open()
    for _ in range(steps):
        machine.step(random)
        machine.the_books_balance()
    machine.teardown()
