"""Brings recordings and clips back that the bucket has and the catalog has not: its state folder was lost."""

from __future__ import annotations

import asyncio
import json
import logging
import posixpath
import re
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol
from urllib.parse import unquote

from broadcaster.catalog import Catalog
from broadcaster.catalog.restore import note_sizes, restore_clip, restore_recording, write_anew
from broadcaster.catalog.views import Clip, File, Part, Recorded, Recording, Visibility
from broadcaster.errors import PlaylistError
from broadcaster.hls import ByteRange, MediaPlaylist, MultivariantPlaylist, parse
from broadcaster.hls.parsing import byte_ranges
from broadcaster.live.attributes import IFRAMES, PLAYLIST
from broadcaster.printable import clean_title

logger = logging.getLogger(__name__)

DEADLINE = 30.0  # seconds for one request
BATCH = 1000  # objects
MAIN = re.compile(r"(part-(?P<part>\d+)/)?playlist\.m3u8")


class BucketReader(Protocol):
    """Who looks into the bucket. Everything raises StorageError; deadlines are in seconds."""

    async def get(self, key: str, *, deadline: float) -> bytes:
        """An object."""

    def objects(self, prefix: str, *, deadline: float) -> AsyncIterator[tuple[str, int]]:
        """The keys that begin so, in order, and the sizes of their objects in bytes."""


async def rebuild(store: BucketReader, catalog: Catalog, prefix: str) -> dict[str, Any]:
    """Take them in; returns what was found. Raises StorageError, and CatalogError.

    What is known is left alone. One whose playlists cannot be read is named in the log, and left alone too.
    """
    found = {"recordings": 0, "clips": 0, "failed": 0}
    back: list[str] = []
    known = {one.id for one in await catalog.recordings.all()} | {one.id for one in await catalog.clips.all()}
    for kind, name in (("recordings", "recording.json"), ("clips", "clip.json")):
        heads = [key async for key, _ in store.objects(f"{prefix}/{kind}/", deadline=DEADLINE)]
        for head in (key for key in heads if posixpath.basename(key) == name):
            folder = posixpath.dirname(head)
            try:
                told = json.loads(await store.get(head, deadline=DEADLINE))
                if _id(told, posixpath.basename(folder)) in known:
                    continue
                mains = [key for key in heads if MAIN.fullmatch(key.removeprefix(f"{folder}/"))]
                parts = [await _part(store, key, heads) for key in sorted(mains, key=_part_number)]
                if kind == "clips":
                    is_new = await _restore_clip(catalog, told, *parts[0])
                else:
                    is_new = await _restore_recording(catalog, told, folder, parts)
            except (LookupError, ValueError, TypeError, PlaylistError) as error:
                logger.warning("%s cannot be brought back: %s", folder, error)
                found["failed"] += 1
            else:
                found[kind] += is_new
                back += [told["id"]] if is_new else []
    sizes: list[tuple[str, int]] = []
    if back:
        async for one in store.objects(f"{prefix}/", deadline=DEADLINE):
            sizes.append(one)
            if len(sizes) == BATCH:
                await note_sizes(catalog, sizes)
                sizes.clear()
    await note_sizes(catalog, sizes)
    await write_anew(catalog, back)
    return found


def _id(told: dict[str, Any], folder: str) -> str:
    """Its id; raises ValueError where the folder is another one's, of which all could be deleted with it."""
    name = str(told["id"])
    if not re.fullmatch(rf"{re.escape(name)}(-\w+)?", folder):
        raise ValueError(f"{name!r} is another one")
    return name


async def _restore_recording(
    catalog: Catalog, told: dict[str, Any], place: str, parts: list[tuple[Part, list[Recorded]]]
) -> bool:
    recordings, folder = posixpath.split(place)
    end = max(one.time + one.duration for _, segments in parts for one in segments)
    visibility = Visibility(told["visibility"])
    recording = Recording(
        id=told["id"],
        title=clean_title(str(told["title"])),
        visibility=visibility,
        secret=folder.rpartition("-")[2] if visibility is Visibility.HIDDEN else secrets.token_hex(8),
        started=datetime.fromisoformat(told["started"]),
        # It may have been on when the state was lost: it is over.
        ended=datetime.fromisoformat(told["ended"]) if told["ended"] else end,
        keep_until=datetime.fromisoformat(told["keepUntil"]) if told["keepUntil"] else None,
        duration=timedelta(seconds=told["duration"]),
        size=told["size"],
        revision=1,
        file=_file(told, recordings),
        poster=bool(told.get("poster")),
        thumbnails=bool(told.get("thumbnails")),
        pictured=bool(told["ended"] and told.get("poster")),
    )
    if is_new := await restore_recording(catalog, recording, parts):
        logger.info("recording %s is back", recording.id)
    return is_new


def _file(told: dict[str, Any], recordings: str) -> File | None:
    if not (file := told.get("file")):
        return None
    return File(_key(file["url"], recordings), file["url"], file["size"], str(file["type"]), 0, "")


async def _restore_clip(catalog: Catalog, told: dict[str, Any], part: Part, segments: list[Recorded]) -> bool:
    made, begin, end = (datetime.fromisoformat(told[name]) for name in ("made", "begin", "end"))
    there = bool(told.get("poster"))
    clip = Clip(
        told["id"],
        clean_title(str(told["title"])),
        made,
        begin,
        end,
        part.described,
        viewer=told.get("viewer") is True,
        poster=there,
        pictured=there,
    )
    if is_new := await restore_clip(catalog, clip, segments):
        logger.info("clip %s is back", clip.id)
    return is_new


async def _part(store: BucketReader, main: str, there: Sequence[str]) -> tuple[Part, list[Recorded]]:
    playlist = await _read(store, main)
    if not isinstance(playlist, MultivariantPlaylist):
        raise PlaylistError(f"{main} is no multivariant playlist")
    segments: list[Recorded] = []
    for uri in playlist.uris:
        key = posixpath.join(posixpath.dirname(main), uri)
        media = await _read(store, key)
        if not isinstance(media, MediaPlaylist):
            raise PlaylistError(f"{key} is no media playlist")
        frames = f"{key.removesuffix(PLAYLIST)}{IFRAMES}"
        text = (await store.get(frames, deadline=DEADLINE)).decode() if frames in there else ""
        segments += _recorded(media, posixpath.dirname(key), byte_ranges(text))
    described = playlist.renamed(posixpath.dirname)
    return Part(0, "", described), sorted(segments, key=lambda one: (one.time, one.variant))


async def _read(store: BucketReader, key: str) -> MediaPlaylist | MultivariantPlaylist:
    text = (await store.get(key, deadline=DEADLINE)).decode()
    return await asyncio.to_thread(parse, text)  # one of hours takes a while, and the stream is on


def _recorded(playlist: MediaPlaylist, folder: str, iframes: Mapping[str, ByteRange]) -> Iterator[Recorded]:
    there = {segment.uri for segment in playlist.segments if not segment.gap}
    discontinuity = playlist.discontinuity_sequence
    for segment in playlist.segments:
        discontinuity += segment.discontinuity
        # What stands for a run in which a variant brought nothing has the address of another one.
        if segment.program_date_time and not (segment.gap and segment.uri in there):
            yield Recorded(
                position=0,
                variant=posixpath.basename(folder),
                key=_key(segment.uri, folder),
                map_key=_key(segment.map_uri, folder) if segment.map_uri else None,
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


def _part_number(key: str) -> int:
    match = MAIN.search(key)
    return int(match["part"] or 1) if match else 1
