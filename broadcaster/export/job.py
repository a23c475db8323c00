"""An export: plan, download, remux; progress on a terminal. A later attempt resumes an earlier one.

The plan is read from a recording's page or playlist (section numbers are those of
draft-pantos-hls-rfc8216bis). Another process remuxes: a remuxer takes the interpreter's lock for each packet
and would block the downloads.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import pickle
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, aclosing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import aiohttp
import m3u8

from broadcaster.download import Fetcher, FetchRequest, StoredObject
from broadcaster.errors import ExportError, PlaylistError, StorageError
from broadcaster.export.plan import PLAN_FILE, ExportPlan, ExportRendition, ExportRun, Item, Request
from broadcaster.hls.media_playlist import NO_DURATION
from broadcaster.hls.parser import load, plain_lines
from broadcaster.own_files import own_folder, own_lock
from broadcaster.printable import ProgressLine, printable, write

AT_ONCE = 48  # objects; with 50 ms for each answer, 8 would leave a fast link idle
IN_FLIGHT = 12 * 2**20  # bytes
PATIENCE = 10.0, 120.0  # seconds: for a playlist, whose address may be wrong, and for a segment
# The index at the head of an MP4 is in memory until the file is complete, some 30 MB for an hour at 60 frames
# a second. A longer file has an index in each fragment.
LONG = 3600  # seconds
LARGEST = 256 * 2**20  # bytes of a segment, which may be on disk
LONGEST = 32 * 2**20  # bytes of a playlist: two days of segments of one second
UNFINISHED = "writing-"  # prefix of the folder in which the file is written
LOCK_FILE = "export.lock"
RENDITIONS = 2  # at most: video, and audio with a playlist of its own
SOCKET_BUFFER = 2**20  # bytes, as far as the system allows


class RemuxProcess:
    """A running process that remuxes, with a socket for each rendition."""

    def __init__(self, process: subprocess.Popen[bytes], sockets: list[socket.socket]) -> None:
        self._process = process
        self._sockets = sockets

    async def begin(self, path: Path, plan: ExportPlan, *, in_fragments: bool) -> None:
        """Start to write the file of the plan."""
        await self._send(0, (path, plan, in_fragments))

    async def put(self, number: int, stored: StoredObject) -> None:
        """Pass the next object of a rendition; waits until the process reads on."""
        await self._send(number, stored)

    async def ended(self) -> None:
        """Wait until the file is written. Raises ExportError."""
        try:
            error, _ = await asyncio.to_thread(self._process.communicate)
        finally:
            self._process.kill()  # ends the thread
        if status := self._process.returncode:
            text = f"the process that writes the file ended with status {status}; the same command goes on"
            raise ExportError(error.decode() or text)

    async def _send(self, number: int, message: object) -> None:
        with suppress(ConnectionError):  # ``ended`` raises the cause
            await asyncio.get_running_loop().sock_sendall(self._sockets[number], pickle.dumps(message))


@contextmanager
def remuxing() -> Iterator[RemuxProcess]:
    """A running process, killed at exit. Raises OSError."""
    with ExitStack() as stack:
        ours: list[socket.socket] = []
        with ExitStack() as starting:
            theirs: list[int] = []
            for _ in range(RENDITIONS):
                local, remote = socket.socketpair()
                stack.enter_context(local).setblocking(False)  # noqa: FBT003 - its only argument
                local.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
                ours.append(local)
                theirs.append(starting.enter_context(remote).fileno())
            process = stack.enter_context(
                subprocess.Popen(  # noqa: S603 - this program
                    (sys.executable, "-P", "-m", "broadcaster.export.remux", *map(str, theirs)),
                    stdout=subprocess.PIPE,
                    pass_fds=theirs,
                    process_group=0,  # Ctrl-C reaches only this process, which ends the other one
                )
            )
        stack.callback(process.kill)
        yield RemuxProcess(process, ours)


def export(request: Request, target: Path) -> None:
    """Write ``target``. Until it is complete, downloaded objects are in the folder ``target.part``.

    Raises ExportError and StorageError; the same call then resumes.
    """
    if not find_spec("av"):
        raise ExportError("exports need the package av: pip install av")
    if target.exists():
        raise ExportError(f"{target} is already there: remove it, or choose another name")
    folder = target.with_name(target.name + ".part")
    try:
        with remuxing() as remuxer, own_while_working(folder):
            plan = attempt(request, folder, target, remuxer)
        shutil.rmtree(folder)
    except KeyboardInterrupt:
        raise ExportError(f"stopped; downloads are in {folder}, and the same command goes on") from None
    except OSError as error:
        room = ": make room, and the same command goes on" if error.errno == errno.ENOSPC else ""
        raise ExportError(f"{error.filename or folder}: {error.strerror}{room}") from None
    more = f"; {plan.more} more parts: --part {request.part + 1}" if plan.more > 0 else ""
    write(printable(f"{target}: {target.stat().st_size / 1e6:,.1f} MB{more}"))


@contextmanager
def own_while_working(folder: Path) -> Iterator[None]:
    """Make the folder, private because URLs in it may be signed, and lock it.

    A folder without any download is removed.
    """
    own_folder(folder)
    if any(folder.iterdir()) and not (folder / LOCK_FILE).exists():
        raise ExportError(f"{folder} is not of an export: remove it, or choose another name")
    try:
        lock = own_lock(folder / LOCK_FILE)
    except BlockingIOError:
        raise ExportError(f"another export is at work in {folder}") from None
    try:
        yield
    finally:
        os.close(lock)
        if not (folder / PLAN_FILE).exists():
            shutil.rmtree(folder)


def attempt(request: Request, folder: Path, target: Path, remuxer: RemuxProcess) -> ExportPlan:
    """Write ``target``; downloaded objects stay in ``folder``. Raises as ``export`` does."""
    return asyncio.run(_attempt(request, folder, target, remuxer))


async def _attempt(request: Request, folder: Path, target: Path, remuxer: RemuxProcess) -> ExportPlan:
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
        plan = await _plan(request, folder, session)
        fetcher = await stack.enter_async_context(
            Fetcher(
                session,
                at_once=AT_ONCE,
                bytes_in_flight=IN_FLIGHT,
                largest=LARGEST,
                memory=0,
                disk=folder / "fetched",
                disk_bytes=sys.maxsize,
                patience=PATIENCE[1],
            )
        )
        progress = stack.enter_context(ProgressLine())
        new = _folder_for_the_file(folder) / target.name
        await _write(plan, fetcher, remuxer, new, progress)
    _put_in_place(new, target)
    return plan


async def _plan(request: Request, folder: Path, session: aiohttp.ClientSession) -> ExportPlan:
    """The plan of the first attempt with new URLs: the playlist may have changed, signed URLs expire."""
    file = folder / PLAN_FILE
    before = _read(file) if file.exists() else None
    if file.exists() and (before is None or before.request != request):
        raise ExportError(f"{folder} is of another export: remove it, or choose another name")
    async with Fetcher(session, memory=0, bytes_in_flight=LONGEST, patience=PATIENCE[0]) as fetcher:

        async def get(url: str) -> str:
            return (await fetcher.get(FetchRequest(url))).decode(errors="replace")

        try:
            plan = await read_plan(request, get)
        except (ExportError, StorageError):
            if before is None:
                raise
            return before  # its objects may be downloaded, or still available
    if before:
        return before.with_addresses_of(plan)
    new = file.with_suffix(".new")
    new.write_text(json.dumps(asdict(plan)), "utf-8")
    _put_in_place(new, file)
    return plan


def _read(file: Path) -> ExportPlan | None:
    """The plan in the file; None if it is not valid."""
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415 - slow to load

    try:
        return TypeAdapter(ExportPlan).validate_json(file.read_bytes())
    except ValidationError:
        return None


async def _write(
    plan: ExportPlan, fetcher: Fetcher, remuxer: RemuxProcess, path: Path, progress: ProgressLine
) -> None:
    """Download and remux at the same time."""
    done = size = 0

    async def fill(number: int, items: list[Item]) -> None:
        nonlocal done, size
        async with aclosing(fetcher.store(item.request for item in items)) as objects:
            async for _, stored in objects:
                await remuxer.put(number, stored)
                done, size = done + 1, size + stored[2]
                progress.update(done / plan.count, size)

    await remuxer.begin(path, plan, in_fragments=plan.seconds > LONG)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(remuxer.ended())
            for number, rendition in enumerate(plan.renditions):
                group.create_task(fill(number, rendition.items))
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


def _folder_for_the_file(folder: Path) -> Path:
    """A new folder for each attempt: the process of a killed export may still write in the old folder."""
    for old in folder.glob(f"{UNFINISHED}*"):
        shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=folder))


def _put_in_place(new: Path, target: Path) -> None:
    """Sync and rename the file, so that ``target`` is complete even after a power cut."""
    with new.open("rb+") as file:
        os.fsync(file.fileno())
    new.replace(target)


Get = Callable[[str], Awaitable[str]]

MAX_LINES = 600_000  # of a playlist: a day of segments of one second has 350,000
PIECE = 50  # segments of fragmented MP4 in one piece: the demuxer remembers each frame of a piece
SETTINGS = re.compile(r'<script id="config" type="application/json">(.*?)</script>', re.DOTALL)


@dataclass(frozen=True, slots=True)
class PlaylistSegment:
    """A segment of a media playlist."""

    item: Item
    map: Item | None
    time: datetime | None  # EXT-X-PROGRAM-DATE-TIME, or computed from an earlier one
    discontinuity: bool
    gap: bool


async def read_plan(request: Request, get: Get) -> ExportPlan:
    """Read the playlists and return the plan. Raises ExportError for a playlist that cannot be exported."""
    url, text, more = await _playlist(request, get)
    parsed = _load(text, url)
    if not parsed.is_variant:
        return ExportPlan(request, (_rendition(parsed, url, request, sound=False),), more)
    chosen, sound = _chosen(parsed, request.variant)
    urls = [(urljoin(url, chosen), False), *([(urljoin(url, sound), True)] if sound else [])]
    if sound and request.kind == "m4a":
        urls = urls[1:]
    renditions = [
        _rendition(_load(await get(media_url), media_url), media_url, request, sound=is_sound)
        for media_url, is_sound in urls
    ]
    return ExportPlan(request, tuple(renditions), more)


async def _playlist(request: Request, get: Get) -> tuple[str, str, int]:
    """The playlist's URL (from the page, if it is a page), its text, and the number of further parts."""
    url, text = request.address, await get(request.address)
    if plain_lines(text).startswith("#EXTM3U"):
        return url, text, 0
    match = SETTINGS.search(text)
    try:
        settings: dict[str, Any] = json.loads(match[1]) if match else {}
        recording = settings.get("recording") or {}
        parts = recording.get("parts") or [recording.get("playlist") or settings["playlistUrl"]]
        found = urljoin(url, str(parts[request.part - 1]))
    except (ValueError, LookupError, TypeError, AttributeError):
        raise ExportError(f"{_shown(url)} is neither a playlist nor the page of one") from None
    return found, await get(found), len(parts) - request.part


def _load(text: str, url: str) -> m3u8.M3U8:
    if text.count("\n") + text.count("\r") > 2 * MAX_LINES or len(text.splitlines()) > MAX_LINES:
        raise ExportError(f"{_shown(url)} has more than {MAX_LINES} lines")
    try:
        return load(plain_lines(text))
    except PlaylistError as error:
        raise ExportError(f"{_shown(url)} {error}") from None


def _chosen(parsed: m3u8.M3U8, wanted: str) -> tuple[str, str | None]:
    """The URI of the chosen variant, and the URI of its audio playlist or None."""
    variants = sorted(parsed.playlists, key=lambda variant: int(variant.stream_info.bandwidth or 0))
    names = {_names(variant, number): variant for number, variant in enumerate(parsed.playlists)}
    found = {"best": variants[-1], "worst": variants[0]}.get(wanted)
    found = found or next((variant for known, variant in names.items() if wanted in known), None)
    if found is None:
        known = ", ".join(map("/".join, names))
        raise ExportError(f"there is no variant {wanted!r}; there are best, worst, {known}")
    group = found.stream_info.audio
    sounds = [
        media for media in parsed.media if media.type == "AUDIO" and media.group_id == group and media.uri
    ]
    sounds.sort(key=lambda media: media.default != "YES")
    return found.uri, sounds[0].uri if sounds else None


def _names(variant: m3u8.Playlist, number: int) -> tuple[str, ...]:
    """The names by which the variant can be chosen: its position and its height."""
    resolution = variant.stream_info.resolution
    return (str(number), f"{resolution[1]}p") if resolution else (str(number),)


def _segments(parsed: m3u8.M3U8, url: str) -> Iterator[PlaylistSegment]:
    """The segments of a media playlist. Raises ExportError."""
    ends: dict[str, int] = {}  # end of the latest range, by URL
    for segment in parsed.segments:
        if not segment.uri:
            continue
        if segment.key and segment.key.method not in (None, "NONE"):
            raise ExportError(f"{_shown(url)} is encrypted (EXT-X-KEY), which cannot be exported")
        if segment.title == NO_DURATION:
            raise ExportError(f"{_shown(url)} has no valid EXTINF for {_shown(urljoin(url, segment.uri))}")
        item = _item(urljoin(url, segment.uri), segment.byterange, ends)
        section = segment.init_section
        yield PlaylistSegment(
            replace(item, seconds=float(segment.duration)),
            _item(urljoin(url, section.uri), section.byterange, {}) if section else None,
            segment.current_program_date_time,
            bool(segment.discontinuity),
            bool(segment.gap_tag),
        )


def _item(url: str, byte_range: str | None, ends: dict[str, int]) -> Item:
    """§4.4.4.2: a range without an offset begins at the end of the preceding range of the same resource."""
    if not byte_range:
        return Item(url)
    length, _, offset = byte_range.strip('"').partition("@")
    if not length.isdecimal() or not (offset or "0").isdecimal():
        raise ExportError(f"{byte_range!r} is no EXT-X-BYTERANGE")
    begin = int(offset) if offset else ends.get(url, 0)
    ends[url] = begin + int(length)
    return Item(url, offset=begin, length=int(length))


def _rendition(parsed: m3u8.M3U8, url: str, request: Request, *, sound: bool) -> ExportRendition:
    """The runs in the wanted time range, in whole segments. Raises ExportError if there are none."""
    runs: list[ExportRun] = []
    gap, before, broken = 0.0, None, True
    for segment in _between(_segments(parsed, url), request):
        broken = broken or segment.discontinuity
        if segment.gap:
            gap += segment.item.seconds
            continue
        piece = (segment.map, segment.item) if segment.map else (segment.item,)
        if broken or not runs:
            runs.append(ExportRun((piece,), gap if runs else 0.0))
        elif segment.map != before or (segment.map and len(runs[-1].pieces[-1]) > PIECE):
            runs[-1] = replace(runs[-1], pieces=(*runs[-1].pieces, piece))
        else:
            *others, last = runs[-1].pieces
            runs[-1] = replace(runs[-1], pieces=(*others, (*last, segment.item)))
        gap, before, broken = 0.0, segment.map, False
    if not runs:
        raise ExportError("the playlist has no segment in the wanted time range")
    return ExportRendition(tuple(runs), sound)


def _between(segments: Iterator[PlaylistSegment], request: Request) -> Iterator[PlaylistSegment]:
    """The segments that overlap the wanted time range."""
    at = 0.0
    for segment in segments:
        begin, at = at, at + segment.item.seconds
        is_before = (
            request.begin is not None and _since(request.begin, segment, at, segment.item.seconds) <= 0
        )
        is_after = request.end is not None and _since(request.end, segment, begin) >= 0
        if not (is_before or is_after):
            yield segment


def _since(limit: float | str, segment: PlaylistSegment, at: float, seconds: float = 0.0) -> float:
    """Seconds from a limit of the time range to ``at``, which is ``seconds`` after the segment's begin."""
    if not isinstance(limit, str):
        return at - limit
    if segment.time is None:
        raise ExportError("the playlist has no EXT-X-PROGRAM-DATE-TIME: give seconds from its beginning")
    return (segment.time - datetime.fromisoformat(limit)).total_seconds() + seconds


def _shown(url: str) -> str:
    return FetchRequest(url).safe_url
