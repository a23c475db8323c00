"""How files come into the simulated Owncast's folder."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.support.fakes.simulated_owncast import SimulatedOwncast
from tests.support.servers.owncast_receiver import Receiver
from tests.support.waiting import eventually


@pytest.mark.parametrize("multivariant_first", [True, False])
async def test_dates_of_files_mean_nothing(tmp_path: Path, *, multivariant_first: bool) -> None:
    """The multivariant playlist is dated a tick before the last of the first segments, or after it."""
    async with SimulatedOwncast(
        tmp_path / "hls", tmp_path / "work", segment_seconds=1, multivariant_first=multivariant_first
    ) as owncast:
        await owncast.go_live()
        await owncast.wait_for_segments(1)
        await eventually((tmp_path / "hls" / "stream.m3u8").exists)
        await eventually(lambda: (tmp_path / "hls" / "stream.m3u8").read_text().count("/stream.m3u8") == 2)
        dates = [path.stat().st_mtime_ns for path in (tmp_path / "hls").glob("*/stream-*-0.ts")]
        date = (tmp_path / "hls" / "stream.m3u8").stat().st_mtime_ns
    assert len(dates) == 2
    # A tick of the kernel is some milliseconds: both may be of one.
    assert date <= max(dates) if multivariant_first else date >= max(dates)


@asynccontextmanager
async def putting(receiver: Receiver) -> AsyncIterator[Callable[[str, str], Awaitable[int]]]:
    """Inside, what is called with a path and a body sends them as ffmpeg does; the status is returned."""

    async def pieces(body: str) -> AsyncIterator[bytes]:
        yield body.encode()

    receiver.start()
    async with aiohttp.ClientSession() as session:

        async def put(path: str, body: str) -> int:
            async with session.put(receiver.url + path, data=pieces(body)) as answer:
                return answer.status

        yield put
    await receiver.close()


async def test_what_is_sent_to_a_folder_that_is_gone_is_not_finished(tmp_path: Path) -> None:
    """A PUT into a variant's folder that is not there fails, and the next one, into one that is, does not."""
    receiver = Receiver(tmp_path, 0)
    async with putting(receiver) as put:
        assert await put("/0/stream-a-0.ts", "picture") == 500
        assert receiver.received == {}
        (tmp_path / "0").mkdir()
        assert await put("/0/stream-a-1.ts", "picture") == 200
        assert set(receiver.received) == {("a", "0", "stream-a-1.ts")}
