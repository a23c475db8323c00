"""Objects one behind another in a few large files, the packs: a file for each costs more than to write it."""

from __future__ import annotations

import errno
import hashlib
import os
import struct
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path

from broadcaster.own_files import own_folder, own_lock

LARGEST = 64 * 2**20  # bytes that a pack has when the next one is begun
SHARE = 8  # a pack has at most this part of all, so that little goes at a time
# In front of each object: its name, its SHA-256, and how many bytes it has.
HEADER = struct.Struct("!32s32sQ")
SUFFIX, UNFINISHED = ".pack", ".unfinished"
PIECE = 2**20  # bytes that are read at a time to check a sum
NONE = 0  # of the packs, which are counted from 1


@dataclass(slots=True, eq=False)
class _Pack:
    path: Path
    size: int = 0
    names: set[bytes] = field(default_factory=set)


class Packs:
    """Keeps so many bytes of objects in a folder, which is its own alone.

    The pack of which none was asked for longest goes first. One thread alone uses it, but for ``in``,
    ``place`` and ``size``. ``open``, ``read`` and ``write`` raise OSError.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.size = 0  # bytes
        self._folder = folder
        self._limit = limit
        self._packs: OrderedDict[int, _Pack] = OrderedDict()
        self._places: dict[bytes, tuple[int, int, int]] = {}  # number of the pack, place in it, bytes
        self._whole: set[bytes] = set()  # those that were read or written since it was opened
        self._filling = NONE
        self._file: FileIO | None = None  # of the pack that is filled
        self._lock: int | None = None

    def __contains__(self, name: bytes) -> bool:
        return name in self._places

    def __len__(self) -> int:
        return len(self._places)

    def place(self, name: bytes) -> tuple[Path, int, int] | None:
        """Where one is that is known to be whole: the file, where it begins there, and its bytes."""
        number, at, size = self._places.get(name, (NONE, 0, 0))
        pack = self._packs.get(number)
        return (pack.path, at + HEADER.size, size) if pack and name in self._whole else None

    def open(self) -> None:
        """Find out what is there."""
        own_folder(Path(os.path.realpath(self._folder)))
        try:
            lock = own_lock(self._folder / "lock")
        except BlockingIOError as error:
            raise OSError(error.errno, "another process has it") from None
        self._lock, self.size = lock, 0
        self._packs.clear()
        self._places.clear()
        self._whole.clear()
        for path in self._folder.glob(f"*{UNFINISHED}"):  # of a process that was killed
            path.unlink()
        found = [
            path
            for path in self._folder.glob(f"*{SUFFIX}")
            if path.stem.isdecimal() and not path.is_symlink()
        ]
        for path in sorted(found, key=lambda path: path.stat().st_mtime_ns):
            self._scan(int(path.stem), path)
        self._make_room(0)

    def close(self) -> None:
        """Let others have the folder."""
        self._end_pack()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def read(self, name: bytes) -> bytes | None:
        """One that is there, and whole."""
        if self._lock is None:
            self.open()
        if name not in self._places:
            return None
        number, at, size = self._places[name]
        path = self._packs[number].path
        try:
            with path.open("rb") as file:
                file.seek(at)
                head, body = file.read(HEADER.size), file.read(size)
        except FileNotFoundError:
            head = body = b""
        if head != _header(name, body):  # a power cut, or somebody's hand
            self._forget(name)
            return None
        self._whole.add(name)
        if number != next(reversed(self._packs)):
            self._packs.move_to_end(number)
            os.utime(path)
        return body

    def check(self, name: bytes) -> bool:
        """Whether one is there, and whole; unlike ``read`` it needs no memory for it."""
        if self._lock is None:
            self.open()
        if name not in self._places or name in self._whole:
            return name in self._places
        number, at, size = self._places[name]
        found, left = hashlib.sha256(), size
        try:
            with self._packs[number].path.open("rb") as file:
                file.seek(at)
                head = file.read(HEADER.size)
                while piece := file.read(min(PIECE, left)):
                    found.update(piece)
                    left -= len(piece)
        except FileNotFoundError:
            head = b""
        if head != HEADER.pack(name, found.digest(), size):
            self._forget(name)
            return False
        self._whole.add(name)
        return True

    def adopt(self, name: bytes, path: Path, sha256: bytes, size: int) -> None:
        """Make a file, which begins with room for a header, the pack of one object."""
        if self._lock is None:
            self.open()
        if name in self._places:
            return
        self._make_room(HEADER.size + size)
        with path.open("rb+") as file:
            file.write(HEADER.pack(name, sha256, size))
        number = max(self._packs, default=0) + 1
        pack = _Pack(self._folder / f"{number}{SUFFIX}", HEADER.size + size)
        path.rename(pack.path)
        self._packs[number] = pack
        self._add(number, name, 0, size)
        self._whole.add(name)
        self.size += pack.size

    def write(self, name: bytes, body: bytes) -> None:
        """Keep one that is not there, and may be."""
        if self._lock is None:
            self.open()
        size = HEADER.size + len(body)
        if size > self._limit or name in self._places:
            return
        self._make_room(size)
        number = self._number_to_fill()
        pack = self._packs[number]
        try:
            if self._file is None:
                self._file = FileIO(pack.path, "ab", opener=_open_no_link)
            if os.writev(self._file.fileno(), (_header(name, body), body)) < size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            self._give_up(number)
            raise
        self._add(number, name, pack.size, len(body))
        self._whole.add(name)
        pack.size += size
        self.size += size

    def _scan(self, number: int, path: Path) -> None:
        """What it has, up to where a killed process or a full disk ended it."""
        size = path.stat().st_size
        pack = self._packs[number] = _Pack(path, size)
        self.size += size
        at = 0
        with path.open("rb") as file:
            while len(head := file.read(HEADER.size)) == HEADER.size:
                name, _, length = HEADER.unpack(head)
                end = at + HEADER.size + length
                if end > pack.size:
                    break
                if name not in self._places:
                    self._add(number, name, at, length)
                at = file.seek(end)

    def _add(self, number: int, name: bytes, at: int, size: int) -> None:
        self._places[name] = number, at, size
        self._packs[number].names.add(name)

    def _forget(self, name: bytes) -> None:
        number, _, _ = self._places.pop(name)
        self._whole.discard(name)
        names = self._packs[number].names
        names.remove(name)
        if not names:
            self._drop(number)

    def _number_to_fill(self) -> int:
        pack = self._packs.get(self._filling)
        if pack is None or pack.size >= min(LARGEST, self._limit // SHARE):
            self._end_pack()
            self._filling = max(self._packs, default=0) + 1
            self._packs[self._filling] = _Pack(self._folder / f"{self._filling}{SUFFIX}")
        return self._filling

    def _end_pack(self) -> None:
        self._filling = NONE
        if self._file:
            self._file.close()
            self._file = None

    def _give_up(self, number: int) -> None:
        """Nothing comes behind what was not written to its end, as far as that is there."""
        pack = self._packs[number]
        with suppress(OSError):
            os.truncate(pack.path, pack.size)
        self._end_pack()
        if not pack.size:
            self._drop(number)

    def _make_room(self, size: int) -> None:
        while self.size + size > self._limit and self._packs:
            self._drop(next(iter(self._packs)))

    def _drop(self, number: int) -> None:
        pack = self._packs[number]
        self._whole -= pack.names
        with suppress(FileNotFoundError):
            pack.path.unlink()
        del self._packs[number]
        self.size -= pack.size
        for name in pack.names:
            del self._places[name]


def _open_no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def _header(name: bytes, body: bytes) -> bytes:
    return HEADER.pack(name, hashlib.sha256(body).digest(), len(body))
