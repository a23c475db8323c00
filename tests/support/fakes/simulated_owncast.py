"""A simulated Owncast: the HLS folder in all its states, ``/api/status``, and webhooks.

The behaviour was observed on real Owncast servers. ``owncast_transcoder`` handles the folder and the offline
clip, ``owncast_receiver`` receives ffmpeg's PUT requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import signal
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import aiohttp
from aiohttp import web

from broadcaster.demo.encoder import TEST_FILM, DemoRendition, FfmpegEncoder, ffmpeg, find_clock
from broadcaster.demo.processes import HOST, Child, free_ports
from broadcaster.errors import DemoError
from tests.support.fakes.owncast_transcoder import (
    PUT,
    IdleClip,
    LatencyLevel,
    OwncastFolder,
    key_frame_options,
)
from tests.support.length import seconds
from tests.support.servers.owncast_receiver import Receiver, SegmentKey
from tests.support.waiting import PATIENCE

VERSION = "0.1.3"
NAME = "New Owncast Server"
SUMMARY = "This is a new live video streaming server powered by Owncast."
WEBHOOK_WITHIN = 10.0  # seconds for one POST
STREAM_STARTED, STREAM_STOPPED = "STREAM_STARTED", "STREAM_STOPPED"


def _local_time() -> datetime:
    return datetime.now().astimezone()


class SimulatedStatus:
    """A loopback server for ``/api/status``, on the same port each time it is started.

    Events are posted to ``webhook_url``, without waiting for an answer. ``online`` and its times are those of
    Owncast's ``core/stats.go`` and ``core/streamState.go``.
    """

    def __init__(
        self,
        *,
        webhook_url: str | None = None,
        stream_title: str = "",
        clock: Callable[[], datetime] = _local_time,
    ) -> None:
        self.stream_title = stream_title
        self._webhook_url = webhook_url
        self._clock = clock
        self._port = free_ports(1)[0]
        self._runner: web.AppRunner | None = None
        self._posts: set[asyncio.Task[None]] = set()
        self._connected: datetime | None = None
        self._disconnected: datetime | None = None
        self._saved: datetime | None = None  # the end of a stream in Owncast's database
        self._segment_seconds = 0

    @property
    def url(self) -> str:
        """The URL of Owncast, without a slash at the end."""
        return f"http://{HOST}:{self._port}"

    async def start(self) -> None:
        """Answer requests, as a new process that has only the database."""
        self._connected, self._disconnected = None, self._saved
        app = web.Application()
        app.router.add_get("/api/status", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, self._port).start()

    async def close(self) -> None:
        """Stop answering and cancel unfinished webhooks."""
        for post in self._posts:
            post.cancel()
        await asyncio.gather(*self._posts, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def connect(self, segment_seconds: int) -> None:
        """An encoder has connected."""
        self._connected, self._disconnected = self._clock(), None
        self._segment_seconds = segment_seconds
        self._post(STREAM_STARTED)

    def disconnect(self) -> None:
        """The transcoder has ended."""
        self._connected, self._disconnected = None, self._clock()

    def stopped(self) -> None:
        """The playlists are closed."""
        self._saved = self._disconnected
        self._post(STREAM_STOPPED)

    @property
    def online(self) -> bool:
        """Whether a stream is on; false in the first three segments, or 7 seconds: Owncast waits for HLS."""
        if self._connected is None:
            return False
        return (self._clock() - self._connected).total_seconds() >= max(3 * self._segment_seconds, 7)

    def _times(self) -> dict[str, Any]:
        return {
            "lastConnectTime": _to_the_second(self._connected),
            "lastDisconnectTime": _to_the_second(self._disconnected),
            "versionNumber": VERSION,
            "streamTitle": self.stream_title,
        }

    async def _answer(self, _request: web.Request) -> web.Response:
        # Owncast leaves out a viewerCount of 0.
        answer = {"serverTime": _rfc3339(self._clock()), **self._times(), "online": self.online}
        headers = {"Cache-Control": "no-cache, no-store, must-revalidate"}
        return web.Response(text=_compact(answer) + "\n", content_type="application/json", headers=headers)

    def _post(self, kind: str) -> None:
        if self._webhook_url is None:
            return
        counts = {"viewerCount": 0, "overallMaxViewerCount": 0, "sessionMaxViewerCount": 0}
        data = {
            "id": secrets.token_urlsafe(7),
            "name": NAME,
            "status": {**self._times(), **counts, "online": self.online},
            "streamTitle": self.stream_title,
            "summary": SUMMARY,
            "timestamp": _rfc3339(self._clock()),
        }
        post = asyncio.create_task(self._send(self._webhook_url, {"eventData": data, "type": kind}))
        self._posts.add(post)
        post.add_done_callback(self._posts.discard)

    @staticmethod
    async def _send(url: str, event: dict[str, Any]) -> None:
        timeout = aiohttp.ClientTimeout(total=WEBHOOK_WITHIN)
        headers = {"Content-Type": "application/json"}
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):  # Owncast does not retry either
            async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
                await session.post(url, data=_compact(event))


def _compact(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))


def _rfc3339(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


def _to_the_second(time: datetime | None) -> str | None:
    return None if time is None else _rfc3339(time.replace(microsecond=0))


HANDSHAKE = 0.14  # seconds between a closed playlist and the next start of an encoder
# A picture that costs a busy machine next to nothing.
SMALL = (DemoRendition(320, 180, 200), DemoRendition(160, 90, 100))
FPS = 10
PROBES_FOR = 1.2  # seconds that Owncast's ffmpeg reads of a stream before it begins
LAST_GRACE = 2.0  # seconds for an encoder to end after its receiver has ended
# Owncast's own minute at full length: what it removes while a busy machine starts the service is lost.
CLEANUP = float(seconds(60, 3600))


class SimulatedOwncast:
    """Owncast's folder ``hls_dir`` in all its states; ``start`` first and ``close`` last, or ``async with``.

    ``work_dir``, on the same file system, holds logs and the offline clip. ``playlist_size`` is in segments,
    ``cleanup_interval`` in seconds. ``slow_writes`` delays every write by so many seconds: an HTTP chunk,
    32 KiB at most, is two writes. For ``idle_overlap`` seconds after ``start``, ``wipe`` or ``restart`` the
    transcoder of the idle clip goes on beside a new stream, and overwrites its playlists.
    ``multivariant_first`` is whether the multivariant playlist is dated a tick before the first segments;
    None alternates. ``key_frames`` are the key frames of a source with passthrough, in seconds from 0 to the
    end of a period that is repeated. ``older`` versions keep the folder when a stream begins, and close
    playlists in place. The coming one writes ``fragments`` of MP4. Events are posted to ``webhook_url``.
    Methods raise DemoError when ffmpeg fails.
    """

    clock: ClassVar[str | None] = None  # as ``find_clock`` finds it on this machine

    def __init__(  # noqa: PLR0913 - all but two have defaults
        self,
        hls_dir: Path,
        work_dir: Path,
        *,
        segment_seconds: int = 1,
        playlist_size: int = 10,
        variants: tuple[DemoRendition, ...] = SMALL,
        fps: int = FPS,
        cleanup_interval: float = CLEANUP,
        slow_writes: float = 0.0,
        idle_overlap: float = 10.0,
        multivariant_first: bool | None = None,
        key_frames: tuple[float, ...] | None = None,
        older: bool = False,
        fragments: bool = False,
        webhook_url: str | None = None,
    ) -> None:
        self.hls_dir = hls_dir
        self.variants = variants
        self.film = TEST_FILM
        self.run_id = ""
        self.encoder: Child | None = None
        self.status = SimulatedStatus(webhook_url=webhook_url)
        self._work_dir = work_dir
        self._level = LatencyLevel(segment_seconds, playlist_size)
        self._fps = fps
        self._cleanup_interval = cleanup_interval
        self._cleanup: asyncio.Task[None] | None = None
        self._folder = OwncastFolder(hls_dir, older=older)
        self._idle = IdleClip(work_dir, idle_overlap, fragments=fragments)
        self._receiver = Receiver(hls_dir, slow_writes)
        self._key_frames = key_frames
        self._fragments = fragments
        self._multivariant_first = multivariant_first
        self._runs = 0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def finished(self) -> dict[SegmentKey, str]:
        """SHA-256 of each segment of all runs that was complete and listed, without the offline clip."""
        return self._receiver.finished

    @property
    def received(self) -> dict[SegmentKey, str]:
        """The same of each segment that was complete, listed or not."""
        return dict(self._receiver.received)

    @property
    def last_playlists(self) -> dict[tuple[str, str], tuple[str, ...]]:
        """The names of the segments in the last playlist, per run id and variant."""
        return dict(self._receiver.playlists)

    @property
    def url(self) -> str:
        """The URL of Owncast's web server, without a slash at the end."""
        return self.status.url

    @property
    def idle_transcoder(self) -> Child | None:
        """That of the idle clip, if it has been at work beside a stream."""
        return self._idle.transcoder

    async def start(self) -> None:
        """Start as Owncast does: empty the folder and put the offline clip into it."""
        await self._come_up()
        try:
            await self.wipe()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """End ffmpeg and the receiver. The folder stays as it is."""
        await self._end_run(signal.SIGKILL)
        await self._idle.end()
        await self._receiver.close()
        await self.status.close()

    async def shut_down(self, *, with_signal: signal.Signals = signal.SIGTERM) -> None:
        """End as Owncast does when it is stopped or killed: at once, and the folder stays as it is.

        The encoder gets the signal as well; its last data is not received.
        """
        await self._receiver.abort()
        await self.status.close()
        await self._idle.end()
        await self._stop_cleanup()
        if self.encoder is not None:
            await self.encoder.stop(with_signal, grace=LAST_GRACE)
            self.encoder = None

    async def restart(self, *, with_signal: signal.Signals = signal.SIGTERM) -> None:
        """Shut down and come up again."""
        await self.shut_down(with_signal=with_signal)
        await self.start_again()

    async def start_again(self) -> None:
        """Come up after ``shut_down``: an encoder may connect while the idle clip is being transcoded."""
        await self._come_up()
        await self.wipe(at_once=False)

    async def go_live(
        self,
        run_id: str | None = None,
        *,
        segment_seconds: int | None = None,
        playlist_size: int | None = None,
        variants: tuple[DemoRendition, ...] | None = None,
    ) -> str:
        """Start an encoder run and return its id, which is random unless given.

        The folder is made anew. The other values hold from now on; ``segment_seconds`` alone sets the
        playlist size of Owncast's latency level, too.
        """
        if self.encoder is not None:
            raise DemoError("the simulated Owncast is live already")
        await asyncio.sleep(HANDSHAKE)
        await self._idle.go_on(self._encoder)
        self.variants = variants or self.variants
        self._level = self._level.changed(segment_seconds, playlist_size)
        self.run_id = run_id or secrets.token_urlsafe(7)
        self._runs += 1
        first = self._runs % 2 == 0 if self._multivariant_first is None else self._multivariant_first
        self._receiver.begin_run(multivariant_first=first)
        self.status.connect(self._level.segment_seconds)
        self._folder.prepare(len(self.variants))
        self.encoder = await Child.start(
            "ffmpeg",
            ["sh", "-c", f'sleep {PROBES_FOR}; exec "$@"', "sh", *ffmpeg(), *self._encoder.live(self.run_id)],
            self._work_dir / f"ffmpeg-{self.run_id}.log",
        )
        self._cleanup = asyncio.create_task(self._clean_up_for_ever())
        return self.run_id

    async def wait_for_segments(self, count: int, *, within: float = PATIENCE) -> None:
        """Wait up to ``within`` seconds until each variant has ``count`` segments of this run."""
        if self.encoder is None:
            raise DemoError("the simulated Owncast is not live")
        enough = self._receiver.until_finished(self.run_id, len(self.variants), count)
        await self.encoder.until(enough, within=within)

    async def stop_streaming(self) -> None:
        """End the stream regularly: the last segment is complete, the offline clip is appended."""
        await self._end_stream(signal.SIGINT)

    async def crash_encoder(self) -> None:
        """Kill ffmpeg: unsent data is lost. Owncast treats it as an end of the stream."""
        await self._end_stream(signal.SIGKILL)

    async def wipe(self, *, at_once: bool = True) -> None:
        """Remove the whole folder and transcode the idle clip, as at the start and 5 minutes after an end.

        Unless ``at_once``, transcoding the clip takes ``idle_overlap`` seconds.
        """
        await self._idle.end()
        self._folder.empty()
        self._folder.prepare(len(self.variants))
        self._idle.begin()
        if at_once or not self._idle.takes:
            await self._idle.show(self._encoder)
            await self._receiver.drain()
        else:
            await self._idle.go_on(self._encoder)

    @property
    def _encoder(self) -> FfmpegEncoder:
        extra = key_frame_options(self._key_frames, len(self.variants)) if self._key_frames else ()
        return FfmpegEncoder(
            *(self._receiver.url, self.variants, *self._level, self._fps, self.clock or ""),
            extra=(*PUT, *extra),
            fragments=self._fragments,
            film=self.film,
        )

    async def _come_up(self) -> None:
        self._work_dir.mkdir(parents=True, exist_ok=True)
        self._receiver.start()
        try:
            await self.status.start()
            if self.clock is None:
                SimulatedOwncast.clock = await find_clock(self._work_dir / "ffmpeg.log")
            await self._idle.make()
        except BaseException:
            await self.close()
            raise

    async def _end_stream(self, with_signal: signal.Signals) -> None:
        await self._end_run(with_signal)
        self.status.disconnect()
        self._folder.close_playlists(len(self.variants), self._idle.files)
        self.status.stopped()

    async def _end_run(self, with_signal: signal.Signals) -> None:
        await self._stop_cleanup()
        if self.encoder is not None:
            # Not a second signal: ffmpeg would then give up its connections, and the last segment with them.
            await self.encoder.stop(with_signal, grace=PATIENCE)
            self.encoder = None
            await self._receiver.drain()

    async def _stop_cleanup(self) -> None:
        if self._cleanup is not None:
            self._cleanup.cancel()
            await asyncio.gather(self._cleanup, return_exceptions=True)
            self._cleanup = None

    async def _clean_up_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._cleanup_interval)
            self._folder.clean_up(len(self.variants), self._level.playlist_size)
