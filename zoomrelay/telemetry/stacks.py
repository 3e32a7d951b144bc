"""What every thread and every task is doing, as text: places in the code, never a value.

May be asked from any thread, also while the event loop stands still.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from types import FrameType
from typing import Any

LARGEST_CHARACTERS = 256 * 1024
_MOST_FRAMES = 40
_PLACES = 2
_OURS = f"{Path(__file__).parents[1]}/"


def stacks(loop: asyncio.AbstractEventLoop) -> str:
    """Of all threads, and of all tasks of this loop, each with the innermost place last."""
    text = "\n".join(chain(_of_threads(), _of_tasks(loop))) + "\n"
    if len(text) > LARGEST_CHARACTERS:
        return text[:LARGEST_CHARACTERS] + "\n(cut off here)\n"
    return text


def place(thread: int) -> str:
    """Where a thread is in few words: the innermost places, then the innermost ones of ours. Empty if it is
    gone."""
    frame = sys._current_frames().get(thread)
    found = list(reversed(traceback.extract_stack(frame))) if frame else []
    found = [one for one in found if not one.filename.startswith("<")]  # the interpreter's import machinery
    ours = [one for one in found[_PLACES:] if one.filename.startswith(_OURS)]
    shown = found[:_PLACES] + ours[:_PLACES]
    return " < ".join(f"{'/'.join(Path(f.filename).parts[-2:])}:{f.lineno} {f.name}" for f in shown)


def _of_threads() -> Iterator[str]:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        yield f"thread {names.get(ident, ident)}"
        yield _lines(traceback.StackSummary.extract(traceback.walk_stack(frame), limit=_MOST_FRAMES)[::-1])


def _of_tasks(loop: asyncio.AbstractEventLoop) -> Iterator[str]:
    for task in sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name()):
        yield f"task {task.get_name()}"
        yield _lines(traceback.StackSummary.extract(_awaiting(task.get_coro()), limit=_MOST_FRAMES))


def _awaiting(coroutine: Any) -> Iterator[tuple[FrameType, int]]:
    """Along what each waits for, as `Task.get_stack` does not: that knows the outermost place only."""
    while coroutine is not None:
        for kind in ("cr", "gi", "ag"):
            frame = getattr(coroutine, f"{kind}_frame", None)
            if frame is not None:
                yield frame, frame.f_lineno
                coroutine = getattr(coroutine, "gi_yieldfrom" if kind == "gi" else f"{kind}_await", None)
                break
        else:
            return


def _lines(summary: Any) -> str:
    return "".join(traceback.format_list(summary)) or "  (nothing of it is in Python)\n"
