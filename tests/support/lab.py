"""A pretend Zoom, a relay before it, sinks behind it, and the judgement about all of them."""

from __future__ import annotations

import asyncio
import base64
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec

from tests.support import books, oracle
from tests.support.process import RelayProcess
from tests.support.receiver import Receiver
from zoomrelay.admin.client import ControlClient
from zoomrelay.intake import ledger
from zoomrelay.simulator.journal import Connection
from zoomrelay.simulator.server import Simulator

_CONFIG = """
state_dir = "{state}"
drain_seconds = {drain_seconds}
[sources.main]
account_id = "{account_id}"
client_id = "{client_id}"
client_secret = "{client_secret}"
subscriptions = {subscriptions}
token_url = "{token_url}"
ws_url = "{ws_url}"
{source}
[spool]
type = "{spool}"
[admin]
listen = "127.0.0.1:0"
[log]
level = "debug"
format = "json"
[sinks.archive]
type = "file"
path = "{archive}"
{more}
"""
_PLANTED = "PlantedReceiverKey-7f3a"
_HTTP = """
[sinks.crm]
type = "http"
url = "{url}?key={planted}"
{options}
"""
STDOUT = '[sinks.console]\ntype = "stdout"\n'


class Lab:
    """An async context manager. The relay has a file sink `archive` always, an http sink `crm` where there
    is a receiver, and whatever `more` (TOML) names. At the end everything it wrote is searched for secrets.
    """

    def __init__(
        self,
        directory: Path,
        *,
        seed: int,
        receiver: Receiver | None = None,
        http_options: str = "",
        more: str = "",
        source: str = "",
        spool: str = "sqlite",
        drain_seconds: float = 5,
        **simulator: Any,
    ) -> None:
        self.seed = seed
        self.zoom = Simulator(seed=seed, journal_limit=1_000_000, **simulator)
        self.receiver = receiver
        self.relay = RelayProcess(directory)
        self.state_dir = directory / "state"
        self.archive_file = directory / "events.ndjson"
        self.kills: list[float] = []
        self.blind: list[oracle.Interval] = []
        """When the machine, or somebody, kept the relay from running."""
        self.ws_url = ""
        """Where the relay is to find Zoom's socket, if not at Zoom's."""
        self.answers: dict[str, bytes] = {}
        """What was asked of the relay while it ran, by path."""
        self._settings: dict[str, Any] = {
            "more": more,
            "source": source,
            "spool": spool,
            "drain_seconds": drain_seconds,
        }
        self._http_options = http_options
        self._tokens: list[str] = []
        self._marks = 0
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._note_tokens()
        if self.receiver is not None:
            await self._stack.enter_async_context(self.receiver)
        await self._stack.enter_async_context(self.zoom)
        self._stack.callback(self.relay.abandon)
        self.configure()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()
        if error is None:
            assert not (leaks := self.leaks()), leaks

    @property
    def tokens_issued(self) -> int:
        return len(self._tokens)

    def also(self, process: RelayProcess) -> None:
        """Leave no process behind, this one neither."""
        self._stack.callback(process.abandon)

    def configure(self, **changes: Any) -> None:
        """Write the configuration file, with these settings changed."""
        self._settings |= changes
        known, more = self.zoom.credentials, self._settings["more"]
        if self.receiver is not None:
            more += _HTTP.format(planted=_PLANTED, url=self.receiver.url, options=self._http_options)
        self.relay.config_file.write_text(
            _CONFIG.format(
                state=self.state_dir,
                archive=self.archive_file,
                account_id=known.account_id,
                client_id=known.client_id,
                client_secret=known.client_secret,
                subscriptions=list(self.zoom.subscriptions),
                token_url=self.zoom.token_url,
                ws_url=self.ws_url or self.zoom.ws_url,
                **{**self._settings, "more": more},
            )
        )

    # --- steps --------------------------------------------------------------------------------------

    async def start(self, **how: Any) -> None:
        """Start the relay, and return once Zoom has accepted it."""
        self.relay.start(**how)
        await self.accepted()

    async def accepted(self) -> None:
        """Zoom has accepted the process that runs now, and not only one that it does not know to be dead, on
        every subscription."""
        await self.relay.until(
            lambda: all(map(self._is_accepted, self.zoom.subscriptions)), f"acceptance (seed {self.seed})"
        )

    def _is_accepted(self, subscription: str) -> bool:
        started_at = self.relay.started_at
        return any(
            c.open and c.subscription == subscription and (c.accepted_at or 0) >= started_at
            for c in self._connections
        )

    @property
    def _connections(self) -> list[Connection]:
        return self.zoom.journal.connections

    def kill(self) -> None:
        self.kills.append(self.relay.kill())

    async def finish(self, *, ask: bool = True, subscription: str | None = None) -> None:
        """Let everything on the way arrive in every sink: a last event goes behind all others, on every
        subscription or on this one."""
        await self.accepted()
        self._marks += 1
        mark = f"mark {self._marks}"
        heard = await self.zoom.emit(
            {"event": "test.mark", "payload": {"mark": mark}}, subscription=subscription
        )
        assert heard, "the socket ended while everything should be calm"
        await self.relay.until(lambda: mark.encode() in self._end_of_archive(), f"{mark} in the archive")
        await self.relay.until(self._settled, f"the settling of every sink (seed {self.seed})", seconds=240)
        if ask:
            await self.ask()

    async def end(self, **judged: Any) -> None:
        """Let everything arrive, stop the relay in order, and judge it all (see `judge`)."""
        await self.finish()
        await self.relay.stop()
        print(self.figures())
        self.judge(**judged)

    async def ask(self) -> None:
        """Note what the control socket and the admin port tell, for the search for secrets."""
        client = ControlClient(self.state_dir)
        for path in ("/status", "/gaps", "/dlq"):
            self.answers["control " + path] = bytes(await asyncio.to_thread(client.get, path, msgspec.Raw))
        admin = self.relay.log("admin.listening")[-1]["addresses"][0]
        async with aiohttp.ClientSession() as session:
            for path in ("/", "/metrics", "/readyz", "/livez"):
                async with session.get(f"http://{admin}{path}") as answer:
                    self.answers["admin " + path] = await answer.read()

    def _end_of_archive(self) -> bytes:
        segment = self.archive_file.with_name(f"{self.archive_file.name}.part")
        newest = segment if segment.exists() else self.archive_file
        if not newest.exists():
            return b""
        with newest.open("rb") as file:
            # What Zoom was about to send may come behind the mark.
            file.seek(max(0, file.seek(0, 2) - 512 * 1024))
            return file.read()

    def _settled(self) -> bool:
        try:
            return all(account.pending == 0 for account in self._accounts().values())
        except sqlite3.OperationalError:
            return False  # it is being repaired just now

    def _accounts(self) -> dict[str, books.Account]:
        return books.accounts(self.state_dir) if self._settings["spool"] == "sqlite" else {}

    async def pause(self, seconds: float) -> None:
        """Let time pass: part of a schedule, never a wait for something."""
        await asyncio.sleep(seconds)

    # --- judgement ----------------------------------------------------------------------------------

    def delivered(self) -> dict[str, list[bytes]]:
        """What each sink got, in order."""
        found = {"archive": _lines(self.archive_file)}
        if STDOUT in self._settings["more"]:
            found["console"] = self._whole(_lines(self.relay.stdout_file))
        if self.receiver is not None:
            found["crm"] = list(self.receiver.taken)
        return found

    def _whole(self, lines: list[bytes]) -> list[bytes]:
        """Without the beginnings of events at which a kill cut a line short; the event itself comes again."""
        sent = {one.content for one in self.zoom.journal.since()}
        return [
            line for line in lines if line in sent or not any(content.startswith(line) for content in sent)
        ]

    def truth(self) -> oracle.Truth:
        gaps = ledger.read(self.state_dir)
        return oracle.Truth(
            list(self.zoom.journal.since()), self.zoom.journal.connections, gaps, self.kills, self.blind
        )

    def judge(self, *, ordered: bool = True, buried: Mapping[str, Sequence[bytes]] | None = None) -> None:
        """The rule holds at every sink, the ledger covers every time of deafness, the books balance.
        `ordered`: and a single subscription's events are where they belong. `buried`: what each sink was
        right to give up."""
        truth = self.truth()
        single = ordered and len(self.zoom.subscriptions) == 1
        found = [problem for name in self.zoom.subscriptions for problem in oracle.uncovered(truth, name)]
        for sink, delivered in self.delivered().items():
            ended = [*delivered, *(buried or {}).get(sink, ())]
            found += oracle.problems(truth, sink, ended, ordered=single and sink != "crm")
        for sink, account in self._accounts().items():
            if account.conservation_error or account.pending:
                found.append(f"{sink}: conservation error {account.conservation_error}, {account}")
        found += self.unaccounted()
        assert not found, "\n".join([f"seed {self.seed}", *found, self.relay.tail()])

    def unaccounted(self) -> list[str]:
        """Frames of a source that the relay, asked when all was calm, could not account for."""
        status = msgspec.json.decode(self.answers.get("control /status", b'{"sources":[]}'))
        errors = {source["name"]: source["conservation_error"] for source in status["sources"]}
        return [f"source {name}: conservation error {error}" for name, error in errors.items() if error]

    def figures(self) -> str:
        """What happened, in one line, for whoever reads the output of a test."""
        truth, delivered = self.truth(), self.delivered()
        parts: dict[str, object] = {
            "seed": self.seed,
            "sent": len(truth.events),
            "connections": dict(Counter(c.ending or "open" for c in truth.connections)),
            "gaps": len(truth.gaps),
            "gap seconds": round(sum(gap.seconds for gap in truth.gaps), 1),
        }
        for sink, contents in delivered.items():
            parts[f"{sink} lost"] = len(oracle.lost(truth, contents))
            parts[f"{sink} twice"] = oracle.repeated(contents).total()
        if self.receiver is not None:
            parts["requests"] = self.receiver.requests
        return ", ".join(f"{name} {value}" for name, value in parts.items())

    def leaks(self) -> list[str]:
        """Where secrets stand that must not stand there."""
        known = self.zoom.credentials
        basic = base64.b64encode(f"{known.client_id}:{known.client_secret}".encode()).decode()
        secrets = [known.client_secret, known.account_id, basic, _PLANTED, *self._tokens]
        files = [self.relay.log_file, self.relay.stdout_file, self.archive_file]
        files += [path for path in self.state_dir.glob("**/*") if path.is_file()]
        texts = self.answers | {str(path): path.read_bytes() for path in files if path.exists()}
        return [
            f"{name} holds a secret ({secret[:8]}…)"
            for name, text in texts.items()
            for secret in secrets
            if secret.encode() in text and not (secret in self._tokens and _is_cache(name))
        ]

    def _note_tokens(self) -> None:
        """Every token that is issued is a secret of this run."""
        issue = self.zoom.tokens.issue

        def noted(*arguments: Any, **options: Any) -> dict[str, object]:
            answer = issue(*arguments, **options)
            self._tokens.append(str(answer["access_token"]))
            return answer

        self.zoom.tokens.issue = noted  # type: ignore[method-assign]


def _is_cache(name: str) -> bool:
    """The one place where tokens are kept."""
    path = Path(name)
    return path.parent.name == "tokens" and path.suffix == ".json"


def _lines(file: Path) -> list[bytes]:
    return file.read_bytes().split(b"\n")[:-1] if file.exists() else []
