"""`zoomrelay simulate`: a pretend Zoom to test a relay, or any other client, against."""

from __future__ import annotations

import asyncio
import shlex
import signal
from collections.abc import Callable, Coroutine
from typing import Annotated

import typer

from zoomrelay.config.models import LogConfig
from zoomrelay.simulator.faults import Faults
from zoomrelay.simulator.gateway import OnSecondConnection
from zoomrelay.simulator.refresh import REFRESH_LIFE_SECONDS
from zoomrelay.simulator.server import SUBSCRIPTION, Simulator
from zoomrelay.simulator.stories import DEFAULT_MIX, STORIES, parse_mix
from zoomrelay.simulator.tokens import Credentials
from zoomrelay.simulator.webhooks import check as check_webhook
from zoomrelay.telemetry.logs import configure_logging

_DEFAULT_EVENTS = ",".join(f"{family}={weight:g}" for family, weight in DEFAULT_MIX.items())


def command(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8700,
    rate: Annotated[float, typer.Option(min=0, help="Events per second.")] = 1.0,
    count: Annotated[int | None, typer.Option(min=0, help="Stop the stream after so many events.")] = None,
    burst: Annotated[
        int, typer.Option(min=0, help="Events sent at once when a client is accepted first.")
    ] = 0,
    events: Annotated[
        str, typer.Option(help=f"Which families, and how much of each ({', '.join(STORIES)}).")
    ] = _DEFAULT_EVENTS,
    seed: Annotated[int, typer.Option(help="The same seed gives the same events.")] = 0,
    subscription: Annotated[
        list[str] | None,
        typer.Option(help="Id of a subscription; may be repeated.", show_default=SUBSCRIPTION),
    ] = None,
    secret_token: Annotated[str, typer.Option(help="Sign events with this Secret Token.")] = "",
    client_secret: Annotated[
        list[str] | None,
        typer.Option(help="A secret of the app; may be repeated.", show_default=Credentials().client_secret),
    ] = None,
    expires_in: Annotated[int, typer.Option(min=1, help="Life of a token in seconds.")] = 3599,
    refresh_expires_in: Annotated[
        int, typer.Option(min=1, help="Life of a refresh token in seconds.")
    ] = REFRESH_LIFE_SECONDS,
    second_connection: Annotated[
        OnSecondConnection, typer.Option(help="What happens when a subscription is connected twice.")
    ] = "kick-old",
    webhook: Annotated[
        str, typer.Option(metavar="URL", help="Send every event by webhook to this address too.")
    ] = "",
    webhook_secret: Annotated[
        str, typer.Option(help="Sign webhooks with this Secret Token.", show_default="that of --secret-token")
    ] = "",
    webhook_retry_scale: Annotated[
        float, typer.Option(min=0, help="Zoom's pauses between tries (5, 20, 60 minutes), times this.")
    ] = 1.0,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="A fault to begin with; may be repeated. See docs/simulator.md."
        ),
    ] = None,
) -> None:
    """Pretend to be Zoom: token endpoint, authorize page and event WebSocket on one port, until Ctrl-C."""
    configure_logging(LogConfig())
    try:
        simulator = Simulator(
            host=host,
            port=port,
            seed=seed,
            rate=rate,
            count=count,
            mix=parse_mix(events),
            subscriptions=subscription or [SUBSCRIPTION],
            secret_token=secret_token,
            credentials=Credentials(client_secret=client_secret[0]) if client_secret else None,
            expires_in_seconds=expires_in,
            refresh_expires_in_seconds=refresh_expires_in,
            on_second_connection=second_connection,
            faults=parse_faults(fault or []),
            webhook_url=webhook,
            webhook_secret=webhook_secret,
            webhook_retry_scale=webhook_retry_scale,
        )
        check_webhook(webhook, webhook_secret or secret_token)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if client_secret:
        simulator.set_client_secrets(client_secret)
    _loop()(_serve(simulator, burst))


def parse_faults(pairs: list[str]) -> Faults:
    """From `name=value` texts; raises `ValueError`."""
    faults = Faults()
    faults.change({name: value for name, _, value in (pair.partition("=") for pair in pairs)}, strict=False)
    return faults


async def _serve(simulator: Simulator, burst: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        async with simulator, asyncio.TaskGroup() as tasks:
            _announce(simulator)
            first = tasks.create_task(_burst(simulator, burst), name="simulator.burst")
            await stop.wait()
            first.cancel()
    except OSError as error:
        typer.echo(
            f"zoomrelay: cannot listen on {simulator.host}:{simulator.port}: {error.strerror}", err=True
        )
        raise typer.Exit(1) from error
    sent = simulator.journal
    typer.echo(f"# {sent.count} sent, {sent.unheard} of them to nobody, {len(sent.connections)} connections")
    if posts := simulator.webhooks.count:
        taken = simulator.webhooks.statuses[200]
        typer.echo(f"# {posts} sent by webhook, {taken} of them taken")


async def _burst(simulator: Simulator, count: int) -> None:
    await simulator.until(lambda: simulator.accepted > 0)
    await simulator.burst(count)


def _announce(simulator: Simulator) -> None:
    """On standard output, ready to be pasted into a shell or evaluated by one."""
    for name, value in simulator.environment.items():
        typer.echo(f"export {name}={shlex.quote(value)}")
    typer.echo(f"# control: {simulator.control_url}/state   Ctrl-C ends it")


def _loop() -> Callable[[Coroutine[None, None, None]], None]:
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    return uvloop.run
