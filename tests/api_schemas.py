"""Writes docs/openapi.json, of the operator's API, and docs/events.schema.json, of ``/live/events``.

Requests are described by the models that the service reads them with, answers by the models below: tests hold
the answers of the service against what is written. ``make docs`` runs it.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal

from jsonschema import Draft202012Validator
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema

from broadcaster import __version__
from broadcaster.admin.app import NewDoors, NewInvitation, NewPassphrase
from broadcaster.catalog.records import Visibility
from broadcaster.recordings.admin_api import (
    ClipChange,
    Completion,
    NewClip,
    NewFile,
    PartRequest,
    RecordingChange,
)

ROOT = Path(__file__).resolve().parents[1]
OPENAPI, EVENTS = ROOT / "docs/openapi.json", ROOT / "docs/events.schema.json"
DIALECT = "https://json-schema.org/draft/2020-12/schema"


class Answer(BaseModel):
    """What the service answers has these fields and no others."""

    model_config = ConfigDict(extra="forbid")


class Fault(Answer):
    """Why a request was refused."""

    error: str


class Variant(Answer):
    """A variant of a recording."""

    name: str
    resolution: str | None


class File(Answer):
    """A recording's file to download; ``url`` is relative to the folder of recordings."""

    url: str
    size: int
    type: str


class StoredFile(File):
    """The same, with what a file on a disk is compared with."""

    etag: str
    partSize: int  # noqa: N815 - JSON


class BinnedRecording(Answer):
    """A recording; ``playlist``, ``parts`` and ``poster`` are relative to the folder of recordings."""

    id: str
    title: str
    started: datetime
    ended: datetime | None
    duration: float = Field(description="seconds")
    size: int = Field(description="bytes")
    variants: list[Variant]
    playlist: str
    parts: list[str]
    poster: str | None
    thumbnails: list[str] | None = None
    file: File | None
    visibility: Visibility
    keepUntil: datetime | None  # noqa: N815 - JSON
    deleted: datetime | None = Field(default=None, description="since when it is in the bin")
    goes: datetime | None = Field(default=None, description="when it is deleted for good")


class Recording(BinnedRecording):
    """A recording, and the address at which it is watched."""

    address: str | None
    open: bool | None = Field(description="of a private event: whether strangers can watch it")


class BinnedClip(Answer):
    """A clip; ``playlist`` and ``poster`` are relative to the folder of recordings."""

    id: str
    title: str
    made: datetime
    begin: datetime
    end: datetime
    viewer: bool = Field(description="whether a viewer made it")
    keepUntil: datetime | None  # noqa: N815 - JSON
    playlist: str
    poster: str | None
    deleted: datetime | None = Field(default=None, description="since when it is in the bin")
    goes: datetime | None = Field(default=None, description="when it is deleted for good")


class Clip(BinnedClip):
    """A clip, and the address at which it is watched."""

    address: str | None


class BinnedFile(Answer):
    """A recording's file in the bin."""

    id: str
    recording: str
    size: int
    type: str
    deleted: datetime
    goes: datetime


class RecordingList(Answer):
    """All recordings but those in the bin, newest first."""

    recordings: list[Recording]


class ClipList(Answer):
    """All clips but those in the bin."""

    clips: list[Clip]


class Bin(Answer):
    """What was deleted and can be restored."""

    recordings: list[BinnedRecording]
    clips: list[BinnedClip]
    files: list[BinnedFile]


class Upload(Answer):
    """An upload that is not finished: ``parts`` has the MD5 of each part that the bucket has."""

    key: str
    size: int
    partSize: int  # noqa: N815 - JSON
    parts: dict[str, str]


class FileStatus(Answer):
    """A recording's file, and the upload of another one."""

    file: StoredFile | None
    upload: Upload | None


class PartUrl(Answer):
    """Where a part is PUT."""

    url: str


class CompletedFile(Answer):
    """Size, type and ETag of a file whose upload has been completed."""

    size: int
    type: str
    etag: str


class Completed(Answer):
    """The recording's file."""

    file: StoredFile | CompletedFile


class Nothing(Answer):
    """An empty object."""


class Swept(Answer):
    """Objects that nothing uses; ``keys`` are the first of them."""

    objects: int
    bytes: int
    uploads: int
    deleted: bool
    keys: list[str]


class Access(Answer):
    """Who may watch; ``passphrase``: whether one is set."""

    access: Literal["public", "passphrase", "invitation"]
    passphrase: bool
    doors: Literal["open", "closed"]
    opens: datetime | None = Field(description="when the doors open by themselves")


class Invitation(Answer):
    """An invitation; ``opened``: how often its link was opened, ``watching``: pages that watch now."""

    id: str
    name: str
    created: datetime
    until: datetime
    crew: bool
    opened: int
    watching: int
    path: str
    link: str


class InvitationList(Answer):
    """All invitations, the oldest first."""

    invitations: list[Invitation]


class InvitationCard(Invitation):
    """An invitation with its link as a QR code (``svg``, and ``png`` in Base64), and a calendar's entry."""

    svg: str
    png: str
    ics: str | None = Field(description="null without a startsAt in the page's config.json")


class Rebuilt(Answer):
    """How many were restored from the bucket, and how many could not be read."""

    recordings: int
    clips: int
    failed: int


# Method and path, the model of the request's body, the status and the model of the answer, and what it does.
OPERATIONS: tuple[tuple[str, str, type[BaseModel] | None, int, type[BaseModel] | None, str], ...] = (
    ("post", "/api/lead", None, 202, Nothing, "Ask for the lead, of a broadcaster that stands by"),
    ("get", "/api/recordings", None, 200, RecordingList, "List the recordings"),
    ("get", "/api/recordings/{id}", None, 200, Recording, "Show a recording"),
    (
        "patch",
        "/api/recordings/{id}",
        RecordingChange,
        200,
        Recording,
        "Change title, visibility or time to keep, or open it to strangers",
    ),
    ("delete", "/api/recordings/{id}", None, 202, None, "Move a recording to the bin"),
    ("get", "/api/recordings/{id}/file", None, 200, FileStatus, "Show a recording's file"),
    ("delete", "/api/recordings/{id}/file", None, 200, Nothing, "Move a recording's file to the bin"),
    ("post", "/api/recordings/{id}/file/upload", NewFile, 200, Upload, "Begin or resume an upload"),
    ("delete", "/api/recordings/{id}/file/upload", None, 200, Nothing, "Give an upload up"),
    ("post", "/api/recordings/{id}/file/upload/part", PartRequest, 200, PartUrl, "Get a part's signed URL"),
    ("post", "/api/recordings/{id}/file/upload/complete", Completion, 200, Completed, "Complete an upload"),
    ("post", "/api/recordings/sweep", None, 200, Swept, "Delete objects that nothing uses"),
    ("post", "/api/recordings/rebuild", None, 200, Rebuilt, "Restore recordings from the bucket"),
    ("get", "/api/clips", None, 200, ClipList, "List the clips"),
    ("post", "/api/clips", NewClip, 201, Clip, "Make a clip"),
    ("patch", "/api/clips/{id}", ClipChange, 200, Clip, "Change the title of a clip"),
    ("delete", "/api/clips/{id}", None, 202, None, "Move a clip to the bin"),
    ("get", "/api/access", None, 200, Access, "Show who may watch"),
    ("put", "/api/access/passphrase", NewPassphrase, 200, Nothing, "Set the passphrase of a private event"),
    ("put", "/api/access/doors", NewDoors, 200, Nothing, "Open or close the doors of a private event"),
    ("get", "/api/access/invitations", None, 200, InvitationList, "List the invitations"),
    ("post", "/api/access/invitations", NewInvitation, 201, Invitation, "Invite a guest, or all guests"),
    ("get", "/api/access/invitations/{id}", None, 200, InvitationCard, "Show an invitation with its QR code"),
    ("delete", "/api/access/invitations/{id}", None, 200, Nothing, "Revoke an invitation"),
    ("get", "/api/bin", None, 200, Bin, "List what is in the bin"),
    ("post", "/api/bin/{id}/restore", None, 202, None, "Take something out of the bin"),
    ("delete", "/api/bin/{id}", None, 202, None, "Delete something in the bin for good"),
)
QUERIES = {
    ("delete", "/api/recordings/{id}"): ("now", "delete for good"),
    ("delete", "/api/recordings/{id}/file"): ("now", "delete for good"),
    ("delete", "/api/clips/{id}"): ("now", "delete for good"),
    ("post", "/api/recordings/sweep"): ("dry-run", "delete nothing, and say what would be deleted"),
}
FAULTS = {
    400: "the body makes no sense",
    401: "the operator's token is missing or wrong",
    409: "not possible as things are",
    500: "a fault of the service",
    503: "the bucket did not do it",
}
MISSING = 404


class ListedSegment(Answer):
    """``segment``: a segment is listed. Times are milliseconds since the epoch."""

    variant: str
    sequence: int
    run: str
    url: str | None = Field(description="null for a gap that was never stored")
    mapUrl: str | None  # noqa: N815 - JSON
    duration: float = Field(description="seconds")
    programDateTime: float | None  # noqa: N815 - JSON
    encoderOffset: float | None = Field(description="milliseconds of the encoder's clock before ours")  # noqa: N815
    size: int | None
    sha256: str | None
    gap: bool
    noticed: float | None
    uploaded: float | None
    published: float | None


Trouble = Literal["encoder", "delivery"]


class StreamState(Answer):
    """``state``: how everything stands, for a page that has just connected."""

    state: Literal["offline", "starting", "live", "ended"]
    goingOn: bool  # noqa: N815 - JSON
    trouble: Trouble | None
    viewers: int
    run: str | None
    targetDuration: int | None  # noqa: N815 - JSON
    now: float
    segments: list[ListedSegment]


class Starting(Answer):
    """``starting``: the first segments have come."""

    now: float


class Started(Answer):
    """``started``: the playlists are there."""

    run: str
    variants: list[str]
    targetDuration: int  # noqa: N815 - JSON
    now: float


class Ended(Answer):
    """``ended``: the playlists have ended; ``goingOn`` when new ones follow at once."""

    now: float
    goingOn: bool  # noqa: N815 - JSON


class TroubleChanged(Answer):
    """``trouble``: what keeps the stream from viewers has changed."""

    now: float
    trouble: Trouble | None


class ViewersChanged(Answer):
    """``viewers``: how many watch."""

    viewers: int


class Reports(Answer):
    """``reports``: the share of pages that report how they watch, and the seconds between two reports."""

    share: float
    every: float


class Time(Answer):
    """``time``: the service's clock, when nothing else is sent."""

    now: float


MESSAGES: dict[str, type[BaseModel]] = {
    "state": StreamState,
    "starting": Starting,
    "started": Started,
    "segment": ListedSegment,
    "ended": Ended,
    "trouble": TroubleChanged,
    "viewers": ViewersChanged,
    "reports": Reports,
    "time": Time,
}


def openapi() -> dict[str, Any]:
    """The description of the operator's API (OpenAPI 3.1)."""
    requests = {operation[2] for operation in OPERATIONS if operation[2]}
    answers = {operation[4] for operation in OPERATIONS if operation[4]} | {Fault}
    modes = [(model, "validation") for model in sorted(requests, key=lambda model: model.__name__)]
    modes += [(model, "validation") for model in sorted(answers, key=lambda model: model.__name__)]
    _, schemas = models_json_schema(modes, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
    paths: dict[str, Any] = {}
    for method, path, request, status, answer, summary in OPERATIONS:
        operation: dict[str, Any] = {"summary": summary, "responses": {}}
        parameters = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in re.findall(r"\{(\w+)\}", path)
        ]
        if query := QUERIES.get((method, path)):
            schema = {"type": "string", "enum": ["1"]}
            parameters.append({"name": query[0], "in": "query", "description": query[1], "schema": schema})
        if parameters:
            operation["parameters"] = parameters
        if request:
            operation["requestBody"] = {"required": True, "content": _content(request)}
        body = {"content": _content(answer)} if answer else {}
        operation["responses"][str(status)] = {"description": "done", **body}
        for fault in (*FAULTS, *([MISSING] if "{id}" in path else [])):
            operation["responses"][str(fault)] = {"$ref": f"#/components/responses/{fault}"}
        paths.setdefault(path, {})[method] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "broadcaster: the operator's API", "version": __version__},
        "servers": [{"url": "http://127.0.0.1:3001"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas["$defs"],
            "responses": {
                str(MISSING): {"description": "there is nothing with this id"},
                **{str(status): _fault(text) for status, text in FAULTS.items()},
            },
        },
    }


def events() -> dict[str, Any]:
    """The JSON schema of an event: its name, and its data."""
    _, schemas = models_json_schema([(message, "validation") for message in MESSAGES.values()])
    return {
        "$schema": DIALECT,
        "title": "Events of /live/events",
        "description": "event is the name of a server-sent event, data its JSON.",
        "oneOf": [
            {
                "type": "object",
                "required": ["event", "data"],
                "properties": {"event": {"const": name}, "data": {"$ref": f"#/$defs/{model.__name__}"}},
            }
            for name, model in MESSAGES.items()
        ],
        "$defs": schemas["$defs"],
    }


def check_event(name: str, data: object) -> None:
    """Raise ValidationError unless the written schema has such an event."""
    _validator().validate({"event": name, "data": data})


def check_answer(method: str, path: str, status: int, body: object) -> None:
    """Raise ValidationError, or AssertionError, unless the written description has such an answer."""
    described = json.loads(OPENAPI.read_text())
    known = (path.partition("?")[0], *described["paths"])
    found = next(name for name in known if name in described["paths"] and _fits(name, known[0]))
    answers = described["paths"][found][method.lower()]["responses"]
    assert str(status) in answers, f"{method} {path} answers {status}"
    answer = answers[str(status)]
    shared = described["components"]["responses"]
    content = (shared[answer["$ref"].rpartition("/")[2]] if "$ref" in answer else answer).get("content")
    if content is None:
        assert body is None, f"{method} {path} has a body"
        return
    schema = content["application/json"]["schema"] | {"components": described["components"]}
    Draft202012Validator(schema).validate(body)


@cache
def _validator() -> Draft202012Validator:
    return Draft202012Validator(json.loads(EVENTS.read_text()))


def _fits(template: str, path: str) -> bool:
    return re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path) is not None


def _fault(text: str) -> dict[str, Any]:
    return {"description": text, "content": _content(Fault)}


def _content(model: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}


def render(described: dict[str, Any]) -> str:
    """The text of one of the files."""
    return json.dumps(described, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    OPENAPI.write_text(render(openapi()))
    EVENTS.write_text(render(events()))
