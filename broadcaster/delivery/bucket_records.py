"""What is read back from the bucket, which others may have written: models with a range for every value.

Each model raises pydantic.ValidationError, a ValueError, for anything that we do not write ourselves.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated

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

from broadcaster.catalog.view_rows import ID
from broadcaster.catalog.views import Visibility
from broadcaster.hls import MultivariantPlaylist, Rendition, Variant
from broadcaster.ingest.folder import MEDIA_SUFFIXES
from broadcaster.ingest.names import VARIANT_NAME
from broadcaster.printable import clean_title

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
