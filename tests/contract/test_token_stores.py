"""The promise of `auth.stores.base`, run on every store."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from zoomrelay.auth.record import AccessToken, Failure, Moment, Record, RefreshToken
from zoomrelay.auth.stores.base import TokenStore
from zoomrelay.auth.stores.file import FileStore
from zoomrelay.auth.stores.memory import MemoryStore
from zoomrelay.config.models import SourceConfig
from zoomrelay.errors import TokenStoreBusy

NOW = Moment(1_700_000_000.0, 5000.0, "this boot")
FULL = Record(
    access=AccessToken("access-1", "account_credentials", NOW, 3599.0, ("a", "b"), "https://api.zoom.us"),
    refresh=RefreshToken("refresh-1", NOW, 1_707_776_000.0),
    asked=NOW,
    unanswered=1,
    rotating=NOW,
    failure=Failure(NOW, 60.0, 2, "invalid_client", "no", True, "mend it", "c0ffee"),
)


def source(**fields: object) -> SourceConfig:
    return SourceConfig.model_validate({"name": "main", "client_id": "c", "client_secret": "s", **fields})


@pytest.fixture(params=["memory", "file"])
def two(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[TokenStore, TokenStore]:
    """The same record, as two who share it see it."""
    if request.param == "memory":
        store = MemoryStore()
        return store, store
    return FileStore(tmp_path, source()), FileStore(tmp_path, source())


def plain(record: Record) -> Record:
    return record.bound_to("")


async def test_nothing_was_written(two: tuple[TokenStore, TokenStore]) -> None:
    assert await two[0].read() == Record()


async def test_what_was_written_is_read_by_everybody(two: tuple[TokenStore, TokenStore]) -> None:
    one, other = two
    for record in (FULL, FULL.without_access(), FULL.forgotten(everything=True), FULL):
        async with one.lock(1):
            await one.write(record)
        assert plain(await one.read()) == plain(record)
        assert plain(await other.read()) == plain(record)


async def test_the_lock_keeps_others_out(two: tuple[TokenStore, TokenStore]) -> None:
    one, other = two
    order: list[str] = []

    async def write(store: TokenStore, name: str) -> None:
        async with store.lock(10):
            order.append(f"{name} in")
            await asyncio.sleep(0.02)
            order.append(f"{name} out")

    await asyncio.gather(*(write(store, str(n)) for n, store in enumerate((one, other) * 3)))
    assert [entry.split()[1] for entry in order] == ["in", "out"] * 6
    assert all(a.split()[0] == b.split()[0] for a, b in zip(order[::2], order[1::2], strict=True))


async def test_patience_with_the_lock_ends(two: tuple[TokenStore, TokenStore]) -> None:
    one, other = two
    async with one.lock(1):
        with pytest.raises(TokenStoreBusy):
            async with other.lock(0.05):
                raise AssertionError("two hold it")
    async with other.lock(1):
        pass


async def test_who_fails_or_is_cancelled_lets_go_of_the_lock(two: tuple[TokenStore, TokenStore]) -> None:
    one, other = two
    with pytest.raises(ZeroDivisionError):
        async with one.lock(1):
            raise ZeroDivisionError

    async def hold() -> None:
        async with one.lock(1):
            await asyncio.sleep(3600)

    holder = asyncio.create_task(hold())
    await asyncio.sleep(0.01)
    holder.cancel()
    await asyncio.wait([holder])
    async with other.lock(1):
        await other.write(FULL)


async def test_who_waits_for_the_lock_can_be_cancelled(two: tuple[TokenStore, TokenStore]) -> None:
    one, other = two

    async def use(store: TokenStore) -> None:
        async with store.lock(3600):
            pass

    async with one.lock(1):
        waiter = asyncio.create_task(use(other))
        await asyncio.sleep(0.03)
        waiter.cancel()
        await asyncio.wait([waiter])
        assert waiter.cancelled()
    async with other.lock(1):
        pass


async def test_readers_never_see_half_a_record(two: tuple[TokenStore, TokenStore]) -> None:
    one, other = two
    long = AccessToken("x" * 60_000, "account_credentials", NOW, 3599.0)
    records = [Record(access=long), Record(refresh=FULL.refresh)]
    done = asyncio.Event()

    async def write() -> None:
        async with one.lock(1):
            for record in records * 15:
                await one.write(record)
                await asyncio.sleep(0)
        done.set()

    async def read() -> list[Any]:
        seen = []
        while not done.is_set():
            seen.append(plain(await other.read()))
            await asyncio.sleep(0)
        return seen

    _, seen = await asyncio.gather(write(), read())
    assert seen, "nobody looked"
    assert all(record in [plain(Record()), *map(plain, records)] for record in seen)


async def test_a_record_does_not_show_its_secrets(two: tuple[TokenStore, TokenStore]) -> None:
    assert "access-1" not in repr(FULL) and "refresh-1" not in repr(FULL)
