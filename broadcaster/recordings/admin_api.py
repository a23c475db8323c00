"""HTTP API of the operator for recordings, their files, and clips.

Every request needs the operator's token. Every answer is a JSON object.
"""

from __future__ import annotations

import hmac
import posixpath
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import urljoin

from aiohttp import hdrs, web
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from broadcaster.catalog import Catalog
from broadcaster.catalog.recordings import BIN
from broadcaster.catalog.records import Clip, MultipartUpload, Part, Recording, Visibility, new_secret
from broadcaster.errors import BroadcasterError, NotPossible
from broadcaster.printable import clean_title
from broadcaster.recordings.file_uploads import LARGEST, Uploads
from broadcaster.recordings.writer import clip_details, recording_details


@dataclass(frozen=True, slots=True)
class RecordingsAdmin:
    """The parts of the service that the API uses.

    ``on_change`` is called after each change. ``sweep`` and ``rebuild`` read the bucket. ``newest`` gives the
    end of the newest segment as viewers see it; ``page`` the address of the live page, None if recordings
    have no pages.
    """

    token: str
    catalog: Catalog
    on_change: Callable[[], None]
    sweep: Callable[[bool], Awaitable[dict[str, Any]]]
    rebuild: Callable[[], Awaitable[dict[str, Any]]]
    newest: Callable[[], datetime | None]
    page: Callable[[], Awaitable[str | None]]
    uploads: Uploads
    folder: str | None = None  # the public URL of the folder of all recordings; None for a private bucket
    is_private: bool = False  # the event


Call = Callable[[RecordingsAdmin, web.Request], Awaitable[web.Response]]
SHORTEST, LONGEST = timedelta(seconds=5), timedelta(hours=1)  # clips
MAX_DAYS = 36_525

Title = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$"), AfterValidator(clean_title)]


class _RequestBody(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewFile(_RequestBody):
    """A file to upload; ``size`` is in bytes."""

    name: Annotated[str, Field(max_length=255)]
    size: Annotated[int, Field(ge=1, le=LARGEST)]


class PartRequest(_RequestBody):
    """The number of a part of the upload with this key."""

    key: str
    number: int


class Completion(_RequestBody):
    """The ETag of all parts together, of the upload with this key."""

    key: str
    etag: Annotated[str, Field(pattern=r"^[0-9a-f]{32}-\d{1,5}$")]


class RecordingChange(_RequestBody):
    """Changes of a recording; ``keepDays`` are from now, None is for ever. ``open``: to strangers."""

    title: Title | None = None
    visibility: Visibility | None = None
    open: bool | None = None
    keepDays: int | None = Field(default=None, ge=1, le=MAX_DAYS)  # noqa: N815 - JSON


class NewClip(_RequestBody):
    """A clip between two times as viewers see them, or of the ``last`` seconds of the stream."""

    begin: AwareDatetime | None = None
    end: AwareDatetime | None = None
    last: int | None = Field(default=None, ge=5, le=3600)
    title: Title = ""

    @model_validator(mode="after")
    def _has_one_range(self) -> NewClip:
        if (self.last is None) is (self.begin is None) or (self.begin is None) is not (self.end is None):
            raise ValueError("either last, or begin and end")
        return self


class ClipChange(_RequestBody):
    """Changes of a clip."""

    title: Title


def add_recordings(app: web.Application, admin: RecordingsAdmin) -> None:
    """Add the routes below ``/api/``. Errors are JSON; without the token the status is 401."""
    for method, path, call in (
        ("GET", "recordings", _list),
        ("POST", "recordings/sweep", _sweep),
        ("POST", "recordings/rebuild", _rebuild),
        ("GET", "recordings/{id}", _show),
        ("PATCH", "recordings/{id}", _change),
        ("DELETE", "recordings/{id}", _delete),
        ("GET", "recordings/{id}/file", _show_file),
        ("DELETE", "recordings/{id}/file", _delete_file),
        ("POST", "recordings/{id}/file/upload", _begin_upload),
        ("DELETE", "recordings/{id}/file/upload", _cancel_upload),
        ("POST", "recordings/{id}/file/upload/part", _part_url),
        ("POST", "recordings/{id}/file/upload/complete", _complete_upload),
        ("GET", "clips", _clips),
        ("POST", "clips", _make_clip),
        ("PATCH", "clips/{id}", _change_clip),
        ("DELETE", "clips/{id}", _delete_clip),
        ("GET", "bin", _bin),
        ("POST", "bin/{id}/restore", _restore),
        ("DELETE", "bin/{id}", _empty),
    ):
        app.router.add_route(method, f"/api/{path}", partial(authorized, call, admin))


def refusal(token: str, request: web.Request) -> web.Response | None:
    """The answer to a request without the token, which browsers send for no page of another site."""
    given = request.headers.get(hdrs.AUTHORIZATION, "").encode(errors="surrogateescape")
    if hmac.compare_digest(given, f"Bearer {token}".encode()):
        return None
    return web.json_response(
        {"error": "the operator's token is needed"}, status=401, headers={hdrs.WWW_AUTHENTICATE: "Bearer"}
    )


async def authorized(call: Call, admin: RecordingsAdmin, request: web.Request) -> web.Response:
    """Answer a request with the token."""
    if answer := refusal(admin.token, request):
        return answer
    try:
        return await call(admin, request)
    except ValidationError as error:
        where = ", ".join(".".join(map(str, fault["loc"])) or "the body" for fault in error.errors())
        return web.json_response({"error": f"{where} makes no sense"}, status=400)
    except BroadcasterError as error:
        return web.json_response({"error": str(error)}, status=error.status)


async def _list(admin: RecordingsAdmin, _: web.Request) -> web.Response:
    page, parts = await admin.page(), await admin.catalog.recordings.parts()
    recordings = await admin.catalog.recordings.all()
    found = [_with_address(admin, page, view, parts.get(view.id, [])) for view in recordings]
    return _json({"recordings": found})


async def _show(admin: RecordingsAdmin, request: web.Request) -> web.Response:
    recording = await _recording(admin, request)
    parts = await admin.catalog.recordings.parts()
    return _json(_with_address(admin, await admin.page(), recording, parts[recording.id]))


async def _change(admin: RecordingsAdmin, request: web.Request) -> web.Response:
    """Change the title, visibility or keeping time of a recording, or open it."""
    recording = await _recording(admin, request)
    change = RecordingChange.model_validate_json(await request.read())
    values: dict[str, str | int | None] = {}
    if change.title is not None:
        values |= {"title": change.title, "titled": bool(change.title)}
    # The same visibility keeps the address, unless the address can be guessed.
    if change.visibility is not None and (
        change.visibility is not recording.visibility or not recording.secret
    ):
        values |= {"visibility": change.visibility, "secret": new_secret()}
    if change.open is not None:
        if not admin.is_private:
            raise NotPossible("the event is public: who has its address can watch it")
        values |= {"opened": change.open}
    keeps = "keepDays" in change.model_fields_set
    if keeps:
        _check_is_over(recording)
        await admin.catalog.recordings.keep(recording.id, change.keepDays)
    if values:
        await admin.catalog.recordings.change(recording.id, **values)
    if values or keeps:
        admin.on_change()
    return await _show(admin, request)


async def _delete(admin: RecordingsAdmin, request: web.Request) -> web.Response:
    """Move a recording into the bin, or with ``now=1``, delete it for good."""
    recording = await _recording(admin, request)
    _check_is_over(recording)
    await admin.catalog.recordings.delete(recording.id, at_once=_is_now(request))
    return _changed(admin)


async def _sweep(admin: RecordingsAdmin, request: web.Request) -> web.Response:
    return _json(await admin.sweep(request.query.get("dry-run") == "1"))


async def _rebuild(admin: RecordingsAdmin, _: web.Request) -> web.Response:
    found = await admin.rebuild()
    admin.on_change()
    return _json(found)


async def _show_file(admin: RecordingsAdmin, request: web.Request) -> web.Response:
    return _json(await admin.uploads.status(await _recording(admin, request)))


async def _delete_file(admin: RecordingsAdmin, request: web.Request) -> web.Response:
    await admin.uploads.delete(await _recording(admin, request), at_once=_is_now(request))
    return _json({})


async def _begin_upload(admin: RecordingsAdmin, request: web.Request) -> web.Response:
    recording, file = await _recording(admin, request), NewFile.model_validate_json(await request.read())
    return _json(await admin.uploads.begin(recording, file.name, file.size))


async def _cancel_upload(admin: RecordingsAdmin, request: web.Request) -> web.Response:
    await admin.uploads.cancel(await _recording(admin, request))
    return _json({})


async def _part_url(admin: RecordingsAdmin, request: web.Request) -> web.Response:
    recording, part = await _recording(admin, request), PartRequest.model_validate_json(await request.read())
    return _json({"url": await admin.uploads.part_url(recording, part.key, part.number)})


async def _complete_upload(admin: RecordingsAdmin, request: web.Request) -> web.Response:
    recording, whole = await _recording(admin, request), Completion.model_validate_json(await request.read())
    return _json(await admin.uploads.complete(recording, whole.key, whole.etag))


async def _clips(admin: RecordingsAdmin, _: web.Request) -> web.Response:
    page, clips = await admin.page(), await admin.catalog.clips.all()
    return _json({"clips": [_clip_with_address(admin, page, clip) for clip in clips]})


async def _make_clip(admin: RecordingsAdmin, request: web.Request) -> web.Response:
    wanted = NewClip.model_validate_json(await request.read())
    end = wanted.end or admin.newest()
    if end is None:
        raise NotPossible("there was no stream yet")
    begin = wanted.begin or end - timedelta(seconds=wanted.last or 0)
    if not SHORTEST <= end - begin <= LONGEST:
        raise NotPossible("a clip lasts from 5 seconds to an hour")
    clip = await admin.catalog.clips.make(wanted.title, begin, end)
    admin.on_change()
    return _json(_clip_with_address(admin, await admin.page(), clip), HTTPStatus.CREATED)


async def _change_clip(admin: RecordingsAdmin, request: web.Request) -> web.Response:
    clip, change = await _clip(admin, request), ClipChange.model_validate_json(await request.read())
    await admin.catalog.clips.rename(clip.id, change.title)
    admin.on_change()
    return _json(_clip_with_address(admin, await admin.page(), await _clip(admin, request)))


async def _delete_clip(admin: RecordingsAdmin, request: web.Request) -> web.Response:
    clip = await _clip(admin, request)
    await admin.catalog.clips.delete(clip.id, at_once=_is_now(request))
    return _changed(admin)


async def _bin(admin: RecordingsAdmin, _: web.Request) -> web.Response:
    """List the bin, with the time at which each entry is deleted for good."""
    catalog, parts = admin.catalog, await admin.catalog.recordings.parts()
    recordings = [
        recording_details(view, parts.get(view.id, [])) | _until(view)
        for view in await catalog.recordings.bin()
    ]
    clips = [clip_details(clip) | _until(clip) for clip in await catalog.clips.bin()]
    files = [
        {"id": _file_id(file), "recording": file.recording, "size": file.size, "type": file.type}
        | _until(file)
        for file in await catalog.files.bin()
    ]
    return _json({"recordings": recordings, "clips": clips, "files": files})


async def _restore(admin: RecordingsAdmin, request: web.Request) -> web.Response:
    restore, _ = await _binned(admin, request)
    await restore()
    return _changed(admin)


async def _empty(admin: RecordingsAdmin, request: web.Request) -> web.Response:
    _, delete = await _binned(admin, request)
    await delete()
    return _changed(admin)


Work = Callable[[], Awaitable[None]]


async def _binned(admin: RecordingsAdmin, request: web.Request) -> tuple[Work, Work]:
    """Functions that restore an entry of the bin, and that delete it for good."""
    catalog, name = admin.catalog, request.match_info["id"]
    for table in (catalog.recordings, catalog.clips):
        if name in {view.id for view in await table.bin()}:
            return partial(table.restore, name), partial(table.delete, name, at_once=True)
    for file in await catalog.files.bin():
        if name == _file_id(file):
            return partial(catalog.files.restore, file), partial(catalog.files.empty, file)
    raise web.HTTPNotFound


async def _recording(admin: RecordingsAdmin, request: web.Request) -> Recording:
    """The recording by its ID, or by the folder in its page's address."""
    for recording in await admin.catalog.recordings.all():
        if request.match_info["id"] in (recording.id, recording.folder):
            return recording
    raise web.HTTPNotFound


async def _clip(admin: RecordingsAdmin, request: web.Request) -> Clip:
    for clip in await admin.catalog.clips.all():
        if request.match_info["id"] == clip.id:
            return clip
    raise web.HTTPNotFound


def _is_now(request: web.Request) -> bool:
    return request.query.get("now") == "1"


def _changed(admin: RecordingsAdmin) -> web.Response:
    admin.on_change()
    return web.Response(status=HTTPStatus.ACCEPTED)


def _file_id(file: MultipartUpload) -> str:
    return posixpath.basename(file.key)


def _until(entry: Recording | Clip | MultipartUpload) -> dict[str, str]:
    """Since when it is in the bin, and when it is deleted for good."""
    since = entry.deleted
    return {"deleted": since.isoformat(), "goes": (since + BIN).isoformat()} if since else {}


def _with_address(
    admin: RecordingsAdmin, page: str | None, recording: Recording, parts: Sequence[Part]
) -> dict[str, Any]:
    page = page and urljoin(page, f"/watch/{recording.folder}")
    is_hidden = recording.visibility is Visibility.HIDDEN
    details = recording_details(recording, parts) | {"open": recording.opened if admin.is_private else None}
    return _addressed(admin, details, None if is_hidden else page)


def _addressed(admin: RecordingsAdmin, details: dict[str, Any], page: str | None) -> dict[str, Any]:
    """The details, with the address of the page, else of the playlist."""
    playlist = urljoin(admin.folder, details["playlist"]) if admin.folder else None
    return details | {"address": page or playlist}


def _clip_with_address(admin: RecordingsAdmin, page: str | None, clip: Clip) -> dict[str, Any]:
    return _addressed(admin, clip_details(clip), page and urljoin(page, f"/c/{clip.id}"))


def _check_is_over(recording: Recording) -> None:
    if recording.ended is None:
        raise NotPossible("its stream is still on")


def _json(body: dict[str, Any], status: int = HTTPStatus.OK) -> web.Response:
    return web.json_response(body, status=status, headers={hdrs.CACHE_CONTROL: "no-store"})
