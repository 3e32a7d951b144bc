"""How the sqlite spool makes room when `max_bytes` is reached. The order is `Eviction`'s."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from zoomrelay.spool.base import Item, Outcome, Token
from zoomrelay.spool.eviction import SHED_AT_ONCE
from zoomrelay.spool.marks import SinkMarks
from zoomrelay.spool.segment import Segment, decode, encode, names
from zoomrelay.spool.sqlite_questions import indexes, whole_segment
from zoomrelay.spool.sqlite_rows import REWRITE_SEGMENT
from zoomrelay.spool.sqlite_store import FREE_AT_ONCE, SqliteStore

_SEGMENTS_AT_ONCE = 32


class SqliteRoom(SqliteStore):
    """Every step works in the turn of whoever appends."""

    async def _make_room(self, size_bytes: int) -> None:
        """Free space for this many bytes; more than `max_bytes` is held only where a single batch is that
        large."""
        while self._held_bytes() + size_bytes > self._max_bytes:
            if not (
                await self._drop_done(size_bytes)
                or await self._thin_some()
                or await self._shed_some(size_bytes)
            ):
                return

    async def _drop_done(self, size_bytes: int) -> bool:
        """Let go of what every sink is done with, and of what is retained as much as is needed and a little
        more; whether there was any."""
        if self._eviction.done_to(self._last) <= self._dropped_to:
            return False
        excess = self._held_bytes() + size_bytes - self._max_bytes
        self._retention.free(max(excess, self._max_bytes // FREE_AT_ONCE))
        done = await self._commit()
        return done.dropped_events > 0

    async def _thin_some(self) -> bool:
        """Take events that no lagging sink wants out of the oldest segments not looked at yet; whether
        there was a segment to look at."""
        end = self._eviction.thin_to(self._last, self._events)
        self._thinned_to = max(self._thinned_to, self._eviction.done_to(self._last))
        if self._thinned_to >= end:
            return False
        found = await self._database.ask(indexes, self._thinned_to, end, _SEGMENTS_AT_ONCE)
        found = [segment for segment in found if self._thinned_to < segment.last <= end]
        for segment in found:
            self._thinned_to = segment.last
            unwanted = self._unwanted(segment)
            if unwanted:
                await self._thin(segment.first, unwanted)
        if self._outbox:
            await self._commit()
        return bool(found)

    def _unwanted(self, segment: Segment) -> set[Token]:
        return {
            token
            for token, name, source in names(segment, self._paths)
            if not self._eviction.is_wanted(token, name, source)
        }

    async def _thin(self, first: Token, unwanted: set[Token]) -> None:
        """Rewrite a segment without these; one that is damaged stays as it is."""
        self._outbox.sinks.update(self._marks)
        segment = await self._database.ask(whole_segment, first)
        stretch = decode(segment, self._paths) if segment else None
        if segment is None or stretch is None or stretch.damaged or stretch.unreadable is not None:
            return
        kept = [item for item in stretch.items if item.token not in unwanted]
        new = encode(kept, self._path_ids, segment.first, segment.last)
        self._outbox.add(REWRITE_SEGMENT, new.events, new.size, new.crc, new.index, new.content, new.first)
        self._events -= segment.events - new.events
        self._content_bytes -= segment.size - new.size

    async def _shed_some(self, size_bytes: int) -> bool:
        """Give up the oldest of what is pending; whether there was any."""
        return await self._shed_parked(size_bytes) or await self._shed_oldest(size_bytes)

    async def _shed_parked(self, size_bytes: int) -> bool:
        found = self._eviction.parked_victims(self._last)
        if found is None:
            return False
        marks, lanes = found
        for name in lanes:
            if self._held_bytes() + size_bytes > self._max_bytes:
                items = await self._waiting_in(marks, name, SHED_AT_ONCE)
                self._shed_waiting(marks, name, items)
        return True

    def _shed_waiting(self, marks: SinkMarks, name: str, items: Sequence[Item]) -> None:
        if items:
            freed_bytes = sum(len(item.event.content) for item in items)
            tokens = [item.token for item in items]
            self._store(marks, marks.end_parked(name, tokens, freed_bytes, Outcome.SHED))
            self._eviction.tell(marks, len(items))

    async def _shed_oldest(self, size_bytes: int) -> bool:
        done_to = self._eviction.done_to(self._last)
        excess = self._held_bytes() + size_bytes - self._max_bytes
        for segment in await self._database.ask(indexes, done_to, self._last, _SEGMENTS_AT_ONCE):
            if excess > 0:
                excess -= segment.size + segment.events * self._EVENT_BYTES
                done_to = min(max(done_to, segment.last), self._last)
        if done_to <= self._eviction.done_to(self._last):
            return False
        self._eviction.shed_to(done_to)
        self._outbox.sinks.update(self._marks)
        await self._commit()
        return True

    @abstractmethod
    async def _waiting_in(self, marks: SinkMarks, lane: str, limit: int) -> list[Item]:
        """The first events that wait in a lane."""
