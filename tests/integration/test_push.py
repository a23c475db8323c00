"""Encoders that push by HTTP: real ffmpeg with MPEG-TS and fragmented MP4, a link that breaks, a kill."""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.demo.encoder import RENDITIONS, FfmpegEncoder, ffmpeg
from broadcaster.demo.processes import Child, free_ports
from broadcaster.http import listening
from broadcaster.http.connections import CONNECTIONS, Connections
from tests.support.judges.watcher import Watcher, watching
from tests.support.length import seconds
from tests.support.servers.service import PUSH_KEY, Service, push_settings, running_service
from tests.support.waiting import eventually

BREAKS, BREAK_EVERY = seconds(6, 2), seconds(20, 2)  # of the link, and segments of a second between two
BEARER = ("-headers", f"Authorization: Bearer {PUSH_KEY}\r\n")
MEDIA = re.compile(r".*\.(ts|m4s)")


class Link:
    """Between the encoder and the service: passes requests on, remembers what was acknowledged, and breaks.

    A breaking link cuts an upload in its middle and answers nothing; ``acknowledged`` has SHA-256 by path.
    """

    def __init__(self, upstream: str) -> None:
        self.acknowledged: dict[str, str] = {}
        self.named = set[str]()  # in playlists that were acknowledged
        self.statuses: list[int] = []
        self.breaks = 0  # uploads of segments that are to be cut
        self.cut = 0
        self._upstream = upstream

    async def pass_on(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        path = "/".join(request.path.rsplit("/", 2)[1:])
        if self.breaks and MEDIA.fullmatch(path):
            self.breaks -= 1
            self.cut += 1
            await self._cut(request, body)
            if request.transport:
                request.transport.abort()
            return web.Response(status=502)
        async with (
            aiohttp.ClientSession() as session,
            session.request(
                request.method, self._upstream + request.path, data=_chunks(body), headers=_headers(request)
            ) as answer,
        ):
            self.statuses.append(answer.status)
            if answer.status < 300 and request.method == "PUT":
                if MEDIA.fullmatch(path):
                    self.acknowledged[path] = hashlib.sha256(body).hexdigest()
                folder = path.partition("/")[0]
                self.named |= {f"{folder}/{line}" for line in body.decode(errors="replace").split("\n")}
            return web.Response(status=answer.status)

    async def _cut(self, request: web.Request, body: bytes) -> None:
        host, _, port = self._upstream.removeprefix("http://").rpartition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        fields = "".join(f"{name}: {value}\r\n" for name, value in _headers(request).items())
        head = f"PUT {request.path} HTTP/1.1\r\nHost: a\r\n{fields}"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[: len(body) // 2])
        await writer.drain()
        writer.close()


async def _chunks(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _headers(request: web.Request) -> dict[str, str]:
    return {name: value for name, value in request.headers.items() if name == "Authorization"}


@asynccontextmanager
async def pushing(tmp_path: Path, bucket: SeaweedBucket) -> AsyncIterator[tuple[Service, Link, str, Watcher]]:
    """A service that is pushed to, the link to it with its address, and a viewer that watches."""
    (port,) = free_ports(1)
    settings = push_settings(port)
    settings |= {"BROADCASTER_RETENTION": "keep", "BROADCASTER_WINDOW_SEGMENTS": "100"}
    link = Link(f"http://127.0.0.1:{port}")
    app = web.Application(client_max_size=2**26)
    app[CONNECTIONS] = Connections(100, large_bodies=True)

    async def pass_on(request: web.Request) -> web.StreamResponse:
        with request.app[CONNECTIONS].receiving(request):
            return await link.pass_on(request)

    app.router.add_route("*", "/{path:.*}", pass_on)
    async with (
        running_service(tmp_path, tmp_path, bucket, **settings) as service,
        listening(app, "127.0.0.1", 0, "") as address,
        watching(service.address, patient=True) as watcher,
    ):
        yield service, link, address, watcher


def command(address: str, run_id: str, *extra: str) -> list[str]:
    """Owncast's ffmpeg, which pushes to an address."""
    output = f"{address}/ingest" if "-headers" in extra else f"{address}/ingest/{PUSH_KEY}"
    encoder = FfmpegEncoder(output, RENDITIONS, 1, 10, 24, "", ("-method", "PUT", *extra))
    options = encoder.live(run_id)
    if "-hls_segment_type" in extra:
        names = options.index("-hls_segment_filename") + 1
        options[names] = options[names].replace(".ts", ".m4s")
        at = options.index("-segment_format_options")
        del options[at : at + 2]
    return [*ffmpeg(), *options]


async def check(link: Link, watcher: Watcher) -> None:
    """Every segment that was acknowledged, and named, is listed and has its bytes; no rule is broken."""
    sent = {path: digest for path, digest in link.acknowledged.items() if path in link.named}

    def urls() -> dict[str, str]:
        """By variant and name; more than what was acknowledged, as a kill may come before the answer."""
        found = (url.split("?")[0] for variant in ("0", "1") for url in watcher.segments(variant))
        return {"/".join(url.rsplit("/", 2)[1:]): url for url in found}

    await eventually(lambda: sent.keys() <= urls().keys())
    digests = dict[str, str]()
    async with aiohttp.ClientSession() as session:
        for path, url in urls().items():
            async with session.get(url) as answer:
                digests[path] = hashlib.sha256(await answer.read()).hexdigest()
    lost = {path for path, digest in sent.items() if digests.get(path) != digest}
    assert lost == set()
    assert watcher.violations == []
    assert watcher.missing == []


def listed(watcher: Watcher) -> int:
    """Segments of the variant with the fewest."""
    return min((len([*watcher.segments(variant)]) for variant in ("0", "1")), default=0)


def has(watcher: Watcher, count: int) -> bool:
    """Whether each variant has so many segments."""
    return listed(watcher) >= count


@pytest.mark.takes(25)
@pytest.mark.parametrize(
    "extra",
    [
        (*BEARER, "-http_persistent", "1", "-hls_flags", "+delete_segments"),
        ("-hls_segment_type", "fmp4", "-hls_fmp4_init_filename", "init_%v.mp4"),
    ],
    ids=["ts", "fmp4"],
)
async def test_ffmpeg_pushes(tmp_path: Path, bucket: SeaweedBucket, extra: tuple[str, ...]) -> None:
    """Of two variants over a link that breaks again and again, all that was acknowledged is served.

    There is one DISCONTINUITY, where the encoder began anew, and none where the link broke.
    """
    async with pushing(tmp_path, bucket) as (service, link, address, watcher):
        for run_id, breaks in (("run-a", BREAKS), ("run-b", 0)):
            options = command(address, run_id, *extra, "-ignore_io_errors", "1")
            encoder = await Child.start("ffmpeg", options, tmp_path / "ffmpeg.log")
            try:
                before = listed(watcher)
                await watcher.until(partial(has, watcher, before + 3), within=120)
                for _ in range(breaks):
                    before = listed(watcher)
                    link.breaks = 1
                    await watcher.until(partial(has, watcher, before + BREAK_EVERY), within=240)
                    assert link.breaks == 0
            finally:
                await encoder.stop()
        assert link.cut == BREAKS
        await eventually(service.health, lambda health: health["backlog"] == 0)
        await check(link, watcher)
        for variant in ("0", "1"):
            segments = watcher.versions[variant][-1].segments
            anew = [segment.uri for segment in segments if segment.discontinuity]
            assert len(anew) == 1, anew
            assert "run-b" in anew[0]
        assert set(link.statuses) <= {
            200,
            201,
            204,
            409,
        }  # 409: ffmpeg sends the next version without waiting


@pytest.mark.takes(25)
async def test_a_kill_while_an_encoder_pushes(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """Killed at any moment, the service lists all that it has acknowledged when it runs again."""
    async with pushing(tmp_path, bucket) as (service, link, address, watcher):
        encoder = await Child.start(
            "ffmpeg", command(address, "run-a", "-ignore_io_errors", "1"), tmp_path / "ffmpeg.log"
        )
        try:
            await watcher.until(lambda: listed(watcher) >= 2, within=120)
            for _ in range(seconds(10, 2)):
                await service.kill()
                await service.start()
                await watcher.until(partial(has, watcher, listed(watcher) + 2), within=120)
        finally:
            await encoder.stop()
        await eventually(service.health, lambda health: health["backlog"] == 0)
        await check(link, watcher)
