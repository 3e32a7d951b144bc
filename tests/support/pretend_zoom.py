"""A Zoom for virtual time: the simulator's rules and journal, with wires of dates instead of sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from random import Random
from urllib.parse import parse_qs, urlsplit

import msgspec

from tests.support.virtual import Dates
from zoomrelay.auth.refusals import classify
from zoomrelay.auth.token import Instant, Token, read_token
from zoomrelay.errors import ConnectionEnded, DialError, TokenUnavailable
from zoomrelay.session.hearing import Hearing
from zoomrelay.session.inbox import Inbox
from zoomrelay.simulator.disorder import Disorder
from zoomrelay.simulator.faults import Faults
from zoomrelay.simulator.gateway import ELSEWHERE
from zoomrelay.simulator.journal import NOBODY, Connection, Journal
from zoomrelay.simulator.rubbish import Rubbish, rubbish
from zoomrelay.simulator.script import Script
from zoomrelay.simulator.tokens import ERRORS, Credentials, TokenBook
from zoomrelay.simulator.wire import Frame, envelope

MAX_MESSAGE_BYTES = 64 * 1024
_READ_BYTES = 64 * 1024
_CLOSE_SECONDS = 2.0
_HTML = "<html><body>Service Unavailable</body></html>"


def envelope_of(module: str, content: str, *, success: bool = True) -> bytes:
    return msgspec.json.encode({"module": module, "success": success, "content": content, "header": {}})


class Wire:
    """One connection: the relay's end is `zoomrelay.session.ports.Connection`, the other end is Zoom's.

    What Zoom sends takes `latency_seconds`, waits in a buffer of the system while the relay does not look,
    and is lost from there when the connection is reset or the process killed.
    """

    def __init__(
        self, dates: Dates, record: Connection, latency_seconds: float, answer: Callable[[Wire, str], None]
    ) -> None:
        self.record = record
        self._dates = dates
        self._latency_seconds = latency_seconds
        self._answer = answer
        self._loop = asyncio.get_running_loop()
        self._arrived: list[bytes | ConnectionEnded] = []
        self._ended: ConnectionEnded | None = None
        self._wanted = False
        self._inbox = Inbox(pause=lambda: None, resume=self._look)
        self.last_received = self._loop.time()
        self.hearing = Hearing(self.last_received)

    # --- Zoom's end ---------------------------------------------------------------------------------

    def send(self, payloads: Sequence[bytes]) -> None:
        if not self.record.ending:
            self._dates.after(self._latency_seconds, lambda: self._arrive(payloads))

    def hang_up(self, code: int, reason: str, ending: str = "closed") -> None:
        """A closing frame, behind all that was sent."""
        if self._ended is not None:  # the relay has let go of it, and the news is on its way
            self._forget()
        if not self.record.ending:
            end = ConnectionEnded("closed", code=code, reason=reason, clean=True)
            self._dates.after(self._latency_seconds, lambda: self._arrive([end]))
            self._note(ending, code, reason)

    def reset(self) -> None:
        """What is under way, and what nobody has read, is lost."""
        if not self.record.ending:
            self._note("reset")
            self._dates.after(self._latency_seconds, self._break)

    def fall_silent(self) -> None:
        """Half-open: nothing gets through in either direction, and TCP stays up."""
        if not self.record.ending:
            self._note("half-open")

    def process_gone(self) -> None:
        """The relay's process was killed."""
        self._arrived.clear()
        self._break()
        self._dates.after(self._latency_seconds, self._forget)

    def _forget(self) -> None:
        """Zoom hears that the other side is gone."""
        if not self.record.ending:
            self._note("client-gone")

    def _note(self, ending: str, code: int | None = None, reason: str = "") -> None:
        record = self.record
        record.ending, record.code, record.reason, record.ended_at = ending, code, reason, self._dates.now

    # --- the system between them --------------------------------------------------------------------

    def _arrive(self, pieces: Sequence[bytes | ConnectionEnded]) -> None:
        if self._ended is None and self.record.ending != "reset":
            self._arrived += pieces
            self._look()

    def _break(self) -> None:
        """A reset has arrived: it destroys what was not read."""
        self._arrived = [ConnectionEnded("reset")]
        self._look()

    def _look(self) -> None:
        """The loop reads as soon as it turns and wants to."""
        if not self._wanted and self._arrived and self.reading:
            self._wanted = True
            self._loop.call_soon(self._read)

    def _read(self) -> None:
        self._wanted = False
        if self._ended is not None or not self.reading:
            return
        messages: list[bytes] = []
        size = 0
        while self._arrived and size < _READ_BYTES and self._ended is None:
            piece = self._arrived.pop(0)
            if isinstance(piece, ConnectionEnded):
                self._ended = piece
            elif len(piece) > MAX_MESSAGE_BYTES:
                size += len(piece)
                self._refuse_oversize()
            else:
                size += len(piece)
                messages.append(piece)
        if size or (self._ended is not None and self._ended.clean):
            self.last_received = self._loop.time()
            self.hearing.read(size, self.last_received)
        if messages:
            self._inbox.put_messages(messages)
        if self._ended is not None:
            self._inbox.close()
        self._look()

    def _refuse_oversize(self) -> None:
        self._ended = ConnectionEnded("oversize", code=1009)
        if self.record.ending == "closed":  # which was never read
            self.record.ending = "client-closed"
        self._dates.after(self._latency_seconds, lambda: self._hear_close(1009))

    # --- the relay's end ----------------------------------------------------------------------------

    @property
    def reading(self) -> bool:
        return not self._inbox.paused

    @property
    def waiting_since(self) -> float | None:
        return self._inbox.since

    def rest(self) -> list[bytes]:
        return self._inbox.rest()

    async def receive(self) -> list[bytes]:
        try:
            return await self._inbox.take()
        except EOFError:
            assert self._ended is not None
            raise self._ended from None

    async def send_text(self, text: str) -> None:
        if self._ended is not None:
            raise self._ended
        self._dates.after(self._latency_seconds, lambda: self._hear(text))

    async def close(self) -> None:
        if self._ended is None:
            self._dates.after(self._latency_seconds, lambda: self._hear_close(1000))
            deadline = self._loop.time() + _CLOSE_SECONDS
            while self._ended is None and self._loop.time() < deadline:  # noqa: ASYNC110 - virtual time
                await asyncio.sleep(0.05)
            self.abort()

    def abort(self) -> None:
        if self._ended is None:
            self._ended = ConnectionEnded("reset")
            self._inbox.close()
            self._dates.after(self._latency_seconds, self._forget)

    # --- Zoom hears ---------------------------------------------------------------------------------

    def _hear(self, text: str) -> None:
        if not self.record.ending:
            self.record.heartbeats += 1
            self._answer(self, text)

    def _hear_close(self, code: int) -> None:
        if not self.record.ending:
            end = ConnectionEnded("closed", code=code, clean=True)
            self._dates.after(self._latency_seconds, lambda: self._arrive([end]))
            self._note("client-closed", code)


class PretendZoom:
    """Token endpoint, gateway and stream in one. `faults` may be changed at any time; `journal` is the truth,
    in true time."""

    def __init__(self, dates: Dates, random: Random, subscriptions: Sequence[str]) -> None:
        self.faults = Faults()
        self.journal = Journal(limit=100_000)
        self.subscriptions = tuple(subscriptions)
        self.credentials = Credentials()
        self.token_trouble = ""
        """`down`, `429`, `html`, or a name in `ERRORS`; empty: none."""
        self._dates = dates
        self._random = random
        self._book = TokenBook(Random(random.random()), self.credentials, expires_in_seconds=3599)
        self._script = Script(Random(random.random()))
        self._disorders = {name: Disorder(self.faults) for name in subscriptions}
        self._wires: list[Wire] = []
        self._rubbish = 0

    # --- what the relay calls -----------------------------------------------------------------------

    async def request(self, grant: str, elapsed: float) -> Token:
        """Stands for `TokenEndpoint.request`."""
        issued = Instant(asyncio.get_running_loop().time(), elapsed)
        await asyncio.sleep(self._random.uniform(0.005, 0.1))
        match self.token_trouble:
            case "":
                token = read_token(self._book.issue(grant, self._dates.now), grant=grant, issued=issued)
                assert token is not None
                return token
            case "down":
                raise TokenUnavailable("the token endpoint could not be reached (tcp)", reason="tcp")
            case "429":
                raise classify(429, None, "", 2.0)
            case "html":
                raise classify(200, None, _HTML, None)
            case name:
                raise classify(400, ERRORS[name], "", None)

    async def dial(self, url: str) -> Wire:
        """Stands for `Dialler.dial`."""
        latency_seconds = self._random.uniform(0.0002, 0.03)
        await asyncio.sleep(2 * latency_seconds)
        if status := self.faults.take_upgrade_status():
            raise DialError(f"the upgrade was answered with HTTP {status}", stage="upgrade", status=status)
        query = parse_qs(urlsplit(url).query)
        record = self.journal.connected(query["subscriptionId"][0], self._dates.now)
        wire = Wire(self._dates, record, latency_seconds, self._answer)
        self._wires.append(wire)
        self._welcome(wire, query["access_token"][0])
        return wire

    def revoke_tokens(self) -> None:
        self._book.revoke_all()

    # --- connections --------------------------------------------------------------------------------

    def _welcome(self, wire: Wire, token: str) -> None:
        text = self.faults.take_refusal() or self._book.judge(token, self._dates.now)
        if text:
            wire.send([envelope_of("build_connection", text, success=False)])
            wire.hang_up(1000, "Bye", "refused")
        elif not self.faults.never_accept:
            for older in self.open(wire.record.subscription):
                self._displace(older)
            wire.record.accepted_at = self._dates.now
            wire.send([envelope_of("build_connection", "ok")])

    def _displace(self, wire: Wire) -> None:
        wire.send([envelope_of("build_connection", ELSEWHERE, success=False)])
        wire.hang_up(1000, "Bye", "displaced")

    def _answer(self, wire: Wire, _heartbeat: str) -> None:
        if not self.faults.stop_answering:
            wire.send([envelope_of("heartbeat", "live")])

    def open(self, subscription: str) -> list[Wire]:
        return [wire for wire in self._wires if wire.record.open and wire.record.subscription == subscription]

    # --- the stream ---------------------------------------------------------------------------------

    def emit(self, count: int = 1) -> None:
        """The next events of the script, to every subscription."""
        now_ms = int(self._dates.now * 1000)
        for _ in range(count):
            content = self._script.next(1_700_000_000_000 + now_ms)
            self.send(content)

    def send(self, content: bytes) -> None:
        frame = Frame(content, b"")
        for name, disorder in self._disorders.items():
            for out in disorder.apply([frame], self._dates.now):
                self._carry(name, out)

    def send_rubbish(self, kind: Rubbish, subscription: str) -> None:
        self._rubbish += 1
        self._carry(subscription, rubbish(kind, self._rubbish, oversize_bytes=MAX_MESSAGE_BYTES + 1))

    def send_due(self) -> bool:
        """What was held back and is due now; whether more is held back."""
        for name, disorder in self._disorders.items():
            for frame in disorder.due(self._dates.now):
                self._carry(name, frame)
        return any(disorder.holding for disorder in self._disorders.values())

    def _carry(self, subscription: str, frame: Frame) -> None:
        now, wires = self._dates.now, self.open(subscription)
        payload = envelope(frame.content) if frame.kind == "event" else frame.content
        for wire in wires:
            wire.send([payload])
            wire.record.events += 1
            self.journal.note([frame], now, subscription, wire.record.number, heard=True)
        if not wires:
            number = next(
                (
                    wire.record.number
                    for wire in reversed(self._wires)
                    if wire.record.subscription == subscription and wire.record.ending == "half-open"
                ),
                NOBODY,
            )
            self.journal.note([frame], now, subscription, number, heard=False)
