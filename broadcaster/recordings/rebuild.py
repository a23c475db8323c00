"""Restores recordings and clips from the bucket: after the catalog was lost, or another broadcaster has led.

Other programs may have written into the bucket. A pydantic model checks each document, with a range for every
value; a document that fails the check is skipped and reported.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import logging
import posixpath
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Annotated, Any
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

from broadcaster.bucket import ObjectStore
from broadcaster.bucket.conditional import folders_of, is_latest
from broadcaster.catalog import Catalog
from broadcaster.catalog.recordings import BIN, MOST_PARTS
from broadcaster.catalog.records import (
    ID,
    SECRET,
    Clip,
    Part,
    Recording,
    RecordingSegment,
    StoredFile,
    Visibility,
    new_secret,
)
from broadcaster.errors import CatalogError, PlaylistError, StorageUnavailable
from broadcaster.hls import MediaPlaylist, MultivariantPlaylist, Rendition, Variant, parse
from broadcaster.hls.parser import byte_ranges
from broadcaster.printable import clean_title
from broadcaster.recordings.writer import clip_details, recording_details
from broadcaster.source.owncast_names import VARIANT_NAME
from broadcaster.source.scanner import MEDIA_SUFFIXES
from broadcaster.stream.playlists import IFRAMES, PLAYLIST

YEARS = range(1970, 2200)  # of encoders, whose clocks may be wrong
LONGEST_RECORDING, LONGEST_CLIP = 10_000_000, timedelta(hours=2)  # seconds; longer than the recorder writes
LARGEST_RECORDING, LARGEST_FILE = 2**44, 5 * 2**40  # bytes
MOST_VARIANTS = 50
LONGEST_KEY = 1024  # bytes (S3)
FOLDERS = {"recordings", "clips", "files"}  # below the prefix, beside the encoder runs
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
    """A recording as one file; its URL is relative to the folder of all recordings."""

    url: Path
    size: int = Field(ge=0, le=LARGEST_FILE)
    type: Annotated[str, StringConstraints(pattern=r"^[a-z]{1,20}/[a-z0-9.+-]{1,60}\z")]


class _ViewRecord(_Model):
    id: Id
    title: Title
    keepUntil: Time | None = None  # noqa: N815 - JSON
    poster: Path | None = None
    deleted: Time | None = None


class RecordingRecord(_ViewRecord):
    """``recording.json``."""

    visibility: Visibility
    started: Time
    ended: Time | None
    duration: float = Field(ge=0, le=LONGEST_RECORDING)
    size: int = Field(ge=0, le=LARGEST_RECORDING)
    file: FileRecord | None = None
    thumbnails: list[Path] | None = None
    open: bool = False


class ClipRecord(_ViewRecord):
    """``clip.json``."""

    made: Time
    begin: Time
    end: Time
    viewer: bool = False

    @model_validator(mode="after")
    def _has_a_length(self) -> ClipRecord:
        if not timedelta() < self.end - self.begin <= LONGEST_CLIP:
            raise ValueError("a length out of range")
        return self


class _VariantRecord(_Model):
    uri: Name
    bandwidth: Bits
    average_bandwidth: Bits | None
    codecs: Attribute | None
    resolution: tuple[Pixels, Pixels] | None
    frame_rate: Annotated[float, Field(ge=0, le=1000)] | None
    audio: Attribute | None
    video_range: Attribute | None
    supplemental_codecs: Attribute | None
    closed_captions: Attribute | None


class _RenditionRecord(_Model):
    group_id: Attribute
    name: Attribute
    uri: Name | None
    language: Attribute | None
    default: bool
    autoselect: bool
    channels: Attribute | None
    instream_id: Attribute | None


class _MultivariantRecord(_Model):
    variants: Annotated[tuple[_VariantRecord, ...], Field(min_length=1, max_length=MOST_VARIANTS)]
    renditions: Annotated[tuple[_RenditionRecord, ...], Field(max_length=MOST_VARIANTS)]


def described(playlist: MultivariantPlaylist, playlist_name: str) -> MultivariantPlaylist:
    """The variants of a multivariant playlist, by the names of their folders; raises ValueError."""

    def name(uri: str) -> str:
        folder, _, last = uri.rpartition("/")
        if last != playlist_name:
            raise ValueError(f"{uri!r} is not a playlist of the recorder")
        return folder

    found = _MultivariantRecord.model_validate(playlist.renamed(name))
    variants = tuple(Variant(**variant.model_dump()) for variant in found.variants)
    renditions = tuple(Rendition(**rendition.model_dump()) for rendition in found.renditions)
    named = MultivariantPlaylist(variants, renditions=renditions)
    if FOLDERS & named.uris:
        raise ValueError("a variant has the name of a folder of the recorder")
    return named


def media_key(prefix: str, variant: str) -> Callable[[str], str]:
    """A function that checks keys of a variant's segments and maps, and raises ValueError.

    Below the ``prefix``, only media of an encoder run may be listed, because it may be deleted later.
    """

    def check(key: str) -> str:
        own = key.startswith(f"{prefix}/")
        parts = key.removeprefix(f"{prefix}/").split("/") if own else key.split("/")
        if len(key.encode()) > LONGEST_KEY or not key.isprintable() or not key.endswith(MEDIA_SUFFIXES):
            raise ValueError(f"{key[:100]!r} is not a media key")
        if {"", ".", ".."} & set(parts) or "\\" in key:
            raise ValueError(f"{key[:100]!r} is not a path")
        if own:
            run, *rest = parts
            # Another broadcaster's prefix may begin with this prefix. Only the name of a run is certain.
            is_certain = len(rest) == 2 or OWN_RUN.fullmatch(run) is not None  # noqa: PLR2004 - variant and name
            fits = RUN.fullmatch(run) and run not in FOLDERS and rest[:1] == [variant] and len(rest) > 1
            if not (fits and is_certain):
                raise ValueError(f"{key[:100]!r} is not a segment of this broadcaster")
        elif variant not in parts[1:-1]:
            raise ValueError(f"{key[:100]!r} is not a segment of this variant")
        return key

    return check


def file_key(address: str, folder: str, name: str) -> str:
    """The key of the file of the recording ``name``, whose address is relative to ``folder``.

    Raises ValueError.
    """
    key = posixpath.normpath(posixpath.join(folder, address))
    found = FILE_KEY.fullmatch(key)
    if not found or found["id"] != name or len(key.encode()) > LONGEST_KEY or not key.isprintable():
        raise ValueError(f"{key[:100]!r} is not a file of this recording")
    return key


logger = logging.getLogger(__name__)

DEADLINE = 30.0  # seconds for one request
LARGEST_RECORD, LARGEST_PLAYLIST = 2**20, 2**25  # bytes
BATCH, MOST_KEYS = 1000, 50_000  # objects: of a request, and of a recording
# Segments of a playlist, and of a recording: more than those of a day in every variant.
MOST_SEGMENTS, MOST_IN_ALL = 200_000, 1_000_000
LONGEST_SEGMENT = timedelta(seconds=600)
KINDS, OF_A_MINUTE = ("recordings", "clips"), 5  # recordings that may have begun in a minute
FOLDER = re.compile(rf"(?P<id>{ID})(-(?P<secret>{SECRET}))?")
MAIN = re.compile(r"(part-(?P<part>[1-9]\d{0,3})/)?playlist\.m3u8")
Parts = list[tuple[Part, list[RecordingSegment]]]


async def rebuild(store: ObjectStore, catalog: Catalog, prefix: str) -> dict[str, Any]:
    """Restore all recordings and clips that the catalog does not know; returns their numbers.

    A recording or clip that fails the checks is logged and skipped. Raises StorageUnavailable, CatalogError,
    and NotPossible while those of another broadcaster are being read.
    """
    catalog.check_not_behind()
    found, restored = {"recordings": 0, "clips": 0, "failed": 0}, list[str]()
    for kind in KINDS:
        folders = await _folders(store, f"{prefix}/{kind}")
        known = {view.id for view in await catalog.views()}
        for folder in (folder for folder in folders if _id(folder) not in known):
            name = await _try(kind, folder, _take_in(store, catalog, f"{prefix}/{kind}", folder))
            found[kind] += bool(name)
            found["failed"] += name is None
            restored += [name] if name else []
    if restored:
        await _note_sizes(store, catalog, prefix)
    await catalog.write_again(restored)
    return found


async def go_on(store: ObjectStore, catalog: Catalog, prefix: str) -> str | None:
    """Let the stream go on with the recording in the bucket that has not ended; returns its ID.

    The stream may have begun here: its recording then goes into that one. Raises StorageError, CatalogError.
    """
    if not catalog.recordings.goes_on:
        return None
    details = await _details(catalog)
    folders = sorted(await _folders(store, f"{prefix}/recordings"))  # IDs begin with the minute
    for folder in reversed(folders[-OF_A_MINUTE:]):
        how = _TakeOver(details.get(_id(folder)), goes_on=True)
        work = _take_in(store, catalog, f"{prefix}/recordings", folder, how)
        if name := await _try("recordings", folder, work):
            return name
    return None


async def catch_up(store: ObjectStore, catalog: Catalog, prefix: str) -> None:
    """Let recordings and clips be what they are in the bucket: another broadcaster has led meanwhile.

    What was never written there stays, and nothing is deleted. Recordings that have not ended are left to who
    leads, or end if that is this one. Raises StorageError and CatalogError.
    """
    details, there, is_new = await _details(catalog), set[str](), False
    for kind in KINDS:
        for folder in await _folders(store, f"{prefix}/{kind}"):
            name = _id(folder)
            there.add(name)
            if not name or name not in (catalog.recordings.on, catalog.recordings.joined):
                how = _TakeOver(details.get(name))
                is_new |= bool(
                    await _try(kind, folder, _take_in(store, catalog, f"{prefix}/{kind}", folder, how))
                )
    if is_new or catalog.recordings.joined:
        await _note_sizes(store, catalog, prefix)
    if len(catalog.prefixes(prefix)) == 1:  # else it may be below another one
        await catalog.recordings.forget_others(there)
        await catalog.clips.forget_others(there)


@dataclass(frozen=True, slots=True)
class _TakeOver:
    """The record that the catalog has of a recording or clip, and whether its stream goes on here."""

    details: dict[str, Any] | None = None
    goes_on: bool = False

    def leaves(self, found: dict[str, Any], *, leads: bool) -> bool:
        """Whether the catalog is left as it is, when this is the record in the bucket.

        A recording that has not ended is the leader's; who ``leads`` ends it, or goes on with it.
        """
        is_over = bool(found.get("ended", True))
        if self.goes_on:
            return is_over or "deleted" in found
        return self.details == found if is_over else not leads


async def _details(catalog: Catalog) -> dict[str, dict[str, Any]]:
    """The records of all recordings and clips, as they are in the catalog."""
    parts = await catalog.recordings.parts()
    views = await catalog.views()
    return {
        view.id: recording_details(view, parts[view.id])
        if isinstance(view, Recording)
        else clip_details(view)
        for view in views
    }


async def _try(kind: str, folder: str, work: Awaitable[str | None]) -> str | None:
    """The ID of what was restored; "" if it is known meanwhile, None if it failed the checks."""
    try:
        name = await work or ""
    except (StorageUnavailable, CatalogError):
        raise
    except Exception as error:  # noqa: BLE001 - a forged document may cause any exception
        message = " ".join(str(error).split())[:300]
        logger.warning("%s/%r cannot be restored: %s", kind, folder[:100], message)
        return None
    if name:
        logger.info("%s/%s is restored", kind, name)
    return name


async def _note_sizes(store: ObjectStore, catalog: Catalog, prefix: str) -> None:
    sizes: list[tuple[str, int]] = []
    async for entry in store.objects(f"{prefix}/", deadline=DEADLINE):
        sizes.append(entry)
        if len(sizes) == BATCH:
            await catalog.note_sizes(sizes)
            sizes.clear()
    await catalog.note_sizes(sizes)


async def _folders(store: ObjectStore, base: str) -> list[str]:
    """The folders of all recordings or clips."""
    record = f"/{_record_name(base)}"
    keys = [key async for key, _ in store.objects(f"{base}/", deadline=DEADLINE) if key.endswith(record)]
    return [posixpath.dirname(key).removeprefix(f"{base}/") for key in keys]


def _id(folder: str) -> str:
    match = FOLDER.fullmatch(folder)
    return match["id"] if match else ""


def _record_name(base: str) -> str:
    return "recording.json" if base.endswith("/recordings") else "clip.json"


async def _record(store: ObjectStore, folder: str) -> bytes:
    """The record of a recording or a clip; raises ValueError, StorageError."""
    text = await store.get(f"{folder}/{_record_name(posixpath.dirname(folder))}", deadline=DEADLINE)
    if len(text) > LARGEST_RECORD:
        raise ValueError("its record is too large")
    return text


async def _take_in(
    store: ObjectStore, catalog: Catalog, base: str, folder: str, how: _TakeOver | None = None
) -> str | None:
    """Restore the recording or clip in a folder; returns its ID, None if it is known meanwhile."""
    match = FOLDER.fullmatch(folder)
    if match is None:
        raise ValueError("this is not the name of a recording or clip")
    prefix, kind = posixpath.split(base)
    folders = await folders_of(store, f"{base}/{match['id']}", MOST_KEYS)
    keys = folders.pop(folder, set())
    record = _record_name(base)
    twins = [other for other, found in folders.items() if f"{base}/{other}/{record}" in found]
    if twins and not await is_latest(
        store, f"{base}/{folder}/{record}", [f"{base}/{other}/{record}" for other in twins]
    ):
        return None
    text = await _record(store, f"{base}/{folder}")
    is_known = how is not None and how.leaves(json.loads(text), leads=catalog.is_behind)
    if is_known and not (twins and catalog.is_behind):
        return None
    parts = await _parts(store, f"{base}/{folder}", keys, prefix)
    for other in twins:
        await _check_leftover(store, folders[other], parts)
    restored = None
    if not is_known and kind == "clips":
        clip = ClipRecord.model_validate_json(text)
        restored = await _restore_clip(catalog, clip, match, parts, how)
    elif not is_known:
        recording = RecordingRecord.model_validate_json(text)
        restored = await _restore_recording(catalog, recording, match, base, parts, how=how)
    if twins:  # the writer then deletes the others
        await catalog.write_again([match["id"]])
    return restored


async def _check_leftover(store: ObjectStore, keys: set[str], parts: Parts) -> None:
    """Check that playlists list nothing but what these parts have, so that they may go; raises ValueError."""
    wanted = {segment.key for _, segments in parts for segment in segments}
    for key in keys:
        playlist = await _read(store, key) if key.endswith(f"/{PLAYLIST}") else None
        listed = playlist.segments if isinstance(playlist, MediaPlaylist) else ()
        if any(_key(s.uri, posixpath.dirname(key)) not in wanted for s in listed if not s.gap):
            raise ValueError("another folder with the same ID lists other segments: delete the wrong folder")


async def _restore_recording(  # noqa: PLR0913 - what is known of it, and how
    catalog: Catalog,
    record: RecordingRecord,
    folder: re.Match[str],
    base: str,
    parts: Parts,
    *,
    how: _TakeOver | None,
) -> str | None:
    if record.id != folder["id"]:
        raise ValueError(f"its record has the ID {record.id}")
    end = max(segment.time + segment.duration for _, segments in parts for segment in segments)
    goes_on, secret = how is not None and how.goes_on, folder["secret"]
    if goes_on:  # the first segment here is of the next run (§6.2.4)
        parts = await asyncio.to_thread(_moved, parts, catalog.first.discontinuity)
    ends_here = how is not None and not record.ended and not goes_on
    is_open = record.visibility is Visibility.UNLISTED and not secret  # unlisted by an older version
    recording = Recording(
        id=record.id,
        title=record.title,
        visibility=record.visibility,
        secret="" if is_open else secret or new_secret(),
        started=record.started,
        # Its stream may have been on when the state was lost.
        ended=record.ended or (None if goes_on else end),
        keep_until=catalog.recordings.expiry if ends_here else _keep_until(catalog, record, how),
        duration=timedelta(seconds=record.duration),
        size=record.size,
        revision=1,
        file=_file(record, base),
        poster=bool(record.poster),
        thumbnails=bool(record.thumbnails),
        pictured=bool(record.ended and record.poster),
        opened=bool(how and record.open),
        deleted=_deleted(catalog, record, how),
        bin=(secret or new_secret()) if record.deleted else "",
    )
    is_new = await catalog.recordings.take_in(
        recording, parts, instead=bool(how and how.details), is_written=bool(how and record.ended)
    )
    return recording.id if is_new else None


def _moved(parts: Parts, last: int) -> Parts:
    """The parts with this last discontinuity number."""
    by = last - max(segment.discontinuity for _, segments in parts for segment in segments)
    return [
        (part, [replace(segment, discontinuity=segment.discontinuity + by) for segment in segments])
        for part, segments in parts
    ]


def _keep_until(catalog: Catalog, record: _ViewRecord, how: _TakeOver | None) -> datetime | None:
    """When it expires. The operator has a day at least to look at what was lost."""
    until = record.keepUntil
    return until if how or not until else max(until, catalog.now() + BIN)


def _deleted(catalog: Catalog, record: _ViewRecord, how: _TakeOver | None) -> datetime | None:
    return record.deleted if how or not record.deleted else catalog.now()


def _file(record: RecordingRecord, base: str) -> StoredFile | None:
    if not (file := record.file):
        return None
    key = file_key(unquote(file.url), base, record.id)
    return StoredFile(key, posixpath.relpath(key, base), file.size, file.type, 0, "")


async def _restore_clip(
    catalog: Catalog, record: ClipRecord, folder: re.Match[str], parts: Parts, how: _TakeOver | None
) -> str | None:
    if record.id != folder["id"]:
        raise ValueError(f"its record has the ID {record.id}")
    ((part, segments),) = parts
    if not all(record.begin - LONGEST_SEGMENT <= segment.time <= record.end for segment in segments):
        raise ValueError("it has segments of another time")
    has_poster = bool(record.poster)
    clip = Clip(
        record.id,
        record.title,
        record.made,
        record.begin,
        record.end,
        part.described,
        viewer=record.viewer,
        poster=has_poster,
        pictured=has_poster,
        keep_until=_keep_until(catalog, record, how),
        deleted=_deleted(catalog, record, how),
        bin=(folder["secret"] or new_secret()) if record.deleted else "",
    )
    is_older = record.viewer and "keepUntil" not in record.model_fields_set
    is_new = await catalog.clips.take_in(
        clip, segments, is_older=is_older, instead=bool(how and how.details), is_written=how is not None
    )
    return clip.id if is_new else None


async def _parts(store: ObjectStore, folder: str, keys: set[str], prefix: str) -> Parts:
    """The parts of the recording or clip with these keys in its folder, in order."""
    found = (MAIN.fullmatch(key.removeprefix(f"{folder}/")) for key in keys)
    mains = {int(match["part"] or 1): match[0] for match in found if match}
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
    store: ObjectStore, main: str, keys: set[str], prefix: str
) -> tuple[Part, list[RecordingSegment]]:
    playlist = await _read(store, main)
    if not isinstance(playlist, MultivariantPlaylist):
        raise PlaylistError(f"{main} is not a multivariant playlist")
    named = described(playlist, PLAYLIST)
    found = list[list[RecordingSegment]]()
    for variant in sorted(named.uris):
        base = f"{posixpath.dirname(main)}/{variant}"
        media = await _read(store, f"{base}/{PLAYLIST}") if f"{base}/{PLAYLIST}" in keys else None
        if not isinstance(media, MediaPlaylist):
            raise PlaylistError(f"{base}/{PLAYLIST} is not a media playlist")
        frames = f"{base}/{IFRAMES}"
        text = await _text(store, frames) if frames in keys else ""
        found.append(await asyncio.to_thread(_recorded, media, base, text, prefix))
        if sum(map(len, found)) > MOST_IN_ALL:
            raise ValueError("it has too many segments")
    # Times may go back where a broadcaster took over: the order of each playlist stays.
    return Part(0, "", named), await asyncio.to_thread(list, heapq.merge(*found, key=attrgetter("time")))


async def _read(store: ObjectStore, key: str) -> MediaPlaylist | MultivariantPlaylist:
    text = await _text(store, key)
    return await asyncio.to_thread(parse, text)


async def _text(store: ObjectStore, key: str) -> str:
    body = await store.get(key, deadline=DEADLINE)
    if len(body) > LARGEST_PLAYLIST or body.count(b"#EXTINF") > MOST_SEGMENTS:
        raise ValueError(f"{key} is too long")
    return body.decode()


def _recorded(playlist: MediaPlaylist, folder: str, iframes_text: str, prefix: str) -> list[RecordingSegment]:
    variant, iframes = posixpath.basename(folder), byte_ranges(iframes_text)
    found = list[RecordingSegment]()
    check = media_key(prefix, variant)
    there = {segment.uri for segment in playlist.segments if not segment.gap}
    discontinuity = playlist.discontinuity_sequence
    for segment in playlist.segments:
        discontinuity += segment.discontinuity
        # The gap of a run without segments of this variant has the URI of another segment.
        if segment.program_date_time and not (segment.gap and segment.uri in there):
            recorded = RecordingSegment(
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
            found.append(recorded)
    return found


def _key(uri: str, folder: str) -> str:
    return posixpath.normpath(posixpath.join(folder, unquote(uri)))
