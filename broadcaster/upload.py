"""Sends a file in parts, as the file of a recording: from any machine, with the operator's token.

The running service says which parts there are and gives a URL for each; the bucket gets the bytes from here.
What an attempt before this one has brought there whole is not sent again.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Awaitable, Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from broadcaster.delivery.turns import Link
from broadcaster.errors import ManageError, StorageRefused, StorageUnavailable
from broadcaster.retrying import Retrying
from broadcaster.storage.body import STALL, Body, Pace
from broadcaster.storage.faults import code_in

MOST, IN_MEMORY = 4, 64 * 2**20  # parts at once, and their bytes
PACED = 2  # parts at once where a rate is kept
SEGMENT = 1_200_000  # bytes: by uploads of this size a link is judged (delivery.turns)
FIRST_PAUSE, MAX_PAUSE = 0.5, 10.0  # seconds between attempts at a part
REFUSALS = 3  # of one part
GIVE_UP = 600.0  # seconds in which no part gets through
ASKING = 180.0  # seconds for an answer of the service: it may wait for the bucket
CONNECT = 10.0  # seconds
PASSING = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
LATER = "; the same command goes on where it stood"


class _Service:
    """Answers about one recording's file; raises ManageError, StorageUnavailable when there is none."""

    def __init__(self, session: aiohttp.ClientSession, address: str, recording: str) -> None:
        self._session = session
        self._address = address
        self._path = f"{address}/api/recordings/{recording}/file"

    async def ask(self, method: str, path: str = "", **body: object) -> dict[str, Any]:
        """What it answers."""
        try:
            request = self._session.request(method, self._path + path, json=body or None)
            async with request as response:
                text = await response.text()
                if response.ok:
                    return dict(await response.json())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            where = f"the service does not answer at {self._address}"
            raise StorageUnavailable(f"{where} ({type(error).__name__})") from None
        if response.status == HTTPStatus.NOT_FOUND:
            raise ManageError("there is no such recording")
        with contextlib.suppress(ValueError, LookupError, TypeError):
            text = str((await response.json())["error"])
        if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise StorageUnavailable(text)
        raise ManageError(text)


class _Sending:
    """One file on its way, as the service has it in ``upload``; ``progress`` is told of its bytes."""

    def __init__(  # noqa: PLR0913 - from where, to where, and how
        self,
        service: _Service,
        bucket: aiohttp.ClientSession,
        path: Path,
        upload: dict[str, Any],
        *,
        pace: Pace | None,
        progress: Callable[[int], None],
    ) -> None:
        self._service, self._bucket, self._path, self._pace = service, bucket, path, pace
        self._key, self._size, self._part_size = upload["key"], upload["size"], upload["partSize"]
        self._there = {int(number): md5 for number, md5 in upload["parts"].items()}
        self._progress = progress
        self._retrying = Retrying("parts")
        most = PACED if pace else max(2, min(MOST, IN_MEMORY // self._part_size))
        self._link: Link[int] = Link(most)
        self._moved: dict[int, int] = {}  # by part: bytes
        self._latest = time.monotonic()  # when a part was there
        self._workers = most

    async def send(self) -> str:
        """All parts; returns the ETag that they make together. Raises ManageError, OSError."""
        md5s: dict[int, bytes] = {}
        numbers = iter(range(1, -(-self._size // self._part_size) + 1))

        async def work() -> None:
            for number in numbers:
                md5s[number] = await self._bring(number)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._workers):
                    group.create_task(work())
        except* (ManageError, OSError) as failures:
            raise _first(failures) from None
        return multipart_etag([md5 for _, md5 in sorted(md5s.items())])

    async def _bring(self, number: int) -> bytes:
        """See to it that the bucket has this part; returns its MD5."""
        pause, refusals = FIRST_PAUSE, 0
        while True:
            async with self._link.turn(number):
                body = await asyncio.to_thread(read_part, self._path, number, self._part_size)
                md5 = await asyncio.to_thread(hashlib.md5, body, usedforsecurity=False)
                if self._there.get(number) == md5.hexdigest():
                    self._note(number, len(body))
                    self._latest = time.monotonic()
                    return md5.digest()
                try:
                    await self._put(number, body, md5.hexdigest())
                except (StorageUnavailable, StorageRefused) as error:
                    self._moved.pop(number, None)
                    fault = self._retrying.failed(error)
                    self._link.failed(passing=not fault.permanent)
                    refusals += fault.permanent
                    waited = time.monotonic() - self._latest
                    if refusals == REFUSALS or waited > GIVE_UP:
                        raise ManageError(f"{error}{LATER}") from None
                else:
                    self._latest = time.monotonic()
                    self._link.probing = False
                    self._retrying.worked()
                    return md5.digest()
            del body
            await self._retrying.pause(pause)
            pause = min(2 * pause, MAX_PAUSE)

    async def _put(self, number: int, body: bytes, md5: str) -> None:
        url = (await self._service.ask("POST", "/upload/part", key=self._key, number=number))["url"]
        payload, started = Body(body, self._pace), time.monotonic()
        try:
            async with asyncio.timeout(STALL) as limit:
                with payload.watched(limit, lambda size: self._note(number, size)):
                    request = self._bucket.put(URL(url, encoded=True), data=payload, allow_redirects=False)
                    async with request as response:
                        text = await response.text(errors="replace")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            why = "no bytes get through" if isinstance(error, TimeoutError) else type(error).__name__
            raise StorageUnavailable(f"part {number}: {why}") from None
        if response.status != HTTPStatus.OK:
            what = f"part {number}: the bucket answers {response.status} {code_in(text)}".rstrip()
            permanent = response.status < HTTPStatus.INTERNAL_SERVER_ERROR and response.status not in PASSING
            raise (StorageRefused if permanent else StorageUnavailable)(what)
        if response.headers.get("ETag", "").strip('"') != md5:
            raise StorageUnavailable(f"part {number}: the bucket has other bytes than were sent")
        self._link.succeeded((time.monotonic() - started) * SEGMENT / len(body))

    def _note(self, number: int, size: int) -> None:
        self._moved[number] = self._moved.get(number, 0) + size
        self._progress(sum(self._moved.values()))


async def upload_recording_file(  # noqa: PLR0913 - from where, to where, and how
    address: str,
    token: str,
    recording: str,
    path: Path,
    *,
    rate: float | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Make it the recording's file, in the place of any other; again after an interruption, it goes on.

    ``address`` is the operator's listener, ``rate`` bytes a second, at least 8,000; ``progress`` is told how
    many bytes are there. Raises ManageError with what to do, OSError when the file cannot be read.
    """
    before = await asyncio.to_thread(path.stat)
    timeout = aiohttp.ClientTimeout(total=ASKING, sock_connect=CONNECT)
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession(timeout=timeout, headers=headers) as asking,
        # The token is nothing for the bucket.
        aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT), trust_env=True
        ) as bucket,
    ):
        service = _Service(asking, address, recording)
        try:
            known = (await service.ask("GET"))["file"]
            if known and await asyncio.to_thread(is_the_same, path, known):
                progress(before.st_size)
                return
            upload = await service.ask("POST", "/upload", name=path.name, size=before.st_size)
        except StorageUnavailable as error:
            raise ManageError(str(error)) from None
        pace = Pace(rate) if rate else None
        etag = await _Sending(service, bucket, path, upload, pace=pace, progress=progress).send()
        after = await asyncio.to_thread(path.stat)
        if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise ManageError(f"{path} changed while it was uploaded: upload it again")
        await _insist(lambda: service.ask("POST", "/upload/complete", key=upload["key"], etag=etag))


async def _insist(ask: Callable[[], Awaitable[dict[str, Any]]]) -> None:
    """Whether it was done when there is no answer, the next one tells."""
    started, retrying = time.monotonic(), Retrying("completions")
    while True:
        try:
            await ask()
        except StorageUnavailable as error:
            retrying.failed(error)
            if time.monotonic() - started > GIVE_UP:
                raise ManageError(f"{error}{LATER}") from None
            await retrying.pause(MAX_PAUSE / 2)
        else:
            return


def is_the_same(path: Path, known: dict[str, Any]) -> bool:
    """Whether what the bucket has are the bytes of this file; raises OSError."""
    if not known["partSize"] or known["size"] != path.stat().st_size:
        return False
    md5s = (hashlib.md5(part, usedforsecurity=False).digest() for part in _parts(path, known["partSize"]))
    return multipart_etag(list(md5s)) == str(known["etag"])


def multipart_etag(md5s: list[bytes]) -> str:
    """The ETag of an object of these parts."""
    return f"{hashlib.md5(b''.join(md5s), usedforsecurity=False).hexdigest()}-{len(md5s)}"


def read_part(path: Path, number: int, size: int) -> bytes:
    """Its bytes; raises OSError."""
    with path.open("rb") as file:
        file.seek((number - 1) * size)
        return file.read(size)


def _parts(path: Path, size: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        while part := file.read(size):
            yield part


def _first(group: BaseExceptionGroup[ManageError | OSError]) -> ManageError | OSError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
