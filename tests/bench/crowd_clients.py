"""So many readers of events, blocked requests and tracker sockets at one service, until killed.

A line on the standard output says when all are there.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterable, Awaitable, Callable
from typing import TypeVar

import aiohttp

from broadcaster.hls import MediaPlaylist, parse
from broadcaster.http import raise_file_limit
from tests.support.fakes.webtorrent_clients import announce

T = TypeVar("T")

NICENESS = 10  # the bucket, which shares the core, goes first
AT_ONCE = 50  # that connect
MEDIA = "/live/0/playlist.m3u8"
ANNOUNCE_EVERY = 20.0  # seconds


class Crowd:
    """So ``many`` of each at ``address``, from as many addresses."""

    def __init__(self, address: str, many: int) -> None:
        self._address = address
        self._many = many
        self._there = 0
        self._all_there = asyncio.Event()
        self._connecting = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        """Until cancelled."""
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=None)
        async with (
            aiohttp.ClientSession(self._address, connector=connector, timeout=timeout) as session,
            asyncio.TaskGroup() as group,
        ):
            for number in range(self._many):
                headers = {"CF-Connecting-IP": f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"}
                for event in (self._read_events, self._wait, self._announce):
                    group.create_task(event(session, headers, number))
            await self._all_there.wait()
            print("there", flush=True)

    async def _read_events(self, session: aiohttp.ClientSession, headers: dict[str, str], _: int) -> None:
        async def connect() -> aiohttp.ClientResponse:
            answer = await session.get("/live/events", headers=headers)
            answer.raise_for_status()
            return answer

        answer = await self._let_in(connect)
        await _read_all(answer.content)
        raise RuntimeError("events ended")

    async def _wait(self, session: aiohttp.ClientSession, headers: dict[str, str], _: int) -> None:
        async with self._connecting, session.get(MEDIA, headers=headers) as answer:
            wanted = _newest(await answer.text()) + 1
        self._arrived()
        while True:
            async with session.get(f"{MEDIA}?_HLS_msn={wanted}", headers=headers) as answer:
                await answer.read()
                if answer.status == 200:
                    wanted += 1
                else:  # the answer asked it to come again
                    await asyncio.sleep(1)

    async def _announce(self, session: aiohttp.ClientSession, headers: dict[str, str], number: int) -> None:
        socket = await self._let_in(lambda: session.ws_connect("/live/tracker", headers=headers))
        await asyncio.sleep(ANNOUNCE_EVERY * number / self._many)
        while True:
            await socket.send_str(announce(f"peer{number}", 2))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ANNOUNCE_EVERY):
                    await _read_all(socket)
                raise RuntimeError("the tracker hung up")

    async def _let_in(self, connect: Callable[[], Awaitable[T]]) -> T:
        """A client that is refused for want of room comes again, as pages do."""
        while True:
            try:
                async with self._connecting:
                    connection = await connect()
            except aiohttp.ClientResponseError as refused:
                if refused.status != 503:
                    raise
                await asyncio.sleep(1)
            else:
                self._arrived()
                return connection

    def _arrived(self) -> None:
        self._there += 1
        if self._there == 3 * self._many:
            self._all_there.set()


async def _read_all(incoming: AsyncIterable[object]) -> None:
    async for _ in incoming:
        continue


def _newest(text: str) -> int:
    playlist = parse(text)
    if not isinstance(playlist, MediaPlaylist):
        raise TypeError("a media playlist was expected")
    return playlist.last


if __name__ == "__main__":
    os.nice(NICENESS)
    raise_file_limit(10**6)
    asyncio.run(Crowd(sys.argv[1], int(sys.argv[2])).run())
