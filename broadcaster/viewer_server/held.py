"""Held events: a request for what comes after a serial, which waits until there is something.

All pages wait for the same serial, so that a cache makes one request of all. A page asks again with the
serial of the answer. So that no cache can be asked in a loop, an answer's serial is greater than that in its
key, also when nothing has happened; a refusal may be kept for a second, and pages pause after it.
"""

from __future__ import annotations

import asyncio
import gzip
import time
from collections import deque
from collections.abc import Callable, Iterator

from aiohttp import hdrs, web

from broadcaster.http.connections import CONNECTIONS
from broadcaster.http.static import accepts, send
from broadcaster.metrics import Metric
from broadcaster.viewer_server.admission import ADMISSION, NotAdmitted, RequestKind
from broadcaster.viewer_server.snapshots import GZIP_LEVEL, StaggeredEvent

HOLD = 20.0  # seconds for which a request is held at most; Cloudflare's tunnel cuts what is silent for 100
KEPT, KEPT_STATE = 60, 1  # seconds for which a cache may keep what came after a serial, and the state
RETRY = 2  # seconds until a page asks again that was refused
WORTH_GZIP = 600  # bytes
TOGETHER = 0.05  # seconds in which several entries get one serial, so that requests are woken once


class HeldLog:
    """The latest ``remembered`` entries (JSON), by serials that rise.

    ``whole`` makes the answer with the state, ``after`` that with these entries; both take the serial.
    ``beat`` is called when nothing has come for ``HOLD``, and may add an entry.
    """

    def __init__(
        self,
        name: str,
        whole: Callable[[int], str],
        after: Callable[[int, list[str]], str],
        beat: Callable[[], None] = lambda: None,
        remembered: int = 60,
    ) -> None:
        # Begun at the clock, so that no serial of a process before is used again.
        self.serial = self._oldest = int(time.time()) * 1000
        self.waiting = 0
        self._name = name
        self._whole, self._after, self._beat = whole, after, beat
        self._remembered = remembered
        self._entries: deque[tuple[int, str]] = deque()
        self._soon: list[str] = []
        self._answers: dict[int, bytes] = {}  # to what comes after a serial, until there is another entry
        self._changed = StaggeredEvent()
        self._closing = False

    def add(self, *entries: str) -> None:
        """Add entries with one serial, and wake all requests."""
        self.serial += 1
        self._entries.extend((self.serial, entry) for entry in entries)
        while len(self._entries) > self._remembered:
            self._oldest = self._entries.popleft()[0]
        self._answers.clear()
        changed, self._changed = self._changed, StaggeredEvent()
        changed.set()

    def forget(self) -> None:
        """Forget all entries: who asks for what came after an earlier serial gets the whole state."""
        self._entries.clear()
        self._soon.clear()
        self.add()
        self._oldest = self.serial

    def add_soon(self, entry: str) -> None:
        """Add an entry together with those that follow at once."""
        if not self.waiting:
            self.add(entry)
            return
        if not self._soon:
            asyncio.get_running_loop().call_later(TOGETHER, self._add_all)
        self._soon.append(entry)

    def close(self) -> None:
        """Refuse all requests: the service stops."""
        self._closing = True
        self._changed.set()

    def metrics(self) -> Iterator[Metric]:
        """How many requests wait."""
        yield Metric(f"held_{self._name}", f"Requests that wait for the next {self._name}", self.waiting)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """What came after the serial in the path, as soon as there is something; for ``now``, the state."""
        if (key := request.match_info["serial"]) == "now":
            return await _send(request, self._whole(self.serial).encode(), KEPT_STATE)
        serial = int(key)
        if serial > self.serial:
            return _refuse(404, "There is no such serial")
        if serial == self.serial:
            try:
                with request.app[ADMISSION].take(request, RequestKind.EVENTS):
                    request.app[CONNECTIONS].complete(request)
                    await self._next()
            except NotAdmitted as reason:
                return _refuse(503, str(reason))
        if serial < self._oldest:
            return await _send(request, self._whole(self.serial).encode(), KEPT_STATE)
        return await _send(request, self._rendered(serial), KEPT)

    async def _next(self) -> None:
        serial = self.serial
        self.waiting += 1
        try:
            async with asyncio.timeout(HOLD):
                await self._changed.wait()
        except TimeoutError:
            if serial == self.serial and not self._closing:
                self._beat()
            if serial == self.serial and not self._closing:
                self.add()
        finally:
            self.waiting -= 1
        if self._closing:
            raise NotAdmitted("full", "The service stops")

    def _add_all(self) -> None:
        entries, self._soon = self._soon, []
        self.add(*entries)

    def _rendered(self, serial: int) -> bytes:
        if serial not in self._answers:
            entries = [entry for number, entry in self._entries if number > serial]
            self._answers[serial] = self._after(self.serial, entries).encode()
        return self._answers[serial]


async def _send(request: web.Request, body: bytes, max_age: int) -> web.StreamResponse:
    headers: dict[str, str] = {
        hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*",
        hdrs.CACHE_CONTROL: f"public, max-age={max_age}",
        hdrs.CONTENT_TYPE: "application/json",
        hdrs.VARY: "Accept-Encoding",
    }
    if len(body) > WORTH_GZIP and accepts(request.headers.get(hdrs.ACCEPT_ENCODING, ""), "gzip"):
        body = gzip.compress(body, GZIP_LEVEL, mtime=0)
        headers[hdrs.CONTENT_ENCODING] = "gzip"
    return await send(request, body, headers)


def _refuse(status: int, reason: str) -> web.Response:
    headers: dict[str, str] = {hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*", hdrs.CACHE_CONTROL: "public, max-age=1"}
    if status == web.HTTPServiceUnavailable.status_code:
        headers[hdrs.RETRY_AFTER] = str(RETRY)
    return web.Response(status=status, text=f"{reason}.\n", headers=headers)
