"""Restores recordings and clips from the bucket after the catalog was lost.

Other programs may have written into the bucket. Each document is checked by a pydantic model with a range for
every value; a document that fails the check is left alone and reported.
"""

from __future__ import annotations

import asyncio
import logging
import posixpath
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Protocol
from urllib.parse import unquote

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from broadcaster.catalog import Catalog
from broadcaster.catalog.recordings import BIN
from broadcaster.catalog.records import (
    ID,
    SECRET,
    Clip,
    Part,
    Recording,
    RecordingFile,
    RecordingSegment,
    Visibility,
    new_secret,
)
from broadcaster.errors import CatalogError, PlaylistError, StorageUnavailable
from broadcaster.hls import ByteRange, MediaPlaylist, MultivariantPlaylist, Rendition, Variant, parse
from broadcaster.hls.parser import byte_ranges
from broadcaster.printable import clean_title
from broadcaster.source.owncast_names import VARIANT_NAME
from broadcaster.source.scanner import MEDIA_SUFFIXES
from broadcaster.stream.multivariant_builder import IFRAMES, PLAYLIST

YEARS = range(1970, 2200)  # of encoders, whose clocks may be wrong
LONGEST_RECORDING, LONGEST_CLIP = 10_000_000, timedelta(hours=2)  # seconds; more than we ever write
LARGEST_RECORDING, LARGEST_FILE = 2**44, 5 * 2**40  # bytes
MOST_VARIANTS = 50
LONGEST_KEY = 1024  # bytes (S3)
FOLDERS = {"recordings", "clips", "files"}  # below the prefix, which are no runs of an encoder
RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
OWN_RUN = re.compile(r"\d{8}T\d{6}Z-\d{1,9}-[A-Za-z0-9_-]{1,60}")
FILE_KEY = re.compile(rf"(?P<folder>.+)/files/(?P<id>{ID})-[0-9a-f]{{16,64}}\.[a-z0-9]{{1,5}}")


def _in_range(time: datetime) -> datetime:
    if time.year not in YEARS:
        raise ValueError("a year out of range")
    return time.astimezone(UTC)


def _cleaned(text: object) -> object:
    return clean_title(text[:300]) if isinstance(text, str) else text


Id = Annotated[str, StringConstraints(pattern=rf"^{ID}\z", max_length=60)]
Time = Annotated[AwareDatetime, AfterValidator(_in_range)]
Title = Annotated[str, BeforeValidator(_cleaned)]
Attribute = Annotated[str, StringConstraints(pattern=r'^[^"\x00-\x1f\x7f]*\z', max_length=200)]
Name = Annotated[str, StringConstraints(pattern=rf"^{VARIANT_NAME.pattern}\z")]
Path = Annotated[str, Field(max_length=LONGEST_KEY)]
Bits = Annotated[int, Field(ge=0, le=2**40)]  # per second
Pixels = Annotated[int, Field(ge=0, le=100_000)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, from_attributes=True, allow_inf_nan=False)


class FileRecord(_Model):
    """A recording as one file: where it is, relative to the folder of all recordings."""

    url: Path
    size: int = Field(ge=0, le=LARGEST_FILE)
    type: Annotated[str, StringConstraints(pattern=r"^[a-z]{1,20}/[a-z0-9.+-]{1,60}\z")]


class RecordingRecord(_Model):
    """``recording.json``."""

    id: Id
    title: Title
    visibility: Visibility
    started: Time
    ended: Time | None
    keepUntil: Time | None = None  # noqa: N815 - JSON
    duration: float = Field(ge=0, le=LONGEST_RECORDING)
    size: int = Field(ge=0, le=LARGEST_RECORDING)
    file: FileRecord | None = None
    poster: Path | None = None
    thumbnails: list[Path] | None = None
    deleted: Time | None = None


class ClipRecord(_Model):
    """``clip.json``."""

    id: Id
    title: Title
    made: Time
    begin: Time
    end: Time
    viewer: bool = False
    keepUntil: Time | None = None  # noqa: N815 - JSON
    poster: Path | None = None
    deleted: Time | None = None

    @model_validator(mode="after")
    def _has_a_length(self) -> ClipRecord:
        if not timedelta() < self.end - self.begin <= LONGEST_CLIP:
            raise ValueError("a length out of range")
        return self


class _Variant(_Model):
    uri: Name
    bandwidth: Bits
    average_bandwidth: Bits | None
    codecs: Attribute | None
    resolution: tuple[Pixels, Pixels] | None
    frame_rate: Annotated[float, Field(ge=0, le=1000)] | None
    audio: Attribute | None


class _Rendition(_Model):
    group_id: Attribute
    name: Attribute
    uri: Name | None
    language: Attribute | None
    default: bool
    autoselect: bool
    channels: Attribute | None


class _Described(_Model):
    variants: Annotated[tuple[_Variant, ...], Field(min_length=1, max_length=MOST_VARIANTS)]
    renditions: Annotated[tuple[_Rendition, ...], Field(max_length=MOST_VARIANTS)]


def described(playlist: MultivariantPlaylist, playlist_name: str) -> MultivariantPlaylist:
    """What is told of variants, by their names, where each has its playlist in a folder of its own."""

    def name(uri: str) -> str:
        folder, _, last = uri.rpartition("/")
        if last != playlist_name:
            raise ValueError(f"{uri!r} is no playlist of ours")
        return folder

    found = _Described.model_validate(playlist.renamed(name))
    variants = tuple(Variant(**one.model_dump()) for one in found.variants)
    renditions = tuple(Rendition(**one.model_dump()) for one in found.renditions)
    named = MultivariantPlaylist(variants, renditions=renditions)
    if FOLDERS & named.uris:
        raise ValueError("a variant with the name of a folder of ours")
    return named


def media_key(prefix: str, variant: str) -> Callable[[str], str]:
    """Returns a check of the keys of a variant's segments and maps, which raises ValueError.

    Below the ``prefix`` nothing but media of an encoder's run is ours to list, and to delete one day.
    """

    def check(key: str) -> str:
        own = key.startswith(f"{prefix}/")
        parts = key.removeprefix(f"{prefix}/").split("/") if own else key.split("/")
        if len(key.encode()) > LONGEST_KEY or not key.isprintable() or not key.endswith(MEDIA_SUFFIXES):
            raise ValueError(f"{key[:100]!r} is no media of ours")
        if {"", ".", ".."} & set(parts) or "\\" in key:
            raise ValueError(f"{key[:100]!r} is no path")
        if own:
            run, *rest = parts
            # Another broadcaster may have a prefix that begins with ours: only a run's own name is sure.
            is_sure = len(rest) == 2 or OWN_RUN.fullmatch(run) is not None  # noqa: PLR2004 - variant and name
            fits = RUN.fullmatch(run) and run not in FOLDERS and rest[:1] == [variant] and len(rest) > 1
            if not (fits and is_sure):
                raise ValueError(f"{key[:100]!r} is no segment of ours")
        elif variant not in parts[1:-1]:
            raise ValueError(f"{key[:100]!r} is no segment of this variant")
        return key

    return check


def file_key(address: str, folder: str, name: str) -> str:
    """The key of the file of the recording called ``name``, relative to ``folder``; raises ValueError."""
    key = posixpath.normpath(posixpath.join(folder, address))
    found = FILE_KEY.fullmatch(key)
    if not found or found["id"] != name or len(key.encode()) > LONGEST_KEY or not key.isprintable():
        raise ValueError(f"{key[:100]!r} is no file of this recording")
    return key


logger = logging.getLogger(__name__)

DEADLINE = 30.0  # seconds for one request
BATCH = 1000  # objects
LARGEST_RECORD, LARGEST_PLAYLIST = 2**20, 2**25  # bytes
MOST_KEYS, MOST_PARTS = 50_000, 500  # of one recording
# Segments of one playlist, and of a recording in all: a day of them in every variant, and some more.
MOST_SEGMENTS, MOST_IN_ALL = 200_000, 1_000_000
LONGEST_SEGMENT = timedelta(seconds=600)
FOLDER = re.compile(rf"(?P<id>{ID})(-(?P<secret>{SECRET}))?")
MAIN = re.compile(r"(part-(?P<part>[1-9]\d{0,3})/)?playlist\.m3u8")
Parts = list[tuple[Part, list[RecordingSegment]]]


class BucketReader(Protocol):
    """Who looks into the bucket. Everything raises StorageError; deadlines are in seconds."""

    async def get(self, key: str, *, deadline: float) -> bytes:
        """An object."""

    def objects(self, prefix: str, *, deadline: float) -> AsyncIterator[tuple[str, int]]:
        """The keys that begin so, in order, and the sizes of their objects in bytes."""


async def rebuild(store: BucketReader, catalog: Catalog, prefix: str) -> dict[str, Any]:
    """Take them in; returns what was found. Raises StorageUnavailable, and CatalogError.

    What is known is left alone. One that cannot be brought back is named in the log, and left alone too.
    """
    found = {"recordings": 0, "clips": 0, "failed": 0}
    back: list[str] = []
    for kind in ("recordings", "clips"):
        for folder in await _unknown(store, catalog, f"{prefix}/{kind}"):
            try:
                name = await _take_in(store, catalog, prefix, kind, folder)
            except (StorageUnavailable, CatalogError):
                raise
            except Exception as error:  # noqa: BLE001 - hostile text is met with whatever code happens to raise
                told = " ".join(str(error).split())[:300]
                logger.warning("%s/%r cannot be brought back: %s", kind, folder[:100], told)
                found["failed"] += 1
            else:
                found[kind] += name is not None
                back += [name] if name else []
    sizes: list[tuple[str, int]] = []
    if back:
        async for one in store.objects(f"{prefix}/", deadline=DEADLINE):
            sizes.append(one)
            if len(sizes) == BATCH:
                await catalog.note_sizes(sizes)
                sizes.clear()
    await catalog.note_sizes(sizes)
    await catalog.write_again(back)
    return found


async def _unknown(store: BucketReader, catalog: Catalog, base: str) -> list[str]:
    """The folders with the record of what the catalog does not know."""
    record = _record(base)
    keys = [
        key async for key, _ in store.objects(f"{base}/", deadline=DEADLINE) if key.endswith(f"/{record}")
    ]
    folders = [posixpath.dirname(key).removeprefix(f"{base}/") for key in keys]
    known = {one.id for one in (*await catalog.recordings.all(), *await catalog.recordings.bin())}
    known |= {one.id for one in (*await catalog.clips.all(), *await catalog.clips.bin())}
    return [one for one in folders if not ((match := FOLDER.fullmatch(one)) and match["id"] in known)]


def _record(base: str) -> str:
    return "recording.json" if base.endswith("/recordings") else "clip.json"


async def _take_in(store: BucketReader, catalog: Catalog, prefix: str, kind: str, folder: str) -> str | None:
    """Take in what is in the folder; returns its id, None where it was taken in meanwhile."""
    match = FOLDER.fullmatch(folder)
    if match is None:
        raise ValueError("this is no name of ours")
    base = f"{prefix}/{kind}"
    record = _record(base)
    keys, others = set[str](), Counter[str]()
    async for key, _ in store.objects(f"{base}/{match['id']}", deadline=DEADLINE):
        place = posixpath.dirname(key)
        if key.startswith(f"{base}/{folder}/"):
            keys.add(key)
        elif key.endswith(f"/{record}") and (twin := FOLDER.fullmatch(place.removeprefix(f"{base}/"))):
            others[twin["id"]] += 1
        if len(keys) > MOST_KEYS:
            raise ValueError("it has too many objects")
    if others[match["id"]]:
        raise ValueError("there are others with its id: delete those that are wrong")
    text = await store.get(f"{base}/{folder}/{record}", deadline=DEADLINE)
    if len(text) > LARGEST_RECORD:
        raise ValueError("its record is too large")
    parts = await _parts(store, f"{base}/{folder}", keys, prefix)
    if kind == "clips":
        return await _restore_clip(catalog, ClipRecord.model_validate_json(text), match, parts)
    told = RecordingRecord.model_validate_json(text)
    return await _restore_recording(catalog, told, match, base, parts)


async def _restore_recording(
    catalog: Catalog, told: RecordingRecord, folder: re.Match[str], base: str, parts: Parts
) -> str | None:
    if told.id != folder["id"]:
        raise ValueError(f"it says that it is {told.id}")
    end = max(one.time + one.duration for _, segments in parts for one in segments)
    now, secret = catalog.now(), folder["secret"]
    is_open = told.visibility is Visibility.UNLISTED and not secret  # unlisted by an older version
    recording = Recording(
        id=told.id,
        title=told.title,
        visibility=told.visibility,
        secret="" if is_open else secret or new_secret(),
        started=told.started,
        # It may have been on when the state was lost: it is over.
        ended=told.ended or end,
        # Nothing that comes back goes at once: the operator has a day to look at it.
        keep_until=told.keepUntil and max(told.keepUntil, now + BIN),
        duration=timedelta(seconds=told.duration),
        size=told.size,
        revision=1,
        file=_file(told, base),
        poster=bool(told.poster),
        thumbnails=bool(told.thumbnails),
        pictured=bool(told.ended and told.poster),
        deleted=told.deleted and now,
        bin=(secret or new_secret()) if told.deleted else "",
    )
    if not await catalog.recordings.take_in(recording, parts):
        return None
    logger.info("recording %s is back", recording.id)
    return recording.id


def _file(told: RecordingRecord, base: str) -> RecordingFile | None:
    if not (file := told.file):
        return None
    key = file_key(unquote(file.url), base, told.id)
    return RecordingFile(key, posixpath.relpath(key, base), file.size, file.type, 0, "")


async def _restore_clip(
    catalog: Catalog, told: ClipRecord, folder: re.Match[str], parts: Parts
) -> str | None:
    if told.id != folder["id"]:
        raise ValueError(f"it says that it is {told.id}")
    ((part, segments),) = parts
    if not all(told.begin - LONGEST_SEGMENT <= one.time <= told.end for one in segments):
        raise ValueError("it has segments of another time")
    now, there = catalog.now(), bool(told.poster)
    clip = Clip(
        told.id,
        told.title,
        told.made,
        told.begin,
        told.end,
        part.described,
        viewer=told.viewer,
        poster=there,
        pictured=there,
        keep_until=told.keepUntil and max(told.keepUntil, now + BIN),
        deleted=told.deleted and now,
        bin=(folder["secret"] or new_secret()) if told.deleted else "",
    )
    is_older = told.viewer and "keepUntil" not in told.model_fields_set
    if not await catalog.clips.take_in(clip, segments, is_older=is_older):
        return None
    logger.info("clip %s is back", clip.id)
    return clip.id


async def _parts(store: BucketReader, folder: str, keys: set[str], prefix: str) -> Parts:
    """All parts, in order, of what is in a folder with these keys."""
    found = (MAIN.fullmatch(key.removeprefix(f"{folder}/")) for key in keys)
    mains = {int(one["part"] or 1): one[0] for one in found if one}
    if not 1 <= len(mains) <= MOST_PARTS or set(mains) != set(range(1, len(mains) + 1)):
        raise ValueError("parts of it are missing")
    parts: Parts = []
    total = 0
    for _, main in sorted(mains.items()):
        parts.append(await _part(store, f"{folder}/{main}", keys, prefix))
        total += len(parts[-1][1])
        if total > MOST_IN_ALL:
            raise ValueError("it has too many segments")
    return parts


async def _part(
    store: BucketReader, main: str, keys: set[str], prefix: str
) -> tuple[Part, list[RecordingSegment]]:
    playlist = await _read(store, main)
    if not isinstance(playlist, MultivariantPlaylist):
        raise PlaylistError(f"{main} is no multivariant playlist")
    told = described(playlist, PLAYLIST)
    segments: list[RecordingSegment] = []
    for variant in sorted(told.uris):
        base = f"{posixpath.dirname(main)}/{variant}"
        media = await _read(store, f"{base}/{PLAYLIST}") if f"{base}/{PLAYLIST}" in keys else None
        if not isinstance(media, MediaPlaylist):
            raise PlaylistError(f"{base}/{PLAYLIST} is no media playlist")
        frames = f"{base}/{IFRAMES}"
        text = await _text(store, frames) if frames in keys else ""
        segments += _recorded(media, base, byte_ranges(text), prefix)
        if len(segments) > MOST_IN_ALL:
            raise ValueError("it has too many segments")
    return Part(0, "", told), sorted(segments, key=lambda one: (one.time, one.variant))


async def _read(store: BucketReader, key: str) -> MediaPlaylist | MultivariantPlaylist:
    text = await _text(store, key)
    return await asyncio.to_thread(parse, text)  # one of hours takes a while, and the stream is on


async def _text(store: BucketReader, key: str) -> str:
    body = await store.get(key, deadline=DEADLINE)
    if len(body) > LARGEST_PLAYLIST or body.count(b"#EXTINF") > MOST_SEGMENTS:
        raise ValueError(f"{key} is too long")
    return body.decode()


def _recorded(
    playlist: MediaPlaylist, folder: str, iframes: Mapping[str, ByteRange], prefix: str
) -> Iterator[RecordingSegment]:
    variant = posixpath.basename(folder)
    check = media_key(prefix, variant)
    there = {segment.uri for segment in playlist.segments if not segment.gap}
    discontinuity = playlist.discontinuity_sequence
    for segment in playlist.segments:
        discontinuity += segment.discontinuity
        # What stands for a run in which a variant brought nothing has the address of another one.
        if segment.program_date_time and not (segment.gap and segment.uri in there):
            yield RecordingSegment(
                position=0,
                variant=variant,
                key=check(_key(segment.uri, folder)),
                map_key=check(_key(segment.map_uri, folder)) if segment.map_uri else None,
                duration=segment.duration,
                time=segment.program_date_time,
                target_duration=playlist.target_duration,
                discontinuity=discontinuity,
                independent=playlist.independent_segments,
                gap=segment.gap,
                size=0,
                iframe=iframes.get(segment.uri),
            )


def _key(uri: str, folder: str) -> str:
    return posixpath.normpath(posixpath.join(folder, unquote(uri)))
