"""How a relay limits the memory of bodies, and which readers it ends."""

import contextlib
from types import SimpleNamespace
from typing import cast

import pytest
from aiohttp import web

from broadcaster.relay.segments import BodyBudget
from broadcaster.relay.url_map import MappedObject
from broadcaster.viewer_server.admission import NotAdmitted

SIZE = 100  # bytes of an object
SECONDS = 4.0  # that an object plays


class Hall:
    """Readers of objects with a clock that the test sets; ``ended`` has the aborted readers."""

    def __init__(self, most: int) -> None:
        self.now = 0.0
        self.newest = 0
        self.ended: list[str] = []
        self.stack = contextlib.AsyncExitStack()
        self.sending = BodyBudget(
            most,
            lambda: self.now,
            lambda listed: int(listed.token) == self.newest,
            lambda listed: self.newest - 6 < int(listed.token) <= self.newest,
        )

    async def read(self, number: int, reader: str) -> None:
        """Begin to read an object; raises NotAdmitted."""
        transport = SimpleNamespace(abort=lambda: self.ended.append(reader))
        protocol = Protocol(transport)
        request = cast("web.Request", SimpleNamespace(protocol=protocol))
        listed = MappedObject(str(number), f"{number}.ts", "0", f"http://x/{number}.ts", seconds=SECONDS)
        await self.stack.enter_async_context(self.sending.body(request, listed, fetch))


class Protocol:
    """The protocol of a connection."""

    def __init__(self, transport: object) -> None:
        self.transport = transport


async def fetch(_: MappedObject) -> bytes:
    return bytes(SIZE)


async def test_slow_readers_are_aborted() -> None:
    """Readers that are slower than the playing time are aborted to free memory."""
    hall = Hall(most=4 * SIZE)
    async with hall.stack:
        for number in range(120):
            hall.newest = number
            await hall.read(number, f"slow {number}")
            hall.now += SECONDS / 2
            assert hall.sending.size <= 4 * SIZE
        assert len(hall.ended) >= 116
        assert f"slow {number}" not in hall.ended


async def test_old_segments_leave_room_for_the_newest() -> None:
    """Old segments get three quarters of the memory; the newest get the rest, or displace old segments."""
    hall = Hall(most=4 * SIZE)
    hall.newest = 100
    async with hall.stack:
        for number in range(3):
            await hall.read(number, f"old {number}")
        with pytest.raises(NotAdmitted):
            await hall.read(3, "old 3")
        await hall.read(100, "live 100")
        hall.newest = 101
        await hall.read(101, "live 101")
        assert hall.ended == ["old 0"]
        assert hall.sending.size == 4 * SIZE


async def test_the_live_edge_displaces_old_segments() -> None:
    """Segments of the live edge displace old segments, up to the limit."""
    hall = Hall(most=4 * SIZE)
    hall.newest = 100
    async with hall.stack:
        for number in range(3):
            await hall.read(number, f"old {number}")
        for number in (97, 98, 99, 96):
            await hall.read(number, f"live {number}")
        assert hall.ended == ["old 0", "old 1", "old 2"]
        with pytest.raises(NotAdmitted):
            await hall.read(95, "live 95")
        await hall.read(100, "live 100")
        assert hall.sending.size == 5 * SIZE
