"""Starts and restarts the viewers' process, and sends it the view over IPC.

The process inherits only the sockets that it needs.
"""

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

from broadcaster.events import Event, SegmentPublished, StreamEnded, StreamStarted
from broadcaster.ipc.messages import (
    ClipAnswer,
    ClipRequest,
    Ended,
    HealthReport,
    Listed,
    Message,
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
from broadcaster.metrics import Metric


def message_of(event: Event) -> Listed | Started | Ended | None:
    """For the audience process, if they are told anything."""
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


# The very program that runs, whatever became of its path since: an upgrade, or rights that were dropped.
OURSELVES = "/proc/self/exe"
# What Python needs to find itself and to speak a language; no keys, and nothing that leads to them.
ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ")


async def start_viewer_process(
    listening: Sequence[socket.socket],
) -> tuple[asyncio.subprocess.Process, socket.socket]:
    """It, on sockets that listen already, and our end of its feed; raises OSError."""
    ours, theirs = socket.socketpair()
    with theirs, ExitStack() as stack:
        stack.callback(ours.close)
        descriptors = [theirs.fileno(), *(one.fileno() for one in listening)]
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
    known = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    # The same modules as here, wherever they come from.
    modules = os.pathsep.join(path for path in sys.path if Path(path).is_absolute())
    # It asks nobody: to read all certificate authorities, as aiohttp does at once, is a sixth of its start.
    # Its address space is bounded: glibc would reserve 64 MiB of it for each thread.
    return {**known, "PYTHONPATH": modules, "SSL_CERT_FILE": os.devnull, "MALLOC_ARENA_MAX": "1"}


logger = logging.getLogger(__name__)

PING_EVERY = 0.5  # seconds
PONG_WITHIN = 5.0  # seconds
START_WITHIN = 30.0  # seconds to the first answer: a busy machine takes its time to start Python
# Pings are counted, not seconds: when ingest itself was held up, that is not the other's fault.
UNANSWERED, UNANSWERED_AT_START = int(PONG_WITHIN / PING_EVERY), int(START_WITHIN / PING_EVERY)
FIGURES_WITHIN = 0.5  # seconds
END_WITHIN = 5.0  # seconds for its clients to be let go of
SHORT_LIFE, LONGEST_PAUSE = 5.0, 5.0  # seconds: what dies at once is not started again at full speed
MOST_REFUSED = 10  # metrics that are named in the log
REMEMBERED_SEGMENTS = 60  # for pages that come after it was replaced


class ViewerProcess:
    """Starts it on sockets that listen already, and again whenever it dies, hangs, or does not read.

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
        self.pong = Pong(())
        self.restarts = 0
        self.process: asyncio.subprocess.Process | None = None
        self._setup = setup
        self._listening = listening
        self._report = report
        self._clip = clip
        self._view = view
        self._recordings: Mapping[str, PublicRecording] = {}
        self._recent: deque[Listed] = deque(maxlen=REMEMBERED_SEGMENTS)
        self._last: Started | Ended | None = None
        self._writer: asyncio.StreamWriter | None = None
        # Monotonic. Nobody is alarmed before it had time to start.
        self._answered = time.monotonic() + START_WITHIN - PONG_WITHIN
        self._unanswered, self._patience = 0, 0  # pings; and how many more may be
        self._heard = asyncio.Event()
        # What processes before this one had counted, by name; and the sums of what they observed.
        self._before: dict[str, Counter[tuple[str, ...]]] = {}
        self._totals: dict[str, Counter[tuple[str, ...]]] = {}
        self._refused: set[str] = set()  # names of metrics

    def show(self, view: View) -> None:
        """Viewers see this from now on."""
        before, self._view = self._view, view
        with self._in_step():
            self.tell(view_delta(before, view))

    def show_recordings(self, found: Mapping[str, PublicRecording]) -> None:
        """There are these to be watched, by their paths."""
        before, self._recordings = self._recordings, found
        if found != before:
            with self._in_step():
                self.tell(recordings_delta(before, found))

    @contextmanager
    def _in_step(self) -> Iterator[None]:
        """Who has not been told a change can make nothing of the next: another process is told the whole."""
        try:
            yield
        except BaseException:
            if self._writer:
                self._writer.transport.abort()
            raise

    def tell(self, message: Message) -> None:
        """Never waits: who does not read does not answer either, and is replaced."""
        if self._writer and not self._writer.is_closing():
            self._writer.write(encode(message))

    def __call__(self, event: Event) -> None:
        """Tell of an event."""
        message = message_of(event)
        if message is None:
            return
        if isinstance(message, Listed):
            self._recent.append(message)
        else:
            self._last = message
        self.tell(message)

    def pid(self) -> int:
        """Its number; 0 while there is none."""
        return self.process.pid if self.process else 0

    @property
    def is_answering(self) -> bool:
        """Whether viewers are served."""
        return time.monotonic() - self._answered < PONG_WITHIN

    async def refresh(self) -> None:
        """Ask for its metrics as they are now, and wait for them, but not long."""
        if not self._writer or not self.is_answering:
            return
        self._ask()
        with suppress(TimeoutError):
            async with asyncio.timeout(FIGURES_WITHIN):
                while self._unanswered > 0:
                    await self._heard.wait()

    async def run(self) -> None:
        """Keep one running, until cancelled."""
        pause = 0.0
        while True:
            began = time.monotonic()
            reason = await self._live()
            self.restarts += 1
            lived = time.monotonic() - began
            pause = 0.0 if lived > SHORT_LIFE else min(max(2 * pause, 0.1), LONGEST_PAUSE)
            logger.error("the process that serves viewers %s; another one takes its place", reason)
            await asyncio.sleep(pause)

    def metrics(self) -> Iterator[Metric]:
        """Those of the process, counted on over its successors; and how many of these there were."""
        for sent in self.pong.metrics:
            samples = Counter(dict(sent.samples))
            if sent.is_counter:
                samples.update(self._before.get(sent.name, {}))
            total = Counter(self._totals.get(sent.name, {}))
            total.update(dict(sent.total or ()))
            totals = None if sent.total is None else dict(total)
            yield Metric(sent.name, sent.text, dict(samples), sent.labels, sent.is_counter, totals)
        text = "Processes that serve viewers, started in the place of one that died or hung"
        yield Metric("audience_restarts", text, self.restarts, is_counter=True)
        yield Metric("audience_serving", "1 while viewers are answered", self.is_answering)

    async def _live(self) -> str:
        """The life of one process; returns how it ended."""
        try:
            process, feed = await start_viewer_process(self._listening)
        except OSError as error:  # there is no memory, or no descriptor left: that passes
            return _not_started(error)
        try:
            reader, writer = await asyncio.open_connection(sock=feed)
        except OSError as error:
            return _not_started(error)
        else:
            return await self._serve(process, reader, writer)
        finally:  # whatever has failed: it would go on beside the next one
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _serve(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> str:
        """The same, from when it can be told what there is."""
        tasks: list[asyncio.Task[str]] = []
        self.process, self._writer = process, writer
        self._unanswered, self._patience = 0, UNANSWERED_AT_START
        try:
            recordings = recordings_delta({}, self._recordings)
            for message in (
                self._setup,
                view_delta(View(), self._view),
                recordings,
                *self._recent,
                self._last,
            ):
                if message:
                    self.tell(message)
            tasks += (asyncio.create_task(one) for one in (self._listen(reader, process), self._ping()))
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        except asyncio.CancelledError:
            writer.close()  # it says goodbye to its clients then
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), END_WITHIN)
            raise
        finally:
            for one in tasks:
                one.cancel()
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
                heard, self._heard = self._heard, asyncio.Event()
                heard.set()
                if self._clip:
                    for wish in self.pong.clip_requests:
                        self._clip(wish, self.tell)
        except ValueError as error:
            return f"does not speak as it should ({type(error).__name__})"
        except (EOFError, OSError):
            return f"has died (status {await process.wait()})"

    async def _ping(self) -> str:
        while self._patience:
            self._patience -= 1
            self._ask()
            await asyncio.sleep(PING_EVERY)
        return "does not answer"

    def _ask(self) -> None:
        self._unanswered += 1
        self.tell(Ping(self._report()))

    def _checked(self, pong: Pong) -> Pong:
        """The answer with only such metrics as there are."""
        metrics, refused = accepted(pong.metrics)
        for name in sorted(refused - self._refused)[: MOST_REFUSED - len(self._refused)]:
            logger.warning("the process that serves viewers sends a metric that is not taken: %s", name)
            self._refused.add(name)
        return replace(pong, metrics=metrics)

    def _keep_counts(self) -> None:
        for sent in self.pong.metrics:
            if sent.is_counter:
                add_bounded(self._before.setdefault(sent.name, Counter()), sent.name, dict(sent.samples))
                add_bounded(self._totals.setdefault(sent.name, Counter()), sent.name, dict(sent.total or ()))
        self.pong = Pong(())


def _not_started(error: OSError) -> str:
    return f"cannot be started ({error.strerror})"
