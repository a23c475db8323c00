"""What the simulated Owncast says of itself: ``/api/status``, and its webhooks."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import Callable
from datetime import datetime
from typing import Any

import aiohttp
from aiohttp import web

from broadcaster.demo.ports import HOST, free_ports

VERSION = "0.1.3"
NAME = "New Owncast Server"
SUMMARY = "This is a new live video streaming server powered by Owncast."
WEBHOOK_WITHIN = 10.0  # seconds for one POST
STREAM_STARTED, STREAM_STOPPED = "STREAM_STARTED", "STREAM_STOPPED"


def _local_time() -> datetime:
    return datetime.now().astimezone()


class Status:
    """A loopback server for ``/api/status``, on the same port each time it is started.

    ``webhook_url`` is where what happens is posted, with no answer waited for. Who is online, and since when,
    is as in Owncast's ``core/stats.go`` and ``core/streamState.go``.
    """

    def __init__(
        self,
        *,
        webhook_url: str | None = None,
        stream_title: str = "",
        clock: Callable[[], datetime] = _local_time,
    ) -> None:
        self.stream_title = stream_title
        self._webhook_url = webhook_url
        self._clock = clock
        self._port = free_ports(1)[0]
        self._runner: web.AppRunner | None = None
        self._posts: set[asyncio.Task[None]] = set()
        self._connected: datetime | None = None
        self._disconnected: datetime | None = None
        self._saved: datetime | None = None  # the end of a stream, as Owncast's database knows it
        self._segment_seconds = 0

    @property
    def url(self) -> str:
        """Where Owncast is, without a slash at the end."""
        return f"http://{HOST}:{self._port}"

    async def start(self) -> None:
        """Answer, as a new process that knows only what the one before saved."""
        self._connected, self._disconnected = None, self._saved
        app = web.Application()
        app.router.add_get("/api/status", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, self._port).start()

    async def close(self) -> None:
        """Answer no more; what is being posted is given up."""
        for post in self._posts:
            post.cancel()
        await asyncio.gather(*self._posts, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def connect(self, segment_seconds: int) -> None:
        """Note that an encoder has come."""
        self._connected, self._disconnected = self._clock(), None
        self._segment_seconds = segment_seconds
        self._post(STREAM_STARTED)

    def disconnect(self) -> None:
        """Note that the transcoder has ended."""
        self._connected, self._disconnected = None, self._clock()

    def stopped(self) -> None:
        """Note that the playlists are closed."""
        self._saved = self._disconnected
        self._post(STREAM_STOPPED)

    @property
    def online(self) -> bool:
        """False also for the first three segments of a connection, or 7 seconds: it waits for HLS."""
        if self._connected is None:
            return False
        return (self._clock() - self._connected).total_seconds() >= max(3 * self._segment_seconds, 7)

    def _times(self) -> dict[str, Any]:
        return {
            "lastConnectTime": _to_the_second(self._connected),
            "lastDisconnectTime": _to_the_second(self._disconnected),
            "versionNumber": VERSION,
            "streamTitle": self.stream_title,
        }

    async def _answer(self, _request: web.Request) -> web.Response:
        # A viewerCount of 0 is left out, as there.
        answer = {"serverTime": _rfc3339(self._clock()), **self._times(), "online": self.online}
        headers = {"Cache-Control": "no-cache, no-store, must-revalidate"}
        return web.Response(text=_compact(answer) + "\n", content_type="application/json", headers=headers)

    def _post(self, kind: str) -> None:
        if self._webhook_url is None:
            return
        counts = {"viewerCount": 0, "overallMaxViewerCount": 0, "sessionMaxViewerCount": 0}
        data = {
            "id": secrets.token_urlsafe(7),
            "name": NAME,
            "status": {**self._times(), **counts, "online": self.online},
            "streamTitle": self.stream_title,
            "summary": SUMMARY,
            "timestamp": _rfc3339(self._clock()),
        }
        post = asyncio.create_task(self._send(self._webhook_url, {"eventData": data, "type": kind}))
        self._posts.add(post)
        post.add_done_callback(self._posts.discard)

    @staticmethod
    async def _send(url: str, event: dict[str, Any]) -> None:
        timeout = aiohttp.ClientTimeout(total=WEBHOOK_WITHIN)
        headers = {"Content-Type": "application/json"}
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):  # it is not tried again there either
            async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
                await session.post(url, data=_compact(event))


def _compact(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))


def _rfc3339(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


def _to_the_second(time: datetime | None) -> str | None:
    return None if time is None else _rfc3339(time.replace(microsecond=0))
