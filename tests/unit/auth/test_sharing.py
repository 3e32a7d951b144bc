"""Several managers on one store, as several processes have it; in virtual time."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from random import Random

import pytest
from structlog.testing import capture_logs

from tests.contract.test_token_stores import plain
from tests.unit.auth.fakes import Died, House
from zoomrelay.auth.record import Record
from zoomrelay.auth.stores.memory import MemoryStore
from zoomrelay.errors import TokenRefused, TokenStoreBusy, TokenStoreError, TokenUnavailable

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

UNAVAILABLE = TokenUnavailable("no answer", reason="timeout")
REFUSED = TokenRefused("wrong secret", reason="invalid_client", cure="mend it")


async def test_who_comes_later_adopts_the_token() -> None:
    house = House()
    first = await house.manager.get()
    await asyncio.sleep(100)
    other = house.beside()
    with capture_logs() as logs:
        second = await other.manager.get()
    assert (second.value, second.grant, second.life_seconds) == (first.value, first.grant, 3600)
    assert second.life_left(other.manager._time.now()) == pytest.approx(3500 - 0.5, abs=0.1)
    assert other.protected == ["secret-1"]
    assert [line["event"] for line in logs] == ["auth.token_adopted"]
    assert len(house.endpoint.asked) == 1


async def test_many_at_once_make_one_request() -> None:
    house = House()
    houses = [house, *(house.beside(seed) for seed in range(39))]
    for round_number in range(1, 6):
        tokens = await asyncio.gather(*(one.manager.get() for one in houses))
        assert {token.value for token in tokens} == {f"secret-{round_number}"}
        assert len(house.endpoint.asked) == round_number
        await asyncio.sleep(3300)


async def test_two_relays_renew_in_turns_and_never_both() -> None:
    house = House()
    houses = [house, house.beside(8), house.beside(9)]
    async with AsyncExitStack() as stack:
        for one in houses:
            await stack.enter_async_context(one.running())
        await asyncio.sleep(10 * 3600)
        assert 12 <= len(house.endpoint.asked) <= 15
        assert min(house.endpoint.waits) >= 0.7 * 3600
        tokens = {(await one.manager.get()).value for one in houses}
        assert tokens == {f"secret-{len(house.endpoint.asked)}"}


async def test_a_thousand_starts_in_an_hour_make_two_requests() -> None:
    """A relay that crashes again and again, and scripts beside it that want a token."""
    random, house = Random(1), House()
    for seed in range(1000):
        async with house.beside(seed, house.metrics).running():
            await asyncio.sleep(random.uniform(0.6, 3.5))
            assert (await house.beside(seed, house.metrics).manager.get()).life_left(
                house.manager._time.now()
            ) > 600
        await asyncio.sleep(random.uniform(0, 3.0))
    assert 3000 <= asyncio.get_running_loop().time() <= 3600
    assert len(house.endpoint.asked) == 2


async def test_a_process_that_dies_while_it_asks_asks_twice_and_then_once_an_hour() -> None:
    house = House()
    house.endpoint.error = Died()  # type: ignore[assignment]
    for seed in range(1000):
        try:
            await house.beside(seed, house.metrics).manager.get()
        except Died:
            pass
        except TokenUnavailable as error:
            assert error.reason == "interrupted"
            assert 0 < (error.retry_after or 0) <= 3600
            assert "--forget" in error.cure
        await asyncio.sleep(3.6)
    assert house.endpoint.times[1] < 10, "the second at once: a loss of power is no crash loop"
    assert len(house.endpoint.asked) <= 3
    house.endpoint.error = None
    await house.manager.forget()
    assert await house.manager.get()


@pytest.mark.parametrize("error", [UNAVAILABLE, REFUSED])
async def test_a_start_minds_the_wait_of_the_one_before(error: TokenUnavailable | TokenRefused) -> None:
    house = House()
    house.endpoint.error = error
    for seed in range(360):
        with pytest.raises(type(error)) as caught:
            await house.beside(seed, house.metrics).manager.get()
        assert (caught.value.reason, caught.value.cure) == (error.reason, error.cure)
        await asyncio.sleep(10)
    assert len(house.endpoint.asked) < (60 if error is REFUSED else 120)
    assert max(house.endpoint.waits) <= (311 if error is REFUSED else 132)


async def test_with_other_credentials_there_is_nothing_to_wait_for() -> None:
    house = House()
    house.endpoint.error = REFUSED
    with pytest.raises(TokenRefused):
        await house.manager.get()
    house.endpoint.error, house.endpoint.secret = None, "second"
    assert (await house.beside().manager.get()).value == "secret-2"


async def test_a_secret_that_was_mended_is_tried_within_seconds() -> None:
    house = House()
    house.endpoint.error = REFUSED
    async with house.running():
        await asyncio.sleep(1800)
        assert house.sample("token_refused", reason="invalid_client") == 1
        asked = len(house.endpoint.asked)
        house.endpoint.error, house.endpoint.secret = None, "second"
        await asyncio.sleep(7)
        assert len(house.endpoint.asked) == asked + 1
        assert house.sample("token_refused", reason="invalid_client") == 0
        assert await house.manager.get()


async def test_a_refusal_by_the_socket_adopts_a_newer_token_first() -> None:
    house = House()
    other = house.beside()
    old = await house.manager.get()
    assert await other.manager.rejected((await other.manager.get()).value)
    newer = await other.manager.get()
    assert house.manager.refused(old)
    assert (await house.manager.get()).value == newer.value == "secret-2"
    assert len(house.endpoint.asked) == 2


async def test_the_next_attempt_sees_a_newer_token() -> None:
    house = House()
    other = house.beside()
    old = await house.manager.get()
    await asyncio.sleep(60)
    await other.manager.rejected(old.value)
    await other.manager.get()
    assert (await house.manager.get()).value == "secret-2"


async def test_a_refused_token_is_not_found_again() -> None:
    house = House()
    old = await house.manager.get()
    house.manager.refused(old)
    house.endpoint.error = UNAVAILABLE
    with pytest.raises(TokenUnavailable):
        await house.manager.get()
    house.endpoint.error = None
    await asyncio.sleep(2)
    assert (await house.beside().manager.get()).value != old.value


async def test_a_rejected_token_counts_once() -> None:
    house = House()
    others = [house.beside(seed) for seed in range(10)]
    token = (await house.manager.get()).value
    assert True in await asyncio.gather(*(one.manager.rejected(token) for one in others))
    assert {(await one.manager.get()).value for one in others} == {"secret-2"}
    assert not await house.beside().manager.rejected(token)
    assert not await house.beside().manager.rejected("no token of ours")
    assert len(house.endpoint.asked) == 2


async def test_forget_and_revoke() -> None:
    house = House()
    await house.manager.get()
    await house.beside().manager.forget()
    assert (await house.beside().manager.get()).value == "secret-2"
    await house.beside().manager.revoke()
    assert house.endpoint.revoked == ["secret-2"]
    assert plain(await house.store.read()) == plain(Record())


async def test_a_wrong_grant_in_the_cache_is_not_used() -> None:
    house = House(grant="client_credentials")
    await house.manager.get()
    other = House(clock=house.clock, endpoint=house.endpoint, store=house.store, grant="account_credentials")
    assert (await other.manager.get()).grant == "account_credentials"


async def test_the_grant_that_was_found_out_is_kept_over_a_restart() -> None:
    house = House()
    for _ in range(2):
        assert house.manager.refused(await house.manager.get())
    house.manager.accepted(await house.manager.get())
    later = house.beside()
    cached = await later.manager.get()
    assert cached.grant == "client_credentials"
    assert later.manager.refused(cached)
    assert (await later.manager.get()).grant == "client_credentials"


async def test_time_asleep_and_a_wall_clock_set_back_count_within_a_boot() -> None:
    house = House()
    await house.manager.get()
    house.clock.wrong = -86400.0
    assert (await house.beside().manager.get()).value == "secret-1"
    house.clock.slept = 3000.0
    assert (await house.beside().manager.get(600)).value == "secret-2"


@pytest.mark.parametrize(
    ("wrong", "expected"), [(0.0, "secret-1"), (-60.0, "secret-2"), (3600.0, "secret-2")]
)
async def test_after_a_boot_the_wall_clock_counts_and_the_future_is_not_trusted(
    wrong: float, expected: str
) -> None:
    house = House()
    house.manager._time._boot = "the boot before"
    await house.manager.get()
    await asyncio.sleep(10)
    house.clock.wrong = wrong
    assert (await house.beside().manager.get()).value == expected


async def test_a_token_of_long_ago_is_not_used() -> None:
    house = House()
    await house.manager.get()
    await asyncio.sleep(3601)
    house.endpoint.error = UNAVAILABLE
    with pytest.raises(TokenUnavailable):
        await house.beside().manager.get()


# --- trouble with the disk ------------------------------------------------------------------------------


class Moody(MemoryStore):
    """A store whose disk can go away."""

    def __init__(self) -> None:
        super().__init__()
        self.read_error: TokenStoreError | None = None
        self.write_error: TokenStoreError | None = None
        self.lock_error: TokenStoreError | None = None
        self.writes = 0

    async def read(self) -> Record:
        if self.read_error:
            raise self.read_error
        return await super().read()

    async def write(self, record: Record) -> None:
        if self.write_error:
            raise self.write_error
        self.writes += 1
        await super().write(record)

    def lock(self, patience_seconds: float):  # type: ignore[no-untyped-def]
        if self.lock_error:
            raise self.lock_error
        return super().lock(patience_seconds)


FULL_DISK = TokenStoreError("tokens/x.json: No space left on device")


@pytest.mark.parametrize("what", ["read_error", "write_error", "lock_error"])
async def test_without_its_disk_the_relay_goes_on_and_says_so_once(what: str) -> None:
    store = Moody()
    house = House(store=store)
    setattr(store, what, FULL_DISK)
    with capture_logs() as logs:
        async with house.running():
            await asyncio.sleep(4 * 3600)
            assert await house.manager.get()
            asked = len(house.endpoint.asked)
            assert 4 <= asked <= 6
            setattr(store, what, None)
            await asyncio.sleep(3600)
    events = [line["event"] for line in logs if line["event"].startswith("auth.cache")]
    assert events == ["auth.cache_unavailable", "auth.cache_restored"]
    assert "No space left" in str(logs)
    assert (await house.beside().manager.get()).value == f"secret-{len(house.endpoint.asked)}"


async def test_a_neighbour_that_hangs_with_the_lock_holds_up_half_a_minute_only() -> None:
    house = House()
    async with house.store.lock(1):
        start = asyncio.get_running_loop().time()
        assert await house.manager.get()
        assert 30 <= asyncio.get_running_loop().time() - start <= 32
    assert isinstance(TokenStoreBusy("x"), TokenStoreError)
