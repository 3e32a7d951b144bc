"""The promise of a token store: one record, shared by all who may use the app."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from zoomrelay.auth.record import Record


class TokenStore(Protocol):
    """Where the record of one app is kept."""

    async def read(self) -> Record:
        """What was written last, whole, by whomever; an empty record where there is nothing to be used.

        Needs no lock, and costs next to nothing where nothing has changed. Raises `TokenStoreError`.
        """
        ...

    async def write(self, record: Record) -> None:
        """Replace it. Only for who holds the lock. On return it survives what the store promises to
        survive; on `TokenStoreError` the old one is whole. Cancelling waits for the end of it."""
        ...

    def lock(self, patience_seconds: float) -> AbstractAsyncContextManager[None]:
        """Keep everybody else from writing, in other processes too. Ends with the process, however that
        ends. Raises `TokenStoreError`; `TokenStoreBusy` where it is not to be had in time."""
        ...
