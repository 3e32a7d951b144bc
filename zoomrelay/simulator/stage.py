"""What a story has to work with: invented people, ids and the current time. Pure."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from random import Random
from typing import Any

import msgspec

Story = Iterator[dict[str, Any]]
"""Events in the order in which they happen, without their time stamps."""


@lru_cache(maxsize=2)
def _written(seconds: int) -> str:
    """Kept for as long as it is the same second: writing it takes a tenth of an event's time."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


_FIRST_NAMES = ("User", "Üser", "Gebruiker", "ユーザー", "Пользователь", "用户")
_SIGNS = ("", "", "", "", " 🌻", " 👩‍🚀", " ✅")


class Person(msgspec.Struct, frozen=True):
    """Somebody who does not exist."""

    number: int
    id: str
    name: str
    email: str
    extension: str


class Stage:
    """Hands out chance, people and time to the stories of one stream.

    Everything derives from `random` and from the `now_ms` that the script sets, so equal seeds and
    equal times give equal streams.
    """

    def __init__(self, random: Random, *, people: int = 200) -> None:
        self.random = random
        self.now_ms = 0
        self.account_id = self.id(22)
        self._people = [self._person(number) for number in range(1, people + 1)]

    def _person(self, number: int) -> Person:
        plain = self.random.random() < 0.8
        first = "User" if plain else self.random.choice(_FIRST_NAMES)
        sign = "" if plain else self.random.choice(_SIGNS)
        email = f"user{number}@example.com"
        return Person(number, self.id(22), f"{first} {number}{sign}", email, str(1000 + number))

    def person(self) -> Person:
        return self.random.choice(self._people)

    def people(self, count: int) -> list[Person]:
        """`count` different people."""
        return self.random.sample(self._people, count)

    def id(self, length: int) -> str:
        """An id in the manner of Zoom's: letters, digits, `_` and `-`."""
        raw = self.random.randbytes(length * 3 // 4 + 1)
        return base64.urlsafe_b64encode(raw).decode()[:length]

    def uuid(self) -> str:
        """A meeting's uuid: base64 with padding, so that it may begin with `/` or hold `//`."""
        return base64.b64encode(self.random.randbytes(16)).decode()

    def digits(self, count: int) -> int:
        """A number of exactly `count` digits."""
        return self.random.randrange(10 ** (count - 1), 10**count)

    def phone_number(self) -> str:
        """A number from the range that is reserved for fiction."""
        return f"+1202555{self.random.randrange(100, 200):04d}"

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def time(self) -> str:
        """The current time as Zoom writes times: `2026-01-31T23:59:59Z`."""
        return _written(self.now_ms // 1000)

    def event(self, name: str, object_: object, **payload: object) -> dict[str, Any]:
        """An event of the normal shape; `payload` goes beside `account_id` and `object`."""
        return {"event": name, "payload": {"account_id": self.account_id, **payload, "object": object_}}
