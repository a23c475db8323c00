"""Downloads of single objects, each over as many attempts as necessary, with a limit on received bytes."""

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

from broadcaster.aio import Signal
from broadcaster.download.packs import HEADER, UNFINISHED
from broadcaster.errors import ObjectNotFound, StorageRefused, StorageUnavailable

CONNECT, STALL = 10.0, 10.0  # seconds for a connection, and without a byte
BUFFER = 2**18  # received bytes of a connection that may wait to be read
WRONG = 3  # bodies with a wrong size or SHA-256; a cache on the way may have a damaged object
OK, PARTIAL, UNSATISFIABLE = 200, 206, 416
TRANSIENT = {408, 425, 429}  # like all from 500 on
PAGE = "text/html"
MISSING = {404, 410}
FORBIDDEN = {401, 403}
# RFC 9110, 14.4
CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)")


class ByteSemaphore:
    """Limits received bytes to ``limit``; each download takes a share.

    The eldest share never waits, because all others wait for its bytes: the limit can be exceeded by one
    object. A download without progress moves its share back.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0
        self.shares: dict[ByteShare, None] = {}  # the eldest first
        self.changed = Signal()

    @contextmanager
    def share(self) -> Iterator[ByteShare]:
        """An empty share, released on exit."""
        share = ByteShare(self)
        self.shares[share] = None
        try:
            yield share
        finally:
            del self.shares[share]
            self.taken -= share.size
            self.changed.notify()


class ByteShare:
    """The ``size`` bytes that a download has taken of a ``semaphore``."""

    def __init__(self, semaphore: ByteSemaphore) -> None:
        self.size = 0
        self.semaphore = semaphore

    async def need(self, size: int) -> None:
        """Wait until the share has at least ``size`` bytes."""
        missing, semaphore = size - self.size, self.semaphore
        if missing <= 0:
            return
        while semaphore.taken + missing > semaphore.limit and self is not next(iter(semaphore.shares)):
            await semaphore.changed.next().wait()
        semaphore.taken += missing
        self.size += missing

    def move_back(self) -> None:
        """Become the youngest share."""
        shares = self.semaphore.shares
        shares[self] = shares.pop(self)
        self.semaphore.changed.notify()

    def move_to_front(self) -> None:
        """Become the eldest share."""
        self.semaphore.shares = {self: None, **self.semaphore.shares}
        self.semaphore.changed.notify()


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """A request for an object, or for ``length`` bytes of it from ``offset`` (to its end without a length).

    ``size`` in bytes and hexadecimal ``sha256`` describe the requested bytes, as far as known. Requests with
    the same ``name`` are for the same object; the default is the URL. Signed URLs need a name.
    """

    url: str
    size: int | None = None
    sha256: str | None = None
    offset: int = 0
    length: int | None = None
    name: str | None = None

    @property
    def key(self) -> tuple[str, int, int | None, int | None, str | None]:
        """The key in caches; it contains the SHA-256 that the bytes were checked against."""
        return self.name or self.url, self.offset, self.length, self.size, self.sha256

    @property
    def unchecked(self) -> FetchRequest:
        """The same request without size and SHA-256."""
        return replace(self, size=None, sha256=None)

    @property
    def known_size(self) -> int | None:
        """The number of bytes, if known."""
        return self.length if self.size is None else self.size

    @property
    def safe_url(self) -> str:
        """The URL without a signature or a password, for messages."""
        try:
            parts = urlsplit(self.url)
        except ValueError:
            return "an invalid URL"
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


@dataclass(slots=True)
class Spill:
    """A folder for bytes beyond the ``left`` bytes of memory."""

    folder: Path
    left: int


class Content:
    """The received bytes of an object.

    With a ``spill`` they move into a file when no memory is left; the file begins with space for the header
    of a pack file.
    """

    def __init__(self, spill: Spill | None = None) -> None:
        self.path: Path | None = None  # of the file
        self.fault: OSError | None = None  # of the latest write
        self._spill = spill
        self._pieces: list[bytes] = []
        self._length = 0
        self._file: int | None = None
        self._sum = hashlib.sha256()  # of the bytes in the file

    def __len__(self) -> int:
        return self._length

    def add(self, piece: bytes) -> None:
        """Append bytes; raises OSError and sets ``fault``."""
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
            for earlier in self._pieces:
                self._write(earlier)
            self._release()
        self._length += len(piece)
        if self._file is not None:
            self._write(piece)
            return
        if spill:
            spill.left -= len(piece)
        self._pieces.append(piece)

    def clear(self) -> None:
        """Discard all bytes, and remove the file."""
        self._release()
        self._length = 0
        if self._file is not None:
            os.close(self._file)
            self._file = None
            self._sum = hashlib.sha256()
        if self.path:
            with suppress(FileNotFoundError):  # it has become a pack file
                self.path.unlink()
            self.path = None

    def joined(self) -> bytes:
        """The bytes in memory."""
        self._pieces = [b"".join(self._pieces)]
        return self._pieces[0]

    async def sha256(self) -> str:
        """The SHA-256 of all bytes, in hexadecimal."""
        if self.path:
            return self._sum.hexdigest()
        return (await asyncio.to_thread(hashlib.sha256, self.joined())).hexdigest()

    def _write(self, piece: bytes, *, is_header: bool = False) -> None:
        assert self._file is not None  # noqa: S101 - for the type checker
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
    """Reads an object of at most ``largest`` bytes into ``content``.

    ``received`` counts the bytes of all attempts, including failed attempts. Received bytes are taken of
    ``share``, if given.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        request: FetchRequest,
        largest: int,
        content: Content,
        share: ByteShare | None = None,
    ) -> None:
        self.share = share
        self.received = 0
        self.content = content
        self._session = session
        self._request = request
        self._largest = largest
        self._validator: str | None = None  # for If-Range: the server says whether the object has changed
        self._wrong = 0  # bodies with a wrong size or SHA-256

    async def attempt(self) -> None:
        """Resume the previous attempt; raises StorageUnavailable, StorageRefused, ObjectNotFound."""
        request = self._request
        if not self._validator:
            self.content.clear()
        begin = request.offset + len(self.content)
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT, sock_read=STALL)
        try:
            async with self._session.get(
                request.url, headers=self._headers(begin), timeout=timeout, read_bufsize=BUFFER
            ) as response:
                self._check(response.status)
                if response.content_type == PAGE:
                    raise StorageUnavailable(f"{request.safe_url}: got a web page, such as a login")
                await self._take(response, begin)
        except (ValueError, aiohttp.NonHttpUrlClientError, aiohttp.TooManyRedirects) as error:
            # ValueError: a host name that cannot be encoded, also of a redirect.
            raise StorageRefused(f"{request.safe_url} cannot be requested ({type(error).__name__})") from None
        except TimeoutError:
            raise StorageUnavailable(f"{request.safe_url}: no bytes received for {STALL:.0f} s") from None
        except aiohttp.ClientConnectorError as error:
            raise StorageUnavailable(f"{request.safe_url} cannot be reached ({error.strerror})") from None
        except (aiohttp.ClientError, OSError) as error:
            if self.content.fault:
                raise
            raise StorageUnavailable(f"{request.safe_url}: interrupted ({type(error).__name__})") from None
        await self._verify()

    def _headers(self, begin: int) -> dict[str, str]:
        # A compressed body cannot be resumed.
        headers: dict[str, str] = {hdrs.ACCEPT_ENCODING: "identity"}
        length = self._request.length
        if begin or length is not None:
            end = "" if length is None else self._request.offset + length - 1
            headers[hdrs.RANGE] = f"bytes={begin}-{end}"
        if len(self.content) and self._validator:
            headers[hdrs.IF_RANGE] = self._validator
        return headers

    def _check(self, status: int) -> None:
        if status in (OK, PARTIAL):
            return
        url = self._request.safe_url
        if status in MISSING:
            raise ObjectNotFound(f"{url}: there is no such object (HTTP {status})")
        if status in FORBIDDEN:
            raise StorageRefused(
                f"{url} may not be read (HTTP {status}): is the bucket public, or has a signed URL expired?"
            )
        if status == UNSATISFIABLE and len(self.content):
            self._validator = None
            raise StorageUnavailable(f"{url} became shorter while it was read")
        if status >= 500 or status in TRANSIENT:  # noqa: PLR2004 - RFC 9110, 15.6
            raise StorageUnavailable(f"{url}: HTTP {status}")
        raise StorageRefused(f"{url}: HTTP {status}")

    async def _take(self, response: aiohttp.ClientResponse, begin: int) -> None:
        """Receive the body; raises StorageUnavailable if the object has changed or the body is incomplete."""
        request, validator = self._request, _validator(response)
        skip, total = 0, response.content_length
        if response.status == PARTIAL:
            match = CONTENT_RANGE.fullmatch(response.headers.get(hdrs.CONTENT_RANGE, ""))
            if not match or int(match[1]) != begin or (self.content and validator != self._validator):
                self._validator = None
                raise StorageUnavailable(f"{request.safe_url} changed while it was read")
            total = None if match[2] == "*" else int(match[2])
        else:  # the whole object: the server ignores ranges, or the object has changed
            self.content.clear()
            skip = request.offset
        self._validator = validator
        if self.share and response.content_length is not None and request.length is None:
            await self.share.need(min(len(self.content) + response.content_length, self._largest))
        async for piece in response.content.iter_any():
            self.received += len(piece)
            size = len(self.content)
            if self.share:
                await self.share.need(size + len(piece))
            most = None if request.length is None else skip + request.length - size
            self.content.add(piece[skip:most])
            skip -= min(skip, len(piece))
            size = len(self.content)
            if size > self._largest:
                raise StorageRefused(f"{request.safe_url} is larger than {self._largest} bytes")
            if request.length is not None and size >= request.length:
                return
        if response.status == PARTIAL and total is not None and request.offset + len(self.content) < total:
            raise StorageUnavailable(f"{request.safe_url}: interrupted after {len(self.content)} bytes")

    async def _verify(self) -> None:
        request, size = self._request, len(self.content)
        fault = None
        if request.known_size not in (None, size):
            fault = f"{request.safe_url} has {size} bytes, not {request.known_size}"
        elif request.sha256 and await self.content.sha256() != request.sha256.lower():
            fault = f"{request.safe_url} has a wrong SHA-256"
        if fault is None:
            return
        self._validator = None
        self._wrong += 1
        raise (StorageRefused if self._wrong >= WRONG else StorageUnavailable)(fault)


async def is_right(body: bytes, request: FetchRequest) -> bool:
    """Whether the body has the size and SHA-256 of the request, as far as known."""
    if request.known_size not in (None, len(body)):
        return False
    if request.sha256 is None:
        return True
    return (await asyncio.to_thread(hashlib.sha256, body)).hexdigest() == request.sha256.lower()


def _validator(response: aiohttp.ClientResponse) -> str | None:
    """The value for If-Range (RFC 9110, 13.1.5): a strong ETag, or the time of the last change."""
    if response.headers.get(hdrs.CONTENT_ENCODING):
        return None  # the received bytes are decoded
    etag = response.headers.get(hdrs.ETAG, "")
    if etag.startswith('"'):
        return etag
    return None if etag else response.headers.get(hdrs.LAST_MODIFIED)
