"""Objects in a few large files: creating a file for each object costs more than writing the object."""

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

LARGEST = 64 * 2**20  # bytes of a pack file after which the next file is begun
SHARE = 8  # a pack file has at most an eighth of all bytes, so that little is deleted at once
# Before each object: its name, SHA-256 and size.
HEADER = struct.Struct("!32s32sQ")
SUFFIX, UNFINISHED = ".pack", ".unfinished"
PIECE = 2**20  # bytes that are read at a time to compute a SHA-256
NONE = 0  # no pack file; their numbers begin at 1


@dataclass(slots=True, eq=False)
class _PackFile:
    path: Path
    size: int = 0
    names: set[bytes] = field(default_factory=set)


class PackFiles:
    """A cache of at most ``limit`` bytes in a folder that no other process uses.

    The least recently used file is deleted first. Only one thread may use it, except for ``in``, ``find`` and
    ``size``. Methods raise OSError.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.size = 0  # bytes
        self._folder = folder
        self._limit = limit
        self._packs: OrderedDict[int, _PackFile] = OrderedDict()
        self._objects: dict[bytes, tuple[int, int, int]] = {}  # number of the pack file, offset, size
        self._checked: set[bytes] = set()  # objects that were read or written since ``open``
        self._filling = NONE
        self._file: FileIO | None = None  # the pack file that is being filled
        self._lock: int | None = None

    def __contains__(self, name: bytes) -> bool:
        return name in self._objects

    def __len__(self) -> int:
        return len(self._objects)

    def find(self, name: bytes) -> tuple[Path, int, int] | None:
        """The file, offset and size of a checked object."""
        number, at, size = self._objects.get(name, (NONE, 0, 0))
        pack = self._packs.get(number)
        return (pack.path, at + HEADER.size, size) if pack and name in self._checked else None

    def open(self) -> None:
        """Lock the folder and index its files."""
        own_folder(Path(os.path.realpath(self._folder)))
        try:
            lock = own_lock(self._folder / "lock")
        except BlockingIOError as error:
            raise OSError(error.errno, "another process uses the folder") from None
        self._lock, self.size = lock, 0
        self._packs.clear()
        self._objects.clear()
        self._checked.clear()
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
        """Unlock the folder."""
        self._end_pack()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def read(self, name: bytes) -> bytes | None:
        """An object, checked; None if it is missing or damaged."""
        if self._lock is None:
            self.open()
        if name not in self._objects:
            return None
        number, at, size = self._objects[name]
        path = self._packs[number].path
        try:
            with path.open("rb") as file:
                file.seek(at)
                head, body = file.read(HEADER.size), file.read(size)
        except FileNotFoundError:
            head = body = b""
        if head != _header(name, body):  # after a power cut, for example
            self._forget(name)
            return None
        self._checked.add(name)
        if number != next(reversed(self._packs)):
            self._packs.move_to_end(number)
            os.utime(path)
        return body

    def check(self, name: bytes) -> bool:
        """Whether the object is there and undamaged; unlike ``read``, it does not load the object."""
        if self._lock is None:
            self.open()
        if name not in self._objects or name in self._checked:
            return name in self._objects
        number, at, size = self._objects[name]
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
        self._checked.add(name)
        return True

    def adopt(self, name: bytes, path: Path, sha256: bytes, size: int) -> None:
        """Make a pack file of a file with one object, which begins with space for the header."""
        if self._lock is None:
            self.open()
        if name in self._objects:
            return
        self._make_room(HEADER.size + size)
        with path.open("rb+") as file:
            file.write(HEADER.pack(name, sha256, size))
        number = max(self._packs, default=0) + 1
        pack = _PackFile(self._folder / f"{number}{SUFFIX}", HEADER.size + size)
        path.rename(pack.path)
        self._packs[number] = pack
        self._add(number, name, 0, size)
        self._checked.add(name)
        self.size += pack.size

    def write(self, name: bytes, body: bytes) -> None:
        """Add an object, unless it is there or too large."""
        if self._lock is None:
            self.open()
        size = HEADER.size + len(body)
        if size > self._limit or name in self._objects:
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
            self._end_failed_pack(number)
            raise
        self._add(number, name, pack.size, len(body))
        self._checked.add(name)
        pack.size += size
        self.size += size

    def _scan(self, number: int, path: Path) -> None:
        """Index a file up to an incomplete object, which a killed process or a full disk has left."""
        size = path.stat().st_size
        pack = self._packs[number] = _PackFile(path, size)
        self.size += size
        at = 0
        with path.open("rb") as file:
            while len(head := file.read(HEADER.size)) == HEADER.size:
                name, _, length = HEADER.unpack(head)
                end = at + HEADER.size + length
                if end > pack.size:
                    break
                if name not in self._objects:
                    self._add(number, name, at, length)
                at = file.seek(end)

    def _add(self, number: int, name: bytes, at: int, size: int) -> None:
        self._objects[name] = number, at, size
        self._packs[number].names.add(name)

    def _forget(self, name: bytes) -> None:
        number, _, _ = self._objects.pop(name)
        self._checked.discard(name)
        names = self._packs[number].names
        names.remove(name)
        if not names:
            self._drop(number)

    def _number_to_fill(self) -> int:
        pack = self._packs.get(self._filling)
        if pack is None or pack.size >= min(LARGEST, self._limit // SHARE):
            self._end_pack()
            self._filling = max(self._packs, default=0) + 1
            self._packs[self._filling] = _PackFile(self._folder / f"{self._filling}{SUFFIX}")
        return self._filling

    def _end_pack(self) -> None:
        self._filling = NONE
        if self._file:
            self._file.close()
            self._file = None

    def _end_failed_pack(self, number: int) -> None:
        """Remove an incompletely written object and begin another file for the next object."""
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
        self._checked -= pack.names
        with suppress(FileNotFoundError):
            pack.path.unlink()
        del self._packs[number]
        self.size -= pack.size
        for name in pack.names:
            del self._objects[name]


def _open_no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def _header(name: bytes, body: bytes) -> bytes:
    return HEADER.pack(name, hashlib.sha256(body).digest(), len(body))
