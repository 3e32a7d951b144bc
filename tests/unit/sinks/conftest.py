"""Fixtures of the http sink's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.unit.sinks.receiver import Receiver, receiver


@pytest.fixture
async def there() -> AsyncIterator[Receiver]:
    async with receiver() as it:
        yield it
