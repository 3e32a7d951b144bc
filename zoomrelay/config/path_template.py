"""Paths of a file sink, with placeholders that each event fills. Pure.

    /var/log/zoomrelay/{source}/{date}/{event_family}.ndjson

| placeholder | what stands there |
|---|---|
| `{date}` | the day of receipt in UTC, `2026-01-31` |
| `{event_family}` | the event's name up to its first dot, `meeting` |
| `{source}` | the source that received it |

Names come from outside. Whatever is not a letter, digit, `_` or `-` of ASCII becomes `_`, and a name is
cut after 64 characters; so a filled placeholder is never empty and holds neither dot nor slash, and no event
can choose a folder that the template does not name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import cached_property, lru_cache
from pathlib import Path

DAY_MS = 86_400_000
LONGEST_NAME = 64
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")

_DIGITS = "0123456789"
_NAME = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
_FORMS = {
    "date": r"[0-9]{4}-[0-9]{2}-[0-9]{2}",
    "event_family": r"[A-Za-z0-9_-]+",
    "source": r"[A-Za-z0-9_-]+",
}
"""What each placeholder may become, as a regular expression."""


def path_template(path: Path) -> Path:
    """`path`, if its placeholders are known and it cannot leave its folder. Raises ValueError with a sentence
    about what was expected."""
    text = str(path)
    known = all(name in _FORMS for name in _PLACEHOLDER.findall(text))
    if not known or re.search(r"[{}]", _PLACEHOLDER.sub("", text)):
        raise ValueError("must have no placeholders but {date}, {event_family} and {source}")
    if ".." in path.parts and "{" in text:
        raise ValueError('must not hold ".." beside placeholders')
    return path


@dataclass(frozen=True)
class PathTemplate:
    """A path that `path_template` has let pass."""

    path: Path

    @cached_property
    def has_placeholders(self) -> bool:
        return "{" in str(self.path)

    @cached_property
    def has_date(self) -> bool:
        return "{date}" in str(self.path)

    @cached_property
    def root(self) -> Path:
        """The directory before the first placeholder; nothing is ever written outside of it."""
        parts = self.path.parts[:-1]
        fixed = next((at for at, part in enumerate(parts) if "{" in part), len(parts))
        return Path(*parts[:fixed])

    @cached_property
    def below(self) -> tuple[str, ...]:
        """What stands below `root`, part by part."""
        return self.path.parts[len(self.root.parts) :]

    def fill(self, day: int, event: str, source: str) -> Path:
        """The path for an event of this name and source, received on this day since the epoch."""
        return _filled(self.path, day, event, source)


@lru_cache(maxsize=4096)
def _filled(path: Path, day: int, event: str, source: str) -> Path:
    values = {
        "date": date.fromordinal(min(max(_EPOCH_DAY + day, 1), date.max.toordinal())).isoformat(),
        "event_family": safe_name(event.partition(".")[0]),
        "source": safe_name(source),
    }
    return Path(_PLACEHOLDER.sub(lambda found: values[found[1]], str(path)))


def safe_name(name: str) -> str:
    """One to 64 letters, digits, `_` and `-`."""
    return _UNSAFE.sub("_", name[:LONGEST_NAME]) or "_"


def part_pattern(part: str) -> str:
    """A regular expression for what one part of a template may become."""
    pieces = _PLACEHOLDER.split(part)
    return "".join(re.escape(piece) if at % 2 == 0 else _FORMS[piece] for at, piece in enumerate(pieces))


# --- do two of them meet? ---------------------------------------------------------------------------

_Step = tuple[frozenset[str], bool]
"""One of these characters, and whether there may be more of them, or none."""


def may_meet(one: Path, other: Path) -> bool:
    """Whether some events could bring both templates to the same path. Both must be absolute."""
    ours, theirs = list(_steps(str(one))), list(_steps(str(other)))
    seen: set[tuple[int, int]] = set()
    todo = [(0, 0)]
    while todo:
        at = todo.pop()
        if at == (len(ours), len(theirs)):
            return True
        if at not in seen:
            seen.add(at)
            todo += _next(ours, theirs, *at)
    return False


def _next(ours: list[_Step], theirs: list[_Step], i: int, j: int) -> Iterator[tuple[int, int]]:
    our = ours[i] if i < len(ours) else None
    their = theirs[j] if j < len(theirs) else None
    if our and our[1]:
        yield i + 1, j
    if their and their[1]:
        yield i, j + 1
    if our and their and our[0] & their[0]:
        yield i if our[1] else i + 1, j if their[1] else j + 1


def _steps(text: str) -> Iterator[_Step]:
    for at, piece in enumerate(_PLACEHOLDER.split(text)):
        if at % 2 == 0:
            yield from ((frozenset(character), False) for character in piece)
        elif piece == "date":
            yield from ((frozenset(_DIGITS if c == "0" else c), False) for c in "0000-00-00")
        else:
            yield (_NAME, False)
            yield (_NAME, True)
