"""One object, over as many attempts as it takes.

What is to be read.

A bound on bytes: who wants more than there is waits, the eldest first.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
from aiohttp import hdrs

from broadcaster.download.packs import HEADER, UNFINISHED
from broadcaster.errors import ObjectNotFound, StorageRefused, StorageUnavailable


class Room:
    """Room for so many bytes, which shares of it take as the bytes come.

    ``taken`` is how many are. The eldest share never waits, as all others wait for what it brings: one object
    more than there is room for can be there. A share that brings nothing for now steps back.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self.taken = 0
        self._shares: dict[Share, None] = {}  # the eldest first
        self._changed = asyncio.Event()

    @contextmanager
    def share(self) -> Iterator[Share]:
        """A share that has nothing yet; what it takes is given back at the end."""
        share = Share(self)
        self._shares[share] = None
        try:
            yield share
        finally:
            del self._shares[share]
            self.taken -= share.size
            self._notify()

    def step_back(self, share: Share) -> None:
        """Make it the youngest; what it has it keeps."""
        self._shares[share] = self._shares.pop(share)
        self._notify()

    def step_forward(self, share: Share) -> None:
        """Make it the eldest."""
        self._shares = {share: None, **self._shares}
        self._notify()

    async def take(self, share: Share, size: int) -> None:
        """Wait for so many bytes more."""
        while self.taken + size > self._size and share is not next(iter(self._shares)):
            await self._changed.wait()
        self.taken += size
        share.size += size

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class Share:
    """What one object has of a room: ``size`` bytes."""

    def __init__(self, room: Room) -> None:
        self.size = 0
        self.room = room

    async def need(self, size: int) -> None:
        """Wait until it has so many bytes in all."""
        if size > self.size:
            await self.room.take(self, size - self.size)

    def step_back(self) -> None:
        """Let others be the eldest: nothing comes until they have had their turn."""
        self.room.step_back(self)

    def step_forward(self) -> None:
        """Wait for no other: they wait for this one."""
        self.room.step_forward(self)


@dataclass(frozen=True, slots=True)
class Wanted:
    """An object, or the ``length`` bytes of it from ``offset`` on (to its end, where there is no length).

    ``size`` in bytes and ``sha256`` in hexadecimal are of what is wanted, where they are known. Two that have
    the same ``name`` are the same object; it is the URL's unless given: one that is signed anew needs one.
    """

    url: str
    size: int | None = None
    sha256: str | None = None
    offset: int = 0
    length: int | None = None
    name: str | None = None

    @property
    def key(self) -> tuple[str, int, int | None, int | None, str | None]:
        """What makes it another one; what was checked against one sum is not taken for another's."""
        return self.name or self.url, self.offset, self.length, self.size, self.sha256

    @property
    def unchecked(self) -> Wanted:
        """The same, where neither its size nor its sum are known."""
        return replace(self, size=None, sha256=None)

    @property
    def known_size(self) -> int | None:
        """Bytes, as far as that can be said before."""
        return self.length if self.size is None else self.size

    @property
    def where(self) -> str:
        """The address as it may be shown: without a signature or a password."""
        try:
            parts = urlsplit(self.url)
        except ValueError:
            return "what is no address"
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


CONNECT, STALL = 10.0, 10.0  # seconds for a connection, and in which no byte comes
BUFFER = 2**18  # bytes that a connection may be ahead of whoever reads it
WRONG = 3  # bodies that are not what they should be; a cache on the way may have a broken one
OK, PARTIAL, UNSATISFIABLE = 200, 206, 416
PASSING = {408, 425, 429}  # as all from 500 on
PAGE = "text/html"
MISSING = {404, 410}
FORBIDDEN = {401, 403}
# RFC 9110, 14.4
CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)")


@dataclass(slots=True)
class Spill:
    """Where bytes go that are not to be kept in memory: a folder, and how many bytes memory has left."""

    folder: Path
    left: int


class Content:
    """The bytes of an object that have come.

    With a ``spill`` they move into a file as soon as memory has no bytes left; the file begins with room for
    the header of a pack (``fetching.packs``).
    """

    def __init__(self, spill: Spill | None = None) -> None:
        self.path: Path | None = None  # of the file
        self.fault: OSError | None = None  # why it could not be written
        self._spill = spill
        self._pieces: list[bytes] = []
        self._length = 0
        self._file: int | None = None
        self._sum = hashlib.sha256()  # of what is in the file

    def __len__(self) -> int:
        return self._length

    def add(self, piece: bytes) -> None:
        """Append bytes; raises OSError, which ``fault`` is from then on."""
        try:
            self._add(piece)
        except OSError as error:
            self.fault = error
            raise

    def _add(self, piece: bytes) -> None:
        spill = self._spill
        if spill and self._file is None and spill.left < len(piece):
            self._file, name = tempfile.mkstemp(UNFINISHED, dir=spill.folder)
            self.path = Path(name)
            self._write(bytes(HEADER.size), is_header=True)
            for one in self._pieces:
                self._write(one)
            self._release()
        self._length += len(piece)
        if self._file is not None:
            self._write(piece)
            return
        if spill:
            spill.left -= len(piece)
        self._pieces.append(piece)

    def clear(self) -> None:
        """Forget all of it, and remove the file."""
        self._release()
        self._length = 0
        if self._file is not None:
            os.close(self._file)
            self._file = None
            self._sum = hashlib.sha256()
        if self.path:
            with suppress(FileNotFoundError):  # it has become a pack
                self.path.unlink()
            self.path = None

    def joined(self) -> bytes:
        """What is in memory, as one piece."""
        self._pieces = [b"".join(self._pieces)]
        return self._pieces[0]

    async def sha256(self) -> str:
        """The sum of all of it, hexadecimal."""
        if self.path:
            return self._sum.hexdigest()
        return (await asyncio.to_thread(hashlib.sha256, self.joined())).hexdigest()

    def _write(self, piece: bytes, *, is_header: bool = False) -> None:
        assert self._file is not None  # noqa: S101 - it is open
        view = memoryview(piece)
        while view:
            view = view[os.write(self._file, view) :]
        if not is_header:
            self._sum.update(piece)

    def _release(self) -> None:
        if self._spill:
            self._spill.left += sum(map(len, self._pieces))
        self._pieces.clear()


class Download:
    """Reads an object into ``content``; ``received`` counts the bytes of all attempts, failed ones included.

    What is larger than ``largest`` bytes is refused. What comes takes its room of ``share``, if there is one.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        wanted: Wanted,
        largest: int,
        content: Content,
        share: Share | None = None,
    ) -> None:
        self.share = share
        self.received = 0
        self.content = content
        self._session = session
        self._wanted = wanted
        self._largest = largest
        self._validator: str | None = None  # by which the server tells that the object is still the same
        self._wrong = 0

    async def attempt(self) -> None:
        """Go on where the last attempt ended; raises StorageUnavailable, StorageRefused, ObjectNotFound."""
        wanted = self._wanted
        if not self._validator:
            self.content.clear()
        begin = wanted.offset + len(self.content)
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT, sock_read=STALL)
        try:
            async with self._session.get(
                wanted.url, headers=self._headers(begin), timeout=timeout, read_bufsize=BUFFER
            ) as response:
                self._check(response.status)
                if response.content_type == PAGE:
                    raise StorageUnavailable(f"{wanted.where}: a page comes in its place, as of a portal")
                await self._take(response, begin)
        except (ValueError, aiohttp.NonHttpUrlClientError, aiohttp.TooManyRedirects) as error:
            # A name that cannot be looked up is a UnicodeError: one of an address that we are led to, too.
            raise StorageRefused(f"{wanted.where} cannot be asked for ({type(error).__name__})") from None
        except TimeoutError:
            raise StorageUnavailable(f"{wanted.where}: no bytes come for {STALL:.0f} s") from None
        except aiohttp.ClientConnectorError as error:
            raise StorageUnavailable(f"{wanted.where} cannot be reached ({error.strerror})") from None
        except (aiohttp.ClientError, OSError) as error:
            if self.content.fault:
                raise
            raise StorageUnavailable(f"{wanted.where}: cut ({type(error).__name__})") from None
        await self._verify()

    def _headers(self, begin: int) -> dict[str, str]:
        headers: dict[str, str] = {
            hdrs.ACCEPT_ENCODING: "identity"
        }  # what is compressed cannot be gone on with
        length = self._wanted.length
        if begin or length is not None:
            end = "" if length is None else self._wanted.offset + length - 1
            headers[hdrs.RANGE] = f"bytes={begin}-{end}"
        if len(self.content) and self._validator:
            headers[hdrs.IF_RANGE] = self._validator
        return headers

    def _check(self, status: int) -> None:
        if status in (OK, PARTIAL):
            return
        where = self._wanted.where
        if status in MISSING:
            raise ObjectNotFound(f"{where}: there is no such object (HTTP {status})")
        if status in FORBIDDEN:
            raise StorageRefused(
                f"{where} may not be read (HTTP {status}): is the bucket public, or is a signed address over?"
            )
        if status == UNSATISFIABLE and len(self.content):
            self._validator = None
            raise StorageUnavailable(f"{where} became shorter while it was read")
        if status >= 500 or status in PASSING:  # noqa: PLR2004 - RFC 9110, 15.6
            raise StorageUnavailable(f"{where}: HTTP {status}")
        raise StorageRefused(f"{where}: HTTP {status}")

    async def _take(self, response: aiohttp.ClientResponse, begin: int) -> None:
        """Take what the answer has of it; raises StorageUnavailable where that is not what was asked for."""
        wanted, validator = self._wanted, _validator(response)
        skip, total = 0, response.content_length
        if response.status == PARTIAL:
            match = CONTENT_RANGE.fullmatch(response.headers.get(hdrs.CONTENT_RANGE, ""))
            if not match or int(match[1]) != begin or (self.content and validator != self._validator):
                self._validator = None
                raise StorageUnavailable(f"{wanted.where} changed while it was read")
            total = None if match[2] == "*" else int(match[2])
        else:  # all of it: the server knows no ranges, or the object is another one by now
            self.content.clear()
            skip = wanted.offset
        self._validator = validator
        if self.share and response.content_length is not None and wanted.length is None:
            await self.share.need(min(len(self.content) + response.content_length, self._largest))
        async for piece in response.content.iter_any():
            self.received += len(piece)
            size = len(self.content)
            if self.share:
                await self.share.need(size + len(piece))
            most = None if wanted.length is None else skip + wanted.length - size
            self.content.add(piece[skip:most])
            skip -= min(skip, len(piece))
            size = len(self.content)
            if size > self._largest:
                raise StorageRefused(f"{wanted.where} is larger than the {self._largest} bytes that may be")
            if wanted.length is not None and size >= wanted.length:
                return
        if response.status == PARTIAL and total is not None and wanted.offset + len(self.content) < total:
            raise StorageUnavailable(f"{wanted.where}: cut after {len(self.content)} bytes")

    async def _verify(self) -> None:
        wanted, size = self._wanted, len(self.content)
        fault = None
        if wanted.known_size not in (None, size):
            fault = f"{wanted.where} has {size} bytes, not {wanted.known_size}"
        elif wanted.sha256 and await self.content.sha256() != wanted.sha256.lower():
            fault = f"{wanted.where} has not the SHA-256 that it should have"
        if fault is None:
            return
        self._validator = None
        self._wrong += 1
        raise (StorageRefused if self._wrong >= WRONG else StorageUnavailable)(fault)


async def is_right(body: bytes, wanted: Wanted) -> bool:
    """Whether this is what is wanted, as far as that was told."""
    if wanted.known_size not in (None, len(body)):
        return False
    content = Content()
    content.add(body)
    return wanted.sha256 is None or await content.sha256() == wanted.sha256.lower()


def _validator(response: aiohttp.ClientResponse) -> str | None:
    """What If-Range may ask with (RFC 9110, 13.1.5): a strong ETag, else the time of the last change."""
    if response.headers.get(hdrs.CONTENT_ENCODING):
        return None  # the bytes that we have are not those of the answer
    etag = response.headers.get(hdrs.ETAG, "")
    if etag.startswith('"'):
        return etag
    return None if etag else response.headers.get(hdrs.LAST_MODIFIED)
