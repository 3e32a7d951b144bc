"""Files by a template, and in segments where the sink rotates."""

from __future__ import annotations

import errno
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from zoomrelay.clock import Clock
from zoomrelay.config.models import FileSinkConfig
from zoomrelay.config.path_template import DAY_MS, PathTemplate
from zoomrelay.event import Event
from zoomrelay.sinks import encode
from zoomrelay.sinks import segment_names as names
from zoomrelay.sinks.disk import Disk
from zoomrelay.sinks.linefile import Batch, LineFile
from zoomrelay.sinks.segments import Segments

MOST_OPEN = 64
"""Files that are open at once. The one that waited longest for an event makes room, and its segment ends."""


@dataclass(slots=True)
class _Open:
    file: LineFile
    day: int
    """Since the epoch, of its first event."""
    began: float
    """`Clock.elapsed` when it was opened."""
    size: int = 0


class FileTree:
    """Appends each event to the file that the template names for it, in order.

    `root` must exist, the directories below it are created. Calls block, never overlap, and raise
    `OSError`; of a batch that failed nothing stays, as far as the disk allows it.
    """

    def __init__(
        self, config: FileSinkConfig, segments: Segments | None, *, disk: Disk, clock: Clock
    ) -> None:
        self._config = config
        self._template = PathTemplate(config.path)
        self._segments = segments
        self._disk = disk
        self._clock = clock
        self._files: OrderedDict[Path, _Open] = OrderedDict()
        """The one written to last at the end."""
        self._recovered = False
        self._day = 0

    def open(self) -> None:
        """End what an earlier process left; the first files are opened by their first events."""
        if not self._disk.exists(self._template.root):
            raise OSError(errno.ENOENT, "")
        if self._segments is not None and not self._recovered:
            self._segments.recover()
        self._recovered = True

    def append(self, batch: Sequence[Event]) -> None:
        """On return all of `batch` is in its files, and on the disk where `fsync` is set."""
        if not self._recovered:
            self.open()
        groups = self._grouped(batch)
        self._close_days_before(max(day for day, _ in groups.values()))
        written: list[tuple[Path, Batch]] = []
        try:
            for path, (day, events) in groups.items():
                written.append((path, self._append(path, day, encode.lines(events, self._config.format))))
        except OSError:
            self._withdraw(written)
            raise

    def finish_due(self) -> float | None:
        """End the segments whose time is over; in how many seconds the next one's is."""
        for path in [path for path, one in self._files.items() if self._left_seconds(one) <= 0]:
            self._let_go(path)
        return min(map(self._left_seconds, self._files.values()), default=None)

    def reopen(self) -> None:
        """Let go of the files; the next event opens what their paths name then."""
        for one in self._files.values():
            one.file.close()

    def close(self) -> None:
        """Never raises; segments end, as far as the disk allows it."""
        for path in list(self._files):
            with suppress(OSError):
                self._let_go(path)
        for one in self._files.values():
            one.file.close()
        self._files.clear()
        self._recovered = False

    # --- one batch ----------------------------------------------------------------------------------

    def _grouped(self, batch: Sequence[Event]) -> dict[Path, tuple[int, list[Event]]]:
        fill = self._template.fill
        groups: dict[Path, tuple[int, list[Event]]] = {}
        for event in batch:
            day = event.received_ms // DAY_MS
            path = fill(day, event.name, event.source)
            groups.setdefault(path, (day, []))[1].append(event)
        return groups

    def _append(self, path: Path, day: int, data: bytes) -> Batch:
        one = self._opened(path, day, len(data))
        self._make_directories(path.parent)
        batch = one.file.append(data)
        one.size = batch.end
        return batch

    def _withdraw(self, written: Sequence[tuple[Path, Batch]]) -> None:
        """Else every further try would write these once more."""
        for path, batch in written:
            # A segment that had to end meanwhile stays; its events come twice.
            if (one := self._files.get(path)) is not None:
                with suppress(OSError):
                    one.file.withdraw(batch)
                one.size = batch.start

    # --- open files ---------------------------------------------------------------------------------

    def _opened(self, path: Path, day: int, coming_bytes: int) -> _Open:
        one = self._files.get(path)
        if one is not None and self._is_due(one, coming_bytes):
            self._let_go(path)
            one = None
        if one is None:
            while len(self._files) >= MOST_OPEN:
                self._let_go(next(iter(self._files)))
            name = path if self._segments is None else names.part(path)
            one = _Open(LineFile(name, fsync=self._config.fsync, disk=self._disk), day, self._clock.elapsed())
            self._files[path] = one
        self._files.move_to_end(path)
        return one

    def _is_due(self, one: _Open, coming_bytes: int) -> bool:
        most = self._config.rotate_bytes
        return bool(most and one.size and one.size + coming_bytes > most) or self._left_seconds(one) <= 0

    def _left_seconds(self, one: _Open) -> float:
        if not self._config.rotate_seconds or not one.size:
            return float("inf")
        return one.began + self._config.rotate_seconds - self._clock.elapsed()

    def _let_go(self, path: Path) -> None:
        """Where this raises, the file stays ours."""
        one = self._files[path]
        if self._segments is None:
            with suppress(FileNotFoundError):
                one.file.open()  # what a failed batch left is cut off
            one.file.close()
        else:
            self._segments.finish(path, one.file)
        del self._files[path]

    def _close_days_before(self, day: int) -> None:
        if day <= self._day:
            return
        self._day = day
        if self._template.has_date:
            for path in [path for path, one in self._files.items() if one.day < day]:
                self._let_go(path)

    def _make_directories(self, directory: Path) -> None:
        """Those below `root`, their names on the disk."""
        if directory == self._template.root or self._disk.exists(directory):
            return
        self._make_directories(directory.parent)
        self._disk.make_directory(directory)
        self._disk.sync_directory(directory.parent)
