"""Starts and restarts the process of the viewer server, and sends it the view over IPC."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from broadcaster.aio import Backoff, Signal
from broadcaster.config import Settings
from broadcaster.events import Event, SegmentPublished, StreamEnded, StreamStarted
from broadcaster.http import listening_sockets, raise_file_limit
from broadcaster.ipc.messages import (
    ClipAnswer,
    ClipRequest,
    Ended,
    Grants,
    GuestCount,
    HealthReport,
    Listed,
    Message,
    PassphraseAnswer,
    PassphraseTry,
    Ping,
    Pong,
    PublicRecording,
    Setup,
    Started,
    View,
    encode,
    receive_pong,
    recordings_delta,
    view_delta,
)
from broadcaster.ipc.metrics import accepted, add_bounded
from broadcaster.logs import default_format
from broadcaster.metrics import Metric


def message_of(event: Event) -> Listed | Started | Ended | None:
    """The message about an event for the viewer server; None if there is none."""
    match event:
        case SegmentPublished(segment=segment, published=published):
            return Listed(
                variant=segment.variant,
                sequence=segment.number or 0,
                run=segment.run.id,
                url=segment.url,
                map_url=segment.map_url,
                duration=segment.duration,
                time=segment.time,
                size=segment.size,
                sha256=segment.sha256,
                gap=segment.gap,
                completed=segment.completed,
                noticed=segment.noticed,
                uploaded=segment.uploaded,
                published=published,
            )
        case StreamStarted(variants, target_duration, run, at):
            return Started(variants, target_duration, run, at)
        case StreamEnded(at, going_on):
            return Ended(at, going_on)
    return None


# Paths for the page: the newest recording, the list, a recording, the live page.
OUR_PAGES = {"newest": "/recordings/newest.json", "list": "/recordings", "watch": "/watch/", "live": "/"}


def setup_of(settings: Settings, prices: Mapping[str, float], log_format: str | None) -> Setup:
    """The configuration of the viewer server; ``prices`` are shown to viewers by the page."""
    connections = raise_file_limit(settings.max_connections)
    if connections < settings.max_connections:
        logger.warning("the limit of open files leaves room for %d connections", connections)
    return Setup(
        settings.viewer_dir.absolute(),
        page={
            **({"playlistUrl": "/live/playlist.m3u8"} if settings.is_private else {}),
            "eventsUrl": "/live/events",
            "mediaUrl": settings.public_url if settings.urls == "public" else None,
            "beaconUrl": "/live/beacon" if settings.reports_per_second else None,
            "mode": settings.viewer_mode,
            "prices": prices,
            "trackerUrl": "/live/tracker" if settings.has_own_tracker else settings.tracker_url,
            "keptUrl": "/live/kept.m3u8" if settings.has_dvr_playlist else None,
            "recordings": OUR_PAGES if settings.has_pages else None,
            "clipsUrl": "/live/clips" if settings.viewer_clips else None,
        },
        recordings=settings.has_pages,
        clips=settings.viewer_clips,
        signed=settings.urls == "presigned",
        max_waiters=settings.max_waiters,
        max_connections=connections,
        trusted_header=settings.trusted_header,
        reports_per_second=settings.reports_per_second,
        access=settings.access,
        fenced=bool(settings.standby),
        tracker=settings.has_own_tracker,
        log=(settings.log_level, log_format or default_format()),
    )


@contextmanager
def public_sockets(settings: Settings) -> Iterator[list[socket.socket]]:
    """The listening sockets of viewers, which outlive each process of the viewer server."""
    sockets = listening_sockets(settings.host, settings.port, "BROADCASTER_HOST, BROADCASTER_PORT")
    try:
        yield sockets
    finally:
        for sock in sockets:
            sock.close()


# This very program, even if its path has changed since or may not be executed any more.
OURSELVES = "/proc/self/exe"
# The variables that Python needs; no keys.
ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ")


async def start_viewer_process(
    listening: Sequence[socket.socket],
) -> tuple[asyncio.subprocess.Process, socket.socket]:
    """The process, on listening sockets, and our end of its IPC socket. Raises OSError."""
    ours, theirs = socket.socketpair()
    with theirs, ExitStack() as stack:
        stack.callback(ours.close)
        descriptors = [theirs.fileno(), *(sock.fileno() for sock in listening)]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "broadcaster.viewer_server", *map(str, descriptors)),
            executable=OURSELVES if sys.platform == "linux" else None,
            stdin=asyncio.subprocess.DEVNULL,
            env=_environment(),
            pass_fds=descriptors,
            cwd="/",
        )
        stack.pop_all()
    return process, ours


def _environment() -> dict[str, str]:
    inherited = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    modules = os.pathsep.join(path for path in sys.path if Path(path).is_absolute())
    # The viewer server makes no TLS connections, and aiohttp would spend a sixth of the start on reading all
    # certificate authorities. Its address space is bounded; glibc would reserve 64 MiB for each thread.
    # pydantic has no plugins; to look for some, it reads the lists of all packages.
    return {
        **inherited,
        "PYTHONPATH": modules,
        "SSL_CERT_FILE": os.devnull,
        "MALLOC_ARENA_MAX": "1",
        "PYDANTIC_DISABLE_PLUGINS": "__all__",
    }


logger = logging.getLogger(__name__)

PING_EVERY = 0.5  # seconds
PONG_WITHIN = 5.0  # seconds
START_WITHIN = 30.0  # seconds to the first answer, on a busy machine
# Pings are counted, not seconds: a pause of ingest itself must not count.
UNANSWERED, UNANSWERED_AT_START = int(PONG_WITHIN / PING_EVERY), int(START_WITHIN / PING_EVERY)
REFRESH_WITHIN = 0.5  # seconds for fresh metrics
END_WITHIN = 5.0  # seconds for a graceful end
SHORT_LIFE, FIRST_PAUSE, LONGEST_PAUSE = 5.0, 0.1, 5.0  # seconds: after a short life, a restart waits
MOST_REFUSED = 10  # metrics that are named in the log
RECENT_SEGMENTS = 60  # are sent to a new process, for the events of new pages


class ViewerProcess:
    """The process of the viewer server, which is replaced when it dies, hangs, or does not read.

    ``report`` returns the health of ingest as the public may see it. ``clip`` is called with each clip
    request of a viewer and the function that takes the answer.
    """

    def __init__(
        self,
        setup: Setup,
        listening: Sequence[socket.socket],
        view: View,
        report: Callable[[], HealthReport],
        clip: Callable[[ClipRequest, Callable[[ClipAnswer], None]], None] | None = None,
    ) -> None:
        self.ready = asyncio.Event()
        self.on_wanted: Callable[[Sequence[str]], None] = lambda _: None
        self.on_guests: Callable[[Sequence[GuestCount]], None] = lambda _: None
        self.leads_until: Callable[[], float | None] = lambda: None
        self.others: Callable[[], tuple[str, ...]] = tuple
        self.pong = Pong(())
        self.restarts = 0
        self.process: asyncio.subprocess.Process | None = None
        self.setup = setup
        self._listening = listening
        self._report = report
        self._clip = clip
        self._view = view
        self._recordings: Mapping[str, PublicRecording] = {}
        self._grants: Grants | None = None
        self._passphrase: Callable[[PassphraseTry, Callable[[PassphraseAnswer], None]], None] | None = None
        self._recent: deque[Listed] = deque(maxlen=RECENT_SEGMENTS)
        self._last: Started | Ended | None = None
        self._writer: asyncio.StreamWriter | None = None
        # Monotonic time of the latest answer; the start has more time.
        self._answered = time.monotonic() + START_WITHIN - PONG_WITHIN
        self._unanswered, self._patience = 0, 0  # unanswered pings, and how many more are allowed
        self._pong_received = Signal()
        # Counters of earlier processes, by name, and the sums of their histograms.
        self._before: dict[str, Counter[tuple[str, ...]]] = {}
        self._totals: dict[str, Counter[tuple[str, ...]]] = {}
        self._refused: set[str] = set()  # names of metrics

    def show(self, view: View) -> None:
        """Send a new view."""
        before, self._view = self._view, view
        if not view.playlists:
            self._recent.clear()
        with self._in_step():
            self.send(view_delta(before, view))

    def show_recordings(self, found: Mapping[str, PublicRecording]) -> None:
        """Send the public recordings, by their paths."""
        before, self._recordings = self._recordings, found
        if found != before:
            with self._in_step():
                self.send(recordings_delta(before, found))

    def admit(
        self,
        grants: Grants,
        passphrase: Callable[[PassphraseTry, Callable[[PassphraseAnswer], None]], None] | None = None,
    ) -> None:
        """Send who may watch; ``passphrase`` is called from now on with each try of a stranger."""
        self._grants, self._passphrase = grants, passphrase or self._passphrase
        self.send(grants)

    @contextmanager
    def _in_step(self) -> Iterator[None]:
        """Replace the process if a delta cannot be sent, because it could not apply the next delta."""
        try:
            yield
        except BaseException:
            if self._writer:
                self._writer.transport.abort()
            raise

    def send(self, message: Message) -> None:
        """Send a message without waiting; a process that does not read does not answer, and is replaced."""
        if self._writer and not self._writer.is_closing():
            self._writer.write(encode(message))

    def __call__(self, event: Event) -> None:
        """Send an event."""
        message = message_of(event)
        if message is None:
            return
        if isinstance(message, Listed):
            if not self._view.playlists:  # a rehearsal's, when the doors have opened
                return
            self._recent.append(message)
        else:
            self._last = message
        self.send(message)

    def pid(self) -> int:
        """The process id; 0 while there is no process."""
        return self.process.pid if self.process else 0

    @property
    def is_answering(self) -> bool:
        """Whether the process answers."""
        return time.monotonic() - self._answered < PONG_WITHIN

    async def refresh(self) -> None:
        """Request fresh metrics and wait for them, but not long."""
        if not self._writer or not self.is_answering:
            return
        self._send_ping()
        with suppress(TimeoutError):
            async with asyncio.timeout(REFRESH_WITHIN):
                while self._unanswered > 0:
                    await self._pong_received.next().wait()

    async def run(self) -> None:
        """Keep a process running until cancelled."""
        backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        while True:
            began = time.monotonic()
            reason = await self._run_once()
            self.restarts += 1
            logger.error("the viewer server %s; another process takes its place", reason)
            if time.monotonic() - began > SHORT_LIFE:
                backoff.reset()
            else:
                await asyncio.sleep(backoff.next())

    def metrics(self) -> Iterator[Metric]:
        """The metrics of the process, counted on from its predecessors, and the number of restarts."""
        for sent in self.pong.metrics:
            samples = Counter(dict(sent.samples))
            if sent.is_counter:
                samples.update(self._before.get(sent.name, {}))
            total = Counter(self._totals.get(sent.name, {}))
            total.update(dict(sent.total or ()))
            totals = None if sent.total is None else dict(total)
            yield Metric(sent.name, sent.text, dict(samples), sent.labels, sent.is_counter, totals)
        text = "Restarts of the viewer server after it died or hung"
        yield Metric("audience_restarts", text, self.restarts, is_counter=True)
        yield Metric("audience_serving", "1 while viewers are answered", self.is_answering)

    async def _run_once(self) -> str:
        """Run one process to its end; returns how it ended."""
        try:
            process, sock = await start_viewer_process(self._listening)
        except OSError as error:  # no memory or no descriptor left
            return f"cannot be started ({error.strerror})"
        try:
            reader, writer = await asyncio.open_connection(sock=sock)
        except OSError as error:
            return f"cannot be started ({error.strerror})"
        else:
            return await self._serve(process, reader, writer)
        finally:  # two processes must not serve at the same time
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _serve(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> str:
        """Send everything, then exchange pings; returns how the process ended."""
        tasks: list[asyncio.Task[str]] = []
        self.process, self._writer = process, writer
        self._unanswered, self._patience = 0, UNANSWERED_AT_START
        try:
            recordings = recordings_delta({}, self._recordings)
            for message in (
                self.setup,
                view_delta(View(), self._view),
                recordings,
                self._grants,
                *self._recent,
                self._last,
            ):
                if message:
                    self.send(message)
            tasks += map(asyncio.create_task, (self._listen(reader, process), self._ping()))
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        except asyncio.CancelledError:
            writer.close()  # the process then closes its connections
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), END_WITHIN)
            raise
        finally:
            for task in tasks:
                task.cancel()
            writer.transport.abort()
            self._writer = None
            self._keep_counts()

    async def _listen(self, reader: asyncio.StreamReader, process: asyncio.subprocess.Process) -> str:
        try:
            while True:
                self.pong = self._checked(await receive_pong(reader))
                self._answered, self._patience = time.monotonic(), UNANSWERED
                self._unanswered -= 1
                self.on_wanted(self.pong.playlists_to_sign)
                self.ready.set()
                self._pong_received.notify()
                if self._passphrase:
                    for attempt in self.pong.passphrases:
                        self._passphrase(attempt, self.send)
                self.on_guests(self.pong.guests)
                if self._clip:
                    for request in self.pong.clip_requests:
                        self._clip(request, self.send)
        except ValueError as error:
            return f"sends invalid messages ({type(error).__name__})"
        except (EOFError, OSError):
            return f"has died (status {await process.wait()})"

    async def _ping(self) -> str:
        while self._patience:
            self._patience -= 1
            self._send_ping()
            await asyncio.sleep(PING_EVERY)
        return "does not answer"

    def _send_ping(self) -> None:
        self._unanswered += 1
        self.send(Ping(self._report(), self.leads_until(), self.others()))

    def _checked(self, pong: Pong) -> Pong:
        """The answer without unknown metrics."""
        metrics, refused = accepted(pong.metrics)
        for name in sorted(refused - self._refused)[: MOST_REFUSED - len(self._refused)]:
            logger.warning("the viewer server sends an unknown metric: %s", name)
            self._refused.add(name)
        return replace(pong, metrics=metrics)

    def _keep_counts(self) -> None:
        for sent in self.pong.metrics:
            if sent.is_counter:
                add_bounded(self._before.setdefault(sent.name, Counter()), sent.name, dict(sent.samples))
                add_bounded(self._totals.setdefault(sent.name, Counter()), sent.name, dict(sent.total or ()))
        self.pong = Pong(())
