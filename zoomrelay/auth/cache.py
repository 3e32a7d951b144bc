"""The store as one manager uses it: what to do while its disk is in trouble."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import structlog

from zoomrelay import causes
from zoomrelay.auth.record import Record
from zoomrelay.auth.stores.base import TokenStore
from zoomrelay.errors import TokenStoreBusy, TokenStoreError, TokenUnavailable

log = structlog.get_logger()

LOCK_PATIENCE_SECONDS = 30.0
"""Longer than a token request may take: whoever holds the lock for so long is stopped, or hangs."""
_TRIES = 3
_TRY_AGAIN_SECONDS = 0.5
"""What must be kept is tried a little longer before it is given up for this time."""


class Cache:
    """The record, as far as this process knows it.

    Where tokens can be had anew at any time, trouble with the store stops nothing: the record lives in
    memory until the store works again. A rotating refresh token must not be used without it (`strict`):
    then every way on raises `TokenUnavailable`.
    """

    def __init__(self, store: TokenStore, source: str, *, strict: bool) -> None:
        self.record = Record()
        self._store = store
        self._source = source
        self._strict = strict
        self._held = False
        self._unsaved: Record | None = None
        """What the store should hold instead of what it held when it failed."""
        self._last_stored = Record()
        self._troubled = False

    async def look(self) -> Record:
        """The record, with what others have written; never raises."""
        try:
            found = await self._store.read()
        except TokenStoreError as error:
            self._note_trouble(error)
        else:
            self._found(found)
        return self.record

    @asynccontextmanager
    async def exclusively(self) -> AsyncIterator[None]:
        """The record is fresh, and nobody else writes it meanwhile; as far as the store can be used."""
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self._store.lock(LOCK_PATIENCE_SECONDS))
            except TokenStoreError as error:
                self._trouble(error)
                yield
                return
            self._held = True
            stack.callback(setattr, self, "_held", False)
            await self._catch_up()
            yield

    async def save(self, record: Record) -> None:
        """It is durable on return; where the store is in trouble and need not be strict, only known."""
        self.record = record
        if not self._held:
            self._unsaved = record
            return
        for tries_left in reversed(range(_TRIES if self._strict else 1)):
            try:
                await self._store.write(record)
            except TokenStoreError as error:
                self._unsaved = record
                if not tries_left:
                    self._trouble(error)
                else:
                    await asyncio.sleep(_TRY_AGAIN_SECONDS)
            else:
                self._stored(record)
                return

    @property
    def usable(self) -> bool:
        """Whether the tokens of the record may be used: not before they are kept, if they must be."""
        return not self._strict or self._unsaved is None

    async def _catch_up(self) -> None:
        """Read, and write what could not be written before, unless somebody else has written since."""
        try:
            found = await self._store.read()
        except TokenStoreError as error:
            self._held = False  # what cannot be read must not be written over
            self._trouble(error)
            return
        if self._unsaved is not None and _alike(found, self._last_stored):
            await self.save(self._unsaved)
        else:
            self._found(found, other=True)

    def _found(self, found: Record, *, other: bool = False) -> None:
        """What the store holds counts, unless we know better and could not write it."""
        if self._unsaved is None or other or not _alike(found, self._last_stored):
            self.record = self._last_stored = found
            self._unsaved = None

    def _stored(self, record: Record) -> None:
        self._last_stored, self._unsaved = record, None
        if self._troubled:
            self._troubled = False
            log.info("auth.cache_restored", source=self._source)

    def _trouble(self, error: TokenStoreError) -> None:
        self._note_trouble(error)
        if self._strict:
            reason = "cache_busy" if isinstance(error, TokenStoreBusy) else "cache_unwritable"
            raise TokenUnavailable(
                f"the refresh token cannot be renewed without its cache: {error}",
                reason=reason,
                cure=causes.CACHE_UNWRITABLE.cure,
            ) from error

    def _note_trouble(self, error: TokenStoreError) -> None:
        if not self._troubled:
            self._troubled = True
            say = log.error if self._strict else log.warning
            effect = (
                "the refresh token is not used until the cache can be written"
                if self._strict
                else "tokens are kept in memory, and not shared with other processes"
            )
            say(
                "auth.cache_unavailable",
                source=self._source,
                error=str(error),
                effect=effect,
                cure=causes.CACHE_UNWRITABLE.cure,
            )


def _alike(one: Record, other: Record) -> bool:
    """Whether both are the same, but for what the store itself adds."""
    return one.bound_to("") == other.bound_to("")
