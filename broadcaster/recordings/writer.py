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
from broadcaster.bucket import ObjectStore
from broadcaster.bucket.conditional import ConditionalWriter
from broadcaster.catalog import Catalog
from broadcaster.catalog.recordings import RecordingTable
from broadcaster.catalog.records import Clip, Part, Recording, RecordingSegment, Visibility, complete_variants
from broadcaster.errors import CatalogError, Problem, StorageError
from broadcaster.events import Event, StreamEnded, StreamStarted
from broadcaster.hls import MediaPlaylist, MediaSegment, MultivariantPlaylist
from broadcaster.hls.manifest import VodPlaylistBuilder
from broadcaster.hls.media_playlist import ENDLIST, lines_of
from broadcaster.stream.playlists import IFRAMES, PLAYLIST, MeasuredBandwidth, multivariant

PAGE = 200  # recordings
INDEX = "index.json"
POSTER, THUMBNAILS = "poster.jpg", "thumbnails.vtt"


def recording_summary(recording: Recording, parts: Sequence[Part]) -> dict[str, Any]:
    """The entry of a recording in the index; addresses are relative to the index."""
    addresses = [f"{recording.folder}/playlist.m3u8"]
    addresses += [f"{recording.folder}/part-{count}/playlist.m3u8" for count in range(2, len(parts) + 1)]
    thumbnails = [f"{posixpath.dirname(address)}/{THUMBNAILS}" for address in addresses]
    variants = parts[0].described.variants if parts else ()
    return {
        "id": recording.id,
        "title": recording.title,
        "started": recording.started.isoformat(),
        "ended": recording.ended.isoformat() if recording.ended else None,
        "duration": round(recording.duration.total_seconds(), 3),
        "size": recording.size,
        # The playlist has the measured bandwidth.
        "variants": [{"name": variant.uri, "resolution": variant.resolution} for variant in variants],
        "playlist": addresses[0],
        "parts": addresses,
        "poster": f"{recording.folder}/{POSTER}" if recording.poster else None,
        "thumbnails": thumbnails if recording.thumbnails else None,
        "file": file_summary(recording),
    }


def file_summary(recording: Recording) -> dict[str, Any] | None:
    """The recording as one file, if the operator has uploaded it."""
    file = recording.file
    return {"url": quote(file.address), "size": file.size, "type": file.type} if file else None


def recording_details(recording: Recording, parts: Sequence[Part]) -> dict[str, Any]:
    """The content of ``recording.json``: for the operator, and to restore the catalog."""
    return {
        **recording_summary(recording, parts),
        "visibility": recording.visibility,
        "keepUntil": recording.keep_until.isoformat() if recording.keep_until else None,
        **({"open": True} if recording.opened else {}),
        **_bin_details(recording),
    }


def clip_details(clip: Clip) -> dict[str, Any]:
    """The content of ``clip.json``; addresses are relative to the folder of all recordings."""
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
        **_bin_details(clip),
    }


def _bin_details(view: Recording | Clip) -> dict[str, Any]:
    return {"deleted": view.deleted.isoformat()} if view.deleted else {}


def index_pages(recordings: Sequence[Recording], parts: Mapping[str, Sequence[Part]]) -> dict[str, str]:
    """The index of listed recordings, newest first, as pages by name; each links the next older page.

    Older pages are numbered from the oldest, so that a new recording changes only the first page.
    """
    found = [
        recording_summary(recording, parts[recording.id])
        for recording in recordings
        if recording.visibility is Visibility.LISTED
    ]
    older = max(len(found) // PAGE - 1, 0)  # full pages; the first page has the rest
    first = len(found) - older * PAGE
    pages = {INDEX: _page(found[:first], older)}
    for number in range(older, 0, -1):
        begin = first + (older - number) * PAGE
        pages[_page_name(number)] = _page(found[begin : begin + PAGE], number - 1)
    return pages


def _page(found: list[dict[str, Any]], older: int) -> str:
    return json.dumps({"recordings": found, "older": _page_name(older) if older else None})


def _page_name(number: int) -> str:
    return f"index-{number}.json"


COMPRESS_FROM = 16_384  # bytes of a playlist; players expect long playlists compressed
GZIP_LEVEL, GZIP = 6, 31  # zlib's window bits for gzip's format


class PlaylistBody(NamedTuple):
    """A playlist as it is stored, and whether it is compressed."""

    content: bytes
    gzipped: bool


class GrowingText:
    """A growing text, kept compressed, so that a version costs only the compression of what is new.

    The compressed beginning never changes: the ``head`` must be right from the start.
    """

    def __init__(self, head: str) -> None:
        self.head = head
        self._compressor = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, GZIP)
        self._compressed = bytearray()
        self._plain = bytearray()  # while it is short
        self.add(head)

    def add(self, text: str) -> None:
        """Append text to all later versions."""
        data = text.encode()
        self._compressed += self._compressor.compress(data)
        if len(self._plain) < COMPRESS_FROM:
            self._plain += data

    def body(self, rest: str) -> PlaylistBody:
        """The text, followed by ``rest`` in this version."""
        data = rest.encode()
        if len(self._plain) + len(data) < COMPRESS_FROM:
            return PlaylistBody(bytes(self._plain) + data, gzipped=False)
        ending = self._compressor.copy()
        return PlaylistBody(b"".join((self._compressed, ending.compress(data), ending.flush())), gzipped=True)


class GrowingVariant:
    """The playlists of a variant of a running recording: its latest segments, and compressed text."""

    def __init__(self, target_duration: int, first: int, *, ended: bool) -> None:
        self.playlist = VodPlaylistBuilder(target_duration, first, self._append_text)
        self.ended = ended
        self._begins = target_duration, first
        self._heads: tuple[str, str] | None = None
        self._texts: tuple[GrowingText, GrowingText] | None = None  # media, and I-frames
        self._map_uri: str | None = None

    @property
    def has_right_head(self) -> bool:
        """Whether the compressed head is that of the present playlist."""
        return self._texts is None or self._heads == self.playlist.heads(ended=self.ended)

    def restarted(self) -> GrowingVariant:
        """An empty variant, with the head that this variant needs now."""
        fresh = GrowingVariant(*self._begins, ended=self.ended)
        fresh._heads = self.playlist.heads(ended=self.ended)
        return fresh

    def bodies(self, variant: str, main: MultivariantPlaylist) -> dict[str, PlaylistBody]:
        """The media playlist by its name, and the I-frame playlist if the multivariant playlist names it."""
        media, frames = self._growing_texts()
        latest, end = self.playlist.latest, ENDLIST if self.ended else ""
        found = {f"{variant}/{PLAYLIST}": media.body("".join(lines_of(latest, self._map_uri)) + end)}
        if main.iframes is not None and main.iframes.uri == (name := f"{variant}/{IFRAMES}"):
            found[name] = frames.body("".join(segment.iframe_text for segment in latest) + end)
        return found

    def _append_text(self, segment: MediaSegment) -> None:
        if self._texts is None:
            self._texts = self._growing_texts()
            self._heads = self._texts[0].head, self._texts[1].head
        media, frames = self._texts
        media.add("".join(lines_of([segment], self._map_uri)))
        frames.add(segment.iframe_text)
        self._map_uri = segment.map_uri

    def _growing_texts(self) -> tuple[GrowingText, GrowingText]:
        if self._texts:
            return self._texts
        media, frames = self._heads or self.playlist.heads(ended=self.ended)
        return GrowingText(media), GrowingText(frames)


def multivariant_of(part: Part | Clip, playlists: Mapping[str, VodPlaylistBuilder]) -> MultivariantPlaylist:
    """The multivariant playlist with the measured bandwidth of each variant."""
    measured = {
        name: MeasuredBandwidth(
            builder.peak_bandwidth, builder.iframe_bandwidth, builder.independent_segments
        )
        for name, builder in playlists.items()
    }
    return multivariant(part.described, measured)


def rendered(variant: str, playlist: MediaPlaylist, main: MultivariantPlaylist) -> dict[str, str]:
    """The media playlist by its name, and the I-frame playlist if the multivariant playlist names it."""
    texts, iframes = {f"{variant}/{PLAYLIST}": playlist.render()}, f"{variant}/{IFRAMES}"
    is_named = main.iframes is not None and main.iframes.uri == iframes
    return texts | ({iframes: playlist.render_iframes()} if is_named else {})


logger = logging.getLogger(__name__)

EVERY = 14.0  # seconds between two versions of a running recording, at least
INTERVAL = 1.0  # seconds between two writes of the same key: R2 allows no more (429)
MAX_PAUSE, MAX_DOUBLINGS = 15.0, 4  # seconds between two attempts
FEW = 100  # segments that are rendered within a few milliseconds
SHARE = 0.02  # of the stream's bytes: the limit of all versions of its playlists
LONGEST_LAG = 0.05  # of the stream, which the newest version may lack, even past that limit
EVENT_AGE, VOD_AGE, INDEX_AGE = 2, 60, 5  # seconds for which caches may keep a playlist or the index

Show = Callable[[Sequence[Recording], Mapping[str, Sequence[Part]], Sequence[Clip]], None]


class _GrowingPart:
    """The playlists of a part of a running recording, by variant."""

    def __init__(self) -> None:
        self.variants: dict[str, GrowingVariant] = {}
        # The position of each variant's newest segment: segments are not listed in the order of positions.
        self._read: dict[str, int] = {}
        self._first: int | None = None  # discontinuity number

    @property
    def builders(self) -> dict[str, VodPlaylistBuilder]:
        """The builder of each variant's playlist."""
        return {name: variant.playlist for name, variant in self.variants.items()}

    async def grow(self, table: RecordingTable, part: int, folder: str, *, ended: bool) -> None:
        """Add the new segments of the part. After an exception the object is not usable."""
        for variant in self.variants.values():
            variant.ended = ended
        while True:
            while found := await table.segments(part, self._read):
                self._read |= {segment.variant: segment.position for segment in found}
                if len(found) > FEW:
                    await asyncio.to_thread(self._add, found, folder, ended=ended)
                else:
                    self._add(found, folder, ended=ended)
            wrong = [name for name, variant in self.variants.items() if not variant.has_right_head]
            if not wrong:
                return
            for name in wrong:  # rare: the head has changed, and the playlist is rendered again
                self.variants[name] = self.variants[name].restarted()
                del self._read[name]

    def _add(self, found: Sequence[RecordingSegment], folder: str, *, ended: bool) -> None:
        self._first = _first_discontinuity(found) if self._first is None else self._first
        for segment in found:
            name = segment.variant
            if name not in self.variants:
                self.variants[name] = GrowingVariant(segment.target_duration, self._first, ended=ended)
            _append(self.variants[name].playlist, segment, f"{folder}/{name}")


@dataclass(frozen=True, slots=True)
class _WrittenVersion:
    """The latest version of a running recording in the bucket."""

    recording: Recording  # without what changes with each segment
    parts: int
    duration: timedelta
    size: int  # bytes of this version
    spent: int  # bytes of all versions


class Recorder:
    """Writes below ``{prefix}/recordings/`` and ``clips/``. Call it with each event; ``run`` writes.

    ``title`` gives the title of the running stream, if known; ``show`` is called with all recordings and
    clips that are in the bucket; without ``index``, no list of them is written; ``sleep`` waits for seconds.
    """

    def __init__(  # noqa: PLR0913 - all parts that it connects
        self,
        store: ObjectStore,
        catalog: Catalog,
        prefix: str,
        *,
        title: Callable[[], str | None] = lambda: None,
        show: Show | None = None,
        index: bool = True,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.lock = asyncio.Lock()  # while it is held, nothing is removed or moved
        self._recordings, self._clips = catalog.recordings, catalog.clips
        self._prefixes = catalog.prefixes(prefix)
        self._folder, self._clip_folder = f"{prefix}/recordings", f"{prefix}/clips"
        self._title = title
        self._show = show
        self._index = index
        self._sleep = sleep
        self._objects = ConditionalWriter(store)
        self._retrying = Retrying("writes of recordings", sleep=sleep)
        self._growing: dict[int, _GrowingPart] = {}  # by part
        self._versions: dict[str, _WrittenVersion] = {}  # of running recordings
        self._looks = 0  # at what is shown
        self._placed: dict[str, str] = {}  # by running recording: the only folder with objects of it
        self._changed = asyncio.Event()

    def __call__(self, event: Event) -> None:
        """Handle an event: a begin or an end is written at once."""
        if isinstance(event, StreamStarted | StreamEnded):
            self.write_soon()

    def write_soon(self) -> None:
        """Write as soon as possible: a recording or clip has changed."""
        self._changed.set()

    @property
    def fault(self) -> Problem | None:
        """The current error of writes."""
        return self._retrying.problem

    async def run(self) -> None:
        """Write until cancelled, first the changes of an earlier process."""
        failures = 0
        while True:
            self._changed.clear()
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
            changed = asyncio.ensure_future(self._changed.wait())
            pause = asyncio.ensure_future(self._sleep(EVERY - INTERVAL))
            try:
                await asyncio.wait((changed, pause), return_when=asyncio.FIRST_COMPLETED)
            finally:
                changed.cancel()
                pause.cancel()

    async def write(self, *, everything: bool = False) -> None:
        """Bring the bucket up to date; raises StorageError or CatalogError.

        A running recording is written only if that is worth its bytes, or ``everything`` is. After another
        exception the other recordings and clips are still written; then it is raised.
        """
        async with self.lock:
            failures = list[Exception]()
            await self._write_recordings(failures, everything=everything)
            over = await self._clips.expired()
            for clip in await self._clips.unwritten():
                if clip not in over and await self._attempt(self._write_clip(clip), failures):
                    await self._clips.written(clip)
            for clip in over:
                await self._clear(f"clips/{clip.id}")
                await self._clips.release(clip)
            await self.show()
            if failures:
                raise failures[0]

    async def show(self) -> None:
        """Show recordings and clips as they are now, also while the bucket fails; raises CatalogError."""
        if self._show:
            self._looks += 1
            look = self._looks
            recordings, parts = await self._recordings.all(), await self._recordings.parts()
            clips = await self._clips.all()
            if look == self._looks:  # else a later look shows what is newer
                self._show(recordings, parts, clips)

    async def _attempt(self, work: Awaitable[None], failures: list[Exception]) -> bool:
        """Whether the work succeeded. StorageError and CatalogError are raised, others added to failures."""
        try:
            await work
        except (StorageError, CatalogError):
            raise
        except Exception as error:  # noqa: BLE001 - it is raised when the others are written
            failures.append(error)
            return False
        return True

    async def _write_recordings(self, failures: list[Exception], *, everything: bool) -> None:
        await self._recordings.measure(self._title())
        over = {recording.id: recording for recording in await self._recordings.expired()}
        # A recording that begins after this line is not in this index: it is written before it is listed.
        listed = {view.id: view for view in await self._recordings.all() if view.id not in over}
        changed = [view for view in await self._recordings.unwritten() if view.id in listed or view.deleted]
        parts = await self._recordings.parts()
        due = [
            recording
            for recording in changed
            if recording.id not in over and (everything or self._is_due(recording, len(parts[recording.id])))
        ]
        if not due and not over:
            return
        written = list(due)
        for recording in due:
            if not await self._attempt(self._write(recording, parts[recording.id]), failures):
                written.remove(recording)
                if recording.id not in self._placed:
                    listed.pop(recording.id, None)
        listed |= {recording.id: recording for recording in written}
        public = [recording for recording in listed.values() if recording.deleted is None]
        for name, text in reversed(index_pages(public, parts).items()) if self._index else ():
            await self._objects.put(f"{self._folder}/{name}", text, INDEX_AGE)
        for recording in over.values():
            await self._clear(f"recordings/{recording.id}")
            await self._recordings.remove(recording)
            logger.info("recording %s is removed", recording.id)
        for recording in written:
            await self._recordings.written(recording)
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
            growing = self._growing.pop(part.number, None) or _GrowingPart()  # after a failure, a new one
            await growing.grow(self._recordings, part.number, base, ended=ended)
            self._growing[part.number] = growing
            age = VOD_AGE if ended else EVENT_AGE
            main = multivariant_of(part, growing.builders)
            for name, variant in growing.variants.items():
                for path, body in variant.bodies(name, main).items():
                    await put(f"{base}/{path}", body.content, age, gzipped=body.gzipped)
            await put(f"{base}/{PLAYLIST}", main.render(), age)
        await put(f"{folder}/recording.json", json.dumps(recording_details(recording, parts)), VOD_AGE)
        is_elsewhere = self._placed.get(recording.id) != folder
        if recording.ended or recording.folder != recording.id or is_elsewhere:
            await self._clear(f"recordings/{recording.id}", keys, folder)
            self._placed[recording.id] = folder
        before = self._versions.pop(recording.id, None)
        if not recording.ended:
            spent = size + (before.spent if before else 0)
            self._versions[recording.id] = _WrittenVersion(
                _without_progress(recording), len(parts), recording.duration, size, spent
            )
        else:
            del self._placed[recording.id]
            self._objects.forget(folder)
            for part in parts:
                del self._growing[part.number]

    def _is_due(self, recording: Recording, parts: int) -> bool:
        """Whether to write a version: playlists grow, and must stay a small share of the stream's bytes."""
        last = self._versions.get(recording.id)
        if recording.ended or last is None:
            return True
        if (last.recording, last.parts) != (_without_progress(recording), parts):
            return True
        is_cheap = last.spent + last.size <= SHARE * recording.size
        return is_cheap or recording.duration >= last.duration * (1 + LONGEST_LAG)

    async def _write_clip(self, clip: Clip) -> None:
        """Write a clip as VOD of whole segments that begins at the exact point (EXT-X-START, §4.4.2.2)."""
        folder, builders = f"{self._clip_folder}/{clip.folder}", dict[str, VodPlaylistBuilder]()
        texts = dict[str, str]()
        segments = await self._clips.segments(clip)
        complete = complete_variants(segments, clip)
        segments = [segment for segment in segments if segment.variant in complete]
        discontinuity = _first_discontinuity(segments)
        for segment in segments:
            name = segment.variant
            if name not in builders:
                builders[name] = VodPlaylistBuilder(segment.target_duration, discontinuity)
            _append(builders[name], segment, f"{folder}/{name}")
        main = multivariant_of(clip, builders)
        for name, builder in builders.items():
            first = next(segment.time for segment in segments if segment.variant == name)
            texts |= rendered(name, builder.playlist(ended=True, start=clip.begin - first), main)
        texts |= {PLAYLIST: main.render(), "clip.json": json.dumps(clip_details(clip))}
        for name, text in texts.items():
            await self._objects.put(f"{folder}/{name}", text, VOD_AGE)
        await self._clear(f"clips/{clip.id}", {f"{folder}/{name}" for name in texts}, folder)
        self._objects.forget(folder)

    async def _clear(self, name: str, keep: Iterable[str] = (), posters: str | None = None) -> None:
        """Delete the objects of a recording or clip below all prefixes; posters move to that folder."""
        for prefix in self._prefixes:
            await self._objects.clear(f"{prefix}/{name}", keep, posters)


def _without_progress(recording: Recording) -> Recording:
    """The recording without what changes with each segment."""
    return replace(recording, duration=timedelta(), size=0, revision=0)


def _first_discontinuity(segments: Sequence[RecordingSegment]) -> int:
    """The lowest discontinuity number: another variant may have begun in an earlier run."""
    return min((segment.discontinuity for segment in segments), default=0)


def _append(playlist: VodPlaylistBuilder, segment: RecordingSegment, folder: str) -> None:
    """Add a segment to its playlist, which is in this folder."""
    entry = MediaSegment(
        uri=_address(segment.key, folder),
        duration=segment.duration,
        map_uri=_address(segment.map_key, folder) if segment.map_key and not segment.gap else None,
        program_date_time=segment.time,
        gap=segment.gap,
        iframe=segment.iframe,
    )
    playlist.append(
        entry, discontinuity=segment.discontinuity, independent=segment.independent, size=segment.size
    )


def _address(key: str, folder: str) -> str:
    return quote(posixpath.relpath(key, folder))
