"""The manager of tokens against a scripted endpoint, in virtual time."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from tests.unit.auth.fakes import House
from zoomrelay.errors import TokenRefused, TokenUnavailable

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


UNAVAILABLE = TokenUnavailable("no answer", reason="timeout")
REFUSED = TokenRefused("wrong secret", reason="invalid_client", cure="mend it")


async def test_however_many_ask_one_request_is_made() -> None:
    house = House()
    tokens = await asyncio.gather(*(house.manager.get() for _ in range(50)))
    assert {token.value for token in tokens} == {"secret-1"}
    assert len(house.endpoint.asked) == 1
    assert house.protected == ["secret-1"]
    assert (await house.manager.get()).value == "secret-1"


async def test_who_stops_waiting_does_not_take_the_token_from_the_others() -> None:
    house = House()
    impatient, patient = asyncio.create_task(house.manager.get()), asyncio.create_task(house.manager.get())
    await asyncio.sleep(0.1)
    impatient.cancel()
    assert (await patient).value == "secret-1"
    assert impatient.cancelled()


async def test_it_is_renewed_in_the_background_at_about_three_quarters_of_its_life() -> None:
    house = House()
    async with house.running():
        await asyncio.sleep(24 * 3600)
    assert all(0.7 * 3600 <= wait <= 0.8 * 3600 for wait in house.endpoint.waits)
    assert len(house.endpoint.waits) >= 30
    assert len({round(wait) for wait in house.endpoint.waits}) > 10, "with jitter"
    assert house.sample("token_requests_total", result="issued") == len(house.endpoint.asked)


async def test_the_old_token_stays_in_use_while_the_new_one_is_asked_for() -> None:
    house = House()
    async with house.running():
        await asyncio.sleep(1)
        house.endpoint.life_seconds = 7200
        while len(house.endpoint.asked) == 1:
            before = asyncio.get_running_loop().time()
            assert (await house.manager.get()).value == "secret-1"
            assert asyncio.get_running_loop().time() == before, "at once"
            await asyncio.sleep(10)
        await asyncio.sleep(1)
        assert (await house.manager.get()).value == "secret-2"


async def test_a_token_with_too_little_life_is_replaced_before_it_is_handed_out() -> None:
    house = House()
    await house.manager.get()
    await asyncio.sleep(3100)
    assert (await house.manager.get(600)).value == "secret-2"


async def test_but_handed_out_all_the_same_where_no_other_can_be_had() -> None:
    house = House()
    await house.manager.get()
    await asyncio.sleep(3100)
    house.endpoint.error = UNAVAILABLE
    assert (await house.manager.get(600)).value == "secret-1"
    await asyncio.sleep(600)
    with pytest.raises(TokenUnavailable):
        await house.manager.get(600)


async def test_short_lived_tokens_are_no_busy_loop() -> None:
    house = House()
    house.endpoint.life_seconds = 8
    async with house.running():
        for _ in range(100):
            assert (await house.manager.get(600)).life_left(house.manager._time.now()) > 0
            await asyncio.sleep(1)
    assert min(house.endpoint.waits) >= 5.6


async def test_the_endpoint_down_for_55_minutes_is_one_warning() -> None:
    house = House()
    with capture_logs() as logs:
        async with house.running():
            await asyncio.sleep(10)
            house.endpoint.error = UNAVAILABLE
            await asyncio.sleep(55 * 60)
            assert house.sample("token_usable") == 1
            house.endpoint.error = None
            await asyncio.sleep(300)
            assert (await house.manager.get()).value != "secret-1"
    assert [line["log_level"] for line in logs] == ["info", "warning", "info"]
    assert "secret-" not in str(logs)
    assert max(house.endpoint.waits[1:]) <= 121.5, "and no long silence afterwards"


async def test_a_token_that_ended_is_no_longer_usable_and_the_metric_says_so() -> None:
    house = House()
    async with house.running():
        await asyncio.sleep(10)
        assert house.sample("token_expires_timestamp_seconds") == pytest.approx(1_700_003_600)
        house.endpoint.error = UNAVAILABLE
        await asyncio.sleep(3600)
        assert house.sample("token_usable") == 0


async def test_failures_are_told_fast_with_the_time_to_the_next_try() -> None:
    house = House()
    house.endpoint.error = REFUSED
    with pytest.raises(TokenRefused):
        await house.manager.get()
    await asyncio.sleep(20)
    asked = len(house.endpoint.asked)
    before = asyncio.get_running_loop().time()
    with pytest.raises(TokenRefused) as caught:
        await house.manager.get()
    assert asyncio.get_running_loop().time() == before
    assert len(house.endpoint.asked) == asked
    assert 39 <= (caught.value.retry_after or 0) <= 100
    assert (caught.value.reason, caught.value.cure) == ("invalid_client", "mend it")
    await asyncio.sleep(caught.value.retry_after or 0)
    house.endpoint.error = None
    assert await house.manager.get()


async def test_refused_credentials_are_tried_slowly_told_once_and_recover() -> None:
    house = House()
    house.endpoint.error = REFUSED
    with capture_logs() as logs:
        async with house.running():
            await asyncio.sleep(3600)
            assert all(60 <= wait <= 301 for wait in house.endpoint.waits)
            assert len(house.endpoint.asked) >= 12
            house.endpoint.error = None
            await asyncio.sleep(301)
            assert await house.manager.get()
    assert [(line["event"], line["log_level"]) for line in logs] == [
        ("auth.credentials_refused", "error"),
        ("auth.token_issued", "info"),
    ]
    assert logs[0]["cure"] == "mend it"


async def test_a_secret_changed_while_the_old_one_is_refused_is_tried_within_seconds() -> None:
    """The refusal is of what was asked with, not of what the file holds by then."""
    house = House()
    house.endpoint.error = REFUSED
    async with house.running():
        await asyncio.sleep(0.2)  # the request is under way
        assert len(house.endpoint.asked) == 1
        house.endpoint.secret = "second"
        await asyncio.sleep(0.4)
        house.endpoint.error = None
        await asyncio.sleep(10)
        assert len(house.endpoint.asked) == 2
        assert await house.manager.get()


async def test_transient_trouble_backs_off_to_minutes() -> None:
    house = House()
    house.endpoint.error = UNAVAILABLE
    async with house.running():
        await asyncio.sleep(3600)
    assert min(house.endpoint.waits) >= 1, "the least distance between requests"
    assert max(house.endpoint.waits) <= 121
    assert 40 < len(house.endpoint.asked) < 200


@pytest.mark.parametrize(("told", "waited"), [(400, 400), (10**9, 3600)])
async def test_retry_after_is_obeyed_within_reason(told: float, waited: float) -> None:
    house = House()
    house.endpoint.error = TokenUnavailable("slow down", reason="rate_limited", retry_after=told)
    async with house.running():
        await asyncio.sleep(3 * waited)
    assert house.endpoint.waits[0] == pytest.approx(waited + 0.5, abs=0.1)


async def test_a_refused_token_leads_to_one_new_one_and_stale_complaints_to_none() -> None:
    house = House()
    old = await house.manager.get()
    await asyncio.sleep(5)
    assert house.manager.refused(old)
    new = await house.manager.get()
    assert (new.value, new.grant) == ("secret-2", "account_credentials")
    house.manager.invalidate(old)
    assert house.manager.refused(old)
    assert await house.manager.get() is new
    assert len(house.endpoint.asked) == 2


async def test_requests_keep_their_distance_even_after_refusals() -> None:
    house = House()
    for _ in range(3):
        house.manager.invalidate(await house.manager.get())
    assert min(house.endpoint.waits) >= 1


async def test_auto_finds_the_grant_that_the_socket_likes() -> None:
    house = House()
    with capture_logs() as logs:
        for _ in range(2):
            assert house.manager.refused(await house.manager.get())
        token = await house.manager.get()
        house.manager.accepted(token)
        house.manager.accepted(token)
    assert [grant for _, grant in house.endpoint.asked] == [
        "account_credentials",
        "account_credentials",
        "client_credentials",
    ]
    assert [line["event"] for line in logs].count("auth.grant_worked") == 1


async def test_when_all_was_refused_it_says_so_to_everybody() -> None:
    house = House()
    tokens = []
    for expected in (True, True, False):
        tokens.append(await house.manager.get())
        assert house.manager.refused(tokens[-1]) is expected
    assert house.manager.refused(tokens[-1]) is False, "of another subscription, a moment later"
    assert (await house.manager.get()).grant == "account_credentials", "and begins again"


async def test_two_subscriptions_that_complain_at_once_count_as_one() -> None:
    house = House()
    for _ in range(2):
        token = await house.manager.get()
        assert house.manager.refused(token)
        assert house.manager.refused(token)
    assert (await house.manager.get()).grant == "client_credentials"


async def test_time_asleep_counts_against_the_token() -> None:
    house = House()
    await house.manager.get()
    house.clock.slept = 3500
    assert (await house.manager.get()).value == "secret-2"


async def test_ending_it_ends_a_request_under_way() -> None:
    house = House()
    async with house.running():
        await asyncio.sleep(0.1)
        waiter = asyncio.create_task(house.manager.get())
        await asyncio.sleep(0.1)
    with pytest.raises(TokenUnavailable):
        await waiter
