"""The spool's file, read as any user could, while a relay runs or after it was killed."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

_OUTCOMES = ("delivered", "dead", "filtered", "shed", "expired", "abandoned")


@dataclass(frozen=True)
class Account:
    """One sink's durable figures."""

    appended: int
    counts: dict[str, int]
    pending: int

    @property
    def conservation_error(self) -> int:
        """Must be 0."""
        return self.appended - sum(self.counts[name] for name in _OUTCOMES) - self.pending


def accounts(state_dir: Path) -> dict[str, Account]:
    """By sink; empty before the spool was made."""
    with _connected(state_dir) as ask:
        (last,) = ask.execute("SELECT coalesce(max(value), 0) FROM meta WHERE key = 'last'").fetchone()
        parked = dict(ask.execute("SELECT sink, count(*) FROM parked GROUP BY sink"))
        found = {}
        for name, text in ask.execute("SELECT name, state FROM sinks"):
            state = json.loads(text)
            above = sum(end - start + 1 for start, end in state["above"])
            pending = last - state["low"] - above + parked.get(name, 0)
            found[name] = Account(last - state["start"], state["counts"], pending)
        return found


def last(state_dir: Path) -> int:
    """The newest number given to an event."""
    with _connected(state_dir) as ask:
        row = ask.execute("SELECT value FROM meta WHERE key = 'last'").fetchone()
        return int(row[0]) if row else 0


def quarantined(state_dir: Path) -> int:
    """Frames that were kept because no event could be read in them."""
    with _connected(state_dir) as ask:
        return int(ask.execute("SELECT coalesce(sum(quarantined), 0) FROM paths").fetchone()[0])


def held(state_dir: Path) -> dict[int, bytes]:
    """Number -> content of every event in the stream."""
    with _connected(state_dir) as ask:
        return dict(ask.execute("SELECT seq, CAST(content AS BLOB) FROM events"))


def dead(state_dir: Path, sink: str, reason: str) -> list[bytes]:
    """Contents of this sink's dead letters of this reason, oldest first."""
    with _connected(state_dir) as ask:
        rows = ask.execute(
            "SELECT content FROM dead WHERE sink = ? AND reason = ? ORDER BY number", (sink, reason)
        )
        return [content for (content,) in rows]


def unsettled(state_dir: Path, sink: str) -> set[bytes]:
    """Contents of the events in the stream that have not ended for this sink."""
    with _connected(state_dir) as ask:
        row = ask.execute("SELECT state FROM sinks WHERE name = ?", (sink,)).fetchone()
        state = json.loads(row[0]) if row else {"low": 0, "above": []}
    above = {number for start, end in state["above"] for number in range(start, end + 1)}
    numbered = held(state_dir).items()
    return {content for number, content in numbered if number > state["low"] and number not in above}


@contextmanager
def _connected(state_dir: Path) -> Iterator[sqlite3.Connection]:
    # Never create it: the relay may be about to put it there.
    address = f"{(state_dir / 'spool.sqlite').resolve().as_uri()}?mode=rw"
    with closing(sqlite3.connect(address, uri=True, timeout=10)) as connection:
        connection.execute("BEGIN")  # one moment for every question
        yield connection
