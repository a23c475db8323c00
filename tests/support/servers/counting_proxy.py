"""Stands before a bucket and counts what is asked of it, object by object."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

from tests.support.servers.fake_origin import serve


class CountingFront:
    """``asked`` is how often each path was asked for with GET, but by the service's own guest."""

    def __init__(self, bucket: str, session: aiohttp.ClientSession) -> None:
        self.asked: Counter[str] = Counter()
        self.address = ""
        self._bucket = bucket
        self._session = session

    async def answer(self, request: web.Request) -> web.Response:
        """What the bucket answers."""
        if request.method == "GET" and "broadcaster-guest" not in request.headers.get("User-Agent", ""):
            self.asked[request.path] += 1
        async with self._session.request(request.method, self._bucket + request.path_qs) as response:
            body = await response.read()
            kept = {
                name: response.headers[name] for name in ("Content-Type", "ETag") if name in response.headers
            }
            return web.Response(status=response.status, body=body, headers=kept)


@asynccontextmanager
async def counting_front(bucket: str) -> AsyncIterator[CountingFront]:
    """One before the bucket at this address."""
    async with aiohttp.ClientSession() as session:
        front = CountingFront(bucket, session)
        app = web.Application()
        app.router.add_get("/{path:.*}", front.answer)
        runner, front.address = await serve(app)
        try:
            yield front
        finally:
            await runner.cleanup()
