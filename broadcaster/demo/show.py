"""``broadcaster demo``: a bucket, a stream, the service and the page, all on this machine.

As a program, this module is the service of a demo, which is a process of its own so that a key can kill it.
Its settings are in its environment, and its standard output has a line for each event.
"""

from __future__ import annotations

import asyncio
import io
import os
import signal
import sys
import tempfile
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path

import segno

from broadcaster import logs
from broadcaster.config import load
from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.demo.encoder import ffmpeg, find_mediamtx, mediamtx_stream, owncast_stream
from broadcaster.demo.processes import HOST, Child, free_ports, lan_address, require_free
from broadcaster.errors import DemoError, first_error
from broadcaster.events import Event, SegmentPublished, StreamStarted
from broadcaster.printable import write
from broadcaster.service import serve

REPORT_EVERY = 10  # seconds
READY, LIVE, PUBLISHED = "ready", "live", "published"  # lines of the service; the last two with a number


async def run_demo(source: Path | None, port: int, *, lan: bool = False, mediamtx: bool = False) -> None:
    """Run until cancelled; no process and no file remains.

    ``source`` is an HLS folder, None for a film, which comes by way of MediaMTX with ``mediamtx``. With
    ``lan``, devices of this machine's network can watch. Raises DemoError if a part cannot be started and
    ConfigError for a wrong setting; in an exception group later, or if a part dies.
    """
    try:
        require_free(port)
    except DemoError as error:
        raise DemoError(f"{error}; --port chooses another") from None
    if mediamtx and source is None:
        find_mediamtx()
    address = lan_address() if lan else HOST
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="broadcaster-demo-")))
        _say("starting SeaweedFS, in the place of the R2 bucket")
        bucket = await stack.enter_async_context(SeaweedBucket(folder / "bucket", address=address))
        parts, others = {"b": bucket.child}, list[Child]()
        mediamtx_url = ""
        if source is None:
            what = "MediaMTX and a publisher" if mediamtx else "ffmpeg, in the place of Owncast"
            _say(f"starting {what}")
            begin = mediamtx_stream if mediamtx else owncast_stream
            stream = await stack.enter_async_context(begin(folder))
            parts["e"], source, mediamtx_url = stream.encoder, stream.folder, stream.mediamtx_url
            others += filter(None, [stream.mediamtx])
        settings = _settings(folder, source, port, bucket, lan=lan)
        if mediamtx_url:
            settings["BROADCASTER_MEDIAMTX_URL"] = mediamtx_url
        load(_env_file=None, **settings)
        service = _Service(settings, folder / "service.log", _links(settings, address))
        freezers = {key: _Freezer(part, *FROZEN[key]) for key, part in parts.items() if part}
        actions = {key: freezer.toggle for key, freezer in sorted(freezers.items(), reverse=True)}
        service.keys = stack.enter_context(_listening({**actions, "k": service.kill}))
        async with asyncio.TaskGroup() as group:
            for part in filter(None, [*parts.values(), *others]):
                group.create_task(part.watch())
            group.create_task(service.keep_running())
            group.create_task(service.report())


WHAT_KEYS_DO = {"e": "e freezes the encoder", "b": "b stops the bucket", "k": "k kills the service"}
FROZEN = {
    "e": ("the encoder is frozen", "the encoder goes on"),
    "b": ("the bucket answers nobody", "the bucket answers again"),
}


class _Freezer:
    """Suspends a part, and lets it go on."""

    def __init__(self, part: Child, frozen: str, goes_on: str) -> None:
        self._part, self._frozen, self._goes_on = part, frozen, goes_on
        self._is_frozen = False

    def toggle(self) -> None:
        self._is_frozen = not self._is_frozen
        self._part.signal(signal.SIGSTOP if self._is_frozen else signal.SIGCONT)
        _say(f"{self._frozen}; the same key ends that" if self._is_frozen else self._goes_on)


class _Service:
    """The service's process, started again after ``kill``, and the demo's texts about it."""

    def __init__(self, settings: dict[str, str], log: Path, links: str) -> None:
        self.keys: list[str] = []
        self._settings, self._log, self._links = settings, log, links
        self._child: Child | None = None
        self._killed = self._was_ready = self._was_live = False
        self._published = 0
        self._delays: list[float] = []

    async def keep_running(self) -> None:
        """Run the service. Raises DemoError if it ends by itself."""
        command = [sys.executable, "-m", "broadcaster.demo.show"]
        while True:
            child = await Child.start("the service", command, self._log, env=self._settings, piped=True)
            try:
                self._child, self._killed = child, False
                async for line in child.lines():
                    self._note(*line.split())
                if not self._killed:
                    await child.watch()
            finally:
                await child.stop()

    def kill(self) -> None:
        """Kill the service."""
        if self._child and not self._killed:
            self._killed = True
            self._child.signal(signal.SIGKILL)
            _say("the service is killed, and is started again")

    def _note(self, kind: str, number: str = "") -> None:
        if kind == PUBLISHED:
            self._published += 1
            self._delays += [float(number)] if number else []
        elif kind == READY:
            _say("the service is back" if self._was_ready else "waiting for the first segments")
            self._was_ready = True
        elif not self._was_live:
            self._was_live = True
            _say(f"live with {number} variant(s); Ctrl-C ends it. Open:\n\n{self._links}")
            if self.keys:
                what = ", ".join(WHAT_KEYS_DO[key] for key in self.keys)
                _say(f"press a key, and watch what viewers see: {what}")

    async def report(self) -> None:
        """Say now and then how many segments were published, and how fast."""
        while True:
            await asyncio.sleep(REPORT_EVERY)
            if self._delays:
                milliseconds = 1000 * sorted(self._delays)[len(self._delays) // 2]
                self._delays.clear()
                _say(f"{self._published} segments published, {milliseconds:.0f} ms after they were finished")


@contextmanager
def _listening(actions: dict[str, Callable[[], None]]) -> Iterator[list[str]]:
    """Call an action when its key is pressed; yields the keys, none without a terminal in the foreground."""
    if not (sys.stdin and sys.stdin.isatty() and os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()):
        yield []
        return
    terminal = sys.stdin.fileno()

    def read() -> None:
        pressed = os.read(terminal, 64).decode(errors="replace")
        if not pressed:  # the terminal is gone
            loop.remove_reader(terminal)
        for key in pressed:
            actions.get(key, lambda: None)()

    loop = asyncio.get_running_loop()
    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal)
    loop.add_reader(terminal, read)
    try:
        yield list(actions)
    finally:
        loop.remove_reader(terminal)
        with suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _links(settings: dict[str, str], address: str) -> str:
    page, admin = settings["BROADCASTER_PORT"], settings["BROADCASTER_ADMIN_PORT"]
    links = [f"    page       http://{HOST}:{page}/", f"    dashboard  http://{HOST}:{admin}/dashboard"]
    if address != HOST:
        phone, code = f"http://{address}:{page}/", io.StringIO()
        segno.make(phone).terminal(out=code, compact=True, border=2)
        links += [f"    phone      {phone}", "", *(f"    {line}" for line in code.getvalue().splitlines())]
    return "\n".join([*links, ""])


def _settings(folder: Path, source: Path, port: int, bucket: SeaweedBucket, *, lan: bool) -> dict[str, str]:
    (admin_port,) = free_ports(1)
    return {
        "BROADCASTER_HOST": "0.0.0.0" if lan else HOST,  # noqa: S104 - the user has asked for it
        "BROADCASTER_HLS_DIR": str(source.absolute()),
        "BROADCASTER_STATE_DIR": str(folder / "state"),
        "BROADCASTER_PORT": str(port),
        "BROADCASTER_ADMIN_PORT": str(admin_port),
        "BROADCASTER_PICTURES": ffmpeg()[0],
        "BROADCASTER_RECORDINGS": "keep",
        "BROADCASTER_VIEWER_CLIPS": "true",
        "R2_ENDPOINT_URL": bucket.endpoint_url,
        "R2_BUCKET": bucket.bucket,
        "R2_ACCESS_KEY_ID": bucket.access_key_id,
        "R2_SECRET_ACCESS_KEY": bucket.secret_access_key,
        "R2_PUBLIC_URL": bucket.public_url,
    }


def _say(text: str) -> None:
    write(f"demo: {text}")


def _tell(event: Event) -> None:
    match event:
        case StreamStarted(variants=variants):
            write(f"{LIVE} {len(variants)}")
        case SegmentPublished(delay=delay):
            write(PUBLISHED if delay is None else f"{PUBLISHED} {delay}")


async def _serve() -> None:
    settings = load(_env_file=None)  # the file is for a real bucket
    serving = asyncio.ensure_future(serve(settings, on_ready=lambda *_: write(READY), on_event=_tell))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, serving.cancel)
    with suppress(asyncio.CancelledError):
        await serving


if __name__ == "__main__":
    logs.set_up("warning", "text")
    try:
        asyncio.run(_serve())
    except Exception as error:  # noqa: BLE001 - one line is enough
        sys.exit(f"{type(first_error(error)).__name__}: {first_error(error)}")
