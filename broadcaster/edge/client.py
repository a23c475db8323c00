"""The client of the edge's Worker: pushes of the view, and its status (``deploy/cloudflare/worker/``).

The protocol: ``PUT /origin/v1/view`` with JSON in gzip. ``v`` is the version of the protocol. ``epoch`` and
``serial`` order all pushes: the Worker takes none that is older than its newest. ``base`` is the serial that
the push builds on, or null when it says everything. ``texts`` has by name the texts that changed, each as a
list of pieces: a new piece, or the begin and end of a piece of the text before; null removes a text.
An answer has the reports of pages, and passphrases that strangers have typed. What is said of these goes with
the next push, as ``answers``: the ID of each, its token or null, and whether it was not looked at. In a
private event an answer also has how often links were opened, by grant, and the grants of who sent reports.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Annotated, Any

import aiohttp
from pydantic import Field, TypeAdapter

from broadcaster.errors import EdgeError

VERSION = 2  # of the protocol; before 2, no gate
TIMEOUT = 10.0  # seconds for one request
MAX_PUSH = 4 * 2**20  # bytes of a push in gzip: the Worker's limit
MAX_ANSWER = 4 * 2**20  # bytes: a thousand reports
CHUNK = 2**16  # bytes
GZIP_LEVEL = 6
VIEW, PROBE = "view", "probe"  # channels: what viewers see, and a trial

Count = Annotated[int, Field(ge=0, le=2**53)]
Name = Annotated[str, Field(max_length=64)]
Report = tuple[Name, Annotated[str, Field(max_length=1024)]]
Try = tuple[Name, Name, Annotated[str, Field(max_length=200)]]
Grant = Annotated[str, Field(pattern=r"^([0-9a-f]{16})?$")]  # empty in a public event


@dataclass(frozen=True, slots=True)
class EdgeStatus:
    """What the Worker says of itself. ``held`` requests wait, ``woken`` were answered since its start."""

    v: Count = 0
    epoch: Count = 0
    serial: Count = 0
    silent: float = 0.0  # milliseconds since the latest push
    held: Count = 0
    woken: Count = 0
    peers: Count = 0
    torrents: Count = 0
    page: str = ""  # SHA-256 of its page
    reason: str = ""  # why a push was refused
    reports: tuple[Report, ...] = ()  # of pages: address and text
    grants: tuple[Grant, ...] = ()  # of the guests who sent these
    opened: dict[Grant, Count] = field(default_factory=dict)  # how often links were, by grant
    tries: tuple[Try, ...] = field(default=(), repr=False)  # of passphrases: ID, address and text


@dataclass(frozen=True, slots=True)
class EdgeAnswer:
    """An answer of the Worker: its HTTP status, and what it says."""

    http: int
    status: EdgeStatus

    @property
    def is_taken(self) -> bool:
        """Whether the push was stored."""
        return self.http == HTTPStatus.OK


_statuses: TypeAdapter[EdgeStatus] = TypeAdapter(EdgeStatus)


def encode(push: Mapping[str, Any]) -> bytes:
    """The body of a push."""
    return gzip.compress(json.dumps(push, separators=(",", ":")).encode(), GZIP_LEVEL, mtime=0)


class EdgeClient:
    """The Worker at ``url``, asked with ``key``."""

    def __init__(self, session: aiohttp.ClientSession, url: str, key: str) -> None:
        self._session = session
        self._url = url
        self._headers = {"Authorization": f"Bearer {key}"}

    async def push(self, body: bytes, channel: str = VIEW) -> EdgeAnswer:
        """Send an encoded push, unless the Worker would refuse its size; raises EdgeError."""
        if len(body) > MAX_PUSH:
            return EdgeAnswer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, EdgeStatus(reason="size"))
        more = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        return _read(*await self.request("PUT", f"/origin/v1/{channel}", body, more))

    async def status(self, channel: str = VIEW) -> EdgeAnswer:
        """The Worker's status; raises EdgeError."""
        return _read(*await self.request("GET", f"/origin/v1/{channel}"))

    async def forget(self, channel: str) -> EdgeAnswer:
        """Let the Worker forget a channel; raises EdgeError."""
        return _read(*await self.request("DELETE", f"/origin/v1/{channel}"))

    async def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """The HTTP status and the body of an answer; raises EdgeError."""
        try:
            async with self._session.request(
                method,
                f"{self._url}{path}",
                data=None if body is None else io.BytesIO(body),
                headers={**self._headers, **(headers or {})},
                allow_redirects=False,
            ) as response:
                return response.status, await _read_all(response.content)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise EdgeError(f"no answer of the edge ({str(error) or type(error).__name__})") from None


@asynccontextmanager
async def open_edge(url: str, key: str) -> AsyncIterator[EdgeClient]:
    """A client with connections of its own."""
    timeout = aiohttp.ClientTimeout(total=TIMEOUT)
    async with aiohttp.ClientSession(timeout=timeout, trust_env=True) as session:
        yield EdgeClient(session, url, key)


async def _read_all(content: aiohttp.StreamReader) -> bytes:
    """The body of an answer; raises EdgeError if it is too long."""
    body = bytearray()
    async for chunk in content.iter_chunked(CHUNK):
        body += chunk
        if len(body) > MAX_ANSWER:
            raise EdgeError("the edge's answer is too long")
    return bytes(body)


def _read(http: int, body: bytes) -> EdgeAnswer:
    try:
        return EdgeAnswer(http, _statuses.validate_json(body))
    except ValueError:
        if http in {HTTPStatus.OK, HTTPStatus.CONFLICT}:
            raise EdgeError(f"it is not the edge that answers ({http})") from None
        return EdgeAnswer(http, EdgeStatus())
