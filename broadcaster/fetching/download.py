"""One object, over as many attempts as it takes."""

from __future__ import annotations

import asyncio
import hashlib
import re

import aiohttp
from aiohttp import hdrs

from broadcaster.errors import ObjectNotFound, StorageRefused, StorageUnavailable
from broadcaster.fetching.wanted import Wanted

CONNECT, STALL = 10.0, 10.0  # seconds for a connection, and in which no byte comes
BUFFER = 2**18  # bytes that a connection may be ahead of whoever reads it
WRONG = 3  # bodies that are not what they should be; a cache on the way may have a broken one
OK, PARTIAL, UNSATISFIABLE = 200, 206, 416
PASSING = {408, 425, 429}  # as all from 500 on
MISSING = {404, 410}
FORBIDDEN = {401, 403}
# RFC 9110, 14.4
CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)")


class Download:
    """Reads it; ``received`` counts the bytes that came, those of attempts that failed as well.

    What is larger than ``largest`` bytes is refused.
    """

    def __init__(self, session: aiohttp.ClientSession, wanted: Wanted, largest: int) -> None:
        self.received = 0
        self._session = session
        self._wanted = wanted
        self._largest = largest
        self._pieces: list[bytes] = []
        self._length = 0  # bytes of them
        self._validator: str | None = None  # by which the server tells that the object is still the same
        self._wrong = 0

    async def attempt(self) -> bytes:
        """Go on where the last attempt ended; raises StorageUnavailable, StorageRefused, ObjectNotFound."""
        wanted = self._wanted
        if not self._validator:
            self._begin_again()
        begin = wanted.offset + self._length
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT, sock_read=STALL)
        try:
            async with self._session.get(
                wanted.url, headers=self._headers(begin), timeout=timeout, read_bufsize=BUFFER
            ) as response:
                self._check(response.status)
                await self._take(response, begin)
        except (ValueError, aiohttp.NonHttpUrlClientError, aiohttp.TooManyRedirects) as error:
            # A name that cannot be looked up is a UnicodeError: one of an address that we are led to, too.
            raise StorageRefused(f"{wanted.where} cannot be asked for ({type(error).__name__})") from None
        except TimeoutError:
            raise StorageUnavailable(f"{wanted.where}: no bytes come for {STALL:.0f} s") from None
        except aiohttp.ClientConnectorError as error:
            raise StorageUnavailable(f"{wanted.where} cannot be reached ({error.strerror})") from None
        except (aiohttp.ClientError, OSError) as error:
            raise StorageUnavailable(f"{wanted.where}: cut ({type(error).__name__})") from None
        return await self._checked()

    def _headers(self, begin: int) -> dict[str, str]:
        headers: dict[str, str] = {
            hdrs.ACCEPT_ENCODING: "identity"
        }  # what is compressed cannot be gone on with
        length = self._wanted.length
        if begin or length is not None:
            end = "" if length is None else self._wanted.offset + length - 1
            headers[hdrs.RANGE] = f"bytes={begin}-{end}"
        if self._length and self._validator:
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
        if status == UNSATISFIABLE and self._length:
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
            if not match or int(match[1]) != begin or (self._length and validator != self._validator):
                self._validator = None
                raise StorageUnavailable(f"{wanted.where} changed while it was read")
            total = None if match[2] == "*" else int(match[2])
        else:  # all of it: the server knows no ranges, or the object is another one by now
            self._begin_again()
            skip = wanted.offset
        self._validator = validator
        async for piece in response.content.iter_any():
            self.received += len(piece)
            self._pieces.append(piece[skip:])
            self._length += len(self._pieces[-1])
            skip -= min(skip, len(piece))
            if self._length > self._largest:
                raise StorageRefused(f"{wanted.where} is larger than the {self._largest} bytes that may be")
            if wanted.length is not None and self._length >= wanted.length:
                self._pieces = [b"".join(self._pieces)[: wanted.length]]
                self._length = wanted.length
                return
        if response.status == PARTIAL and total is not None and wanted.offset + self._length < total:
            raise StorageUnavailable(f"{wanted.where}: cut after {self._length} bytes")

    def _begin_again(self) -> None:
        self._pieces.clear()
        self._length = 0

    async def _checked(self) -> bytes:
        wanted, body = self._wanted, b"".join(self._pieces)
        fault = None
        if wanted.known_size not in (None, len(body)):
            fault = f"{wanted.where} has {len(body)} bytes, not {wanted.known_size}"
        elif wanted.sha256 and await _sha256(body) != wanted.sha256.lower():
            fault = f"{wanted.where} has not the SHA-256 that it should have"
        if fault is None:
            return body
        self._validator = None
        self._wrong += 1
        raise (StorageRefused if self._wrong >= WRONG else StorageUnavailable)(fault)


def _validator(response: aiohttp.ClientResponse) -> str | None:
    """What If-Range may ask with (RFC 9110, 13.1.5): a strong ETag, else the time of the last change."""
    if response.headers.get(hdrs.CONTENT_ENCODING):
        return None  # the bytes that we have are not those of the answer
    etag = response.headers.get(hdrs.ETAG, "")
    if etag.startswith('"'):
        return etag
    return None if etag else response.headers.get(hdrs.LAST_MODIFIED)


async def _sha256(body: bytes) -> str:
    return (await asyncio.to_thread(hashlib.sha256, body)).hexdigest()
