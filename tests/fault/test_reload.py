"""Reloads under load: sinks, routes, the log's level, secrets, subscriptions and the sockets' address change
again and again while 1,000 events come every second."""

from __future__ import annotations

import signal
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.support import books
from tests.support.lab import Lab
from zoomrelay.admin.client import ControlClient
from zoomrelay.admin.health import Status
from zoomrelay.intake import ledger

NAMES = tuple(f"Subscription{letter}000000000" for letter in "ABCD")
EVENTS_PER_SECOND = 1000
SECRET_TOKEN = "PlantedSecretToken-93fe"


@dataclass
class Wish:
    """What a configuration says, as far as it changes."""

    subscriptions: list[str] = field(default_factory=lambda: [NAMES[0]])
    client_secret: str = ""
    secret_in_file: bool = False
    verify: str = "off"
    address: str = ""
    """A word in the sockets' address; another one is another address."""
    heartbeat_seconds: int = 25
    level: str = "debug"
    second: str = ""
    """Globs of a second sink, if there is one."""

    def change(self, random: Random) -> None:
        """One to three things, at random."""
        for what in random.sample(
            ("subscriptions",) * 2 + ("secret", "verify", "address", "sink", "rest"), 3
        ):
            match what:
                case "subscriptions":
                    self.subscriptions = random.sample(NAMES, random.randint(1, 3))
                case "secret":
                    self.client_secret = f"PlantedClientSecret-{random.getrandbits(64):x}"
                    self.secret_in_file = random.random() < 0.5
                case "verify":
                    self.verify = random.choice(("off", "warn", "enforce"))
                case "address":
                    self.address = random.choice(("", "one", "two"))
                case "sink":
                    self.second = random.choice(("", '"*"', '"meeting.*", "!meeting.ended"'))
                case "rest":
                    self.heartbeat_seconds = random.randint(5, 55)
                    self.level = random.choice(("debug", "info"))


class Reloaded(Lab):
    """A lab whose relay gets configuration after configuration."""

    def __init__(self, directory: Path, *, seed: int, **simulator: Any) -> None:
        self.wish = Wish()
        self._secret_file = directory / "client_secret"
        super().__init__(directory, seed=seed, subscriptions=NAMES, secret_token=SECRET_TOKEN, **simulator)
        self.wish.client_secret = self.zoom.credentials.client_secret
        self.expected = 1
        """So many connections Zoom should have seen."""

    def configure(self, **changes: Any) -> None:
        super().configure(**changes)
        wish, known = self.wish, self.zoom.credentials.client_secret
        self._secret_file.write_text(wish.client_secret)
        self.zoom.set_client_secrets([wish.client_secret])
        secret = f'client_secret = "{wish.client_secret}"'
        if wish.secret_in_file:
            secret = f'client_secret_file = "{self._secret_file}"'
        second = self.relay.directory / "second.ndjson"
        more = f'[sinks.second]\ntype = "file"\npath = "{second}"\nevents = [{wish.second}]\n'
        text = self.relay.config_file.read_text()
        for old, new in (
            (f'client_secret = "{known}"', secret),
            (str(list(NAMES)), str(wish.subscriptions)),
            (self.zoom.ws_url, f"{self.zoom.ws_url}?way={wish.address}"),
            ('level = "debug"', f'level = "{wish.level}"'),
            (
                "[spool]",
                f'secret_token = "{SECRET_TOKEN}"\nverify_signature = "{wish.verify}"\n'
                f"heartbeat_seconds = {wish.heartbeat_seconds}\n[spool]",
            ),
        ):
            assert old in text, old
            text = text.replace(old, new, 1)
        self.relay.config_file.write_text(text + (more if wish.second else ""))

    async def accepted(self) -> None:
        await self.relay.until(
            lambda: all(map(self._is_accepted, self.wish.subscriptions)), f"acceptance (seed {self.seed})"
        )

    def _accounts(self) -> dict[str, books.Account]:
        """Without that of a sink which is gone, whose backlog is kept for a day."""
        return {"archive": super()._accounts()["archive"]}

    async def hang_up(self, wish: Wish) -> dict[str, Any]:
        """HUP with this configuration; what the log says of it."""
        came = set(wish.subscriptions) - set(self.wish.subscriptions)
        stayed = set(wish.subscriptions) & set(self.wish.subscriptions)
        self.expected += len(came) + len(stayed) * (wish.address != self.wish.address)
        self.wish = wish
        self.configure()
        before = len(self.relay.log("config.reloaded"))
        self.relay.send(signal.SIGHUP)
        await self.relay.until(lambda: len(self.relay.log("config.reloaded")) > before, "the reload")
        return self.relay.log("config.reloaded")[-1]

    def status(self) -> Status:
        return ControlClient(self.state_dir).get("/status", Status)

    def open_files(self) -> int:
        return sum(1 for _ in Path(f"/proc/{self.relay.pid}/fd").iterdir())

    def _sockets_at(self, moment: float) -> int:
        """How many there were about then. Of several, each brings its events in order, and nobody knows which
        comes first."""
        return sum(
            one.opened_at <= moment + 1 and (one.ended_at is None or one.ended_at >= moment - 1)
            for one in self.zoom.journal.connections
        )

    def problems(self) -> list[str]:
        """What is wrong with the archive, in words."""
        times = {one.content: one.at for one in self.zoom.journal.since() if one.kind == "event"}
        sent = dict.fromkeys(one.content for one in self.zoom.journal.since() if one.kind == "event")
        archive = self.delivered()["archive"]
        twice = [content for content, count in Counter(archive).items() if count > 1]
        number = {content: at for at, content in enumerate(sent)}
        astray = sum(
            number[one] > number[other] and self._sockets_at(times[other]) < 2
            for one, other in pairwise(archive)
        )
        return [
            f"{count} {what}"
            for count, what in (
                (len(sent.keys() - set(archive)), "lost"),
                (len(twice), "delivered twice"),
                (astray, "out of order"),
            )
            if count
        ]


@pytest.mark.parametrize(
    ("seed", "reloads"), [(1, 8), pytest.param(2, 50, marks=pytest.mark.full)], ids=["short", "long"]
)
async def test_nothing_is_lost(tmp_path: Path, seed: int, reloads: int) -> None:
    random = Random(seed)
    async with Reloaded(tmp_path, seed=seed) as lab:
        await lab.start()
        await lab.finish(subscription=NAMES[0])
        files = lab.open_files()
        lab.zoom.set_rate(EVENTS_PER_SECOND)
        for _ in range(reloads):
            wish = Wish(**vars(lab.wish))
            wish.change(random)
            line = await lab.hang_up(wish)
            assert line["needs_restart"] == line["waiting"] == []
        await lab.hang_up(Wish(client_secret=wish.client_secret))
        lab.zoom.set_rate(0)
        await lab.finish(subscription=NAMES[0])
        (source,) = lab.status().sources
        files_after = lab.open_files()
        await lab.relay.stop()
        print(lab.figures(), f"connections {len(lab.zoom.journal.connections)}, files {files}, {files_after}")
    gaps = [gap for gap in ledger.read(lab.state_dir) if gap.to_ms]
    assert lab.problems() == [], f"seed {seed}"
    assert [path.subscription for path in source.paths] == lab.wish.subscriptions
    assert source.conservation_error == 0 and gaps == []
    assert len(lab.zoom.journal.connections) == lab.expected, "a socket was touched that should have stayed"
    assert abs(files_after - files) <= 1
