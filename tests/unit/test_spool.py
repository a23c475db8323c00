"""What waits for the bucket is kept, whatever happens to the source folder."""
# ruff: noqa: ASYNC240 - nothing else runs in these tests that could be held up

import errno
import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

from broadcaster.spool import Spool


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", 1000)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.ts"
    path.write_bytes(b"segment")
    return path


@pytest.fixture
def other_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path, to: Path) -> NoReturn:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(to))

    monkeypatch.setattr(os, "link", refuse)


def contents(tmp_path: Path) -> dict[str, bytes]:
    folder = tmp_path / "spool"
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


async def test_a_file_is_linked(tmp_path: Path, spool: Spool, file: Path) -> None:
    """A kept file is the source's own, without a copy, and outlives its deletion there."""
    kept = await spool.keep(file, "live/run/0/a.ts")
    assert kept.samefile(file)
    assert spool.size == 7
    file.unlink()
    assert contents(tmp_path) == {"live/run/0/a.ts": b"segment"}


@pytest.mark.usefixtures("other_file_system")
async def test_a_file_of_another_file_system_is_copied(tmp_path: Path, spool: Spool, file: Path) -> None:
    """Where it cannot be linked it is copied whole, with its time."""
    kept = await spool.keep(file, "live/run/0/a.ts")
    assert not kept.samefile(file)
    assert kept.stat().st_mtime_ns == file.stat().st_mtime_ns
    assert contents(tmp_path) == {"live/run/0/a.ts": b"segment"}


@pytest.mark.usefixtures("other_file_system")
async def test_a_full_disk_leaves_no_half_file(
    tmp_path: Path, spool: Spool, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy that fails is reported as what it is, and nothing stays behind or is counted."""

    def fill(_: Path, to: Path) -> NoReturn:
        to.write_bytes(b"seg")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copy2", fill)
    with pytest.raises(OSError, match="No space left"):
        await spool.keep(file, "live/run/0/a.ts")
    assert contents(tmp_path) == {}
    assert spool.size == 0


async def test_a_file_that_is_gone(tmp_path: Path, spool: Spool) -> None:
    """What is not there cannot be kept, and leaves nothing behind."""
    with pytest.raises(FileNotFoundError):
        await spool.keep(tmp_path / "gone.ts", "live/run/0/gone.ts")
    assert contents(tmp_path) == {}
    assert spool.size == 0


async def test_kept_again(spool: Spool, tmp_path: Path, file: Path) -> None:
    """A file that was replaced takes the place of what was kept under its key, and is counted once."""
    await spool.keep(file, "live/run/0/a.ts")
    file.unlink()
    file.write_bytes(b"longer than before")
    await spool.keep(file, "live/run/0/a.ts")
    assert spool.size == 18
    assert contents(tmp_path) == {"live/run/0/a.ts": b"longer than before"}


async def test_dropped(spool: Spool, tmp_path: Path, file: Path) -> None:
    """What is let go of frees its room, once, and the last of a folder takes the folder with it."""
    first = await spool.keep(file, "live/run/0/a.ts")
    second = await spool.keep(file, "live/run/0/b.ts")
    for _ in range(2):
        spool.drop(first)
        assert spool.size == 7
    spool.drop(second)
    assert spool.size == 0
    assert not (tmp_path / "spool/live/run/0").exists()
    assert file.read_bytes() == b"segment"


async def test_resumed(tmp_path: Path, spool: Spool, file: Path) -> None:
    """The next process takes over what is on its way; leftovers, half copies and empty folders go."""
    await spool.keep(file, "live/run/0/a.ts")
    await spool.keep(file, "live/run/1/listed-already.ts")
    (tmp_path / "spool/live/run/0/b.ts.part").write_bytes(b"half")
    (tmp_path / "spool/link").symlink_to(tmp_path)
    again = Spool(tmp_path / "spool", 1000)
    kept = again.resume(["live/run/0/a.ts", "live/run/0/gone.ts"])
    assert kept == {"live/run/0/a.ts": tmp_path / "spool/live/run/0/a.ts"}
    assert again.size == 7
    assert contents(tmp_path) == {"live/run/0/a.ts": b"segment"}
    assert not (tmp_path / "spool/live/run/1").exists()
    assert not (tmp_path / "spool/link").is_symlink()
    assert file.exists()
    again.drop(kept["live/run/0/a.ts"])
    assert again.size == 0
