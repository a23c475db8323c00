"""Client of the operator's HTTP API for ``broadcaster recordings``, and the upload of files to recordings.

The client authenticates with the token from the state folder, or with a token file on another machine. The
service gives a signed URL for each part of a file; the parts go straight to the bucket. Parts that an earlier
attempt has stored are not sent again.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import re
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import aiohttp
from yarl import URL

from broadcaster.admin import stored_token
from broadcaster.aio import Retrying
from broadcaster.bucket.body import STALL, MonitoredPayload, Pace
from broadcaster.bucket.client import code_in
from broadcaster.config import Settings, load
from broadcaster.errors import ConfigError, ManageError, StorageRefused, StorageUnavailable
from broadcaster.printable import ProgressLine, printable, printable_json, write
from broadcaster.upload.scheduler import AdaptiveLimit

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
        progress: Callable[[float, float], None],
    ) -> None:
        self._service, self._bucket, self._path, self._pace = service, bucket, path, pace
        self._key, self._size, self._part_size = upload["key"], upload["size"], upload["partSize"]
        self._there = {int(number): md5 for number, md5 in upload["parts"].items()}
        self._progress = progress
        self._retrying = Retrying("parts")
        most = PACED if pace else max(2, min(MOST, IN_MEMORY // self._part_size))
        self._link: AdaptiveLimit[int] = AdaptiveLimit(most)
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
            async with self._link.slot(number):
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
                    self._link.failed(transient=not fault.permanent)
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
        payload, started = MonitoredPayload(body, self._pace), time.monotonic()
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
        there = sum(self._moved.values())
        self._progress(there / self._size, there)


async def upload_recording_file(  # noqa: PLR0913 - from where, to where, and how
    address: str,
    token: str,
    recording: str,
    path: Path,
    *,
    rate: float | None = None,
    progress: Callable[[float, float], None] = lambda *_: None,
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
                progress(1, before.st_size)
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


TIMEOUT = 3600.0  # seconds; to look through a large bucket takes a while
ON = {"starting", "live"}
ID, PAGE = re.compile(r"([\w-]+)"), re.compile(r"/watch/([\w-]+)/?(?:[?#].*)?$")
NOT_FOUND = 404
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where nobody can be asked


class NoSuchRecordingError(ManageError):
    """The service knows nothing by this name."""


def upload_of(options: argparse.Namespace) -> argparse.Namespace:
    """The options that make an export's file its recording's; raises ManageError where it is of none."""
    found = PAGE.search(options.address) or (
        None if "://" in options.address else ID.fullmatch(options.address)
    )
    if not found:
        raise ManageError("--upload needs a recording: its id, or the address of its page (/watch/...)")
    return argparse.Namespace(**{**vars(options), "what": "upload", "id": found[1], "cancel": False})


def manage(options: argparse.Namespace) -> None:
    """Do what the options say; raises ConfigError without a token, ManageError when it cannot be done.

    Unless they say where the service is, it is this machine's, and the settings say where.
    """
    elsewhere = getattr(options, "service", None)
    address, token = _elsewhere(options) if elsewhere else _own(load())
    if options.what == "upload" and options.file:
        asyncio.run(_upload(address, token, options, is_here=not elsewhere))
        return
    if options.what == "delete":
        asyncio.run(_delete(address, token, options))
        return
    found = asyncio.run(_ask(address, token, *_request(options)))
    if options.what == "list":
        binned = asyncio.run(_ask(address, token, "GET", "bin"))["recordings"]
        for one in (*found["recordings"], *(one | {"visibility": "bin"} for one in binned)):
            write(_line(one))
    elif options.what == "bin":
        for kind, ones in found.items():
            for one in ones:
                title = one.get("title") or one.get("recording", "")
                line = f"{one['id']}  {kind[:-1]:<9}  until {one['goes'][:16]}  {title}"
                write(line.rstrip())
    elif found:
        write(printable_json(json.dumps(found, indent=2, ensure_ascii=False)))


def address_of(settings: Settings, name: str, part: int) -> str:
    """Where the playlist of a recording's part is, or that of a clip, by its id.

    Raises ConfigError without a token or a public bucket, ManageError when there is none.
    """
    if not settings.public_url:
        raise ConfigError("R2_PUBLIC_URL is not set: what is in a private bucket cannot be read by its id")
    address, token = _own(settings)
    found = asyncio.run(_ask(address, token, "GET", "recordings"))["recordings"]
    for one in found:
        if one["id"] == name:
            if part > len(one["parts"]):
                raise ManageError(f"the recording has {len(one['parts'])} parts")
            path = str(one["parts"][part - 1])
            break
    else:
        clips = asyncio.run(_ask(address, token, "GET", "clips"))["clips"]
        path = next((str(one["playlist"]) for one in clips if one["id"] == name), "")
    if not path:
        raise ManageError(f"there is no recording or clip {name!r}; `broadcaster recordings list` names them")
    return urljoin(f"{settings.public_url}/{settings.prefix}/recordings/", path)


def _elsewhere(options: argparse.Namespace) -> tuple[str, str]:
    """Where the service is, and the token."""
    if not options.token_file:
        raise ManageError("--service needs --token-file: operator-token of the service's state folder")
    try:
        return options.service.rstrip("/"), options.token_file.read_text().strip()
    except OSError as error:
        raise ManageError(f"{options.token_file}: {error.strerror}") from None


def _own(settings: Settings) -> tuple[str, str]:
    """Where this machine's service is, and its token."""
    host = EVERYWHERE.get(settings.admin_host, settings.admin_host)
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{settings.admin_port}", stored_token(settings.state_dir)


async def _upload(address: str, token: str, options: argparse.Namespace, *, is_here: bool) -> None:
    """Beside a stream that is on, only at a rate: the uplink is the stream's."""
    rate = options.rate and options.rate * 1000 / 8
    if is_here and not rate and await _is_on(address):
        raise ManageError("a stream is on, which needs the uplink: give --rate, or wait until it is over")
    try:
        with ProgressLine() as progress:
            await upload_recording_file(
                address, token, options.id, options.file, rate=rate, progress=progress.update
            )
    except OSError as error:
        raise ManageError(f"{options.file}: {error.strerror}") from None
    except asyncio.CancelledError:
        write("interrupted; the same command goes on where it stood", sys.stderr)
        raise


async def _delete(address: str, token: str, options: argparse.Namespace) -> None:
    """A recording or a clip, or with ``--now`` what is in the bin as well; on a terminal after a question."""
    name, query = options.id, "?now=1" if options.now else ""
    if sys.stdin.isatty() and not options.yes:
        known = [one async for one in _named(address, token, name)]
        if known and not _agrees(known[0], now=options.now):
            return
    paths = [f"recordings/{name}{query}", f"clips/{name}{query}", *([f"bin/{name}"] if options.now else [])]
    for path in paths:
        with contextlib.suppress(NoSuchRecordingError):
            await _ask(address, token, "DELETE", path)
            return
    raise NoSuchRecordingError("there is no such recording or clip")


async def _named(address: str, token: str, name: str) -> AsyncIterator[dict[str, Any]]:
    """The recordings and clips of that name, in the bin or not."""
    for path in ("recordings", "clips", "bin"):
        for ones in (await _ask(address, token, "GET", path)).values():
            for one in ones:
                if one["id"] == name:
                    yield one


def _agrees(one: dict[str, Any], *, now: bool) -> bool:
    """Whether the operator means it."""
    when = str(one.get("started") or one.get("begin") or one.get("deleted"))[:16].replace("T", " ")
    fate = "for good" if now else "into the bin, for a day"
    sys.stderr.write(f"{one.get('title') or one['id']!r}, {when} UTC: delete it {fate}? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


async def _is_on(address: str) -> bool:
    with contextlib.suppress(aiohttp.ClientError):  # the upload says so itself
        async with aiohttp.ClientSession() as session, session.get(f"{address}/health") as response:
            return (await response.json())["stream"] in ON
    return False


async def _ask(
    address: str, token: str, method: str, path: str, body: dict[str, Any] | None = None
) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {token}"}
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(TIMEOUT), headers=headers) as session,
            session.request(method, f"{address}/api/{path}", json=body) as response,
        ):
            text = await response.text()
            if not response.ok:
                kind = NoSuchRecordingError if response.status == NOT_FOUND else ManageError
                raise kind(_complaint(response.status, text))
            return dict(json.loads(text)) if text else {}
    except aiohttp.ClientConnectionError:
        raise ManageError(f"the service does not answer at {address}: is it running?") from None


def _request(options: argparse.Namespace) -> tuple[str, str, dict[str, Any] | None]:
    """Method, path and body."""
    what, one = options.what, f"recordings/{getattr(options, 'id', '')}"
    if what in {"sweep", "rebuild"}:
        query = "?dry-run=1" if what == "sweep" and options.dry_run else ""
        return "POST", f"recordings/{what}{query}", None
    if what == "upload":
        file = "/upload" if options.cancel else "?now=1" if options.now else ""
        return "DELETE", f"{one}/file{file}", None
    if what in {"bin", "restore"}:
        return ("GET", "bin", None) if what == "bin" else ("POST", f"bin/{options.id}/restore", None)
    changes: dict[str, Callable[[], dict[str, Any]]] = {
        "title": lambda: {"title": options.title},
        "keep": lambda: {"keepDays": options.days},
        "hide": lambda: {
            "visibility": "unlisted" if options.unlisted else "listed" if options.undo else "hidden"
        },
    }
    if what in changes:
        return "PATCH", one, changes[what]()
    return "GET", "recordings" if what == "list" else one, None


def _line(one: dict[str, Any]) -> str:
    minutes, seconds = divmod(round(one["duration"]), 60)
    length = f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
    state = one["visibility"] if one["ended"] else "on"
    line = f"{one['id']}  {length:>9}  {one['size'] / 1e6:>9,.1f} MB  {state:<8}  {one['title']}"
    return printable(line.rstrip())


def _complaint(status: int, text: str) -> str:
    try:
        return str(json.loads(text)["error"])
    except (ValueError, LookupError, TypeError):
        return "there is no such recording" if status == NOT_FOUND else f"the service answers {status}"
