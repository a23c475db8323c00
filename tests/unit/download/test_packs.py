"""Objects in a few large files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from broadcaster.download.packs import HEADER, PackFiles

MIB = 2**20
BODY = b"segment" * 1000
SIZE = HEADER.size + len(BODY)


def name(number: int) -> bytes:
    return number.to_bytes(32)


@contextmanager
def packs(folder: Path, limit: int = MIB) -> Iterator[PackFiles]:
    opened = PackFiles(folder, limit)
    opened.open()
    try:
        yield opened
    finally:
        opened.close()


def test_objects_survive_a_restart(tmp_path: Path) -> None:
    """Many objects are in one file and are found after a restart; new objects go into another file."""
    with packs(tmp_path) as first:
        for number in range(10):
            first.write(name(number), BODY + name(number))
    assert [path.name for path in tmp_path.glob("*.pack")] == ["1.pack"]
    with packs(tmp_path) as again:
        assert (len(again), again.size) == (10, 10 * (SIZE + 32))
        assert all(again.read(name(number)) == BODY + name(number) for number in range(10))
        again.write(name(10), BODY)
        assert again.read(name(10)) == BODY
    assert {path.name for path in tmp_path.glob("*.pack")} == {"1.pack", "2.pack"}


def test_what_a_killed_process_leaves(tmp_path: Path) -> None:
    """After an incomplete write, the objects before it are there, and no others."""
    with packs(tmp_path) as first:
        for number in range(3):
            first.write(name(number), BODY)
    whole = (tmp_path / "1.pack").read_bytes()
    for end in (0, 1, HEADER.size, SIZE - 1, SIZE, SIZE + 1, 2 * SIZE + HEADER.size - 1, 3 * SIZE - 1):
        (tmp_path / "1.pack").write_bytes(whole[:end])
        with packs(tmp_path) as again:
            assert [again.read(name(number)) == BODY for number in range(3)] == [
                (number + 1) * SIZE <= end for number in range(3)
            ]


@pytest.mark.parametrize("place", [0, 40, 70, HEADER.size, SIZE - 1])
def test_a_damaged_byte(tmp_path: Path, place: int) -> None:
    """A damaged object is treated as missing."""
    with packs(tmp_path) as first:
        first.write(name(1), BODY)
        changed = bytearray((tmp_path / "1.pack").read_bytes())
        changed[place] ^= 1
        (tmp_path / "1.pack").write_bytes(changed)
        assert first.read(name(1)) is None
        assert name(1) not in first
    with packs(tmp_path) as again:
        assert again.read(name(1)) is None


def test_the_limit(tmp_path: Path) -> None:
    """The least recently used file is deleted first, also after a restart."""
    limit = 16 * SIZE
    with packs(tmp_path, limit) as first:
        for number in range(16):
            first.write(name(number), BODY)
        assert first.read(name(0)) == BODY
        first.write(name(16), BODY)
        assert [number for number in range(17) if name(number) not in first] == [2, 3]
    with packs(tmp_path, limit) as again:
        for number in range(20, 24):
            again.write(name(number), BODY)
        assert name(0) in again
        assert again.size <= limit
        assert again.size == sum(path.stat().st_size for path in tmp_path.glob("*.pack"))
        again.write(name(30), b"x" * limit)
        assert name(30) not in again


def test_a_deleted_file(tmp_path: Path) -> None:
    """The objects of a deleted file are missing, and new objects are written."""
    with packs(tmp_path) as first:
        first.write(name(1), BODY)
        (tmp_path / "1.pack").unlink()
        assert first.read(name(1)) is None
        first.write(name(2), BODY)
        assert first.read(name(2)) == BODY


def test_only_checked_objects_are_found(tmp_path: Path) -> None:
    """After a restart, an object is found only after it was checked."""
    with packs(tmp_path) as first:
        for number in range(2):
            first.write(name(number), BODY)
        assert first.find(name(1)) == (tmp_path / "1.pack", SIZE + HEADER.size, len(BODY))
    changed = bytearray((tmp_path / "1.pack").read_bytes())
    changed[-1] ^= 1
    (tmp_path / "1.pack").write_bytes(changed)
    with packs(tmp_path) as again:
        assert [again.find(name(number)) for number in range(2)] == [None, None]
        assert [again.read(name(number)) for number in range(2)] == [BODY, None]
        assert again.find(name(0)) == (tmp_path / "1.pack", HEADER.size, len(BODY))
        assert again.find(name(1)) is None


def test_no_object_is_found_in_a_file_that_is_being_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An object is not found while another thread deletes its file."""
    with packs(tmp_path, 8 * SIZE) as first:
        first.write(name(0), BODY)
        found = []
        monkeypatch.setattr(Path, "unlink", lambda _: found.append(first.find(name(0))))
        for number in range(1, 9):
            first.write(name(number), BODY)
        assert found == [None]
