"""What an operator can do with the file of a recording, by HTTP: each answers a JSON object."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from broadcaster.catalog.views import Recording
from broadcaster.operator.uploads import LARGEST, Uploads

Work = Callable[[Uploads, Recording, bytes], Awaitable[dict[str, Any]]]


class NewFile(BaseModel):
    """A file that is to be uploaded; ``size`` in bytes."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(max_length=255)]
    size: Annotated[int, Field(ge=1, le=LARGEST)]


class OnePart(BaseModel):
    """A part of the upload with this key."""

    model_config = ConfigDict(extra="forbid")

    key: str
    number: int


class Whole(BaseModel):
    """All parts of the upload with this key, as they were sent, add up to this ETag."""

    model_config = ConfigDict(extra="forbid")

    key: str
    etag: Annotated[str, Field(pattern=r"^[0-9a-f]{32}-\d{1,5}$")]


async def _status(uploads: Uploads, recording: Recording, _: bytes) -> dict[str, Any]:
    return await uploads.status(recording)


async def _begin(uploads: Uploads, recording: Recording, body: bytes) -> dict[str, Any]:
    wanted = NewFile.model_validate_json(body)
    return await uploads.begin(recording, wanted.name, wanted.size)


async def _part(uploads: Uploads, recording: Recording, body: bytes) -> dict[str, Any]:
    wanted = OnePart.model_validate_json(body)
    return {"url": await uploads.part_url(recording, wanted.key, wanted.number)}


async def _complete(uploads: Uploads, recording: Recording, body: bytes) -> dict[str, Any]:
    wanted = Whole.model_validate_json(body)
    return await uploads.complete(recording, wanted.key, wanted.etag)


async def _cancel(uploads: Uploads, recording: Recording, _: bytes) -> dict[str, Any]:
    await uploads.give_up(recording)
    return {}


FILE_ROUTES: tuple[tuple[str, str, Work], ...] = (
    ("GET", "file", _status),
    ("POST", "file/upload", _begin),
    ("DELETE", "file/upload", _cancel),
    ("POST", "file/upload/part", _part),
    ("POST", "file/upload/complete", _complete),
)
