"""The shared token cache for somebody who stands and waits."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import msgspec

from zoomrelay.auth.record import Record
from zoomrelay.auth.stores.base import TokenStore


class ImpatientStore:
    """A `TokenStore` that does not tell of an earlier failure: whoever has just mended something wants to
    know how it is now, not when the relay will ask again. The tokens in it are used like anybody's."""

    def __init__(self, inner: TokenStore) -> None:
        self._inner = inner

    async def read(self) -> Record:
        return msgspec.structs.replace(await self._inner.read(), failure=None)

    async def write(self, record: Record) -> None:
        await self._inner.write(record)

    def lock(self, patience_seconds: float) -> AbstractAsyncContextManager[None]:
        return self._inner.lock(patience_seconds)
