"""The last lines of the log, kept in memory for whoever asks for a diagnosis."""

from __future__ import annotations

import os
from collections import deque
from io import StringIO
from pathlib import Path

MOST_CHARACTERS = 512 * 1024
LONGEST_CHARACTERS = 16 * 1024
"""Of one line: a traceback can be long. Of a longer one there is only its beginning."""
SAVED = "last-log.ndjson"
"""In the state directory, once a relay has ended by itself."""


class RecentLines(StringIO):
    """A stream that forgets: each `write` is a line, and the oldest go when there are too many."""

    def __init__(self, most_characters: int = MOST_CHARACTERS) -> None:
        super().__init__()
        self._most = most_characters
        self._lines: deque[str] = deque()
        self._size = 0

    def write(self, text: str) -> int:
        line = text.rstrip("\n")[:LONGEST_CHARACTERS] + "\n"
        self._lines.append(line)
        self._size += len(line)
        while self._size > self._most:
            self._size -= len(self._lines.popleft())
        return len(text)

    def text(self) -> str:
        """Oldest first."""
        return "".join(list(self._lines))

    def save(self, state_dir: Path) -> None:
        """Leave them for after the end, mode 0600. Raises `OSError`."""
        beside = state_dir / f"{SAVED}.new"
        beside.unlink(missing_ok=True)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as opened:
            opened.write(self.text())
        beside.replace(state_dir / SAVED)
