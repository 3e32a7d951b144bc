"""A token endpoint that gives out refresh tokens, each good for one use."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from aiohttp import web


class RotatingZoom:
    """An async context manager. `old_works`: a used refresh token is taken all the same."""

    def __init__(self) -> None:
        self.old_works = False
        self.expires_in = 3599
        self.issued: list[str] = []
        self.grants: list[str] = []
        self.url = ""
        self._used: set[str] = set()
        self._known: set[str] = set()
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.add_routes([web.post("/oauth/token", self._answer)])
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}/oauth/token"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        form = await request.post()
        self.grants.append(str(form["grant_type"]))
        if form["grant_type"] == "refresh_token":
            value = str(form["refresh_token"])
            if value not in self._known or (value in self._used and not self.old_works):
                return web.json_response({"error": "invalid_grant", "reason": "no such token"}, status=400)
            self._used.add(value)
        number = len(self.issued) + 1
        access, refresh = f"PlantedAccessToken{number:04}", f"PlantedRefreshToken{number:04}"
        self.issued += [access, refresh]
        self._known.add(refresh)
        return web.json_response(
            {"access_token": access, "refresh_token": refresh, "expires_in": self.expires_in}
        )
