"""The session as a whole, against a scripted Zoom in virtual time."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from tests.unit.session.fakes import (
    ACCEPT,
    LIVE,
    FakeConnection,
    FakeZoom,
    House,
    closes,
    content,
    event,
    refuse,
    refuses,
    stays,
)
from zoomrelay.errors import DialError, TokenRefused, TokenUnavailable
from zoomrelay.session.protocol import State

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


async def test_events_reach_the_consumer_in_order_and_the_state_says_so() -> None:
    async def script(connection: FakeConnection) -> None:
        connection.frame(ACCEPT, *(event(number) for number in range(100)))

    house = House(FakeZoom(script))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(house.runner.run())
        await asyncio.sleep(3)
        assert house.runner.state is State.RECEIVING
        assert house.runner.accepted_since is not None
        assert house.sample("session_accepted", source="main", subscription="sub1") == 1
        await house.runner.stop()
    assert house.consumer.received == [content(number) for number in range(100)]
    assert house.sample("frames_total", source="main", subscription="sub1", kind="event") == 100
    assert house.sample("session_accepted", source="main", subscription="sub1") == 0
    assert house.listener.told == [("accepted", 0.0), ("lost", "stopped", True, 3.0)]
    assert house.runner.state is State.CLOSED


async def test_the_url_is_built_anew_with_the_token_of_the_moment() -> None:
    house = House(FakeZoom(refuses("Token is invalid"), stays))
    await house.during(5)
    assert [connection.url for connection in house.zoom.connections] == [
        "wss://ws.zoom.us/ws?subscriptionId=sub1&access_token=secret-1",
        "wss://ws.zoom.us/ws?subscriptionId=sub1&access_token=secret-2",
    ]
    assert house.tokens.accepted_values == ["secret-2"]


async def test_heartbeats_start_with_acceptance_and_keep_their_beat() -> None:
    house = House(FakeZoom(stays), heartbeat_seconds=25)
    await house.during(101)
    assert [round(at, 3) for at, _ in house.zoom.connections[0].sent] == [0, 25, 50, 75, 100]
    assert {text for _, text in house.zoom.connections[0].sent} == {'{"module":"heartbeat"}'}


async def test_heartbeats_do_not_wait_for_a_full_intake_nor_does_silence_count_then() -> None:
    async def script(connection: FakeConnection) -> None:
        connection.answers_heartbeats = False
        connection.frame(ACCEPT, *(event(number) for number in range(10)))

    house = House(FakeZoom(script), capacity=5, heartbeat_seconds=10, dead_after_seconds=30)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(house.runner.run())
        await asyncio.sleep(200)
        assert len(house.consumer.received) == 5
        assert len(house.zoom.connections) == 1
        assert len(house.zoom.connections[0].sent) == 20
        house.consumer.drain(100)
        await asyncio.sleep(29)
        assert len(house.consumer.received) == 10
        assert len(house.zoom.connections) == 1, "silence counts anew from the resumption"
        await asyncio.sleep(2)
        assert house.listener.told[1][:2] == ("lost", "silent")
        await house.runner.stop()


async def test_round_trip_of_heartbeats_is_measured() -> None:
    async def script(connection: FakeConnection) -> None:
        connection.answers_heartbeats = False
        connection.frame(ACCEPT)
        await asyncio.sleep(0.25)
        connection.frame(b'{"module":"heartbeat","success":true,"content":"live"}')

    house = House(FakeZoom(script))
    await house.during(3)
    rtt = house.sample("heartbeat_round_trip_seconds", source="main", subscription="sub1")
    assert rtt == pytest.approx(0.25)
    assert len(house.zoom.connections[0].sent) == 1, "a reply is never answered"


@pytest.mark.parametrize("code", [1000, 1001, 1006, 1008, 1011, 4001, 4999])
async def test_every_close_is_followed_by_an_attempt_at_once(code: int) -> None:
    house = House(FakeZoom(closes(20, code), stays))
    await house.during(30)
    assert house.zoom.waits == [pytest.approx(20, abs=0.01)]
    assert house.listener.told[1] == ("lost", "closed", True, 19.0)  # the second before


async def test_a_reset_is_not_clean_and_the_gap_begins_with_the_last_frame() -> None:
    async def script(connection: FakeConnection) -> None:
        connection.frame(ACCEPT)
        await asyncio.sleep(7)
        connection.frame(event())
        await asyncio.sleep(5)
        connection.end(cause="reset")

    house = House(FakeZoom(script, stays), heartbeat_seconds=55)
    await house.during(20)
    assert house.listener.told[:3] == [("accepted", 0.0), ("lost", "reset", False, 7.0), ("accepted", 12.0)]


@pytest.mark.parametrize(("cause", "at_most_seconds"), [("closed", 30), ("reset", 5)])
async def test_flapping_backs_off_but_not_far(cause: str, at_most_seconds: float) -> None:
    house = House(FakeZoom(closes(0.1, cause=cause)))
    await house.during(1000)
    pauses = [wait - 0.1 for wait in house.zoom.waits]
    assert pauses[0] == pytest.approx(0, abs=0.01)
    assert at_most_seconds / 2 < max(pauses) <= at_most_seconds + 0.001
    assert sum(pauses[-10:]) > 10, "it did back off"


async def test_silence_of_every_kind_of_frame_ends_the_socket() -> None:
    async def script(connection: FakeConnection) -> None:
        connection.answers_heartbeats = False
        connection.frame(ACCEPT)

    house = House(FakeZoom(script, stays), dead_after_seconds=75)
    await house.during(80)
    assert house.zoom.waits == [pytest.approx(75, abs=0.01)]
    assert house.listener.told[1] == ("lost", "silent", False, 0.0)


async def test_any_byte_keeps_it_alive() -> None:
    async def script(connection: FakeConnection) -> None:
        connection.answers_heartbeats = False
        connection.frame(ACCEPT)
        while True:
            await asyncio.sleep(70)
            connection.last_received = asyncio.get_running_loop().time()  # a ping, say

    house = House(FakeZoom(script), dead_after_seconds=75)
    await house.during(1000)
    assert len(house.zoom.connections) == 1


async def test_a_socket_that_takes_nothing_more_is_given_up() -> None:
    async def script(connection: FakeConnection) -> None:
        connection.stuck = True
        connection.frame(ACCEPT)

    house = House(FakeZoom(script, stays))
    await house.during(12)
    assert house.listener.told[1][:2] == ("lost", "silent")
    assert len(house.zoom.connections) == 2


async def test_without_acceptance_it_tries_again_after_fifteen_seconds() -> None:
    async def script(connection: FakeConnection) -> None:
        connection.last_received = 1e9

    house = House(FakeZoom(script, stays))
    await house.during(25)
    assert 15 <= house.zoom.waits[0] <= 16
    assert house.listener.told[0][0] == "accepted"
    assert (
        house.sample("session_attempts_total", source="main", subscription="sub1", result="not_accepted") == 1
    )


@pytest.mark.parametrize("frame", [event(), b'{"module":"heartbeat","success":true}'])
async def test_what_only_an_accepted_socket_brings_counts_as_acceptance(frame: bytes) -> None:
    async def script(connection: FakeConnection) -> None:
        connection.frame(frame)

    house = House(FakeZoom(script))
    await house.during(60)
    assert len(house.zoom.connections) == 1
    assert house.listener.told[0] == ("accepted", 0.0)


@pytest.mark.parametrize("text", ["Invalid Token", "Token is invalid", "token is empty", "the TOKEN, again"])
async def test_a_refused_token_is_replaced_at_once_whatever_the_wording(text: str) -> None:
    house = House(FakeZoom(refuses(text), stays), spares=1)
    await house.during(1)
    assert house.zoom.waits == [pytest.approx(0, abs=0.1)]
    assert house.tokens.number == 2


async def test_with_nothing_left_to_try_it_is_slow_and_loud_and_says_the_cure() -> None:
    house = House(FakeZoom(refuses("Invalid Token")), spares=2)
    with capture_logs() as logs:
        await house.during(3600)
    assert len([wait for wait in house.zoom.waits if wait < 1]) == 2
    slow = house.zoom.waits[2:]
    assert all(60 <= wait <= 301 for wait in slow)
    assert len(slow) >= 11, "it goes on trying"
    errors = [line for line in logs if line["log_level"] == "error"]
    assert len(errors) == 1
    assert "subscription" in errors[0]["cure"]
    assert house.runner.last_error.startswith("refused_token")


async def test_it_recovers_by_itself_from_a_permanent_refusal() -> None:
    house = House(FakeZoom(*[refuses("no such subscription")] * 5, stays))
    with capture_logs() as logs:
        await house.during(1500)
    assert house.listener.told[0][0] == "accepted"
    assert house.zoom.waits[0] < 1, "one refusal is not believed"
    assert all(wait >= 60 for wait in house.zoom.waits[1:])
    assert [line["event"] for line in logs].count("session.accepted") == 1


@pytest.mark.parametrize("module", ["heartbeat", "message", "something_new"])
async def test_success_false_on_any_module_is_a_refusal(module: str) -> None:
    async def script(connection: FakeConnection) -> None:
        connection.frame(ACCEPT)
        await asyncio.sleep(20)
        connection.frame(refuse("Token is invalid", module))

    house = House(FakeZoom(script, stays))
    await house.during(30)
    assert house.zoom.waits == [pytest.approx(20, abs=0.1)]
    assert house.tokens.number == 2
    assert house.zoom.connections[0].close_frames == 1


async def test_a_suspended_machine_drops_the_socket_at_once() -> None:
    house = House(FakeZoom(stays))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(house.runner.run())
        await asyncio.sleep(30.5)
        house.clock.suspend(3600)
        await asyncio.sleep(1)
        assert len(house.zoom.connections) == 2
        await house.runner.stop()
    assert house.listener.told[1] == ("lost", "suspended", False, 25.0)


async def test_the_end_of_a_socket_that_is_read_on_waking_is_older_than_the_sleep() -> None:
    house = House(FakeZoom(stays))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(house.runner.run())
        await asyncio.sleep(30.5)
        house.clock.suspend(3600)
        house.zoom.connections[0].end(1000, "Bye")
        await asyncio.sleep(0.5)
        await house.runner.stop()
    kind, cause, clean, heard_until = house.listener.told[1]
    assert (kind, cause, clean) == ("lost", "closed", True)
    assert isinstance(heard_until, float) and 29 <= heard_until <= 31


async def test_silence_from_before_several_short_sleeps_began_before_all_of_them() -> None:
    async def script(connection: FakeConnection) -> None:
        connection.answers_heartbeats = False
        connection.frame(ACCEPT)
        for _ in range(3):
            await asyncio.sleep(20.5)
            house.clock.suspend(4)

    house = House(FakeZoom(script, stays), dead_after_seconds=75)
    await house.during(80)
    assert house.listener.told[1] == ("lost", "silent", False, pytest.approx(0.0, abs=0.01))


async def test_alive_is_told_every_second() -> None:
    house = House(FakeZoom(stays))
    await house.during(10.5)
    assert len(house.listener.alive_walls) in range(10, 14)


@pytest.mark.parametrize("status", [400, 404, 410])
async def test_an_upgrade_refused_twice_is_slow(status: int) -> None:
    refused = DialError("no", stage="upgrade", status=status, cure="look")
    house = House(FakeZoom(refused))
    await house.during(1000)
    assert house.zoom.waits[0] < 1
    assert all(60 <= wait <= 300 for wait in house.zoom.waits[1:])


async def test_an_upgrade_refused_for_lack_of_rights_asks_for_a_new_token() -> None:
    house = House(FakeZoom(DialError("no", stage="upgrade", status=401), stays))
    await house.during(1)
    assert house.tokens.number == 2
    assert house.listener.told[0][0] == "accepted"


@pytest.mark.parametrize("status", [None, 500, 503])
async def test_trouble_on_the_way_is_tried_again_within_five_seconds_for_ever(status: int | None) -> None:
    house = House(FakeZoom(DialError("no", stage="tcp", status=status)))
    with capture_logs() as logs:
        await house.during(1000)
    assert max(house.zoom.waits) <= 5
    assert len(house.zoom.waits) > 200
    assert len([line for line in logs if line["log_level"] != "debug"]) == 1, "told once"


async def test_retry_after_of_an_upgrade_is_obeyed() -> None:
    house = House(FakeZoom(DialError("no", stage="upgrade", status=429, retry_after=120), stays))
    await house.during(130)
    assert house.zoom.waits == [pytest.approx(120, abs=0.1)]


async def test_without_a_token_it_waits_as_long_as_its_provider_says() -> None:
    house = House(FakeZoom(stays))
    house.tokens.error = TokenRefused("no", reason="invalid_client", cure="mend it", retry_after=90)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(house.runner.run())
        await asyncio.sleep(60)
        assert house.runner.next_attempt_at is not None
        assert house.runner.cure == "mend it"
        house.tokens.error = TokenUnavailable("no", reason="timeout", retry_after=3)
        await asyncio.sleep(31)
        house.tokens.error = None
        await asyncio.sleep(3)
        assert house.zoom.dialled == [pytest.approx(93, abs=0.1)]
        await house.runner.stop()


async def test_unknown_modules_and_unreadable_frames_are_survived() -> None:
    async def script(connection: FakeConnection) -> None:
        connection.frame(ACCEPT, b'{"module":"novelty","content":"x"}', b'{"broken', event(1))

    house = House(FakeZoom(script))
    await house.during(2)
    assert house.consumer.odd[0][0] == b'{"broken'
    assert house.consumer.received == [content(1)]
    assert len(house.zoom.connections) == 1
    assert house.sample("frames_total", source="main", subscription="sub1", kind="unknown") == 1


async def test_stop_takes_in_what_still_comes_before_zooms_close_frame() -> None:
    house = House(FakeZoom(stays))

    async def last_words(connection: FakeConnection) -> None:
        connection.frame(event(1), event(2))
        connection.end(1000)

    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(house.runner.run())
        await asyncio.sleep(5)
        connection = house.zoom.connections[0]
        connection.close = lambda: last_words(connection)  # type: ignore[method-assign]
        await house.runner.stop()
        assert run.done() or house.runner.state is State.CLOSED
    assert house.consumer.received == [content(1), content(2)]
    assert house.listener.told[-1][:3] == ("lost", "stopped", True)


async def test_stop_does_not_hang_on_a_dead_peer(looptime: object) -> None:
    async def script(connection: FakeConnection) -> None:
        connection.answers_close = False
        connection.frame(ACCEPT)

    house = House(FakeZoom(script))
    loop = asyncio.get_running_loop()
    await house.during(5)
    assert loop.time() <= 7.1
    assert house.listener.told[-1][:3] == ("lost", "stopped", False)


@pytest.mark.parametrize("where", ["token", "dial", "pause"])
async def test_stop_interrupts_what_comes_before_the_socket(where: str) -> None:
    async def for_ever(*_: object) -> None:
        await asyncio.Event().wait()

    house = House(FakeZoom(DialError("no", stage="upgrade", status=429, retry_after=900)))
    if where == "token":
        house.tokens.get = for_ever  # type: ignore[assignment]
    if where == "dial":
        house.runner._dial = for_ever  # type: ignore[assignment]
    await house.during(2)
    assert asyncio.get_running_loop().time() == pytest.approx(2, abs=0.01)
    assert house.listener.told == []


@pytest.mark.parametrize("seconds", [0, 5])
async def test_stop_may_be_called_by_several_and_before_anything_happened(seconds: float) -> None:
    house = House(FakeZoom(stays))
    await asyncio.wait_for(house.runner.stop(), 1)
    house = House(FakeZoom(stays))
    run = asyncio.create_task(house.runner.run())
    await asyncio.sleep(seconds)
    await asyncio.gather(house.runner.stop(), house.runner.stop())
    await run


async def test_cancelling_tells_the_listener() -> None:
    house = House(FakeZoom(stays))
    run = asyncio.create_task(house.runner.run())
    await asyncio.sleep(5)
    run.cancel()
    await asyncio.wait([run])
    assert run.cancelled()
    assert house.listener.told[-1][:2] == ("lost", "stopped")
    assert house.zoom.connections[0].ended is not None


async def test_what_came_while_there_was_no_room_is_handed_over_when_it_is_cancelled() -> None:
    async def script(connection: FakeConnection) -> None:
        connection.frame(ACCEPT)
        for number in range(1, 6):
            connection.frame(event(number))
            await asyncio.sleep(1)
        connection.frame(LIVE, event(6))

    house = House(FakeZoom(script), capacity=1)
    task = asyncio.create_task(house.runner.run())
    await asyncio.sleep(10)
    assert house.consumer.received == [content(1)]
    assert max(house.listener.alive_walls) <= 1.0, "what nobody has received was not heard"
    task.cancel()
    await asyncio.wait([task])
    assert house.consumer.received == [content(number) for number in range(1, 7)]


async def test_a_socket_that_opens_in_the_moment_of_a_stop_is_closed_in_order() -> None:
    house = House(FakeZoom(stays))
    opened: asyncio.Future[FakeConnection] = asyncio.get_running_loop().create_future()

    async def dial(_url: str) -> FakeConnection:
        return await opened

    house.runner._dial = dial
    task = asyncio.create_task(house.runner.run())
    await asyncio.sleep(1)
    connection = FakeConnection("ws://zoom")
    connection.frame(ACCEPT)
    opened.set_result(connection)
    async with asyncio.timeout(1):
        await house.runner.stop()
    await task
    assert (connection.close_frames, house.listener.told) == (1, [])


async def test_a_takeover_that_is_called_off_at_once_costs_an_attempt_and_no_more() -> None:
    house = House(FakeZoom(stays))
    dial, hanging = house.runner._dial, asyncio.Event()

    async def hang(_url: str) -> FakeConnection:
        hanging.set()
        house.runner._dial = dial
        return await asyncio.Event().wait()  # type: ignore[return-value]

    house.runner._dial = hang
    task = asyncio.create_task(house.runner.run())
    await hanging.wait()
    house.runner.leave()
    house.runner.stay()
    await asyncio.sleep(1)
    assert house.runner.state is State.ACCEPTED
    await house.runner.stop()
    await task


async def test_tokens_that_are_refused_after_a_while_are_not_asked_for_for_ever() -> None:
    async def script(connection: FakeConnection) -> None:
        connection.frame(ACCEPT)
        await asyncio.sleep(10)
        connection.frame(refuse("Token is invalid", "heartbeat"))
        await asyncio.sleep(0.05)
        connection.end(1000, "Bye")

    house = House(FakeZoom(script), spares=10_000)
    await house.during(4 * 3600)
    assert house.zoom.waits[:3] == pytest.approx([10] * 3, abs=1)
    assert 4 * 3600 / 70 < len(house.zoom.dialled) < 4 * 3600 / 30


async def test_no_token_in_logs_or_attributes() -> None:
    house = House(FakeZoom(closes(15), refuses("Invalid Token"), DialError("no", stage="dns"), stays))
    with capture_logs() as logs:
        await house.during(60)
    assert len(logs) >= 5
    assert "secret-" not in str(logs) + house.runner.last_error + repr(vars(house.runner))


async def test_a_session_that_waits_or_listens_is_not_stalled_and_one_that_hangs_is() -> None:
    async def accepted_and_quiet(connection: FakeConnection) -> None:
        connection.frame(ACCEPT)

    house = House(FakeZoom(accepted_and_quiet))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(house.runner.run())
        await asyncio.sleep(3600)
        assert not house.runner.stalled, "it listens"
        await house.runner.stop()

    house = House(FakeZoom(refuses("Connected in another place."), stays))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(house.runner.run())
        await asyncio.sleep(1)
        for _ in range(600):
            await asyncio.sleep(1)
            assert not house.runner.stalled, "it waits"
        await house.runner.stop()
        await asyncio.sleep(3600)
        assert not house.runner.stalled, "it has ended"


async def test_a_session_that_hangs_on_its_way_is_stalled() -> None:
    house = House(FakeZoom(stays))

    async def never(_url: str) -> FakeConnection:
        await asyncio.Event().wait()
        raise AssertionError

    house.runner._dial = never  # type: ignore[assignment]
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(house.runner.run())
        await asyncio.sleep(299)
        assert not house.runner.stalled
        await asyncio.sleep(2)
        assert house.runner.stalled
        await house.runner.stop()
