"""The grant authorization_code: its refresh token is replaced at each use and must not be lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import pytest
from structlog.testing import capture_logs

from tests.unit.auth.fakes import Died, House
from tests.unit.auth.test_sharing import FULL_DISK, Moody
from zoomrelay.auth.record import Record
from zoomrelay.auth.stores.memory import MemoryStore
from zoomrelay.errors import TokenRefused, TokenUnavailable

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

DAY = 86400.0
LOST_ON_THE_WAY = TokenUnavailable("the token endpoint did not answer in time", reason="timeout")
LOST_ON_THE_WAY.answer_lost = True
NOT_SENT = TokenUnavailable("the token endpoint could not be reached (dns)", reason="dns")


class Fatal(MemoryStore):
    """A store during whose n-th write the process dies, before or after the deed."""

    def __init__(self) -> None:
        super().__init__()
        self.dies_before = self.dies_after = 0
        self.writes = 0

    async def write(self, record: Record) -> None:
        self.writes += 1
        if self.writes == self.dies_before:
            raise Died
        await super().write(record)
        if self.writes == self.dies_after:
            raise Died


def user_house(store: MemoryStore | None = None) -> House:
    return House(store=store, grant="authorization_code", account_id="")


async def logged_in(store: MemoryStore | None = None) -> House:
    """Logged in a while ago: the access token is worn out."""
    house = user_house(store)
    await house.manager.redeem("code", verifier="v", redirect_uri="http://127.0.0.1/")
    await asyncio.sleep(3601)
    if isinstance(house.store, Fatal):
        house.store.writes = 0
    return house


async def test_without_a_login_it_says_what_to_do() -> None:
    house = user_house()
    with pytest.raises(TokenRefused) as caught:
        await house.manager.get()
    assert (caught.value.reason, caught.value.cure) == ("login_needed", "run: zoomrelay login --source main")
    assert house.endpoint.asked == []
    assert house.sample("token_refused", reason="login_needed") == 1
    assert house.sample("token_requests_total", result="refused") is None


async def test_a_login_gives_tokens_and_the_relay_finds_them_by_itself() -> None:
    relay = user_house()
    async with relay.running():
        await asyncio.sleep(1000)
        person = relay.beside()
        await person.manager.redeem("code", verifier="v", redirect_uri="http://127.0.0.1/")
        assert person.protected == ["secret-1", "refresh-1"]
        await asyncio.sleep(6)
        assert relay.sample("token_usable") == 1
        assert relay.sample("token_refused", reason="login_needed") == 0
        assert relay.sample("refresh_token_expires_timestamp_seconds") == pytest.approx(
            relay.clock.wall() + 90 * DAY, abs=10
        )
        assert (await relay.manager.get()).value == "secret-1"
    assert [grant for _, grant in relay.endpoint.asked] == ["authorization_code"]


async def test_a_code_is_not_used_up_where_the_tokens_could_not_be_kept() -> None:
    store = Moody()
    store.write_error = FULL_DISK
    house = user_house(store)
    with pytest.raises(TokenUnavailable) as caught:
        await house.manager.redeem("code", verifier="v", redirect_uri="http://127.0.0.1/")
    assert caught.value.reason == "cache_unwritable"
    assert house.endpoint.asked == []


async def test_it_renews_itself_for_weeks() -> None:
    house = await logged_in()
    with capture_logs() as logs:
        async with house.running():
            await asyncio.sleep(20 * DAY)
            assert await house.manager.get()
    assert house.endpoint.refresh_token == f"refresh-{len(house.endpoint.asked)}"
    assert {line["event"] for line in logs} == {"auth.token_issued"}
    assert (house.manager.refresh_token_ends() or 0) - house.clock.wall() > 89 * DAY


async def test_several_processes_renew_once() -> None:
    house = await logged_in()
    house.endpoint.old_refresh_works = False
    houses = [house, *(house.beside(seed) for seed in range(9))]
    for round_number in range(2, 6):
        tokens = await asyncio.gather(*(one.manager.get() for one in houses))
        assert {token.value for token in tokens} == {f"secret-{round_number}"}
        await asyncio.sleep(3601)
    assert len(house.endpoint.asked) == 5


def dies_before(number: int) -> Callable[[House, Fatal], None]:
    return lambda _house, store: setattr(store, "dies_before", number)


def dies_after(number: int) -> Callable[[House, Fatal], None]:
    return lambda _house, store: setattr(store, "dies_after", number)


STEPS: dict[str, tuple[Callable[[House, Fatal], None], bool]] = {
    "before the mark": (dies_before(1), False),
    "after the mark": (dies_after(1), False),
    "before Zoom has it": (lambda house, _: setattr(house.endpoint, "error", Died()), False),
    "after Zoom has it": (lambda house, _: setattr(house.endpoint, "after", Died()), True),
    "before it is kept": (dies_before(2), True),
    "after it is kept": (dies_after(2), False),
}
"""Where a process can die while it renews; whether Zoom's answer is lost by it."""


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("old_works", [True, False])
async def test_a_crash_at_any_step(step: str, old_works: bool) -> None:
    store = Fatal()
    house = await logged_in(store)
    house.endpoint.old_refresh_works = old_works
    arm, answer_lost = STEPS[step]
    arm(house, store)
    with suppress(Died):
        await house.beside().manager.get()
    house.endpoint.error = house.endpoint.after = None
    await asyncio.sleep(30)
    later, asked = house.beside(), len(house.endpoint.asked)
    with capture_logs() as logs:
        if answer_lost and not old_works:
            with pytest.raises(TokenRefused) as caught:
                await later.manager.get()
            assert (caught.value.reason, caught.value.cure) == (
                "refresh_token_lost",
                "run: zoomrelay login --source main",
            )
            assert later.sample("token_refused", reason="refresh_token_lost") == 1
        else:
            assert (await later.manager.get()).life_left(later.manager._time.now()) > 0
    interrupted = step not in ("before the mark", "after it is kept")
    assert ("auth.refresh_interrupted" in [line["event"] for line in logs]) is interrupted
    assert len(house.endpoint.asked) - asked == (0 if step == "after it is kept" else 1)
    await later.manager.redeem("code", verifier="v", redirect_uri="http://127.0.0.1/")
    await asyncio.sleep(3601)
    assert await house.beside().manager.get(), "a login mends everything"


@pytest.mark.parametrize("old_works", [True, False])
async def test_an_answer_lost_on_the_way(old_works: bool) -> None:
    house = await logged_in()
    house.endpoint.old_refresh_works = old_works
    house.endpoint.after = LOST_ON_THE_WAY
    with capture_logs() as logs:
        async with house.running():
            await asyncio.sleep(2)
            house.endpoint.after = None
            await asyncio.sleep(600)
            assert house.sample("token_usable") == float(old_works)
    events = [line["event"] for line in logs]
    assert events.count("auth.refresh_interrupted") == 1
    assert (logs[-1].get("reason") == "refresh_token_lost") is not old_works


async def test_while_zoom_is_out_of_reach_the_refresh_token_is_not_given_up() -> None:
    house = await logged_in()
    house.endpoint.old_refresh_works = False
    for error in (NOT_SENT, LOST_ON_THE_WAY, NOT_SENT):
        house.endpoint.error = error
        for _ in range(5):
            with pytest.raises(TokenUnavailable):
                await house.beside().manager.get()
            await asyncio.sleep(130)
    house.endpoint.error = None
    assert await house.beside().manager.get()


async def test_what_was_never_sent_is_no_lost_answer() -> None:
    house = await logged_in()
    house.endpoint.error = NOT_SENT
    with capture_logs() as logs:
        with pytest.raises(TokenUnavailable):
            await house.manager.get()
        await asyncio.sleep(2)
        house.endpoint.error = None
        assert await house.manager.get()
    assert "auth.refresh_interrupted" not in [line["event"] for line in logs]


async def test_a_refresh_token_that_zoom_refuses_asks_for_a_login() -> None:
    house = await logged_in()
    house.endpoint.refresh_token, house.endpoint.old_refresh_works = "another", False
    with pytest.raises(TokenRefused) as caught:
        await house.manager.get()
    assert (caught.value.reason, caught.value.cure) == ("invalid_grant", "run: zoomrelay login --source main")


async def test_trouble_with_the_app_keeps_its_own_cure() -> None:
    house = await logged_in()
    house.endpoint.error = TokenRefused("no", reason="app_disabled", cure="activate it")
    with pytest.raises(TokenRefused) as caught:
        await house.manager.get()
    assert (caught.value.reason, caught.value.cure) == ("app_disabled", "activate it")
    house.endpoint.error = None
    await asyncio.sleep(301)
    assert await house.manager.get(), "and the refresh token is there still"


@pytest.mark.parametrize("what", ["read_error", "write_error", "lock_error"])
async def test_it_is_not_used_while_its_successor_could_not_be_kept(what: str) -> None:
    store = Moody()
    house = user_house(store)
    await house.manager.redeem("code", verifier="v", redirect_uri="http://127.0.0.1/")
    with capture_logs() as logs:
        async with house.running():
            await asyncio.sleep(60)
            setattr(store, what, FULL_DISK)
            await asyncio.sleep(3400)
            assert (await house.manager.get()).value == "secret-1", "as long as it lives"
            await asyncio.sleep(3600)
            with pytest.raises(TokenUnavailable) as caught:
                await house.manager.get()
            assert caught.value.reason == "cache_unwritable" and caught.value.cure
            assert len(house.endpoint.asked) == 1
            setattr(store, what, None)
            await asyncio.sleep(130)
            assert (await house.manager.get()).value == "secret-2"
    loud = [line for line in logs if line["event"] == "auth.cache_unavailable"]
    assert [line["log_level"] for line in loud] == ["error"]


async def test_a_disk_that_fills_up_during_the_renewal_costs_nothing() -> None:
    store = Moody()
    house = await logged_in(store)
    house.endpoint.old_refresh_works = False
    async with house.running():
        await asyncio.sleep(0.2)
        assert len(house.endpoint.asked) == 2, "it is being asked"
        store.write_error = FULL_DISK
        await asyncio.sleep(100)
        with pytest.raises(TokenUnavailable, match="without its cache"):
            await house.manager.get()
        store.write_error = None
        await asyncio.sleep(130)
        assert (await house.manager.get()).value == "secret-2"
    assert len(house.endpoint.asked) == 2
    await asyncio.sleep(3601)
    assert (await house.beside().manager.get()).value == "secret-3"


async def test_a_stop_lets_the_renewal_come_to_its_end() -> None:
    house = await logged_in()
    house.endpoint.old_refresh_works = False
    async with house.running():
        await asyncio.sleep(0.2)
    assert (await house.beside().manager.get()).value == "secret-2"
    assert len(house.endpoint.asked) == 2


async def test_it_warns_daily_from_two_weeks_before_the_end() -> None:
    house = user_house()
    house.endpoint.life_seconds, house.endpoint.refresh_life_seconds = 40 * DAY, 20 * DAY
    with capture_logs() as logs:
        async with house.running():
            await house.manager.redeem("code", verifier="v", redirect_uri="http://127.0.0.1/")
            await asyncio.sleep(5.9 * DAY)
            assert [line["event"] for line in logs if line["log_level"] == "warning"] == []
            await asyncio.sleep(14 * DAY)
    warned = [line for line in logs if line["event"] == "auth.refresh_token_ends"]
    assert 13 <= len(warned) <= 15
    assert warned[0]["left_days"] == pytest.approx(14, abs=0.1)
    assert warned[0]["cure"] == "run: zoomrelay login --source main"


async def test_forgetting_keeps_the_refresh_token_unless_everything_goes() -> None:
    house = await logged_in()
    await house.manager.forget()
    assert (await house.manager.get()).value == "secret-2"
    await house.manager.forget(everything=True)
    with pytest.raises(TokenRefused, match="logged in"):
        await house.manager.get()


async def test_revoking_tells_zoom_of_both() -> None:
    house = user_house()
    await house.manager.redeem("code", verifier="v", redirect_uri="http://127.0.0.1/")
    await house.manager.revoke()
    assert house.endpoint.revoked == ["refresh-1", "secret-1"]
    with pytest.raises(TokenRefused, match="logged in"):
        await house.beside().manager.get()
