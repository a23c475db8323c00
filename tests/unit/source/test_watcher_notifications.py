"""Changes of a folder are notified as they come, and none is missed."""

import asyncio
import errno
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
from inotify_simple import INotify

from broadcaster.aio import OwnThread
from broadcaster.source.watcher import by_inotify, by_watchfiles
from tests.support.waiting import PATIENCE

Way = Callable[[Path, OwnThread, float], AsyncGenerator[bool, None]]
SOON = 0.02  # seconds


@asynccontextmanager
async def watched(way: Way, folder: Path, seconds: float = SOON) -> AsyncIterator[AsyncGenerator[bool, None]]:
    """The notifications of a folder, after the first, which is for changes before the watch."""
    with OwnThread("test") as thread:
        async with aclosing(way(folder, thread, seconds)) as found, asyncio.timeout(PATIENCE):
            await anext(found)
            yield found


async def until_quiet(found: AsyncGenerator[bool, None]) -> None:
    while await anext(found):
        """More of the same."""


async def until_notified(found: AsyncGenerator[bool, None]) -> None:
    while not await anext(found):
        """Not yet."""


@pytest.mark.parametrize("way", [by_inotify, by_watchfiles])
async def test_each_change_is_notified(way: Way, tmp_path: Path) -> None:
    """In the folder and in those in it, also in one that comes later; and then there is nothing."""
    inside = tmp_path / "0"
    inside.mkdir()
    async with watched(way, tmp_path) as found:
        await until_quiet(found)
        for change in (
            lambda: (tmp_path / "stream.m3u8").write_text("x"),
            lambda: (inside / "stream.m3u8.new").write_text("x"),
            lambda: (inside / "stream.m3u8.new").replace(inside / "stream.m3u8"),
            (inside / "stream.m3u8").unlink,
            (tmp_path / "1").mkdir,
            lambda: (tmp_path / "1" / "stream.m3u8").write_text("x"),
            lambda: (tmp_path / "1").rename(tmp_path / "2"),
            (tmp_path / "2" / "stream.m3u8").unlink,
        ):
            change()
            await until_notified(found)
            await until_quiet(found)


async def test_a_segment_is_notified_when_it_is_whole(tmp_path: Path) -> None:
    """Not at each write, of which an encoder makes dozens, and not before it has its name."""
    async with watched(by_inotify, tmp_path) as found:
        with (tmp_path / "1.ts").open("wb", buffering=0) as file:
            await until_quiet(found)
            for _ in range(50):
                file.write(b"packet")
            assert not await anext(found)
        await until_notified(found)
        await until_quiet(found)
        (tmp_path / "2.ts.tmp").write_bytes(b"packet")
        assert not await anext(found)
        (tmp_path / "2.ts.tmp").rename(tmp_path / "2.ts")
        await until_notified(found)


async def test_a_change_before_the_watch_is_notified(tmp_path: Path) -> None:
    """Between the last look and the first watch something may have changed."""
    with OwnThread("test") as thread:
        async with aclosing(by_inotify(tmp_path, thread, PATIENCE)) as found:
            assert await anext(found)


async def test_limits_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's word for too few watches is that the disk is full."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(INotify, "add_watch", full)
    with pytest.raises(OSError, match=r"see fs\.inotify\.max_user_watches"):
        async with watched(by_inotify, tmp_path):
            raise AssertionError("it can watch")


async def test_what_may_not_be_read_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So is what has gone meanwhile; the others are watched."""
    (tmp_path / "0").mkdir()
    real, left_out = (
        INotify.add_watch,
        [PermissionError(errno.EACCES, "no"), FileNotFoundError(2, "no")],
    )

    def add_watch(inotify: INotify, path: Path | str, mask: int) -> int:
        if Path(path) != tmp_path and left_out:
            raise left_out.pop()
        return int(real(inotify, path, mask))

    monkeypatch.setattr(INotify, "add_watch", add_watch)
    async with watched(by_inotify, tmp_path) as found:
        for name in ("1", "2"):
            await until_quiet(found)
            (tmp_path / name).mkdir()  # all are watched anew
            await until_notified(found)
        await until_quiet(found)
        assert left_out == []
        (tmp_path / "0" / "stream.m3u8").write_text("x")
        await until_notified(found)


async def test_a_folder_that_comes_before_the_first_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody tells of it, but it is watched."""
    real, late = INotify.add_watch, tmp_path / "0"

    def add_watch(inotify: INotify, path: Path | str, mask: int) -> int:
        late.mkdir(exist_ok=True)
        return int(real(inotify, path, mask))

    monkeypatch.setattr(INotify, "add_watch", add_watch)
    async with watched(by_inotify, tmp_path) as found:
        await until_quiet(found)
        (late / "stream.m3u8").write_text("x")
        await until_notified(found)


async def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """What a link leads to is none of the folder's, and may be a file system that does not answer."""
    folder, elsewhere = tmp_path / "hls", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (folder / "0").symlink_to(elsewhere)
    async with watched(by_inotify, folder) as found:
        await until_quiet(found)
        (elsewhere / "stream.m3u8").write_text("x")
        assert [await anext(found) for _ in range(3)] == [False] * 3
