"""Where one sink stands in the stream of events. Pure; shared by every spool of our own.

Events are numbered in the order in which they were held. For each sink, every number up to `low` has
ended (or is parked, which is kept apart), numbers in `above` have ended out of order, and numbers up to
`handed` were given to its reader. So the state stays small: the reader's window bounds `above`.

A parked lane is a queue of its own, beside the stream: its events are no longer counted in the marks.
Urgent events may be with the reader before their turn (`urgent`): then they are in `ahead`.
A negative token names a dead letter that is tried again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from zoomrelay.event import Event
from zoomrelay.spool.base import URGENT, Death, Item, Outcome, Parked, Settlement, SinkCounts, Token, lane_of
from zoomrelay.spool.lanes import Lanes, Redriven
from zoomrelay.spool.ranges import Ranges
from zoomrelay.spool.replay import ReplayQueue
from zoomrelay.spool.urgent import UrgentQueue

MOST_RANGES = 16_384
"""Of numbers that have ended out of order. They are written with each commit that ends something: beyond this
urgent events wait for their turn."""
ORPHAN_SECONDS = 24 * 3600.0
"""For how much running time a sink that left the configuration keeps its backlog."""


@dataclass(slots=True)
class Changes:
    """What a settlement means for durable storage, beside the sink's own row."""

    parked: list[tuple[str, Item]] = field(default_factory=list)
    unparked: list[tuple[str, Token]] = field(default_factory=list)
    lanes: set[str] = field(default_factory=set)
    """Lanes whose row changed; gone from the sink's lanes if it is to be deleted."""
    deaths: list[Death] = field(default_factory=list)
    redelivered: list[int] = field(default_factory=list)
    """Numbers of dead letters."""
    died_again: list[Death] = field(default_factory=list)


class SinkMarks:
    """One sink's marks, lanes and counters."""

    def __init__(self, name: str, start: Token) -> None:
        self.name = name
        self.start = start
        """The number before the first event that is this sink's."""
        self.low = start
        self.handed = start
        self.frontier = start
        """Below it, events may come again that stand before parked ones: lanes wait until it is passed."""
        self.urgent_frontier = start
        """The same for lanes of urgent events, which come again ahead of the others."""
        self.asking = 0
        """How many events its reader waits for; 0 while it does not read."""
        self.above = Ranges()
        self.lanes = Lanes()
        self.redriven = Redriven()
        self.replay: ReplayQueue | None = None
        self.urgent: UrgentQueue | None = None
        self.ahead: set[Token] = set()
        """Urgent events that are with the reader and were given to it before their turn."""
        self.counts = SinkCounts()
        self.orphaned_seconds: float | None = None
        """For how much running time the configuration has not named it; None while it does."""
        self._batches: deque[tuple[Token, int]] = deque()

    @property
    def given_up(self) -> bool:
        """Its day as an orphan is over: no event is held for it any more."""
        return self.orphaned_seconds is not None and self.orphaned_seconds >= ORPHAN_SECONDS

    def pending(self, last: Token) -> int:
        """Events that have not ended, `last` being the newest number."""
        return last - self.low - self.above.count + self.lanes.events

    def oldest_pending_ms(self) -> int | None:
        """`received_ms` of about the oldest pending event that its reader was given, or that is parked."""
        known = [lane.oldest_ms for lane in self.lanes.by_name.values()]
        known += [received_ms for last, received_ms in self._batches if last > self.low][:1]
        return min(known, default=None)

    def known_to(self) -> Token:
        """The newest number that this sink has seen for certain."""
        return max(self.low, self.above.last)

    def has_ended(self, token: Token) -> bool:
        """Whether this number is out of the stream for this sink (ended, or parked)."""
        return token <= self.low or token in self.above

    # --- reading ------------------------------------------------------------------------------------

    def hand_out(self, items: list[Item]) -> tuple[list[Item], list[Item]]:
        """Note that these new events (all up to the last of them) leave for the reader. Gives those that
        may go, and those that must wait behind a parked lane; the caller parks them."""
        self.handed = max(self.handed, items[-1].token)
        if self.above or self.ahead or items[0].token <= self.low:
            items = [item for item in items if self._is_there(item.token)]
        if items:
            self._note_age(items)
        return self._without_held_back(items)

    def hand_out_urgent(self, last: Token, limit: int, now_ms: float) -> tuple[list[Item], list[Item]]:
        """The same for urgent events that are still in time, before their turn: at most `limit` of those that
        `urgent` has found."""
        if self.urgent is None or not self.may_look_ahead(last):
            return [], []
        self.urgent.pass_to(self.handed)
        items = self.urgent.take(min(limit, self.urgent.window - len(self.ahead)), now_ms, self._is_there)
        self.ahead.update([item.token for item in items])
        return self._without_held_back(items)

    def may_look_ahead(self, last: Token) -> bool:
        """Whether urgent events are to overtake others: there are more than the reader is about to get, and
        few enough have ended out of order to be kept track of."""
        return (
            self.urgent is not None
            and last - self.handed > self.asking
            and len(self.ahead) < self.urgent.window
            and len(self.above) < MOST_RANGES
        )

    def _is_there(self, token: Token) -> bool:
        """It is in the stream for this sink and not with the reader before its turn."""
        return not self.has_ended(token) and token not in self.ahead

    def _lane_of(self, event: Event) -> str:
        return lane_of(event.key, urgent=self.urgent is not None and self.urgent.is_urgent(event.name))

    def _without_held_back(self, items: list[Item]) -> tuple[list[Item], list[Item]]:
        if not self.lanes.by_name:
            return items, []
        held_back = [item for item in items if self.lanes.holds_back(self._lane_of(item.event))]
        if not held_back:
            return items, []
        return [item for item in items if not self.lanes.holds_back(self._lane_of(item.event))], held_back

    def _note_age(self, items: list[Item]) -> None:
        while self._batches and self._batches[0][0] <= self.low:
            self._batches.popleft()
        self._batches.append((items[-1].token, items[0].event.received_ms))

    def park_behind(self, items: Iterable[Item]) -> Changes:
        """Set aside what `hand_out` held back."""
        changes = Changes()
        for item in items:
            self._set_aside(item, self._lane_of(item.event), 0.0, changes)
        self._advance()
        return changes

    def next_due(self) -> float | None:
        """When the next parked lane, redriven dead letter or replayed event is due."""
        lane, redriven = self.lanes.next_due(), self.redriven.next_due()
        replayed = self.replay.due() if self.replay is not None else None
        return min([at for at in (lane and lane[0], redriven, replayed) if at is not None], default=None)

    def release(self, now: float) -> None:
        """The reader is gone: what it had is handed out again."""
        self.frontier = self.next_frontier()
        self.urgent_frontier = self.known_to()
        self.handed = self.low
        self.ahead.clear()
        if self.urgent is not None:
            self.urgent.begin_anew()
        self.lanes.take_back_all()
        self.redriven.take_back_all(now)
        if self.replay is not None:
            self.replay.take_back_all()
        self._batches.clear()

    def next_frontier(self) -> Token:
        """`frontier` for a reader that comes after this one. What has ended, or is parked, before its turn is
        beyond it."""
        return max(self.frontier, min(self.known_to(), self.handed))

    def may_return(self, lane: str) -> bool:
        """Whether nothing may come again that stands before the events of a parked lane."""
        if self.urgent is None or not lane.startswith(URGENT):
            return self.handed >= self.frontier
        return max(self.handed, self.urgent.looked_to) >= self.urgent_frontier

    # --- settling -----------------------------------------------------------------------------------

    def settle(self, settlement: Settlement, now: float) -> Changes:
        """Apply a settlement; what was not handed out is ignored. `now` is `Clock.elapsed`."""
        changes = Changes()
        if self.replay is not None:  # its tokens mean nothing to the rest of this
            self.counts.replayed += self.replay.settle(settlement)
        if not self._settle_run(settlement):
            self.counts.delivered += self._end(settlement.delivered, changes)
            self.counts.filtered += self._end(settlement.filtered, changes)
            self.counts.expired += self._end(settlement.expired, changes)
        for death in settlement.dead:
            self._die(death, changes)
        for parked in settlement.parked:
            self._park(parked, now + parked.retry_in_seconds, changes)
        self._advance()
        return changes

    def _settle_run(self, settlement: Settlement) -> bool:
        """The usual case in one step: everything from `low` + 1 to some number ended."""
        tokens = list(settlement.delivered)
        if settlement.filtered or settlement.expired:
            tokens = sorted((*tokens, *settlement.filtered, *settlement.expired))
        end = self.low + len(tokens)
        if self.above or end > self.handed or tokens != list(range(self.low + 1, end + 1)):
            return False
        self.low = end
        if self.ahead:
            self.ahead.difference_update(tokens)
        self.counts.delivered += len(settlement.delivered)
        self.counts.filtered += len(settlement.filtered)
        self.counts.expired += len(settlement.expired)
        return True

    def _end(self, tokens: Sequence[Token], changes: Changes) -> int:
        """How many of these ended just now."""
        return sum([self._leave(token, changes) for token in tokens])

    def _leave(self, token: Token, changes: Changes) -> bool:
        """Take one event out of the stream or out of its lane; whether it counts as ended by that."""
        if token < 0:
            self._end_redriven(-token, changes)
            return False
        lane = self.lanes.lent_from(token)
        if lane is not None:
            if self.lanes.end(token):
                changes.lanes.add(lane)
            changes.unparked.append((lane, token))
            return True
        return self._is_out(token) and self.above.add(token, token) > 0

    def _is_out(self, token: Token) -> bool:
        """Whether the reader has it, or had it; from now on it does not."""
        had = self.low < token and (token <= self.handed or token in self.ahead)
        self.ahead.discard(token)
        return had

    def _end_redriven(self, number: int, changes: Changes) -> None:
        if self.redriven.is_lent(number):
            self.redriven.forget([number])
            self.counts.redelivered += 1
            changes.redelivered.append(number)

    def _die(self, death: Death, changes: Changes) -> None:
        token = death.item.token
        if token < 0 and self.redriven.is_lent(-token):
            self.redriven.forget([-token])
            changes.died_again.append(death)
        elif token > 0 and self._leave(token, changes):
            self.counts.dead += 1
            changes.deaths.append(death)

    def _park(self, parked: Parked, until: float, changes: Changes) -> None:
        heads: dict[str, Token] = {}
        for item in parked.items:
            if item.token < 0:
                if self.redriven.is_lent(-item.token):
                    self.redriven.retry(
                        -item.token, until, parked.attempts, parked.waited_seconds, parked.failing
                    )
            else:
                lane = self._set_aside(item, parked.lane, until, changes)
                if lane is not None:
                    heads.setdefault(lane, item.token)
        for lane, head in heads.items():
            tried = head == parked.items[0].token
            history = (parked.attempts, parked.waited_seconds, parked.failing) if tried else (0, 0.0, None)
            self.lanes.retry_at(lane, until, head, *history)
            changes.lanes.add(lane)

    def _set_aside(self, item: Item, name: str, until: float, changes: Changes) -> str | None:
        """Move an event into its lane, or back into the one it came from, and name that lane."""
        lane = self.lanes.lent_from(item.token)
        if lane is not None:
            self.lanes.take_back(item.token)
            return lane
        if not self._is_out(item.token) or not self.above.add(item.token, item.token):
            return None
        self.lanes.add(name, item, until)
        changes.parked.append((name, item))
        return name

    # --- ends that no settlement brought ------------------------------------------------------------

    def end_to(self, token: Token, outcome: Outcome) -> int:
        """End every number up to `token` that has not ended; how many those were."""
        return self.end_range(self.low + 1, token, outcome)

    def end_range(self, start: Token, end: Token, outcome: Outcome) -> int:
        """End every number from `start` to `end` that has not ended; how many those were."""
        start = max(start, self.low + 1)
        ended = self.above.add(start, end) if start <= end else 0
        self.add_count(outcome, ended)
        self._advance()
        return ended

    def end_parked(self, lane: str, tokens: Sequence[Token], size_bytes: int, outcome: Outcome) -> Changes:
        """End waiting events of a parked lane."""
        self.lanes.drop(lane, tokens, size_bytes)
        self.add_count(outcome, len(tokens))
        return Changes(unparked=[(lane, token) for token in tokens], lanes={lane})

    def end_lost_lane(self, lane: str) -> tuple[int, Changes]:
        """Nothing of what waits in this lane is in storage: it counts as dead; how many events that were."""
        lost = self.lanes.drop_lost(lane)
        self.add_count(Outcome.DEAD, lost)
        return lost, Changes(lanes={lane})

    def end_missing(self, last: Token) -> int:
        """Count as dead what has neither ended nor is there; how many events that were."""
        counts = replace(self.counts, appended=last - self.start, pending=self.pending(last))
        missing = max(counts.conservation_error, 0)
        self.add_count(Outcome.DEAD, missing)
        return missing

    def add_count(self, outcome: Outcome, count: int) -> None:
        setattr(self.counts, outcome.value, getattr(self.counts, outcome.value) + count)

    def end_replay(self, error: str = "") -> None:
        """Hand out nothing more of it."""
        if self.replay is not None:
            self.replay.close(error)
        self.replay = None

    def give_up(self, last: Token) -> None:
        """Everything pending up to `last`, parked lanes included, counts as abandoned."""
        self.counts.abandoned += self.pending(last)
        self.low = self.handed = self.frontier = last
        self.above = Ranges()
        self.lanes = Lanes()
        self.redriven = Redriven()
        self.ahead.clear()
        self._batches.clear()

    def _advance(self) -> None:
        end = self.above.take_from(self.low + 1)
        if end is not None:
            self.low = end
            self.handed = max(self.handed, end)
