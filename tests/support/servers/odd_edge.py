"""An edge that does not work: it never answers, refuses, or takes its time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.test_utils import TestServer

KINDS = ("hangs", "refuses", "takes 5 s")


class OddEdge:
    """``waiting`` pushes have no answer yet, ``answered`` had theirs."""

    def __init__(self, kind: str) -> None:
        self.waiting = self.answered = 0
        self._kind = kind
        self._settings = {"BROADCASTER_EDGE_KEY": "k" * 43}

    @property
    def settings(self) -> dict[str, str]:
        """What a service needs to push to it."""
        return self._settings

    @asynccontextmanager
    async def running(self) -> AsyncIterator["OddEdge"]:
        """It is asked inside."""
        app = web.Application(client_max_size=2**24)
        app.router.add_put("/origin/v1/view", self._put)
        async with TestServer(app, shutdown_timeout=0) as server:
            self._settings["BROADCASTER_EDGE_URL"] = str(server.make_url("")).rstrip("/")
            yield self

    async def _put(self, request: web.Request) -> web.Response:
        await request.read()
        self.waiting += 1
        try:
            if self._kind == "refuses":
                return web.Response(status=401)
            await asyncio.sleep(5 if self._kind == "takes 5 s" else 3600)
            return web.json_response({"v": 1})
        finally:
            self.waiting -= 1
            self.answered += 1
