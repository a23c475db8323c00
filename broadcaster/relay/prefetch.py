"""Fetches what the origin announces before anybody asks for it, of variants that somebody watches here."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable

from broadcaster.errors import StorageError
from broadcaster.relay.listing import Listed

logger = logging.getLogger(__name__)

WATCHED = 30.0  # seconds since something of a variant was asked for: the uplink carries nothing for nobody
WITHIN = 60.0  # seconds for each: who wants it then asks for it
AT_ONCE = 4
MOST = 200  # that wait; the oldest are given up first
REMEMBERED = 1000  # a playlist and an event announce the same object


class Prefetch:
    """Fetches with ``fetch`` what is announced, in order; ``clock`` is monotonic."""

    def __init__(
        self, fetch: Callable[[Listed], Awaitable[object]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._asked: dict[str, float] = {}  # when each variant was asked for
        self._queue: asyncio.Queue[Listed] = asyncio.Queue(MOST)
        self._known: OrderedDict[str, None] = OrderedDict()

    def asked(self, listed: Listed) -> None:
        """A viewer here wants this object."""
        self._asked[listed.variant] = self._clock()

    def announce(self, objects: Iterable[Listed]) -> None:
        """There are these now, the oldest first."""
        for one in objects:
            watched = self._clock() - self._asked.get(one.variant, -WATCHED) < WATCHED
            if not watched or one.token in self._known:
                continue
            self._known[one.token] = None
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
            if self._queue.full():
                self._queue.get_nowait()
            self._queue.put_nowait(one)

    async def run(self) -> None:
        """Fetch until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            one = await self._queue.get()
            try:
                async with asyncio.timeout(WITHIN):
                    await self._fetch(one)
            except (StorageError, TimeoutError) as error:  # who wants it asks again
                logger.debug("not fetched ahead: %s", error)
