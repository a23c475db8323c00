"""Client of the operator's HTTP API for ``broadcaster recordings``, and the upload of files to recordings.

The client authenticates with the token from the state folder, or with a token file on another machine. The
service gives a signed URL for each part of a file; the parts go straight to the bucket. Parts that an earlier
attempt has stored are not sent again.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import getpass
import hashlib
import json
import re
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import aiohttp
from yarl import URL

from broadcaster.admin import stored_token
from broadcaster.aio import Backoff, Retrying
from broadcaster.bucket.body import STALL, MonitoredPayload, Pace
from broadcaster.bucket.client import code_in
from broadcaster.config import Settings, load
from broadcaster.errors import AdminError, ConfigError, StorageRefused, StorageUnavailable, first_error
from broadcaster.printable import ProgressLine, printable, printable_json, write
from broadcaster.upload.scheduler import AdaptiveLimit

MOST, IN_MEMORY = 4, 64 * 2**20  # parallel parts, and their bytes
PACED = 2  # parallel parts with a limited rate
SEGMENT = 1_200_000  # bytes to which upload times are scaled for AdaptiveLimit
FIRST_PAUSE, MAX_PAUSE = 0.5, 10.0  # seconds between attempts at a part
REFUSALS = 3  # of one part
GIVE_UP = 600.0  # seconds without a stored part
TIMEOUT = 3600.0  # seconds for an answer of the service: sweeping a large bucket takes long
UPLOAD_TIMEOUT = 180.0  # seconds for an answer of the service during an upload
CONNECT = 10.0  # seconds
TRANSIENT = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
RESUMES = "; the same command resumes the upload"
ON = {"starting", "live"}
ID, PAGE = re.compile(r"([\w-]+)"), re.compile(r"/watch/([\w-]+)/?(?:[?#].*)?$")
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - and the address at which a client asks


class NoSuchRecordingError(AdminError):
    """The service knows no recording, clip or file of this name."""


class AdminApi:
    """The operator's API at ``address``; ``session`` sends the token."""

    def __init__(self, session: aiohttp.ClientSession, address: str) -> None:
        self.address = address
        self._session = session

    async def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The JSON answer to a request. Raises AdminError; StorageUnavailable if a retry can succeed."""
        try:
            async with self._session.request(method, f"{self.address}/api/{path}", json=body) as response:
                text = await response.text()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            where = f"the service does not answer at {self.address}: is it running?"
            raise StorageUnavailable(f"{where} ({type(error).__name__})") from None
        if response.ok:
            return dict(json.loads(text)) if text else {}
        message = f"the service answers {response.status}"
        with contextlib.suppress(ValueError, LookupError, TypeError):
            message = str(json.loads(text)["error"])
        if response.status == HTTPStatus.NOT_FOUND:
            raise NoSuchRecordingError("there is no such recording or invitation")
        if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise StorageUnavailable(message)
        raise AdminError(message)

    async def is_stream_on(self) -> bool:
        """Whether a stream is on; False if the service does not answer."""
        with contextlib.suppress(aiohttp.ClientError):  # the next request reports it
            async with self._session.get(f"{self.address}/health") as response:
                return (await response.json())["stream"] in ON
        return False


@asynccontextmanager
async def open_api(address: str, token: str, seconds: float = TIMEOUT) -> AsyncIterator[AdminApi]:
    """A context with the API. A StorageUnavailable that leaves the context becomes an AdminError."""
    limits = aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT)
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(timeout=limits, headers=headers) as session:
        try:
            yield AdminApi(session, address)
        except StorageUnavailable as error:
            raise AdminError(str(error)) from None


class PartsUpload:
    """The upload of a file's parts. ``upload`` is the service's answer, ``path`` the API's path of the file.

    ``progress`` is called with the share of the file that is stored, and its bytes.
    """

    def __init__(  # noqa: PLR0913 - the two ends, the file and the pace
        self,
        api: AdminApi,
        path: str,
        bucket: aiohttp.ClientSession,
        file: Path,
        upload: dict[str, Any],
        *,
        pace: Pace | None,
        progress: Callable[[float, float], None],
    ) -> None:
        self._api, self._path, self._bucket, self._file, self._pace = api, path, bucket, file, pace
        self._key, self._size, self._part_size = upload["key"], upload["size"], upload["partSize"]
        self._stored = {int(number): md5 for number, md5 in upload["parts"].items()}
        self._progress = progress
        self._retrying = Retrying("parts")
        self._workers = PACED if pace else max(2, min(MOST, IN_MEMORY // self._part_size))
        self._limit: AdaptiveLimit[int] = AdaptiveLimit(self._workers)
        self._sent: dict[int, int] = {}  # bytes by part
        self._latest = time.monotonic()  # time of the latest stored part

    async def run(self) -> str:
        """Upload all parts; returns the ETag of the whole. Raises AdminError, OSError."""
        md5s: dict[int, bytes] = {}
        numbers = iter(range(1, -(-self._size // self._part_size) + 1))

        async def work() -> None:
            for number in numbers:
                md5s[number] = await self._upload_part(number)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._workers):
                    group.create_task(work())
        except* (AdminError, OSError) as failures:
            raise first_error(failures) from None
        return multipart_etag([md5 for _, md5 in sorted(md5s.items())])

    async def _upload_part(self, number: int) -> bytes:
        """Upload a part unless the bucket has it; returns its MD5."""
        backoff, refusals = Backoff(FIRST_PAUSE, MAX_PAUSE), 0
        while True:
            async with self._limit.slot(number):
                body = await asyncio.to_thread(read_part, self._file, number, self._part_size)
                md5 = await asyncio.to_thread(hashlib.md5, body, usedforsecurity=False)
                if self._stored.get(number) == md5.hexdigest():
                    self._count(number, len(body))
                    self._latest = time.monotonic()
                    return md5.digest()
                try:
                    await self._put(number, body, md5.hexdigest())
                except (StorageUnavailable, StorageRefused) as error:
                    self._sent.pop(number, None)
                    fault = self._retrying.failed(error)
                    self._limit.failed(transient=not fault.permanent)
                    refusals += fault.permanent
                    if refusals == REFUSALS or time.monotonic() - self._latest > GIVE_UP:
                        raise AdminError(f"{error}{RESUMES}") from None
                else:
                    self._latest = time.monotonic()
                    self._limit.probing = False
                    self._retrying.worked()
                    return md5.digest()
            del body
            await self._retrying.pause(backoff.next())

    async def _put(self, number: int, body: bytes, md5: str) -> None:
        part = {"key": self._key, "number": number}
        url = (await self._api.ask("POST", f"{self._path}/upload/part", part))["url"]
        payload, started = MonitoredPayload(body, self._pace), time.monotonic()
        try:
            async with asyncio.timeout(STALL) as limit:
                with payload.watched(limit, lambda size: self._count(number, size)):
                    request = self._bucket.put(URL(url, encoded=True), data=payload, allow_redirects=False)
                    async with request as response:
                        text = await response.text(errors="replace")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            why = "no bytes get through" if isinstance(error, TimeoutError) else type(error).__name__
            raise StorageUnavailable(f"part {number}: {why}") from None
        if response.status != HTTPStatus.OK:
            message = f"part {number}: the bucket answers {response.status} {code_in(text)}".rstrip()
            permanent = (
                response.status < HTTPStatus.INTERNAL_SERVER_ERROR and response.status not in TRANSIENT
            )
            raise (StorageRefused if permanent else StorageUnavailable)(message)
        if response.headers.get("ETag", "").strip('"') != md5:
            raise StorageUnavailable(f"part {number}: the bucket has other bytes than were sent")
        self._limit.succeeded((time.monotonic() - started) * SEGMENT / len(body))

    def _count(self, number: int, size: int) -> None:
        self._sent[number] = self._sent.get(number, 0) + size
        sent = sum(self._sent.values())
        self._progress(sent / self._size, sent)


async def upload_recording_file(  # noqa: PLR0913 - the two ends, the file and the pace
    address: str,
    token: str,
    recording: str,
    file: Path,
    *,
    rate: float | None = None,
    progress: Callable[[float, float], None] = lambda *_: None,
) -> None:
    """Make ``file`` the recording's file, in place of an earlier file. A later call resumes the upload.

    ``address`` is the admin listener, ``rate`` bytes a second, at least 8,000. ``progress`` is called with
    the share of the file that is stored, and its bytes. Raises AdminError, OSError.
    """
    before = await asyncio.to_thread(file.stat)
    path = f"recordings/{recording}/file"
    async with (
        open_api(address, token, UPLOAD_TIMEOUT) as api,
        # A session without the token.
        aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT), trust_env=True
        ) as bucket,
    ):
        known = (await api.ask("GET", path))["file"]
        if known and await asyncio.to_thread(is_the_same, file, known):
            progress(1, before.st_size)
            return
        new = {"name": file.name, "size": before.st_size}
        upload = await api.ask("POST", f"{path}/upload", new)
        pace = Pace(rate) if rate else None
        etag = await PartsUpload(api, path, bucket, file, upload, pace=pace, progress=progress).run()
        after = await asyncio.to_thread(file.stat)
        if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise AdminError(f"{file} changed while it was uploaded: upload it again")
        await _complete(api, path, {"key": upload["key"], "etag": etag})


async def _complete(api: AdminApi, path: str, upload: dict[str, Any]) -> None:
    """Complete the upload. It is asked again if no answer comes, because the answer alone may be lost."""
    started, retrying = time.monotonic(), Retrying("completions")
    while True:
        try:
            await api.ask("POST", f"{path}/upload/complete", upload)
        except StorageUnavailable as error:
            retrying.failed(error)
            if time.monotonic() - started > GIVE_UP:
                raise AdminError(f"{error}{RESUMES}") from None
            await retrying.pause(MAX_PAUSE / 2)
        else:
            return


def is_the_same(file: Path, known: dict[str, Any]) -> bool:
    """Whether the bucket's object has the bytes of this file. Raises OSError."""
    if not known["partSize"] or known["size"] != file.stat().st_size:
        return False
    md5s = (hashlib.md5(part, usedforsecurity=False).digest() for part in _parts(file, known["partSize"]))
    return multipart_etag(list(md5s)) == str(known["etag"])


def multipart_etag(md5s: list[bytes]) -> str:
    """The ETag of an object of these parts."""
    return f"{hashlib.md5(b''.join(md5s), usedforsecurity=False).hexdigest()}-{len(md5s)}"


def read_part(file: Path, number: int, size: int) -> bytes:
    """The bytes of a part. Raises OSError."""
    with file.open("rb") as opened:
        opened.seek((number - 1) * size)
        return opened.read(size)


def _parts(file: Path, size: int) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while part := opened.read(size):
            yield part


def upload_of(options: argparse.Namespace) -> argparse.Namespace:
    """The options of ``recordings upload`` for an export's file. Raises AdminError without a recording."""
    found = PAGE.search(options.address)
    if not found and "://" not in options.address:
        found = ID.fullmatch(options.address)
    if not found:
        raise AdminError("--upload needs a recording: its id, or the address of its page (/watch/...)")
    return argparse.Namespace(**{**vars(options), "what": "upload", "id": found[1], "cancel": False})


def run_command(options: argparse.Namespace) -> None:
    """Run a command of ``broadcaster recordings``. Raises ConfigError without a token, AdminError.

    Without ``--service`` the service is that of this machine's settings.
    """
    asyncio.run(_run_command(options))


async def _run_command(options: argparse.Namespace) -> None:
    is_remote = bool(getattr(options, "service", None))
    address, token = _remote_service(options) if is_remote else _local_service(load())
    async with open_api(address, token) as api:
        if options.what == "upload" and options.file:
            await _upload(api, token, options, is_remote=is_remote)
        elif options.what == "delete":
            await _delete(api, options)
        else:
            await _ask_and_show(api, options)


async def _ask_and_show(api: AdminApi, options: argparse.Namespace) -> None:
    found = await api.ask(*_request(options))
    if options.what == "list":
        binned = (await api.ask("GET", "bin"))["recordings"]
        for recording in (*found["recordings"], *(entry | {"visibility": "bin"} for entry in binned)):
            write(_line(recording))
    elif options.what == "bin":
        for kind, entries in found.items():
            for entry in entries:
                title = entry.get("title") or entry.get("recording", "")
                line = f"{entry['id']}  {kind[:-1]:<9}  until {entry['goes'][:16]}  {title}"
                write(line.rstrip())
    elif found:
        write(printable_json(json.dumps(found, indent=2, ensure_ascii=False)))


def invite(options: argparse.Namespace) -> None:
    """Make an invitation, show its link, and write its files. Raises ConfigError, AdminError."""
    until = options.until or datetime.now(UTC) + timedelta(days=30)
    wanted = {"name": options.name, "until": until.isoformat(), "crew": options.crew}
    made = _ask_here("POST", "access/invitations", wanted)
    if options.qr or options.ics:
        card = _ask_here("GET", f"access/invitations/{made['id']}")
        files = {options.ics: card["ics"]}
        if options.qr:
            files[options.qr] = card["svg"] if options.qr.suffix == ".svg" else base64.b64decode(card["png"])
        for file, content in files.items():
            if file and content is None:
                raise AdminError("the event has no date: set startsAt in the page's config.json")
            if file:
                _write(file, content)
    if options.json:
        write(printable_json(json.dumps({"link": made["link"], "path": made["path"]}, ensure_ascii=False)))
    else:
        write(made["link"])


def list_or_revoke_invitations(options: argparse.Namespace) -> None:
    """List or revoke invitations. Raises ConfigError without a token, AdminError."""
    if options.what == "revoke":
        _ask_here("DELETE", f"access/invitations/{options.id}")
        write("the invitation is revoked")
        return
    found = _ask_here("GET", "access/invitations")
    if options.json:
        write(printable_json(json.dumps(found, indent=2, ensure_ascii=False)))
        return
    for invitation in found["invitations"]:
        counts = f"opened {invitation['opened']}, watching {invitation['watching']}"
        crew = "  crew" if invitation["crew"] else ""
        until = invitation["until"][:16]
        write(printable(f"{invitation['id']}  until {until}  {counts}{crew}  {invitation['name']}"))


def set_doors(options: argparse.Namespace) -> None:
    """Open or close the doors. Raises ConfigError without a token, AdminError."""
    is_opening = options.what == "open"
    wanted: dict[str, Any] = {"open": is_opening}
    if is_opening:
        wanted["keep"] = options.keep
    elif options.until:
        wanted["opens"] = options.until.isoformat()
    _ask_here("PUT", "access/doors", wanted)
    write(f"the doors are {options.what}")


def take_lead() -> None:
    """Ask for the lead, on the machine that stands by. Raises ConfigError without a token, AdminError."""
    _ask_here("POST", "lead")
    write("this broadcaster takes the lead as soon as the one that leads has uploaded what it has begun")


def _ask_here(method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """The answer of this machine's service."""
    settings = load()

    async def ask() -> dict[str, Any]:
        async with open_api(*_local_service(settings)) as api:
            return await api.ask(method, path, body)

    return asyncio.run(ask())


def _write(file: Path, content: str | bytes) -> None:
    try:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    except OSError as error:
        raise AdminError(f"{file}: {error.strerror}") from None


def set_passphrase() -> None:
    """Ask for the passphrase of the private event, on a terminal or in a line of the input, and set it.

    Raises ConfigError without a token, AdminError.
    """
    text = getpass.getpass("Passphrase: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    _ask_here("PUT", "access/passphrase", {"passphrase": text})
    write("the passphrase is set; who came with another one is asked again")


def address_of(settings: Settings, name: str, part: int) -> str:
    """The URL of the playlist of a recording's part, or of a clip, by its id.

    Raises ConfigError without a token or a public bucket, AdminError if there is none.
    """
    if not settings.public_url:
        raise ConfigError("R2_PUBLIC_URL is not set: a recording of a private bucket has no URL by its id")
    path = asyncio.run(_playlist_path(settings, name, part))
    return urljoin(f"{settings.public_url}/{settings.prefix}/recordings/", path)


async def _playlist_path(settings: Settings, name: str, part: int) -> str:
    async with open_api(*_local_service(settings)) as api:
        recordings = (await api.ask("GET", "recordings"))["recordings"]
        for recording in recordings:
            if recording["id"] == name:
                if part > len(recording["parts"]):
                    raise AdminError(f"the recording has {len(recording['parts'])} parts")
                return str(recording["parts"][part - 1])
        for clip in (await api.ask("GET", "clips"))["clips"]:
            if clip["id"] == name:
                return str(clip["playlist"])
    raise AdminError(f"there is no recording or clip {name!r}; `broadcaster recordings list` names them")


def _remote_service(options: argparse.Namespace) -> tuple[str, str]:
    """The address of the service that the options name, and its token."""
    if not options.token_file:
        raise AdminError("--service needs --token-file: operator-token of the service's state folder")
    try:
        return options.service.rstrip("/"), options.token_file.read_text().strip()
    except OSError as error:
        raise AdminError(f"{options.token_file}: {error.strerror}") from None


def _local_service(settings: Settings) -> tuple[str, str]:
    """The address of this machine's service, and its token."""
    host = ANY_ADDRESS.get(settings.admin_host, settings.admin_host)
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{settings.admin_port}", stored_token(settings.state_dir)


async def _upload(api: AdminApi, token: str, options: argparse.Namespace, *, is_remote: bool) -> None:
    """Upload a file; while a stream is on only at a given rate, because the stream needs the uplink."""
    rate = options.rate and options.rate * 1000 / 8
    if not is_remote and not rate and await api.is_stream_on():
        raise AdminError("a stream is on, which needs the uplink: give --rate, or wait until it is over")
    try:
        with ProgressLine() as line:
            await upload_recording_file(
                api.address, token, options.id, options.file, rate=rate, progress=line.update
            )
    except OSError as error:
        raise AdminError(f"{options.file}: {error.strerror}") from None
    except asyncio.CancelledError:
        write(f"interrupted{RESUMES}", sys.stderr)
        raise


async def _delete(api: AdminApi, options: argparse.Namespace) -> None:
    """Delete a recording or a clip, with ``--now`` also from the bin; on a terminal after a question."""
    name, query = options.id, "?now=1" if options.now else ""
    if sys.stdin.isatty() and not options.yes:
        found = await _find(api, name)
        if found and not _confirm(found, now=options.now):
            return
    paths = [f"recordings/{name}{query}", f"clips/{name}{query}", *([f"bin/{name}"] if options.now else [])]
    for path in paths:
        with contextlib.suppress(NoSuchRecordingError):
            await api.ask("DELETE", path)
            return
    raise NoSuchRecordingError("there is no such recording or clip")


async def _find(api: AdminApi, name: str) -> dict[str, Any] | None:
    """The recording or clip of that name, in the bin or not."""
    for path in ("recordings", "clips", "bin"):
        for entries in (await api.ask("GET", path)).values():
            for entry in entries:
                if entry["id"] == name:
                    return dict(entry)
    return None


def _confirm(entry: dict[str, Any], *, now: bool) -> bool:
    """Ask the operator whether to delete."""
    when = str(entry.get("started") or entry.get("begin") or entry.get("deleted"))[:16].replace("T", " ")
    fate = "for good" if now else "into the bin, for a day"
    sys.stderr.write(f"{entry.get('title') or entry['id']!r}, {when} UTC: delete it {fate}? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _request(options: argparse.Namespace) -> tuple[str, str, dict[str, Any] | None]:
    """Method, path and body of a command's request."""
    path = f"recordings/{getattr(options, 'id', '')}"
    method, body = "GET", None
    match options.what:
        case "list" | "bin":
            path = "bin" if options.what == "bin" else "recordings"
        case "restore":
            method, path = "POST", f"bin/{options.id}/restore"
        case "sweep":
            method, path = "POST", f"recordings/sweep{'?dry-run=1' if options.dry_run else ''}"
        case "rebuild":
            method, path = "POST", "recordings/rebuild"
        case "upload":
            what = "/upload" if options.cancel else "?now=1" if options.now else ""
            method, path = "DELETE", f"{path}/file{what}"
        case "title":
            method, body = "PATCH", {"title": options.title}
        case "keep":
            method, body = "PATCH", {"keepDays": options.days}
        case "hide":
            visibility = "unlisted" if options.unlisted else "listed" if options.undo else "hidden"
            method, body = "PATCH", {"visibility": visibility}
        case "open" | "close":
            method, body = "PATCH", {"open": options.what == "open"}
    return method, path, body


def _line(recording: dict[str, Any]) -> str:
    minutes, seconds = divmod(round(recording["duration"]), 60)
    length = f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
    state = ("open" if recording.get("open") else recording["visibility"]) if recording["ended"] else "on"
    size = f"{recording['size'] / 1e6:>9,.1f} MB"
    return printable(f"{recording['id']}  {length:>9}  {size}  {state:<8}  {recording['title']}".rstrip())
