"""What holds of several processes with one token cache, whatever they do and wherever they die."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import looptime
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.unit.auth.fakes import Died, House
from zoomrelay.errors import TokenError, TokenUnavailable

USERS = 3
Step = tuple[str, int, float]
steps = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "get",
                "get",
                "get",
                "start",
                "reject",
                "refuse",
                "down",
                "up",
                "lose",
                "die asking",
                "die knowing",
            ]
        ),
        st.integers(0, USERS - 1),
        st.sampled_from([0.0, 0.2, 0.6, 30.0, 900.0, 3000.0]),
    ),
    max_size=25,
)
TIMED_OUT = TokenUnavailable("no answer", reason="timeout")
TIMED_OUT.answer_lost = True
DOWN = TokenUnavailable("no way there", reason="dns")


class Street:
    """Some processes with one cache."""

    def __init__(self, **source: object) -> None:
        self.first = House(**source)
        self.endpoint = self.first.endpoint
        self.endpoint.old_refresh_works = False
        self.users = [self.first.beside(seed, self.first.metrics) for seed in range(USERS)]
        self.calls: list[asyncio.Task[Any]] = []
        self.complaints = self.deaths = self.losses = 0

    def step(self, what: str, number: int) -> None:
        user = self.users[number]
        token = user.manager._token
        match what:
            case "get":
                self.calls.append(asyncio.create_task(user.manager.get()))
            case "start":
                self.users[number] = user.beside(number, self.first.metrics)
            case "reject" if token is not None:
                self.complaints += 1
                self.calls.append(asyncio.create_task(user.manager.rejected(token.value)))
            case "refuse" if token is not None:
                self.complaints += 1
                user.manager.refused(token)
            case "down" | "up":
                self.endpoint.error, self.endpoint.after = (DOWN if what == "down" else None), None
            case "lose":
                self.losses += 1
                self.endpoint.after = TIMED_OUT
            case "die asking":
                self.deaths += 1
                self.endpoint.error = Died()
            case "die knowing":
                self.deaths += 1
                self.losses += 1
                self.endpoint.after = Died()

    async def settle(self) -> None:
        """Zoom is well, and all that was begun has come to its end."""
        self.endpoint.error = self.endpoint.after = None
        for result in await asyncio.gather(*self.calls, return_exceptions=True):
            assert not isinstance(result, BaseException) or isinstance(result, TokenError | Died), result
        await asyncio.sleep(3601)

    async def play(self, schedule: list[Step]) -> None:
        for what, number, seconds in schedule:
            self.step(what, number)
            await asyncio.sleep(seconds)
        await self.settle()


def virtually(work: Coroutine[Any, Any, None]) -> None:
    loop = looptime.patch_event_loop(asyncio.new_event_loop(), noop_cycles=1)
    try:
        with capture_logs():
            loop.run_until_complete(work)
    finally:
        loop.close()


@settings(max_examples=60, deadline=None)
@given(steps)
def test_they_end_with_one_token_and_ask_seldom(schedule: list[Step]) -> None:
    async def story() -> None:
        street = Street()
        await street.play(schedule)
        tokens = await asyncio.gather(*(user.manager.get() for user in street.users))
        assert len({token.value for token in tokens}) == 1
        issued = street.first.sample("token_requests_total", result="issued") or 0
        hours = asyncio.get_running_loop().time() / 3600
        assert issued <= 2 * (hours + 1) + street.complaints + street.deaths

    virtually(story())


@settings(max_examples=60, deadline=None)
@given(steps)
def test_a_refresh_token_is_lost_only_where_an_answer_was(schedule: list[Step]) -> None:
    async def story() -> None:
        street = Street(grant="authorization_code", account_id="")
        await street.first.manager.redeem("code", verifier="v", redirect_uri="http://127.0.0.1/")
        await street.play(schedule)
        answers = await asyncio.gather(*(user.manager.get() for user in street.users), return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, TokenError)]
        assert {error.reason for error in refused} <= {"refresh_token_lost"}
        assert street.losses or not refused
        if not refused:
            assert len({answer.value for answer in answers}) == 1  # type: ignore[union-attr]

    virtually(story())
