"""Writes the playlists of recordings and clips, and their index, into the bucket.

The catalog is the source: whatever the bucket lacks after a failure or a restart is written again. Publishing
never waits for these writes. In JSON, times are ISO 8601, durations are seconds and sizes are bytes.
"""

from __future__ import annotations

import asyncio
import json
import logging
import posixpath
import zlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, NamedTuple
from urllib.parse import quote

from broadcaster.aio import Retrying
from broadcaster.bucket.conditional import ConditionalStore, ConditionalWriter
from broadcaster.catalog import Catalog
from broadcaster.catalog.recordings import RecordingTable
from broadcaster.catalog.records import Clip, Part, Recording, RecordingSegment, Visibility, complete_variants
from broadcaster.errors import CatalogError, StorageError
from broadcaster.events import Event, StreamEnded, StreamStarted
from broadcaster.hls import MediaPlaylist, MediaSegment, MultivariantPlaylist
from broadcaster.hls.manifest import VodPlaylistBuilder
from broadcaster.hls.media_playlist import ENDLIST, lines_of
from broadcaster.stream.multivariant_builder import IFRAMES, PLAYLIST, MeasuredBandwidth, multivariant

PAGE = 200  # recordings
INDEX = "index.json"
POSTER, THUMBNAILS = "poster.jpg", "thumbnails.vtt"


def summary(recording: Recording, parts: Sequence[Part]) -> dict[str, Any]:
    """What viewers are told of a recording; addresses are relative to the index."""
    addresses = [f"{recording.folder}/playlist.m3u8"]
    addresses += [f"{recording.folder}/part-{count}/playlist.m3u8" for count in range(2, len(parts) + 1)]
    thumbnails = [f"{posixpath.dirname(one)}/{THUMBNAILS}" for one in addresses]
    variants = parts[0].described.variants if parts else ()
    return {
        "id": recording.id,
        "title": recording.title,
        "started": recording.started.isoformat(),
        "ended": recording.ended.isoformat() if recording.ended else None,
        "duration": round(recording.duration.total_seconds(), 3),
        "size": recording.size,
        # Their bandwidth, which is measured, the playlist tells.
        "variants": [{"name": one.uri, "resolution": one.resolution} for one in variants],
        "playlist": addresses[0],
        "parts": addresses,
        "poster": f"{recording.folder}/{POSTER}" if recording.poster else None,
        "thumbnails": thumbnails if recording.thumbnails else None,
        "file": file_of(recording),
    }


def file_of(recording: Recording) -> dict[str, Any] | None:
    """All of it as one file, where somebody has uploaded one."""
    file = recording.file
    return {"url": quote(file.address), "size": file.size, "type": file.type} if file else None


def full(recording: Recording, parts: Sequence[Part]) -> dict[str, Any]:
    """What the operator is told of it, and what it can be had back from."""
    told = summary(recording, parts) | {
        "visibility": recording.visibility,
        "keepUntil": recording.keep_until.isoformat() if recording.keep_until else None,
    }
    return told | _binned(recording)


def _binned(one: Recording | Clip) -> dict[str, Any]:
    """Since when it has been in the bin, of what is there."""
    return {"deleted": one.deleted.isoformat()} if one.deleted else {}


def of_clip(clip: Clip) -> dict[str, Any]:
    """What is told of a clip; its address is relative to the folder of all recordings."""
    return {
        "id": clip.id,
        "title": clip.title,
        "made": clip.made.isoformat(),
        "begin": clip.begin.isoformat(),
        "end": clip.end.isoformat(),
        "viewer": clip.viewer,
        "keepUntil": clip.keep_until.isoformat() if clip.keep_until else None,
        "playlist": f"../clips/{clip.folder}/playlist.m3u8",
        "poster": f"../clips/{clip.folder}/{POSTER}" if clip.poster else None,
        **_binned(clip),
    }


def details(recording: Recording, parts: Sequence[Part]) -> str:
    """The object beside its playlists."""
    return json.dumps(full(recording, parts))


def pages(recordings: Sequence[Recording], parts: Mapping[str, Sequence[Part]]) -> dict[str, str]:
    """The index by names of objects: of those that are listed, newest first, with a link to older ones.

    What is added changes the first page alone; the others are counted from the oldest.
    """
    found = [summary(one, parts[one.id]) for one in recordings if one.visibility is Visibility.LISTED]
    older = max(len(found) // PAGE - 1, 0)  # whole pages; the first one has the rest
    first = len(found) - older * PAGE
    made = {INDEX: _page(found[:first], older)}
    for number in range(older, 0, -1):
        begin = first + (older - number) * PAGE
        made[_name(number)] = _page(found[begin : begin + PAGE], number - 1)
    return made


def _page(found: list[dict[str, Any]], older: int) -> str:
    return json.dumps({"recordings": found, "older": _name(older) if older else None})


def _name(number: int) -> str:
    return f"index-{number}.json"


COMPRESS_FROM = 16_384  # bytes of a playlist; players expect a long one compressed
GZIP_LEVEL, GZIP = 6, 31  # how much work it is worth; zlib's word for gzip's format


class Body(NamedTuple):
    """What is stored of a playlist, and whether it is compressed."""

    content: bytes
    gzipped: bool


class GrowingText:
    """A text that only grows, kept compressed: each version costs what is new in it.

    The compressed beginning never changes, so the head has to be right from the start.
    """

    def __init__(self, head: str) -> None:
        self.head = head
        self._compressor = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, GZIP)
        self._compressed = bytearray()
        self._plain = bytearray()  # as long as it is short
        self.add(head)

    def add(self, text: str) -> None:
        """Add to it, for good."""
        data = text.encode()
        self._compressed += self._compressor.compress(data)
        if len(self._plain) < COMPRESS_FROM:
            self._plain += data

    def body(self, rest: str) -> Body:
        """All of it, with what comes after it in this version alone."""
        data = rest.encode()
        if len(self._plain) + len(data) < COMPRESS_FROM:
            return Body(bytes(self._plain) + data, gzipped=False)
        ending = self._compressor.copy()
        return Body(b"".join((self._compressed, ending.compress(data), ending.flush())), gzipped=True)


class GrowingVariant:
    """The playlists of one variant of a recording that is on: its latest segments, and compressed text."""

    def __init__(self, target_duration: int, first: int, *, ended: bool) -> None:
        self.playlist = VodPlaylistBuilder(target_duration, first, self._settle)
        self.ended = ended
        self._begins = target_duration, first
        self._heads: tuple[str, str] | None = None
        self._texts: tuple[GrowingText, GrowingText] | None = None  # media, and I-frames
        self._map_uri: str | None = None

    @property
    def is_right(self) -> bool:
        """Whether it can go on with the beginning that is compressed already."""
        return self._texts is None or self._heads == self.playlist.heads(ended=self.ended)

    def again(self) -> GrowingVariant:
        """An empty one, whose text begins as that of this one should have."""
        fresh = GrowingVariant(*self._begins, ended=self.ended)
        fresh._heads = self.playlist.heads(ended=self.ended)
        return fresh

    def bodies(self, variant: str, main: MultivariantPlaylist) -> dict[str, Body]:
        """Its playlists by name: the media playlist, and that of I-frames if players are told of it."""
        media, frames = self._begun()
        latest, end = self.playlist.latest, ENDLIST if self.ended else ""
        found = {f"{variant}/{PLAYLIST}": media.body("".join(lines_of(latest, self._map_uri)) + end)}
        if main.iframes is not None and main.iframes.uri == (name := f"{variant}/{IFRAMES}"):
            found[name] = frames.body("".join(one.iframe_text for one in latest) + end)
        return found

    def _settle(self, segment: MediaSegment) -> None:
        if self._texts is None:
            self._texts = self._begun()
            self._heads = self._texts[0].head, self._texts[1].head
        media, frames = self._texts
        media.add("".join(lines_of([segment], self._map_uri)))
        frames.add(segment.iframe_text)
        self._map_uri = segment.map_uri

    def _begun(self) -> tuple[GrowingText, GrowingText]:
        if self._texts:
            return self._texts
        media, frames = self._heads or self.playlist.heads(ended=self.ended)
        return GrowingText(media), GrowingText(frames)


def multivariant_of(part: Part | Clip, playlists: Mapping[str, VodPlaylistBuilder]) -> MultivariantPlaylist:
    """The playlist that names those of its variants."""
    measured = {
        name: MeasuredBandwidth(one.peak_bandwidth, one.iframe_bandwidth, one.independent_segments)
        for name, one in playlists.items()
    }
    return multivariant(part.described, measured)


def rendered(variant: str, playlist: MediaPlaylist, main: MultivariantPlaylist) -> dict[str, str]:
    """The variant's playlists by name: the media playlist, and that of I-frames if players are told of it.

    One of hours takes a while: nothing of the stream that is on may wait for it.
    """
    texts, iframes = {f"{variant}/{PLAYLIST}": playlist.render()}, f"{variant}/{IFRAMES}"
    is_named = main.iframes is not None and main.iframes.uri == iframes
    return texts | ({iframes: playlist.render_iframes()} if is_named else {})


logger = logging.getLogger(__name__)

EVERY = 14.0  # seconds between two versions while a stream is on, at least
INTERVAL = 1.0  # seconds between two writes of one key: R2 takes no more (429)
MAX_PAUSE, MAX_DOUBLINGS = 15.0, 4  # seconds between two attempts
FEW = 100  # segments that are rendered within a few milliseconds
SHARE = 0.02  # of a stream's bytes, which its playlists in the bucket may take
LONGEST_LAG = 0.05  # of a stream, which its playlists may lack, whatever they take
EVENT_AGE, VOD_AGE, INDEX_AGE = 2, 60, 5  # seconds for which caches may keep it

Show = Callable[[Sequence[Recording], Mapping[str, Sequence[Part]], Sequence[Clip]], None]


class _Growing:
    """The playlists of a part by variant, as far as its segments were read."""

    def __init__(self) -> None:
        self.variants: dict[str, GrowingVariant] = {}
        # The position of each one's newest segment: what was noticed first need not be listed first.
        self._read: dict[str, int] = {}
        self._first: int | None = None  # discontinuity number

    @property
    def playlists(self) -> dict[str, VodPlaylistBuilder]:
        """What is known of them."""
        return {name: one.playlist for name, one in self.variants.items()}

    async def grow(self, book: RecordingTable, part: int, folder: str, *, ended: bool) -> None:
        """Read what is new. After a failure it is of no use any more."""
        for one in self.variants.values():
            one.ended = ended
        while True:
            while found := await book.segments(part, self._read):
                self._read |= {one.variant: one.position for one in found}
                if len(found) > FEW:
                    await asyncio.to_thread(self._add, found, folder, ended=ended)
                else:
                    self._add(found, folder, ended=ended)
            wrong = [name for name, one in self.variants.items() if not one.is_right]
            if not wrong:
                return
            for name in wrong:  # its beginning is another now, which is rare: it is rendered once more
                self.variants[name] = self.variants[name].again()
                del self._read[name]

    def _add(self, found: Sequence[RecordingSegment], folder: str, *, ended: bool) -> None:
        self._first = _first_of(found) if self._first is None else self._first
        for one in found:
            if one.variant not in self.variants:
                self.variants[one.variant] = GrowingVariant(one.target_duration, self._first, ended=ended)
            _append(self.variants[one.variant].playlist, one, f"{folder}/{one.variant}")


@dataclass(frozen=True, slots=True)
class _Written:
    """What was written of a recording that is on, and what that has taken."""

    recording: Recording  # but for what changes with each segment
    parts: int
    duration: timedelta
    latest: int  # bytes of the latest version
    spent: int  # bytes of all versions


class Recorder:
    """Writes below ``{prefix}/recordings/`` and ``clips/``; call it with each event, and let ``run`` work.

    ``title`` is what the stream is called that is on, where that is known; ``show`` is told of all that the
    bucket has, newest first; ``sleep`` lets seconds pass.
    """

    def __init__(  # noqa: PLR0913 - what it works with
        self,
        store: ConditionalStore,
        catalog: Catalog,
        prefix: str,
        *,
        title: Callable[[], str | None] = lambda: None,
        show: Show | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.lock = asyncio.Lock()  # while it is held, nothing is removed or moved
        self._book, self._clips = catalog.recordings, catalog.clips
        self._prefixes = catalog.prefixes(prefix)
        self._folder, self._clip_folder = f"{prefix}/recordings", f"{prefix}/clips"
        self._title = title
        self._show = show
        self._sleep = sleep
        self._objects = ConditionalWriter(store)
        self._retrying = Retrying("writes of recordings", sleep=sleep)
        self._growing: dict[int, _Growing] = {}  # by part
        self._versions: dict[str, _Written] = {}  # by recording, of those that are on
        self._placed: dict[str, str] = {}  # folders outside which nothing is left, of what is on
        self._news = asyncio.Event()

    def __call__(self, event: Event) -> None:
        """Take note of an event: what begins or ends is written at once."""
        if isinstance(event, StreamStarted | StreamEnded):
            self.tell()

    def tell(self) -> None:
        """Something was changed that has to be written."""
        self._news.set()

    @property
    def fault(self) -> str | None:
        """Why recordings cannot be written at the moment."""
        return self._retrying.fault.message if self._retrying.fault else None

    async def run(self) -> None:
        """Write until cancelled; first what an earlier process has left."""
        failures = 0
        while True:
            self._news.clear()
            try:
                await self.write()
            except StorageError as error:
                self._retrying.failed(error)
                await self._retrying.pause(min(INTERVAL * 2**failures, MAX_PAUSE))
                failures = min(failures + 1, MAX_DOUBLINGS)
                continue
            except CatalogError as error:
                logger.warning("recordings are not written now: %s", error)
            else:
                self._retrying.worked()
                failures = 0
            await self._sleep(INTERVAL)
            news = asyncio.ensure_future(self._news.wait())
            pause = asyncio.ensure_future(self._sleep(EVERY - INTERVAL))
            try:
                await asyncio.wait((news, pause), return_when=asyncio.FIRST_COMPLETED)
            finally:
                news.cancel()
                pause.cancel()

    async def write(self, *, everything: bool = False) -> None:
        """Bring the bucket up to date; raises StorageError or CatalogError.

        Unless it has to be ``everything``, a recording that is on has its turn when that is worth its bytes.
        What raises anything else holds up no other recording or clip, and is raised at the end.
        """
        async with self.lock:
            await self._write_all(everything=everything)

    async def _write_all(self, *, everything: bool) -> None:
        failures = list[Exception]()
        await self._write_recordings(failures, everything=everything)
        over = await self._clips.expired()
        for clip in await self._clips.unwritten():
            if clip not in over and await self._attempt(self._write_clip(clip), failures):
                await self._clips.written(clip)
        for clip in over:
            await self._clear(f"clips/{clip.id}")
            await self._clips.release(clip)
        if self._show:
            self._show(await self._book.all(), await self._book.parts(), await self._clips.all())
        if failures:
            raise failures[0]

    async def _attempt(self, work: Awaitable[None], failures: list[Exception]) -> bool:
        """Whether it succeeded; what is no fault of the bucket or the catalog is added to the failures."""
        try:
            await work
        except (StorageError, CatalogError):
            raise
        except Exception as error:  # noqa: BLE001 - it is raised when the others are written
            failures.append(error)
            return False
        return True

    async def _write_recordings(self, failures: list[Exception], *, everything: bool) -> None:
        await self._book.measure(self._title())
        over = {one.id: one for one in await self._book.expired()}
        # What begins from here on has its turn next time: the index names nothing before it is there.
        listed = {one.id: one for one in await self._book.all() if one.id not in over}
        found = [one for one in await self._book.unwritten() if one.id in listed or one.deleted]
        parts = await self._book.parts()
        found = [one for one in found if one.id not in over]
        found = [one for one in found if everything or self._is_due(one, len(parts[one.id]))]
        if not found and not over:
            return
        written = list(found)
        for one in found:
            if not await self._attempt(self._write(one, parts[one.id]), failures):
                written.remove(one)
                if one.id not in self._placed:
                    listed.pop(one.id, None)
        listed |= {one.id: one for one in written}
        listed = {name: one for name, one in listed.items() if one.deleted is None}
        for name, text in reversed(pages(list(listed.values()), parts).items()):
            await self._objects.put(f"{self._folder}/{name}", text, INDEX_AGE)
        for recording in over.values():
            await self._clear(f"recordings/{recording.id}")
            await self._book.remove(recording)
            logger.info("recording %s is removed", recording.id)
        for recording in written:
            await self._book.written(recording)
            if recording.ended:
                logger.info("recording %s is in the bucket: %s", recording.id, recording.duration)

    async def _write(self, recording: Recording, parts: Sequence[Part]) -> None:
        folder, keys, size = f"{self._folder}/{recording.folder}", set[str](), 0

        async def put(key: str, content: str | bytes, max_age: int, *, gzipped: bool = False) -> None:
            nonlocal size
            keys.add(key)
            size += await self._objects.put(key, content, max_age, gzipped=gzipped)

        for count, part in enumerate(parts, 1):
            ended = recording.ended is not None or part is not parts[-1]
            base = folder if count == 1 else f"{folder}/part-{count}"
            growing = self._growing.pop(part.number, None) or _Growing()
            await growing.grow(self._book, part.number, base, ended=ended)
            self._growing[part.number] = growing  # what has failed is read anew
            age = VOD_AGE if ended else EVENT_AGE
            main = multivariant_of(part, growing.playlists)
            for variant, one in growing.variants.items():
                for name, body in one.bodies(variant, main).items():
                    await put(f"{base}/{name}", body.content, age, gzipped=body.gzipped)
            await put(f"{base}/{PLAYLIST}", main.render(), age)
        await put(f"{folder}/recording.json", details(recording, parts), VOD_AGE)
        is_elsewhere = self._placed.get(recording.id) != folder
        if recording.ended or recording.folder != recording.id or is_elsewhere:
            await self._clear(f"recordings/{recording.id}", keys, folder)
            self._placed[recording.id] = folder
        before = self._versions.pop(recording.id, None)
        spent = size + (before.spent if before else 0)
        if not recording.ended:
            self._versions[recording.id] = _Written(
                _lasting(recording), len(parts), recording.duration, size, spent
            )
        else:
            del self._placed[recording.id]
            self._objects.forget(folder)
            for part in parts:
                del self._growing[part.number]

    def _is_due(self, recording: Recording, parts: int) -> bool:
        """Whether to write it: playlists grow with the stream, and are to stay a small part of its bytes."""
        last = self._versions.get(recording.id)
        if recording.ended or last is None or (last.recording, last.parts) != (_lasting(recording), parts):
            return True
        is_cheap = last.spent + last.latest <= SHARE * recording.size
        return is_cheap or recording.duration >= last.duration * (1 + LONGEST_LAG)

    async def _write_clip(self, clip: Clip) -> None:
        """A clip is VOD of whole segments, which begins at the exact point (EXT-X-START, §4.4.2.2)."""
        folder, playlists = f"{self._clip_folder}/{clip.folder}", dict[str, VodPlaylistBuilder]()
        keys = set[str]()

        async def put(key: str, text: str) -> None:
            keys.add(key)
            await self._objects.put(key, text, VOD_AGE)

        segments = await self._clips.segments(clip)
        whole = complete_variants(segments, clip)
        segments = [one for one in segments if one.variant in whole]
        discontinuity = _first_of(segments)
        for one in segments:
            if one.variant not in playlists:
                playlists[one.variant] = VodPlaylistBuilder(one.target_duration, discontinuity)
            _append(playlists[one.variant], one, f"{folder}/{one.variant}")
        main = multivariant_of(clip, playlists)
        for variant, recorded in playlists.items():
            first = next(one.time for one in segments if one.variant == variant)
            playlist = recorded.playlist(ended=True, start=clip.begin - first)
            for name, text in rendered(variant, playlist, main).items():
                await put(f"{folder}/{name}", text)
        await put(f"{folder}/{PLAYLIST}", main.render())
        await put(f"{folder}/clip.json", json.dumps(of_clip(clip)))
        await self._clear(f"clips/{clip.id}", keys, folder)
        self._objects.forget(folder)

    async def _clear(self, name: str, keep: Iterable[str] = (), album: str | None = None) -> None:
        """Delete what it has, under whichever prefix that was written, but pictures that an album takes."""
        for prefix in self._prefixes:
            await self._objects.clear(f"{prefix}/{name}", keep, album)


def _lasting(recording: Recording) -> Recording:
    """What of it does not change with each segment."""
    return replace(recording, duration=timedelta(), size=0, revision=0)


def _first_of(segments: Sequence[RecordingSegment]) -> int:
    """The first discontinuity number: a variant may have begun in an earlier run than the one met first."""
    return min((one.discontinuity for one in segments), default=0)


def _append(playlist: VodPlaylistBuilder, one: RecordingSegment, folder: str) -> None:
    """Add a segment to its playlist, which lies in this folder."""
    segment = MediaSegment(
        uri=_address(one.key, folder),
        duration=one.duration,
        map_uri=_address(one.map_key, folder) if one.map_key and not one.gap else None,
        program_date_time=one.time,
        gap=one.gap,
        iframe=one.iframe,
    )
    playlist.append(segment, discontinuity=one.discontinuity, independent=one.independent, size=one.size)


def _address(key: str, folder: str) -> str:
    return quote(posixpath.relpath(key, folder))
