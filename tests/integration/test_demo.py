"""``broadcaster demo`` as its user meets it: one command, its links, and nothing left when it is over."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import re
import signal
import socket
import sys
import sysconfig
import termios
import venv
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import psutil
import pytest

from broadcaster.demo.bucket import SOCKETS
from broadcaster.demo.processes import HOST, Child, find_program, free_ports, lan_address
from broadcaster.hls import MediaPlaylist, MultivariantPlaylist, parse
from tests.support.fakes.simulated_owncast import SimulatedOwncast
from tests.support.length import SOAK
from tests.support.waiting import PATIENCE, eventually

ROOT = Path(__file__).resolve().parents[2]
# Becomes a program whose terminal is its standard input, as a shell starts it.
IN_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


def sockets(port: int | str = "*") -> set[str]:
    """Names of the sockets that SeaweedFS servers have, or have left behind, for a port or for any."""
    return {path.name for path in SOCKETS.glob(f"seaweedfs-*-{port}.sock")}


class Demo:
    """The command as a process of its own, with a temporary folder of its own."""

    def __init__(self, folder: Path, *options: str | Path) -> None:
        (self.port,) = free_ports(1)
        self.options = options
        self.tmp = folder / "tmp"
        self.tmp.mkdir()
        self.log = folder / "demo.log"
        self.program: list[str | Path] = ["broadcaster"]
        self.environment = {"TMPDIR": str(self.tmp)}
        self.listening: set[int] = set()  # ports of its processes, as far as a test has looked
        self.not_ours = sockets()  # of servers that were killed: one can have the number of a port of ours
        self._child: Child | None = None

    @property
    def child(self) -> Child:
        assert self._child
        return self._child

    async def start(self) -> None:
        command = [*self.program, "demo", "--port", str(self.port), *self.options]
        self._child = await Child.start("broadcaster demo", command, self.log, env=self.environment)

    async def start_in(self, terminal: int) -> None:
        """Start it in a terminal."""
        command = [find_program("broadcaster"), "demo", "--port", str(self.port), *self.options]
        with self.log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", IN_TERMINAL, *command),
                stdin=terminal,
                stdout=output,
                stderr=output,
                env=os.environ | self.environment,
            )
        self._child = Child("broadcaster demo", process, self.log)

    async def close(self) -> None:
        if self._child:
            await self._child.stop()

    async def until_it_says(self, text: str) -> None:
        await self.child.until(eventually(lambda: text in self.log.read_text()), within=PATIENCE)

    async def link(self) -> str:
        """Wait for the link that it prints once the stream is on, and return it."""
        await self.until_it_says("Open:\n\n")
        return self.links()["page"]

    def links(self) -> dict[str, str]:
        """What each printed link leads to, and the link."""
        found = re.findall(r"^ +(\w+) +(http://\S+)$", self.log.read_text(), re.MULTILINE)
        assert len(found) == len(dict(found))
        return dict(found)

    def processes(self, name: str = "") -> list[psutil.Process]:
        """What it has started, by the beginning of the program's name."""
        found = []
        for process in psutil.Process(self.child.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # an ffmpeg of pictures ends by itself
                self.listening |= {at.laddr.port for at in process.net_connections() if at.status == "LISTEN"}
                found += [process] if process.is_running() and process.name().startswith(name) else []
        return found

    def encoders(self) -> list[psutil.Process]:
        """Those that make the stream: the idle clip and pictures have an ffmpeg of their own for a moment."""
        return self._with("lavfi")

    def services(self) -> list[psutil.Process]:
        """The service's process."""
        return self._with("broadcaster.demo.show")

    def _with(self, argument: str) -> list[psutil.Process]:
        found = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):  # it has ended
                found += [process] if argument in process.cmdline() else []
        return found

    async def complaint(self, status: int) -> str:
        """Wait for its end with that status; returns what it complained of."""
        await self.child.until(self._ended(), within=PATIENCE)
        assert self.child.returncode == status, self.log.read_text()
        lines = [line for line in self.log.read_text().splitlines() if line and not line.startswith("demo: ")]
        complaints = [line for line in lines if line.startswith("broadcaster: ")]
        assert len(complaints) == 1, lines
        assert lines[-1] == complaints[0], "one line says all, and it is the last"
        self.check_nothing_is_left()
        return complaints[0].removeprefix("broadcaster: ")

    def check_nothing_is_left(self) -> None:
        assert [process for process in psutil.process_iter() if self.is_ours(process)] == []
        assert list(self.tmp.iterdir()) == []
        ours = {name for port in self.listening for name in sockets(port)}
        assert ours - self.not_ours == set()
        assert "Traceback" not in self.log.read_text()

    def is_ours(self, process: psutil.Process) -> bool:
        """Whether the demo started it, or something that the demo started: the environment is handed down."""
        try:
            return process.environ().get("TMPDIR", "").startswith(str(self.tmp))
        except psutil.Error:
            return False  # gone meanwhile, or another user's

    async def _ended(self) -> bool:
        await self.child.wait()
        return True


@asynccontextmanager
async def running(demo: Demo) -> AsyncIterator[Demo]:
    """Start the demo, and end it whatever happens."""
    try:
        await demo.start()
        yield demo
    finally:
        await demo.close()


async def newest(session: aiohttp.ClientSession, url: str) -> str:
    """The address of the last segment of a media playlist."""
    async with session.get(url) as response:
        playlist = parse(await response.text())
    assert isinstance(playlist, MediaPlaylist)
    return playlist.segments[-1].uri


async def another(session: aiohttp.ClientSession, url: str, first: str) -> str:
    """Wait for a newer one."""
    return await eventually(lambda: newest(session, url), lambda found: found != first)


async def check_page(session: aiohttp.ClientSession, link: str) -> None:
    """The page and what it is made of are served at the link."""
    async with session.get(link) as response:
        assert (response.status, response.content_type) == (200, "text/html")
        page = await response.text()
    for part in re.findall(r'(?:src|href)="(?!data:)([^"]+)"', page):
        async with session.get(link + part) as response:
            assert response.status == 200, part


async def check_stream(session: aiohttp.ClientSession, link: str, variants: int) -> list[str]:
    """Every variant has segments, in the bucket, and gets more of them; returns their addresses."""
    async with session.get(link + "live/playlist.m3u8") as response:
        playlist = parse(await response.text())
    assert isinstance(playlist, MultivariantPlaylist)
    assert len(playlist.variants) == variants
    found = []
    for variant in playlist.variants:
        url = f"{link}live/{variant.uri}"
        first = await newest(session, url)
        for segment in (first, await another(session, url, first)):
            assert not segment.startswith(link)
            async with session.get(segment) as response:
                body = await response.read()
                assert (response.status, len(body) % 188) == (200, 0)
            found.append(segment)
    return found


@pytest.mark.takes(40)
async def test_the_demo_plays_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """The link leads to the page and a stream of two variants; Ctrl-C ends all of it, with status 0.

    With ``--lan`` page and segments are at the address of the network as well; the dashboard is not. In a
    terminal, e and b suspend encoder and bucket until pressed again, and k kills the service.
    """
    ours, terminal = pty.openpty()
    modes = termios.tcgetattr(terminal)
    demo = Demo(tmp_path, "--lan")
    try:
        await demo.start_in(terminal)
        link = await demo.link()
        links, address = demo.links(), lan_address()
        phone = f"http://{address}:{demo.port}/"
        assert list(links) == ["page", "dashboard", "phone"]
        assert (link, links["phone"]) == (f"http://{HOST}:{demo.port}/", phone)
        await demo.until_it_says("e freezes the encoder, b stops the bucket, k kills the service")
        (encoder,), (weed,) = demo.encoders(), demo.processes("weed")
        assert demo.is_ours(weed)
        assert demo.is_ours(encoder)
        assert list(demo.tmp.iterdir())
        async with aiohttp.ClientSession() as session:
            await check_links(session, demo, links, address)
            for key, part in (b"e", encoder), (b"b", weed):
                os.write(ours, key)
                await eventually(part.status, lambda status: status == psutil.STATUS_STOPPED)
                os.write(ours, key)
                await eventually(part.status, lambda status: status != psutil.STATUS_STOPPED)
                await demo.child.until(check_stream(session, link, 2), within=PATIENCE)
            (service,) = demo.services()
            os.write(ours, b"x?k")
            await demo.until_it_says("demo: the service is back\n")
            assert not service.is_running()
            (another_one,) = demo.services()
            assert another_one.pid != service.pid
            await demo.child.until(check_stream(session, link, 2), within=PATIENCE)
        assert termios.tcgetattr(terminal) != modes
        assert await demo.child.stop(signal.SIGINT, grace=PATIENCE) == 0
        assert termios.tcgetattr(terminal) == modes
        demo.check_nothing_is_left()
    finally:
        await demo.close()
        os.close(ours)
        os.close(terminal)


async def check_links(
    session: aiohttp.ClientSession, demo: Demo, links: Mapping[str, str], address: str
) -> None:
    """The links lead to the dashboard, here alone, to recordings, and to the page with its stream."""
    async with session.get(links["dashboard"]) as response:
        assert (response.status, response.content_type) == (200, "text/html")
    async with session.get(f"{links['page']}recordings") as response:
        assert response.status == 200, "recordings are on"
    for page in (links["page"], links["phone"]):
        await check_page(session, page)
        segments = await demo.child.until(check_stream(session, page, 2), within=PATIENCE)
    assert all(segment.startswith(f"http://{address}:") for segment in segments)
    with pytest.raises(aiohttp.ClientConnectorError):
        await session.get(links["dashboard"].replace(HOST, address))


async def test_ctrl_c_while_it_starts(tmp_path: Path) -> None:
    """Ctrl-C before anything is up ends the demo just as cleanly."""
    async with running(Demo(tmp_path)) as demo:
        await demo.until_it_says("starting SeaweedFS")
        await demo.child.until(eventually(lambda: demo.processes("weed")), within=PATIENCE)
        assert await demo.child.stop(signal.SIGINT, grace=PATIENCE) == 0
        demo.check_nothing_is_left()


@pytest.mark.skipif(not SOAK, reason="make soak runs it: the other demos have an encoder of their own")
@pytest.mark.takes(10)
async def test_the_demo_follows_a_folder(tmp_path: Path) -> None:
    """With ``--source`` the demo shows the stream of that folder, runs no encoder, and leaves it alone.

    When the bucket dies meanwhile, one line says so and all the rest ends.
    """
    hls = tmp_path / "hls"
    async with (
        SimulatedOwncast(hls, tmp_path / "owncast") as owncast,
        running(Demo(tmp_path, "--source", hls)) as demo,
    ):
        await demo.until_it_says("waiting for")
        run_id = await owncast.go_live()
        link = await demo.link()
        async with aiohttp.ClientSession() as session:
            segments = await demo.child.until(check_stream(session, link, 2), within=PATIENCE)
        assert all(f"/stream-{run_id}-" in segment for segment in segments)
        assert not demo.encoders()
        demo.processes("weed")[0].kill()
        assert (await demo.complaint(1)).startswith("SeaweedFS was ended by SIGKILL")
        assert list(hls.glob("0/stream-*.ts"))


async def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    """On a port that is taken the demo says so, in one line, and starts nothing."""
    demo = Demo(tmp_path)
    with socket.create_server((HOST, demo.port)):
        async with running(demo):
            assert await demo.complaint(1) == f"port {demo.port} on {HOST} is taken; --port chooses another"
    assert "starting" not in demo.log.read_text()


async def test_missing_seaweedfs_is_one_line(tmp_path: Path) -> None:
    """In an environment without the program ``weed``, the demo says that this is what is missing."""
    demo = Demo(tmp_path)
    elsewhere = tmp_path / "venv"
    venv.create(elsewhere, symlinks=True)
    packages = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), str(ROOT)}
    demo.program = [elsewhere / "bin" / "python", "-m", "broadcaster.cli"]
    demo.environment |= {"PYTHONPATH": os.pathsep.join(packages), "PATH": str(elsewhere / "bin")}
    async with running(demo):
        assert await demo.complaint(1) == "the program weed is missing or cannot be run"


async def test_missing_mediamtx_is_one_line(tmp_path: Path) -> None:
    """Where its binary is not, the demo says where there is one, before it starts anything."""
    demo = Demo(tmp_path, "--encoder", "mediamtx")
    demo.environment["PATH"] = str(tmp_path)
    async with running(demo):
        complaint = await demo.complaint(1)
    assert complaint.startswith("--encoder mediamtx: the program mediamtx is missing or cannot be run; put ")
    assert complaint.endswith("https://github.com/bluenviron/mediamtx/releases")
    assert "demo: " not in demo.log.read_text()


async def test_missing_ffmpeg_is_one_line(tmp_path: Path) -> None:
    """Without ffmpeg the demo says so, and what had been started before is ended."""
    demo = Demo(tmp_path)
    nowhere = tmp_path / "no-ffmpeg"
    demo.environment["IMAGEIO_FFMPEG_EXE"] = str(nowhere)
    async with running(demo):
        assert await demo.complaint(1) == f"the program {nowhere} is missing or cannot be run"


@pytest.mark.skipif(not SOAK, reason="make soak runs it: the other demos end in good order")
async def test_an_encoder_that_dies_ends_the_demo(tmp_path: Path) -> None:
    """When the encoder dies while the demo runs, one line says so and all the rest ends."""
    async with running(Demo(tmp_path)) as demo:
        await demo.link()
        demo.encoders()[0].kill()
        assert (await demo.complaint(1)).startswith("ffmpeg was ended by SIGKILL")
