"""Gathers how events ended, and reports it in portions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from zoomrelay.spool.base import Death, Parked, Settlement, Token

EVERY_SECONDS = 0.02


class Settling:
    """Gives what has gathered to `settle`, at the latest after `EVERY_SECONDS`."""

    def __init__(self, settle: Callable[[Settlement], None]) -> None:
        self._settle = settle
        self._delivered: list[Token] = []
        self._filtered: list[Token] = []
        self._dead: list[Death] = []
        self._timer: asyncio.TimerHandle | None = None

    def delivered(self, token: Token) -> None:
        self._delivered.append(token)
        self._soon()

    def filtered(self, tokens: Sequence[Token]) -> None:
        if tokens:
            self._filtered += tokens
            self._soon()

    def dead(self, death: Death) -> None:
        self._dead.append(death)
        self._soon()

    def parked(self, lanes: Sequence[Parked]) -> None:
        """Reported at once: events of these lanes that are read from now on must find them parked."""
        self._report(lanes)

    def close(self) -> None:
        """Report what is left."""
        if self._timer is not None:
            self._report()

    def _soon(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(EVERY_SECONDS, self._report)

    def _report(self, parked: Sequence[Parked] = ()) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._delivered.sort()  # the spool is fastest where whole runs have ended
        settlement = Settlement(self._delivered, self._filtered, dead=self._dead, parked=parked)
        self._delivered, self._filtered, self._dead = [], [], []
        self._settle(settlement)
