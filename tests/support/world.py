"""A whole relay on virtual time, between a pretend Zoom, a receiver, a disk and somebody who kills it.

Everything is the real thing (`Relay` with its SQLite spool, ledger, file sink, workers, sessions, tokens) up
to three doors, behind which stand fakes: the sockets (`Dialler.dial`), the token endpoint
(`TokenEndpoint.request`) and the receiver (`HttpSink.send`). Threads are dates (`virtual.Jobs`).

A kill copies the state directory as it is at that moment, which is what the next process finds. What the old
process does from then on touches its own copy only, and nobody listens to it.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar, copy_context
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import msgspec
from pydantic import SecretStr
from structlog.testing import capture_logs

from tests.support import damage, oracle
from tests.support.pretend_zoom import MAX_MESSAGE_BYTES, PretendZoom, Wire
from tests.support.schedule import Kind, Schedule, Step
from tests.support.virtual import Dates, Jobs, VirtualLoop, run
from zoomrelay.app import Relay
from zoomrelay.auth.endpoint import TokenEndpoint
from zoomrelay.auth.token import Token
from zoomrelay.config.models import Config
from zoomrelay.errors import ControlRefused, SinkUnavailable, SpoolError
from zoomrelay.event import Event
from zoomrelay.intake import ledger
from zoomrelay.intake.ledger import Gap
from zoomrelay.session.transport import Dialler
from zoomrelay.simulator.rubbish import Rubbish
from zoomrelay.sinks.answer import refusal
from zoomrelay.sinks.http import HttpSink
from zoomrelay.sinks.thread import IoThread

WALL = 1_700_000_000.0
HEARTBEAT_SECONDS, DEAD_AFTER_SECONDS = 5.0, 15.0
PATIENCE_SECONDS = 4 * 3600.0
"""Virtual. Refused credentials are retried after minutes, and longer each time."""
MARK_SECONDS = 300.0
_MARKS = 3
SPOOL_RETRY_SECONDS = 6.0
"""After its trouble, the spool is tried again within this."""
MEND_SECONDS = 66.0
"""A damaged spool is mended within this, or another attempt at it is under way."""
_TAIL = 40
_current: ContextVar[Process] = ContextVar("process")


class WorldClock:
    """The machine's clocks: `elapsed` is true, `wall` is what somebody set it to."""

    def __init__(self, dates: Dates) -> None:
        self._dates = dates
        self._offsets: list[tuple[float, float]] = [(0.0, 0.0)]
        """From when on the wall clock was by how much wrong."""

    def wall(self) -> float:
        return WALL + self._dates.now + self._offsets[-1][1]

    def elapsed(self) -> float:
        return self._dates.now

    def set_forward(self, seconds: float) -> None:
        self._offsets.append((self._dates.now, self._offsets[-1][1] + seconds))

    def true(self, wall: float) -> float:
        """The moment at which the wall clock showed this."""
        ends = [start for start, _ in self._offsets[1:]] + [float("inf")]
        for (start, offset), end in zip(self._offsets, ends, strict=True):
            if start - 0.01 <= wall - WALL - offset <= end + 0.01:
                return wall - WALL - offset
        raise AssertionError(f"the ledger names {wall}, which no clock has shown: {self._offsets}")

    def put_right(self, gap: Gap) -> Gap:
        """The interval in true time. Its length was measured without the wall clock."""
        assert gap.to_ms is not None
        end = self.true(gap.to_ms / 1000)
        return msgspec.structs.replace(
            gap, from_ms=round((end - gap.seconds) * 1000), to_ms=round(end * 1000)
        )


class Process:
    """One life of the relay."""

    def __init__(self, world: World, directory: Path, number: int) -> None:
        self.directory = directory
        self.born = world.dates.now
        self.dead = False
        self.wires: list[Wire] = []
        sources, sinks = _settings(world.zoom, directory)
        config = Config.model_validate({"state_dir": directory / "state", "sources": sources, "sinks": sinks})
        self.relay = Relay(config, clock=world.clock, random=Random(f"relay {world.schedule.seed} {number}"))
        context = copy_context()
        context.run(_current.set, self)
        self._context = context
        self.task = asyncio.get_running_loop().create_task(
            self.relay.run(), name=f"process {number}", context=context
        )
        self._reloads: list[asyncio.Task[None]] = []

    def reload(self, what: str) -> None:
        """Take over another address of the sockets, or another secret."""
        number = len(self._reloads) + 1
        change = {
            "address": {"ws_url": f"wss://ws.zoom.us/ws?way={number}"},
            "secret": {"client_secret": SecretStr(f"secret {number}")},
        }[what]
        config = self.relay.config
        main = config.sources["main"].model_copy(update=change)
        new = config.model_copy(update={"sources": {"main": main}})
        task = asyncio.get_running_loop().create_task(
            self._reload(new), name=f"reload {number}", context=self._context
        )
        self._reloads.append(task)

    async def _reload(self, new: Config) -> None:
        with suppress(ControlRefused):
            await self.relay.reload(new)

    def die(self) -> None:
        """From now on nothing it does counts."""
        self.dead = True
        for wire in self.wires:
            wire.process_gone()
        for reload in self._reloads:
            reload.cancel()
        self.task.cancel()


def _settings(zoom: PretendZoom, directory: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    known = zoom.credentials
    source = {
        "name": "main",
        "account_id": known.account_id,
        "client_id": known.client_id,
        "client_secret": known.client_secret,
        "subscriptions": zoom.subscriptions,
        "heartbeat_seconds": HEARTBEAT_SECONDS,
        "dead_after_seconds": DEAD_AFTER_SECONDS,
        "max_message_bytes": MAX_MESSAGE_BYTES,
    }
    archive = {"name": "archive", "type": "file", "path": directory / "events.ndjson"}
    crm = {"name": "crm", "type": "http", "url": "http://127.0.0.1:9/", "concurrency": 4}
    return {"main": source}, {"archive": archive, "crm": crm}


class World:
    """Plays one schedule. `problems` is empty where the rule was kept; `trace` is what happened, in short."""

    def __init__(self, schedule: Schedule, directory: Path) -> None:
        self.schedule = schedule
        self.dates = Dates()
        self.clock = WorldClock(self.dates)
        self._random = Random(f"world {schedule.seed}")
        self._jobs = Jobs(self.dates, Random(f"disk {schedule.seed}"))
        self._jobs.trouble = self._trouble
        self._jobs.at_once = lambda: (process := _current.get(None)) is not None and process.dead
        names = [f"Subscription{number:010}" for number in range(schedule.paths)]
        self.zoom = PretendZoom(self.dates, Random(f"zoom {schedule.seed}"), names)
        self.taken: dict[str, list[oracle.Taken]] = {"archive": [], "crm": []}
        self.problems: list[str] = []
        self.log: list[Any] = []
        self._directory = directory
        self._process: Process | None = None
        self._ghosts: list[Process] = []
        self._lives = 0
        self._kills: list[float] = []
        self._blind: list[oracle.Interval] = []
        self._disk_broken_until = 0.0
        self._mended_at = 0.0
        self._receiver: tuple[str, float] = ("", 0.0)
        self._lines = 0
        self._calm = False
        self._pause_seconds = 0.0
        self._gaps: list[Gap] = []
        self._gone_gaps: list[Gap] = []
        """Of ledgers that somebody removed."""
        self._damages: list[oracle.Damage] = []
        self._amnesia: list[float] = []
        self._dead: list[bytes] = []

    # --- the whole ----------------------------------------------------------------------------------

    def play(self) -> None:
        """From start to end; see `problems` afterwards."""
        with _doors(self), capture_logs() as self.log:
            run(self._main, self.dates, self._jobs)
        self.problems += self._judge()

    def report(self) -> str:
        """What was to happen, what was found, and the last lines of the log."""
        lines = [str({k: v for k, v in entry.items() if k != "log_level"}) for entry in self.log]
        return "\n".join([str(self.schedule), *self.problems, "", *lines[-_TAIL:]])

    @property
    def trace(self) -> tuple[object, ...]:
        """Equal for equal seeds."""
        return (tuple(self.taken["crm"]), tuple(self.taken["archive"]), tuple(self._gaps), self.dates.now)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(self._note_exception)
        self._start()
        for at, count in self.schedule.portions:
            self.dates.at(at, lambda count=count: self.zoom.emit(count))
        for step in self.schedule.steps:
            self.dates.at(step.at, lambda step=step: self._do(step))
        self.dates.after(0.1, self._pulse)
        await asyncio.sleep(self.schedule.seconds)
        self._calm_down()
        await self._finish()
        for ghost in self._ghosts:
            with suppress(asyncio.CancelledError, Exception):
                await ghost.task

    def _note_exception(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.problems.append(f"in the loop: {context['message']}: {context.get('exception')!r}")

    async def _finish(self) -> None:
        """Everything on the way arrives in every sink, then an orderly stop."""
        for _ in range(_MARKS):  # the first may fall into the end of a socket
            await self._until(self._everybody_listens, "acceptance")
            self.zoom.emit()
            with suppress(AssertionError):
                await self._until(self._settled, "settling", MARK_SECONDS)
                break
        await self._until(self._settled, "settling")
        process = self._living()
        stats = process.relay.spool.stats()
        for name, counts in stats.sinks.items():
            if counts.conservation_error or counts.pending:
                self.problems.append(f"{name}: conservation error {counts.conservation_error}, {counts}")
        dead = await process.relay.spool.dead_letters(sink="crm")
        letters = [await process.relay.spool.dead_letter(letter.number) for letter in dead]
        self._dead = [
            letter.content for letter in letters if letter and not letter.reason.startswith("damaged in")
        ]
        process.relay.stop()
        await process.task
        self._collect(process)
        self._gaps = self._gone_gaps + self._read_ledger(process.directory / "state")

    def _read_ledger(self, state: Path) -> list[Gap]:
        """What has ended; troubles other than those of subscriptions excuse nothing."""
        gaps = ledger.read(state, self.clock)
        return [self.clock.put_right(gap) for gap in gaps if gap.subscription and gap.to_ms]

    async def _until(
        self, happened: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS
    ) -> None:
        deadline = self.dates.now + seconds
        while not happened():
            if self.dates.now > deadline:
                raise AssertionError(f"no {what} within {seconds:.0f} s")
            await asyncio.sleep(0.5)

    def _everybody_listens(self) -> bool:
        process = self._process
        if (
            process is None
            or not process.relay.started.is_set()
            or process.relay.stopping
            or self.zoom.send_due()
        ):
            return False
        heard = [path.accepted for source in process.relay.status().sources for path in source.paths]
        open_ = [bool(self.zoom.open(name)) for name in self.zoom.subscriptions]
        return all(heard) and all(open_)

    def _settled(self) -> bool:
        process = self._process
        if process is None:
            return False
        last = self.zoom.journal.count
        (newest,) = {sent.content for sent in self.zoom.journal.since(last - 1)}
        arrived = newest in (process.directory / "events.ndjson").read_bytes()
        return arrived and not any(counts.pending for counts in process.relay.spool.stats().sinks.values())

    def _pulse(self) -> None:
        """Held back events go when they are due; a process that ended by itself is started again."""
        if not self._calm or self.zoom.send_due():
            self.zoom.send_due()
        process = self._process
        if process is not None and process.task.done() and not process.dead:
            self._ended(process)
        self.dates.after(0.1, self._pulse)

    # --- lives --------------------------------------------------------------------------------------

    def _living(self) -> Process:
        assert self._process is not None
        return self._process

    def _start(self) -> None:
        if self._process is None:
            self._lives += 1
            directory = self._directory / str(self._lives)
            directory.mkdir(exist_ok=True)
            self._process = Process(self, directory, self._lives)

    def _kill(self, then_seconds: float, *, damaged: str = "") -> None:
        process, self._process = self._process, None
        if process is None:
            return
        self._kills.append(self.dates.now)
        heir = self._directory / str(self._lives + 1)
        shutil.copytree(process.directory, heir, ignore=_no_memory)
        self._note_what_was_not_put_back(heir / "state")
        if damaged:
            self._damage(heir / "state", damaged, closed=True)
        self._collect(process)
        process.die()
        self._ghosts.append(process)
        self._again(then_seconds)

    def _again(self, seconds: float) -> None:
        # On a turn of the loop: this may be in the midst of a stall.
        self.dates.after(seconds, lambda: self._loop.call_soon(self._start))

    def _ended(self, process: Process) -> None:
        """It came to its end by itself: in order, or because there was no disk when it started."""
        self._process = None
        if self.dates.now < self._disk_broken_until + SPOOL_RETRY_SECONDS:  # as good as killed
            self._kills.append(self.dates.now)
        error = process.task.exception()
        if error is not None and not isinstance(error, SpoolError):
            self.problems.append(f"the relay crashed: {error!r}")
        self._collect(process)
        shutil.copytree(process.directory, self._directory / str(self._lives + 1))
        self._again(1.0 if error is not None else self._pause_seconds)

    def _collect(self, process: Process) -> None:
        """Note what its archive has got since the last look."""
        file = process.directory / "events.ndjson"
        lines = file.read_bytes().split(b"\n")[:-1] if file.exists() else []
        self.taken["archive"] += [
            oracle.Taken(self.dates.now, line, earliest=process.born) for line in lines[self._lines :]
        ]
        self._lines = len(lines)

    # --- faults -------------------------------------------------------------------------------------

    def _do(self, step: Step) -> None:
        zoom, faults = self.zoom, self.zoom.faults
        name = zoom.subscriptions[step.path]
        match step.kind:
            case Kind.KILL:
                self._kill(step.seconds)
            case Kind.STOP:
                self._stop(step.seconds)
            case Kind.CLOSE:
                self._end(name, int(step.word))
            case Kind.RESET:
                for wire in zoom.open(name):
                    wire.reset()
            case Kind.HALF_OPEN:
                for wire in zoom.open(name):
                    wire.fall_silent()
            case Kind.REFUSE:
                faults.change({"refuse": step.word, "refuse_times": self._random.randint(1, 4)})
                self._end(name)
            case Kind.UPGRADE:
                times = self._random.randint(1, 3)
                faults.change({"upgrade_status": int(step.word), "upgrade_times": times})
                self._end(name)
            case Kind.NEVER_ACCEPT:
                self._for_a_while(step, "never_accept", True, False)
                self._end(name)
            case Kind.MUTE:
                self._for_a_while(step, "stop_answering", True, False)
            case Kind.REVOKE:
                zoom.revoke_tokens()
                self._end(name)
            case Kind.TOKEN:
                zoom.token_trouble = step.word
                self.dates.after(step.seconds, lambda: setattr(zoom, "token_trouble", ""))
                zoom.revoke_tokens()
                self._end(name)
            case Kind.STALL | Kind.SUSPEND:
                self._stand_still(step)
            case Kind.DISK:
                self._disk_broken_until = max(self._disk_broken_until, self.dates.now + step.seconds)
                self._blind.append((self.dates.now, self._disk_broken_until + SPOOL_RETRY_SECONDS))
            case Kind.DAMAGE:
                how, _, after_a_kill = step.word.partition(" after")
                if after_a_kill:
                    self._kill(step.seconds, damaged=how)
                elif self._process is not None:
                    self._damage(self._process.directory / "state", how)
            case Kind.CLOCK:
                self.clock.set_forward(step.seconds)
            case Kind.RECEIVER:
                self._receiver = (step.word, self.dates.now + step.seconds)
            case Kind.RUBBISH:
                zoom.send_rubbish(Rubbish(step.word), name)
            case Kind.RELOAD:
                self._loop.call_soon(self._reload, step.word)
            case Kind.DISORDER:
                self._for_a_while(step, f"{step.word}_every", self._random.randint(1, 4), 0)

    def _reload(self, word: str) -> None:
        process = self._process
        if process is not None and process.relay.started.is_set() and not process.relay.stopping:
            process.reload(word)

    def _end(self, subscription: str, code: int = 1000) -> None:
        for wire in self.zoom.open(subscription):
            wire.hang_up(code, "Bye")

    def _damage(self, state: Path, how: str, *, closed: bool = False) -> None:
        if not (state / "spool.sqlite").exists():
            return
        if closed and how != "cut log" and self._random.random() < 0.7:
            damage.move_log_into_file(state)
        if how == "remove directory":
            self._gone_gaps += self._read_ledger(state)
        damage.do(state, how, self._random)
        removed = how.startswith("remove")
        if not removed or closed or not self._at_work():  # otherwise what is taken away is put back
            self._damages.append(oracle.Damage(self.dates.now, silent=removed or how == "cut log"))
            if how == "remove directory":
                self._amnesia.append(self.dates.now)
        if self.dates.now < self._mended_at:  # while the last one is mended nothing can be held
            self._blind.append((self.dates.now, self.dates.now + MEND_SECONDS))
        self._mended_at = self.dates.now + MEND_SECONDS

    def _at_work(self) -> bool:
        """Neither starting nor stopping: a file that vanishes is noticed and put back."""
        process = self._process
        return process is not None and process.relay.started.is_set() and not process.relay.stopping

    def _note_what_was_not_put_back(self, state: Path) -> None:
        """By a process that was killed before it could."""
        if not (state / "spool.sqlite-wal").exists():
            self._damages.append(oracle.Damage(self.dates.now, silent=True))
        if not (state / "alive.json").exists():
            self._amnesia.append(self.dates.now)

    def _for_a_while(self, step: Step, fault: str, value: object, before: object) -> None:
        self.zoom.faults.change({fault: value})
        self.dates.after(step.seconds, lambda: self.zoom.faults.change({fault: before}))

    def _stop(self, then_seconds: float) -> None:
        self._pause_seconds = then_seconds
        if self._process is not None and self._process.relay.started.is_set():
            self._loop.call_soon(self._process.relay.stop)

    def _stand_still(self, step: Step) -> None:
        """On a turn of the loop, and until the process that stands still is killed."""
        process = self._process
        if process is not None:
            loop = self._loop
            assert isinstance(loop, VirtualLoop)
            loop.call_soon(lambda: self._still(loop, process, step))

    def _still(self, loop: VirtualLoop, process: Process, step: Step) -> None:
        start = self.dates.now
        if step.kind is Kind.SUSPEND:
            loop.sleep_through(step.seconds * 3)
        else:
            loop.stall(step.seconds, unless=lambda: process.dead)
        self._blind.append((start, self.dates.now))

    def _calm_down(self) -> None:
        """Everybody behaves from now on."""
        self._calm = True
        self.zoom.faults.clear()
        self.zoom.token_trouble = ""
        self._disk_broken_until, self._receiver = 0.0, ("", 0.0)

    # --- behind the doors ---------------------------------------------------------------------------

    async def request(self, grant: str) -> Token:
        return await self.zoom.request(grant, self.clock.elapsed())

    async def dial(self, url: str) -> Wire:
        process = _current.get()
        wire = await self.zoom.dial(url)
        process.wires.append(wire)
        if process.dead:
            wire.process_gone()
        return wire

    async def send(self, event: Event) -> None:
        """Stands for `HttpSink.send`."""
        process, (mood, until) = _current.get(), self._receiver
        if self.dates.now >= until:
            mood = ""
        await asyncio.sleep(self._random.choice((0.001, 0.01, 0.05)))
        if process.dead or mood == "down":
            raise SinkUnavailable("no connection")
        if mood == "slow":
            await asyncio.sleep(self._random.uniform(1, 16))
        if process.dead:
            raise SinkUnavailable("no connection")
        if mood == "nonsense":
            raise refusal(self._random.choice((302, 400, 418, 429, 500)), dead_letter_on=())
        self.taken["crm"].append(oracle.Taken(self.dates.now, event.content, mood != "torn"))
        if mood == "torn":
            raise SinkUnavailable("no answer")

    def _trouble(self, executor: object, work: Any) -> Exception | None:
        if self.dates.now >= self._disk_broken_until or ((p := _current.get(None)) and p.dead):
            return None
        if "_close_" in repr(work):  # letting go of a file always works
            return None
        name = getattr(executor, "_thread_name_prefix", "")
        return (
            SpoolError("disk I/O error")
            if name.startswith("spool")
            else OSError(28, "No space left on device")
        )

    # --- judgement ----------------------------------------------------------------------------------

    def _judge(self) -> list[str]:
        truth = oracle.Truth(
            list(self.zoom.journal.since()),
            self.zoom.journal.connections,
            self._gaps,
            self._kills,
            self._blind,
            DEAD_AFTER_SECONDS,
            self._damages,
            self._amnesia,
        )
        found = []
        # Where a socket is made anew there are two for a moment. One may be slower than the other, and what
        # of the older one is in doubt is noted with some seconds to spare.
        two = any(step.kind is Kind.RELOAD and step.word == "address" for step in self.schedule.steps)
        for name in self.zoom.subscriptions:
            found += oracle.uncovered(truth, name) + ([] if two else oracle.excessive(truth, name))
        single = self.schedule.paths == 1 and not two
        for sink, taken in self.taken.items():
            contents = [one.content for one in taken] + (self._dead if sink == "crm" else [])
            ordered = single and sink == "archive"
            found += oracle.problems(truth, sink, contents, ordered=ordered, told=self._told_lost(sink))
            found += oracle.twins(truth, sink, taken)
        return found

    def _told_lost(self, sink: str) -> float:
        """Of how many events the relay said that a damaged spool cost them this sink; infinite where it said
        that nobody knows."""
        told = ("spool.lost_events", "spool.damaged_events")
        unknown = any(line.get("cause") == "spool_set_aside" and "events" not in line for line in self.log)
        counts = [line["count"] for line in self.log if line["event"] in told and line["sink"] == sink]
        return float("inf") if unknown else sum(counts)


@contextmanager
def _doors(world: World) -> Iterator[None]:
    """The world's fakes in the place of what reaches outside."""

    async def run_here(thread: IoThread, call: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(thread, call)  # type: ignore[arg-type]

    async def stop_here(thread: IoThread, last: Callable[[], None]) -> None:
        last()

    async def send(_sink: HttpSink, batch: Sequence[Event], attempt: int) -> None:
        await world.send(batch[0])

    async def nothing(_sink: HttpSink) -> None: ...

    async def dial(_dialler: Dialler, url: str) -> Wire:
        return await world.dial(url)

    async def request(_endpoint: TokenEndpoint, grant: str, form: object = None) -> Token:
        return await world.request(grant)

    with ExitStack() as stack:
        for owner, name, fake in (
            (IoThread, "run", run_here),
            (IoThread, "stop", stop_here),
            (HttpSink, "send", send),
            (HttpSink, "open", nothing),
            (HttpSink, "close", nothing),
            (Dialler, "dial", dial),
            (TokenEndpoint, "request", request),
        ):
            stack.enter_context(patch.object(owner, name, fake))
        yield


def _no_memory(_directory: str, names: list[str]) -> list[str]:
    """What a killed process leaves of SQLite's shared memory is rebuilt from the log."""
    return [name for name in names if name.endswith("-shm")]
