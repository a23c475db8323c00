"""Takes HLS that an encoder pushes by HTTP: the second implementation of ``Source``.

Uploads become files of a private folder, in the layout that ``FolderSource`` follows, so that its rules for
restarts, encoder runs and gaps hold for both. While an upload arrives its file ends with ``.tmp``; it gets
its name when all of it is on the disk. The spool links the file: there is no second copy.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import logging
import os
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from broadcaster.aio import LogLimiter, OwnThread, Signal, wait_at_most
from broadcaster.catalog.records import LARGEST, FileIdentity, Segment, SourceFile, SourceSnapshot
from broadcaster.events import SourceEvent
from broadcaster.http.connections import CONNECTIONS, BodyGatherer, Connections
from broadcaster.metrics import Metric
from broadcaster.own_files import begin_writing_back, own_folder
from broadcaster.source import FolderSource
from broadcaster.source.file_checks import MAX_BYTES, UNFINISHED
from broadcaster.source.owncast_names import NAME_MAX, VARIANT_NAME

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Bytes that are written at once, parts as they were received, and writes of an upload that wait for the disk.
PIECE, MAX_PARTS, MAX_WRITES = 2**19, 500, 3
PLAYLIST = ".m3u8"
# Other files, such as a DASH manifest, are answered and not kept: nothing follows them.
KEPT_SUFFIXES = (PLAYLIST, ".ts", ".m4s", ".mp4", ".m4v", ".cmfv", ".cmfa", ".m4a", ".aac", ".mp3", ".ac3")
IDLE_TIMEOUT, LONGEST = 20.0, 600.0  # seconds without a byte, and for an upload
MAX_CONNECTIONS, MAX_UPLOADS = 1000, 256
SLOW = 5.0  # seconds after which an upload can be cut for another, when there are too many
MAX_FILES, MAX_FOLDERS = 10_000, 64
TAKEN_TIMEOUT = 2.0  # seconds for which a file that was not taken yet is not replaced
RETRY_AFTER = 5  # seconds
# Files that were taken stay for comparisons with later playlists, as an encoder's own folder keeps them.
KEPT_FILES, KEPT_FOR = 20, 60.0
UNUSED_FOR, PLAYLISTS_FOR = 3600.0, 86_400.0  # seconds for files that no playlist lists, and for playlists
SWEEP_EVERY = 30.0  # seconds


class PushRefused(Exception):  # noqa: N818 - an answer
    """The request is answered with this status and text."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(eq=False, slots=True)
class PushedFile:
    """A file that arrives."""

    path: Path
    descriptor: int = -1
    size: int = 0
    fault: PushRefused | OSError | None = None  # of its begin, or of a write: it is not complete
    is_over: bool = False  # it has its name, or was given up

    @property
    def unfinished(self) -> Path:
        """Where it is until it is complete."""
        return self.path.with_name(self.path.name + UNFINISHED)


@dataclass(slots=True)
class _Stored:
    """A file that has arrived; times are monotonic."""

    size: int
    used: float  # when it arrived, or was taken last
    is_taken: bool = False
    is_map: bool = False


class PushFolder:
    """The files in the folder ``root``; synchronous, for one thread. ``waiting`` are bytes not taken yet.

    A segment is on the disk before it has its name, and its name is before ``commit`` returns.
    """

    def __init__(self, root: Path, memory: SourceSnapshot) -> None:
        own_folder(root)
        self.root = Path(os.path.realpath(root))
        self.waiting = 0
        self._arriving: dict[Path, PushedFile] = {}
        self._stored: dict[Path, _Stored] = {}
        # Folders in whose playlists dates say whether a file that is sent again is a segment of another run.
        self._dated: set[Path] = set()
        known = {file for position in memory.positions.values() for file in position.files.values()}
        for path in sorted(self.root.rglob("*")):
            if path.name.endswith(UNFINISHED):
                path.unlink()
            elif path.is_file():
                self._note(path, path.stat(), known)

    def _note(self, path: Path, status: os.stat_result, known: set[FileIdentity]) -> None:
        identity = FileIdentity(status.st_ino, status.st_mtime_ns, status.st_size)
        self._forget(path)
        stored = _Stored(status.st_size, time.monotonic(), is_taken=identity in known or _is_playlist(path))
        self._stored[path] = stored
        self.waiting += 0 if stored.is_taken else stored.size
        if _is_playlist(path) and b"#EXT-X-PROGRAM-DATE-TIME:" in path.read_bytes():
            self._dated.add(path.parent)

    def _forget(self, path: Path) -> None:
        before = self._stored.pop(path, None)
        if before and not before.is_taken:
            self.waiting -= before.size

    def open(self, upload: PushedFile, *parts: bytes) -> None:
        """Begin an upload, and write its first bytes; another upload of the same file is given up.

        Raises PushRefused, OSError.
        """
        try:
            self._open(upload)
        except (PushRefused, OSError) as error:
            upload.fault = error
            raise
        if parts:
            self.write(upload, *parts)

    def _open(self, upload: PushedFile) -> None:
        path = upload.path
        if len(self._stored) + len(self._arriving) >= MAX_FILES:
            raise PushRefused(HTTPStatus.SERVICE_UNAVAILABLE, "there are too many files")
        if path.parent != self.root and not path.parent.is_dir():
            if sum(1 for entry in self.root.iterdir() if entry.is_dir()) >= MAX_FOLDERS:
                raise PushRefused(HTTPStatus.SERVICE_UNAVAILABLE, "there are too many folders")
            path.parent.mkdir(mode=0o700)
            _sync(self.root)
        upload.unfinished.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        upload.descriptor = os.open(upload.unfinished, flags, 0o600)
        self._arriving[path] = upload

    def write(self, upload: PushedFile, *parts: bytes) -> None:
        """Write the next bytes. Raises OSError; after an earlier fault, nothing is written."""
        if upload.fault:
            return
        begin = upload.size
        try:
            left = sum(map(len, parts))
            while left:
                written = os.writev(upload.descriptor, parts)
                upload.size, left = upload.size + written, left - written
                if left:  # it was interrupted, or there is no more room
                    parts = (b"".join(parts)[written:],)
        except OSError as error:
            upload.fault = error
            raise
        begin_writing_back(upload.descriptor, begin, upload.size - begin)

    def commit(
        self, upload: PushedFile, *, replace: bool, named: Callable[[], object] = lambda: None
    ) -> bool | None:
        """Give a complete upload its name; returns whether the file is new, or another than before.

        ``named`` is called as soon as it has its name, before that is on the disk.
        Returns None, and leaves it, if it would replace a file that was not taken yet, unless ``replace``.
        Raises PushRefused if another upload of the file has begun, OSError, and an earlier fault.
        """
        path, unfinished = upload.path, upload.unfinished
        if upload.fault:
            raise upload.fault
        if self._arriving.get(path) is not upload:
            raise PushRefused(HTTPStatus.CONFLICT, "the file is being sent again")
        before = self._stored.get(path)
        is_same = bool(before and before.size == upload.size and path.read_bytes() == unfinished.read_bytes())
        if before and is_same and not (before.is_taken and path.parent in self._dated):
            self.abort(upload)
            return False
        if before and not (before.is_taken or replace):
            return None
        reader = os.open(unfinished, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.close(upload.descriptor)  # under the final name it would be a file that is being written
            upload.descriptor = -1
            with _held(path):
                if _is_playlist(path):  # a torn playlist does no harm, and the next one replaces it
                    unfinished.replace(path)
                    named()
                    os.fsync(reader)
                else:
                    os.fsync(reader)
                    unfinished.replace(path)
                    named()
            _sync(path.parent)
            self._note(path, os.fstat(reader), set())
        finally:
            os.close(reader)
        if before and is_same:
            self._take(path, is_map=before.is_map)
        self._arriving.pop(path)
        upload.is_over = True
        return not is_same

    def abort(self, upload: PushedFile) -> None:
        """Give up an upload that has no name yet, and close its file."""
        upload.is_over = True
        if upload.descriptor >= 0:
            os.close(upload.descriptor)
            upload.descriptor = -1
        if self._arriving.get(upload.path) is upload:
            del self._arriving[upload.path]
            upload.unfinished.unlink(missing_ok=True)

    def take(self, file: SourceFile | None, map_file: SourceFile | None) -> None:
        """Note that the spool has a segment and its map."""
        for taken in filter(None, (file, map_file)):
            self._take(taken.path, is_map=taken is map_file)

    def _take(self, path: Path, *, is_map: bool) -> None:
        if stored := self._stored.get(path):
            self.waiting -= 0 if stored.is_taken else stored.size
            stored.is_taken, stored.used = True, time.monotonic()
            stored.is_map |= is_map

    def sweep(self, now: float) -> None:
        """Remove files that are not needed any more. Raises OSError."""
        kept = Counter[Path]()
        for path, stored in sorted(self._stored.items(), key=lambda item: -item[1].used):
            if _is_playlist(path):
                longest = PLAYLISTS_FOR
            elif stored.is_taken and not stored.is_map:
                kept[path.parent] += 1
                longest = KEPT_FOR if kept[path.parent] > KEPT_FILES else UNUSED_FOR
            else:
                longest = UNUSED_FOR
            if now - stored.used > longest:
                if not stored.is_taken:
                    logger.warning("%s is removed: no playlist has listed it", path.relative_to(self.root))
                path.unlink(missing_ok=True)
                self._forget(path)
                if path.parent != self.root:
                    with suppress(OSError):  # it is not empty
                        path.parent.rmdir()
                        self._dated.discard(path.parent)


def _is_playlist(path: Path) -> bool:
    return path.suffix == PLAYLIST


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """A context in which the file at the path keeps its blocks although it is replaced.

    Freeing the blocks takes the kernel longer than all else of a replacement.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        yield
        return
    try:
        yield
    finally:
        os.close(descriptor)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(eq=False, slots=True)
class _Arrival:
    """A request whose body is read."""

    task: asyncio.Task[object] | None
    started: float  # by the event loop's clock
    reserved: int = 0  # bytes of the spool
    received: int = 0
    is_cut: bool = False
    queued: int = 0  # bytes that are written, or will be next
    parts: list[bytes] = field(default_factory=list)  # received, and not queued yet
    steps: deque[Future[object]] = field(default_factory=deque)  # calls of the thread, the latest last


class PushSource:
    """What an encoder with ``key`` pushes into the folder ``root``. ``room``: free bytes of the spool."""

    def __init__(
        self,
        root: Path,
        key: str,
        clock: Callable[[], datetime],
        memory: SourceSnapshot,
        room: Callable[[], int],
    ) -> None:
        self.files = PushFolder(root, memory)
        self._source = FolderSource(self.files.root, clock, memory, is_private=True)
        self._key = key
        self._room = room
        self._thread = OwnThread("push")
        self._arrivals: set[_Arrival] = set()
        self._taken = Signal()
        self._log = LogLimiter()
        self._bodies = BodyGatherer()
        self._outcomes = dict.fromkeys(("stored", "repeated", "ignored", "refused", "full", "cut"), 0)

    @property
    def last_scan(self) -> float:
        """As in ``Source``."""
        return self._source.last_scan

    @property
    def scanned_at(self) -> float:
        """As in ``Source``."""
        return self._source.scanned_at

    @property
    def scanning(self) -> bool:
        """As in ``Source``."""
        return self._source.scanning

    def metrics(self) -> Iterator[Metric]:
        """Requests by outcome, and bytes that wait."""
        text = (
            "Requests of the pushing encoder by outcome: stored, repeated (the same file again), ignored, "
            "refused, full (the spool), cut (not complete)"
        )
        yield Metric("push_requests", text, self._outcomes, labels=("outcome",), is_counter=True)
        yield Metric("push_waiting_bytes", "Bytes pushed and not spooled yet", self.files.waiting)

    async def run(self, handle: Callable[[SourceEvent], Awaitable[None]]) -> None:
        """Give every event to ``handle``, in order, until cancelled. An exception of ``handle`` ends it."""

        async def take(event: SourceEvent) -> None:
            await handle(event)
            if isinstance(event, Segment):
                self._thread.submit(self.files.take, event.file, event.map_file)
                self._taken.notify()

        async with asyncio.TaskGroup() as group:
            group.create_task(self._source.run(take), name="folder")
            group.create_task(self._sweep(), name="sweep")

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_EVERY)
            try:
                await self._thread.call(self.files.sweep, time.monotonic())
            except OSError as error:
                if self._log.allows("sweep"):
                    logger.warning("pushed files cannot be removed: %s", error.strerror)

    def app(self) -> web.Application:
        """The application of the listener for the encoder."""
        app = web.Application()
        app[CONNECTIONS] = Connections(MAX_CONNECTIONS, large_bodies=True)
        app.router.add_route("*", "/{path:.*}", self._answer, expect_handler=self._expect)
        return app

    async def _expect(self, request: web.Request) -> web.StreamResponse | None:
        """Refuse a request before its body is sent, or ask for the body (``Expect: 100-continue``)."""
        try:
            self._name(request)
            self._check_room(request.content_length or 0)
        except PushRefused as refused:
            return self._refuse(refused)
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
        return None

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        request.app[CONNECTIONS].complete(request)
        try:
            name = self._name(request)
            if request.method == hdrs.METH_DELETE:  # a hint: files go when nothing needs them
                return web.Response(status=HTTPStatus.NO_CONTENT)
            with request.app[CONNECTIONS].receiving(request), self._arrival(request) as arrival:
                status = await self._receive(request, name, arrival)
        except PushRefused as refused:
            request.app[CONNECTIONS].upgrade(request)  # the client reads the answer when it has sent its body
            return self._refuse(refused)
        answer = web.Response(status=status)
        if request.app[CONNECTIONS].has_closed(request):
            answer.force_close()
        return answer

    def _refuse(self, refused: PushRefused) -> web.Response:
        full = refused.status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.INSUFFICIENT_STORAGE)
        cut = refused.status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT)
        self._outcomes["full" if full else "cut" if cut else "refused"] += 1
        if self._log.allows(str(refused)):
            logger.warning("a request of the encoder is refused: %s", refused)
        headers = {"Retry-After": str(RETRY_AFTER)} if full else {}
        if refused.status is HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = 'Basic realm="ingest"'
        answer = web.Response(status=refused.status, text=f"{refused}\n", headers=headers)
        answer.force_close()  # its body is not read
        return answer

    def _name(self, request: web.Request) -> str:
        """The path of the file below the folder, of a request with the key. Raises PushRefused."""
        first, *parts = [_decoded(part) for part in request.rel_url.raw_path.split("/")[1:]]
        authorization = request.headers.get(hdrs.AUTHORIZATION)
        allowed = authorization is not None and any(map(self._is_key, _secrets(authorization)))
        if parts and self._is_key(parts[0]):
            del parts[0]
            allowed = allowed or authorization is None
        if not allowed:
            raise PushRefused(HTTPStatus.UNAUTHORIZED, "the key is missing or wrong (BROADCASTER_PUSH_KEY)")
        if request.method not in {hdrs.METH_PUT, hdrs.METH_POST, hdrs.METH_DELETE}:
            raise PushRefused(HTTPStatus.METHOD_NOT_ALLOWED, "only PUT, POST and DELETE are answered")
        if first != "ingest" or not all(map(_is_name, parts)):
            raise PushRefused(HTTPStatus.BAD_REQUEST, "the path is not /ingest/ and names of files")
        if not (len(parts) == 1 or (len(parts) == 2 and VARIANT_NAME.fullmatch(parts[0]))):  # noqa: PLR2004
            raise PushRefused(HTTPStatus.BAD_REQUEST, "a file lies in /ingest/, or in one folder in it")
        return "/".join(parts)

    def _is_key(self, text: str) -> bool:
        return hmac.compare_digest(text.encode(errors="replace"), self._key.encode())

    def _check_room(self, size: int) -> None:
        """Raise PushRefused if the spool has no room for so many more bytes."""
        if size > LARGEST:
            raise PushRefused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a file has at most {LARGEST} bytes")
        taken = self.files.waiting + sum(arrival.reserved for arrival in self._arrivals)
        if self._room() - taken < max(size, 1):
            text = "the spool is full (BROADCASTER_SPOOL_LIMIT): the bucket is behind"
            raise PushRefused(HTTPStatus.SERVICE_UNAVAILABLE, text)

    @contextmanager
    def _arrival(self, request: web.Request) -> Iterator[_Arrival]:
        """A place among the uploads, if need be of the slowest one. Raises PushRefused."""
        size, now = request.content_length, asyncio.get_running_loop().time()
        if size is None and hdrs.TRANSFER_ENCODING not in request.headers:
            raise PushRefused(HTTPStatus.LENGTH_REQUIRED, "a body needs a length, or chunks")
        self._check_room(size or 0)
        if len(self._arrivals) >= MAX_UPLOADS:
            slow = [other for other in self._arrivals if now - other.started > SLOW and not other.is_cut]
            if not slow:
                raise PushRefused(HTTPStatus.SERVICE_UNAVAILABLE, "there are too many uploads")
            slowest = min(slow, key=lambda other: other.received / (now - other.started))
            slowest.is_cut = True
            if slowest.task:
                slowest.task.cancel()
            self._arrivals.discard(slowest)
        arrival = _Arrival(asyncio.current_task(), now, size or 0)
        self._arrivals.add(arrival)
        try:
            yield arrival
        except asyncio.CancelledError:  # the connection is lost, or another upload needs the place
            self._outcomes["cut"] += 1
            raise
        except TimeoutError:
            raise PushRefused(HTTPStatus.REQUEST_TIMEOUT, "the upload takes too long") from None
        except (ConnectionError, HttpProcessingError, web.RequestPayloadError):
            raise PushRefused(HTTPStatus.REQUEST_TIMEOUT, "the upload was cut") from None
        except OSError as error:
            text = f"the upload cannot be stored: {error.strerror}"
            raise PushRefused(HTTPStatus.INSUFFICIENT_STORAGE, text) from None
        finally:
            self._arrivals.discard(arrival)

    async def _receive(self, request: web.Request, name: str, arrival: _Arrival) -> HTTPStatus:
        """Store the body of a request; returns the status of the answer."""
        is_kept = name.endswith(KEPT_SUFFIXES)
        most = MAX_BYTES if name.endswith(PLAYLIST) else LARGEST
        upload = PushedFile(self.files.root / name) if is_kept else None
        try:
            if upload and not _is_playlist(upload.path):  # a playlist may list a segment that arrives
                arrival.steps.append(self._thread.submit(self.files.open, upload))
            async with asyncio.timeout(IDLE_TIMEOUT) as limit:
                while data := await request.content.readany():
                    now = asyncio.get_running_loop().time()
                    limit.reschedule(min(now + IDLE_TIMEOUT, arrival.started + LONGEST))
                    arrival.received += len(data)
                    if arrival.received > most:
                        text = f"the file has more than {most} bytes"
                        raise PushRefused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text)
                    if upload:
                        arrival.parts.append(data)
                        if arrival.received - arrival.queued >= PIECE or len(arrival.parts) >= MAX_PARTS:
                            await self._write(upload, arrival)
                    await self._bodies.gather(request, data, arrival.started)
            if upload is None or not arrival.received:  # some encoders begin with a probe without a body
                self._outcomes["ignored"] += 1
                return HTTPStatus.OK
            if not _is_playlist(upload.path):  # which comes between two segments, and takes another time
                self._bodies.note(asyncio.get_running_loop().time() - arrival.started)
            self._queue(upload, arrival)
            # It is complete, whether the client waits for the answer or not.
            return await asyncio.shield(self._commit(upload))
        finally:
            if upload and not upload.is_over:
                self._thread.submit(self.files.abort, upload)

    async def _write(self, upload: PushedFile, arrival: _Arrival) -> None:
        """Queue what was received, and wait while too much is queued."""
        self._queue(upload, arrival)
        while len(arrival.steps) > MAX_WRITES:
            await _result(arrival.steps.popleft())

    def _queue(self, upload: PushedFile, arrival: _Arrival) -> None:
        """Have the thread write what was received. A fault is known at the next call, ``commit`` at last."""
        parts, arrival.parts, arrival.queued = arrival.parts, [], arrival.received
        if arrival.received > arrival.reserved:
            self._check_room(arrival.received - arrival.reserved)
            arrival.reserved = arrival.received
        store = self.files.write if arrival.steps else self.files.open
        arrival.steps.append(self._thread.submit(store, upload, *parts))

    async def _commit(self, upload: PushedFile) -> HTTPStatus:
        taken, loop = self._taken.next(), asyncio.get_running_loop()

        def named() -> None:
            # A segment that no playlist has listed yet is no news.
            if _is_playlist(upload.path) or self._source.awaits_file:
                loop.call_soon_threadsafe(self._source.note_change)

        is_new = await self._thread.call(self.files.commit, upload, replace=False, named=named)
        if is_new is None:
            await wait_at_most(TAKEN_TIMEOUT, taken)
            is_new = await self._thread.call(self.files.commit, upload, replace=True, named=named)
        self._outcomes["stored" if is_new else "repeated"] += 1
        return HTTPStatus.CREATED if is_new else HTTPStatus.OK


async def _result(call: Future[T]) -> T:
    """The result of a call of another thread."""
    return call.result() if call.done() else await asyncio.wrap_future(call)


def _decoded(part: str) -> str:
    try:
        return unquote(part, errors="strict")
    except UnicodeDecodeError:
        return ""


def _is_name(name: str) -> bool:
    """Whether it can be the name of a file or folder, and of nothing else."""
    return (
        name.isprintable()
        and not name.startswith((".", " "))
        and not name.endswith(UNFINISHED)
        and not {*name} & {*'/\\:*?"<>|#%'}
        and 0 < len(name.encode(errors="replace")) <= NAME_MAX - len(UNFINISHED)
    )


def _secrets(authorization: str) -> Iterator[str]:
    """What may be the key in an Authorization header: a bearer token, or a part of Basic."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        yield value.strip()
    elif scheme.lower() == "basic":
        with suppress(binascii.Error, ValueError):
            pair = base64.b64decode(value.strip(), validate=True).decode(errors="replace")
            user, _, password = pair.partition(":")
            yield password or user
