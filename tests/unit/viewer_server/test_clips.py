"""Clips that viewers make: the answers to requests, and all limits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pytest_aiohttp.plugin import AiohttpClient

from broadcaster.catalog.records import ViewerClipLimits
from broadcaster.errors import CatalogError
from broadcaster.ipc.messages import (
    LENGTH,
    ClipAnswer,
    ClipRequest,
    PublicRecording,
    RecordingsDelta,
    Setup,
    decode,
    encode,
    encode_pong,
    receive_pong,
)
from broadcaster.service.public_recordings import MAX_REQUESTS as QUEUE
from broadcaster.service.public_recordings import PATIENCE, ViewerClips
from broadcaster.viewer_server.app import ViewerServer
from broadcaster.viewer_server.clips import AT_ONCE, BURST, MAX_NETWORKS, NETWORK_BURST, ClipRequests
from tests.support.fakes.catalog_fixture import CatalogFixture
from tests.support.fakes.pipeline_parts import START
from tests.support.fakes.viewer_app import Client
from tests.support.waiting import eventually

SECOND = timedelta(seconds=1)
BEGIN = int(START.timestamp() * 1000)
GOOD = {"begin": BEGIN, "end": BEGIN + 6000}
PATH = "/live/clips"
PLENTY = ViewerClipLimits(100, 100, 100)


class Ingest:
    """Ingest, with messages as bytes in both directions."""

    def __init__(
        self, server: ViewerServer, stream: CatalogFixture, bounds: ViewerClipLimits = PLENTY
    ) -> None:
        self.server = server
        self.stream = stream
        self.now = 0.0
        self.notifications = 0
        self.is_up, self.is_hidden = True, False
        self.makes = ViewerClips(
            stream.catalog.clips, self._notify, bounds, lambda: self.now, lambda: self.is_hidden
        )

    def _notify(self) -> None:
        self.notifications += 1

    async def run(self) -> None:
        """Ping, show new clips, and take requests, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.makes.run())
            while True:
                await asyncio.sleep(0.01)
                if self.is_up:
                    await self.ping()

    async def ping(self) -> None:
        for wish in await sent(self.server):
            self.makes(wish, self.answer)
        clips = await self.stream.catalog.clips.all()
        self.server.handle(RecordingsDelta(tuple(public_recordings(clip.id) for clip in clips)))

    def answer(self, answer: ClipAnswer) -> None:
        message = decode(encode(answer)[LENGTH.size :])
        assert isinstance(message, ClipAnswer)
        self.server.handle(message)


async def sent(server: ViewerServer) -> tuple[ClipRequest, ...]:
    """The clip requests of a pong, as bytes."""
    reader = asyncio.StreamReader()
    reader.feed_data(encode_pong(server.pong()))
    return (await receive_pong(reader)).clip_requests


def public_recordings(name: str) -> PublicRecording:
    return PublicRecording(name, "", START, START, 6.0, ("https://b/x.m3u8",), listed=False, clip=True)


def viewer_server_in(folder: Path, *, clips: bool = True) -> ViewerServer:
    (folder / "index.html").write_text("<title>page</title>")
    return ViewerServer(Setup(folder, recordings=True, clips=clips))


@asynccontextmanager
async def running(
    folder: Path, make: AiohttpClient, bounds: ViewerClipLimits = PLENTY
) -> AsyncIterator[tuple[Client, Ingest]]:
    """Ingest, the viewer server, and a viewer."""
    server, stream = viewer_server_in(folder), CatalogFixture(folder / "studio")
    stream.restart(timedelta(days=1))
    stream.publish(count=10)
    ingest = Ingest(server, stream, bounds)
    task = asyncio.create_task(ingest.run())
    yield await make(server.app), ingest
    task.cancel()
    stream.catalog.close()


async def ask(client: Client, body: Any = GOOD, **headers: str) -> tuple[int, dict[str, Any]]:  # noqa: ANN401
    data = body if isinstance(body, bytes) else json.dumps(body)
    async with client.post(PATH, data=data, headers=headers) as response:
        found = await response.json() if response.content_type.endswith("json") else {}
        assert response.headers["Cache-Control"] == "no-store" or response.status in (404, 405)
        return response.status, {**found, "after": response.headers.get("Retry-After")}


async def test_a_clip_is_made_and_has_a_page(tmp_path: Path, aiohttp_client: AiohttpClient) -> None:
    """A request gets the address of an existing page, which no list has."""
    async with running(tmp_path, aiohttp_client) as (client, ingest):
        status, found = await ask(client, **{"Sec-Fetch-Site": "same-origin"})
        (clip,) = await ingest.stream.catalog.clips.all()
        assert (status, found["path"], ingest.notifications) == (201, f"/c/{clip.id}", 1)
        assert (clip.begin, clip.end, clip.viewer) == (START, START + 6 * SECOND, True)
        assert (await client.get(found["path"])).status == 200
        assert (await (await client.get("/recordings/newest.json")).json())["recordings"] == []
        assert counted(ingest.server)["made"] == 1


async def test_a_rehearsal(tmp_path: Path, aiohttp_client: AiohttpClient) -> None:
    """Of what is hidden from guests nobody keeps a clip, whose page they could find."""
    async with running(tmp_path, aiohttp_client) as (client, ingest):
        ingest.is_hidden = True
        assert (await ask(client))[0] == 409
        assert await ingest.stream.catalog.clips.all() == []


async def test_off_by_default(tmp_path: Path, aiohttp_client: AiohttpClient) -> None:
    """Without the setting there is no route."""
    client = await aiohttp_client(viewer_server_in(tmp_path, clips=False).app)
    assert (await ask(client))[0] == 405


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[" * 200,
        b"x" * 10_000,
        [],
        {},
        None,
        {"begin": BEGIN},
        {"begin": BEGIN, "end": BEGIN + 4999},
        {"begin": BEGIN, "end": BEGIN + 90_001},
        {"begin": "1", "end": "2"},
        {"begin": [1], "end": {}},
        {"begin": 1e300, "end": 1e300},
        {"begin": 10**60, "end": 10**60 + 6000},
        {"begin": -(10**15), "end": 6000 - 10**15},
        {"begin": None, "end": None},
        {"begin": float("nan"), "end": float("inf")},
    ],
)
async def test_malformed_requests(tmp_path: Path, aiohttp_client: AiohttpClient, body: Any) -> None:  # noqa: ANN401
    """A malformed request is a 400, counts toward no limit, and is not sent to ingest."""
    server = viewer_server_in(tmp_path)
    client = await aiohttp_client(server.app)
    for _ in range(2 * NETWORK_BURST):
        assert (await ask(client, body))[0] == 400
    assert await sent(server) == ()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://[::1"}, 403),
        ({"Origin": "https://live.example.com", "Host": "live.example.com"}, 400),
        ({"Sec-Fetch-Site": "none"}, 400),
    ],
)
async def test_pages_of_other_sites(
    tmp_path: Path, aiohttp_client: AiohttpClient, headers: dict[str, str], status: int
) -> None:
    """Pages of other sites cannot make browsers send requests, whatever headers these have."""
    client = await aiohttp_client(viewer_server_in(tmp_path).app)
    assert (await ask(client, b"", **headers))[0] == status


async def test_unknown_times(tmp_path: Path, aiohttp_client: AiohttpClient) -> None:
    """Times that are not listed yet, or no longer exist, are 409."""
    async with running(tmp_path, aiohttp_client) as (client, _):
        status, found = await ask(client, {"begin": BEGIN + 60_000, "end": BEGIN + 66_000})
        assert (status, found["error"].partition(":")[0]) == (409, "No clip can be made of that part")


async def test_a_flood(tmp_path: Path, aiohttp_client: AiohttpClient) -> None:
    """The requests of an address and of all viewers are limited; refusals have Retry-After."""
    async with running(tmp_path, aiohttp_client) as (client, ingest):
        answers = [await ask(client, **{"CF-Connecting-IP": "192.0.2.1"}) for _ in range(NETWORK_BURST + 2)]
        assert [status for status, _ in answers] == [201] * NETWORK_BURST + [429] * 2
        assert 0 < int(answers[-1][1]["after"]) <= 30
        assert (await ask(client, **{"CF-Connecting-IP": "192.0.2.2"}))[0] == 201
        many = await asyncio.gather(
            *(ask(client, **{"CF-Connecting-IP": f"198.51.100.{number}"}) for number in range(200))
        )
        made = sum(status == 201 for status, _ in many)
        assert {status for status, _ in many} == {201, 429}
        assert made + NETWORK_BURST + 1 <= BURST + 2
        assert len(await ingest.stream.catalog.clips.all()) == made + NETWORK_BURST + 1


async def test_the_limit_of_a_stream(tmp_path: Path, aiohttp_client: AiohttpClient) -> None:
    """When a stream has its number of clips, requests are refused, and no clip is made."""
    async with running(tmp_path, aiohttp_client, ViewerClipLimits(1, 9, 9)) as (client, ingest):
        assert [(await ask(client))[0] for _ in range(3)] == [201, 429, 429]
        assert (await ask(client))[1]["after"] == "3600"
        assert len(await ingest.stream.catalog.clips.all()) == 1


async def test_ingest_does_not_answer(
    tmp_path: Path, aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request without an answer is refused after a while, and a late request makes no clip."""
    monkeypatch.setattr("broadcaster.viewer_server.clips.ANSWER_WITHIN", 0.2)
    async with running(tmp_path, aiohttp_client) as (client, ingest):
        ingest.is_up = False
        status, found = await ask(client)
        assert (status, found["after"]) == (503, "5")
        assert await sent(ingest.server) == ()
        # Ingest has the wish in time and answers too late: nobody would ever find the clip.
        answers: list[ClipAnswer] = []
        wish = ClipRequest("1", START, START + 6 * SECOND)
        ingest.now = PATIENCE
        ingest.makes(wish, answers.append)
        ingest.now = 2 * PATIENCE
        ingest.makes(wish, answers.append)
        await eventually(lambda: len(answers) == 1)
        assert len(await ingest.stream.catalog.clips.all()) == 1


async def test_waiting_requests_are_limited(
    tmp_path: Path, aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waiting requests are limited in both processes, and so are remembered addresses."""
    monkeypatch.setattr("broadcaster.viewer_server.clips.BURST", 1000)
    server, stream = viewer_server_in(tmp_path), CatalogFixture(tmp_path / "studio")
    client = await aiohttp_client(server.app)
    asking = [asyncio.create_task(ask(client)) for _ in range(AT_ONCE + 5)]
    await eventually(lambda: sum(request.done() for request in asking) == 5)
    assert {request.result()[0] for request in asking if request.done()} == {429}
    waiting = [request for request in asking if not request.done()]
    wishes = await sent(server)
    assert len(wishes) == AT_ONCE

    answers: list[ClipAnswer] = []
    ingest = ViewerClips(stream.catalog.clips, lambda: None)
    for wish in [*wishes, wishes[0]]:
        ingest(wish, answers.append)
    assert [answer.refusal for answer in answers] == ["away"] * (AT_ONCE + 1 - QUEUE)
    await server.app.shutdown()  # the process ends: everybody is let go of
    assert {status for status, _ in await asyncio.gather(*waiting)} == {503}
    stream.catalog.close()

    clipping = ClipRequests(lambda _: True, lambda: 0.0)
    for number in range(MAX_NETWORKS + 1):
        clipping._bucket(str(number), 1, 0.0)  # noqa: SLF001 - a stranger needs many addresses for it
    assert len(clipping._networks) == MAX_NETWORKS  # noqa: SLF001


async def test_a_restart_in_between(tmp_path: Path, aiohttp_client: AiohttpClient) -> None:
    """Answers to requests of an earlier process are ignored."""
    async with running(tmp_path, aiohttp_client) as (client, ingest):
        for nonsense in (ClipAnswer("of another", "2026-01-01-1200-abcd"), ClipAnswer("", refusal="gone")):
            ingest.answer(nonsense)
        ingest.is_up = False
        leaving = asyncio.create_task(ask(client))
        await eventually(lambda: counted(ingest.server)["taken"] == 1)
        leaving.cancel()
        await eventually(lambda: counted(ingest.server)["taken"] == 0)
        ingest.is_up = True
        assert (await ask(client))[0] == 201
        assert len(await ingest.stream.catalog.clips.all()) == 1


async def test_an_unreadable_catalog(tmp_path: Path, aiohttp_client: AiohttpClient) -> None:
    """Ingest goes on, and the viewer gets 503."""

    class Broken:
        async def make(self, *_: object) -> None:
            raise CatalogError("the journal cannot be read now")

    async with running(tmp_path, aiohttp_client) as (client, ingest):
        vars(ingest.makes)["_clips"] = Broken()
        assert (await ask(client))[0] == 503
        vars(ingest.makes)["_clips"] = ingest.stream.catalog.clips
        assert (await ask(client))[0] == 201


async def test_a_hostile_viewer_server(tmp_path: Path) -> None:
    """Ingest checks the times of each request, and accepts none without a time zone."""
    stream = CatalogFixture(tmp_path)
    stream.publish(count=60)
    answers: list[ClipAnswer] = []
    ingest = ViewerClips(stream.catalog.clips, lambda: None)
    for seconds in (-5, 4, 91):
        ingest(ClipRequest("1", START, START + seconds * SECOND), answers.append)
    running = asyncio.create_task(ingest.run())
    await eventually(lambda: len(answers) == 3)
    running.cancel()
    assert {answer.refusal for answer in answers} == {"gone"}
    request = b'{"id":"1","begin":"2026-01-01T12:00:00","end":"2026-01-01T12:00:09Z"}'
    naive = b'{"metrics":[],"clip_requests":[' + request + b"]}"
    reader = asyncio.StreamReader()
    reader.feed_data(LENGTH.pack(len(naive)) + naive)
    with pytest.raises(ValueError, match="timezone"):
        await receive_pong(reader)
    stream.catalog.close()


def counted(server: ViewerServer) -> dict[str, float]:
    """Requests by outcome, and the number of waiting requests."""
    metrics = {metric.name: metric.samples for metric in server.metrics()}
    found = {labels[0]: value for labels, value in metrics["viewers_clips"].items()}
    return found | {"taken": metrics["long_requests"][("clips",)]}
