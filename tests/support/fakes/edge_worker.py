"""A stand-in for the edge's Worker: takes pushes, puts texts together, and refuses what a test wants."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from broadcaster.edge import VERSION

KEY = "k" * 43


class EdgeWorker:
    """``pushes`` are all that were taken, ``texts`` what they make; ``refusal`` answers the next ones."""

    def __init__(self) -> None:
        self.address = ""
        self.pushes: list[dict[str, Any]] = []
        self.texts: dict[str, str] = {}
        self.refusal: tuple[int, dict[str, object]] | None = None
        self.refused = 0
        self.reports: list[tuple[str, str]] = []
        self.tries: list[tuple[str, str, str]] = []
        self.grants: list[str] = []  # of reports
        self.opened: dict[str, int] = {}
        self.version = VERSION
        self.open = asyncio.Event()  # clear: pushes hang
        self.open.set()
        self.changed = asyncio.Event()
        self.at_once = self.most_at_once = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator["EdgeWorker"]:
        """It answers inside."""
        app = web.Application()
        app.router.add_put("/origin/v1/view", self._put)
        async with TestServer(app) as server:
            self.address = str(server.make_url("")).rstrip("/")
            yield self

    async def _put(self, request: web.Request) -> web.Response:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            push = await request.json()
            await self.open.wait()
            return self._take(request, push)
        finally:
            self.at_once -= 1
            self.changed.set()

    def _take(self, request: web.Request, push: dict[str, Any]) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return web.Response(status=401)
        if self.refusal:
            self.refused += 1
            status, body = self.refusal
            return web.json_response({"v": self.version, **body}, status=status)
        if push["base"] is None:
            self.texts = {}
        for name, text in push["texts"].items():
            before = self.texts.pop(name, "")
            if text is not None:
                pieces = (
                    operation if isinstance(operation, str) else before[slice(*operation)]
                    for operation in text["ops"]
                )
                self.texts[name] = "".join(pieces)
        self.pushes.append(push)
        (reports, self.reports), (tries, self.tries) = (self.reports, []), (self.tries, [])
        (grants, self.grants), (opened, self.opened) = (self.grants, []), (self.opened, {})
        about = {"v": self.version, "epoch": push["epoch"], "serial": push["serial"], "held": 3, "woken": 5}
        outcome = {"reports": reports, "grants": grants, "opened": opened, "tries": tries}
        return web.json_response(about | outcome)
