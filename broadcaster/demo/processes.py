"""Child processes that end with this process, and free loopback ports.

Each child leads its own session, so that Ctrl-C in the terminal reaches only this process, which then ends
the children in order. If this process is killed, the kernel ends the child (PR_SET_PDEATHSIG, Linux only). A
Python script sets that and becomes the child by exec: ``preexec_fn`` runs between fork and exec, where
another thread's lock can block for ever, and ``setpriv --pdeathsig`` needs a recent util-linux. The child
must not fork, which holds for ffmpeg and SeaweedFS.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import socket
import sys
import sysconfig
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn, Self, TypeVar

from broadcaster.errors import DemoError

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.25  # seconds between two probes
TAIL = 5  # lines of a log shown when its child died

# With -I and -S (no environment, no site packages) it starts in a few milliseconds. If the parent died before
# the prctl, no signal comes: the script compares the parent's id. Python ignores two signals, and exec would
# keep that.
_TIE_TO_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, int(signal.SIGKILL), 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone")
for number in signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ:
    signal.signal(number, signal.SIG_DFL)
os.execv(sys.argv[2], sys.argv[2:])
"""

T = TypeVar("T")


class Child:
    """A child process, made by ``start``. ``name`` appears in errors."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process

    @classmethod
    async def start(
        cls,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        piped: bool = False,
    ) -> Self:
        """Start ``command`` with its output appended to the file ``log``; ``env`` extends the environment.

        With ``piped``, ``lines`` has its standard output, and its errors go to this process's own.
        The calling thread has to live as long as the child. Raises DemoError if the program cannot be run.
        """
        program = find_program(str(command[0]))
        line = [program, *map(str, command[1:])]
        if sys.platform == "linux":
            line = [sys.executable, "-I", "-S", "-c", _TIE_TO_PARENT, str(os.getpid()), *line]
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *line,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if piped else output,
                stderr=None if piped else asyncio.subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        return cls(name, process, log)

    @property
    def pid(self) -> int:
        """The process id, also that of the process group."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status: None while the process runs, minus the signal's number after a signal."""
        return self._process.returncode

    async def wait(self) -> int:
        """Wait for the process's end and return the exit status."""
        return await self._process.wait()

    async def lines(self) -> AsyncIterator[str]:
        """The lines of a piped child, until it ends."""
        if self._process.stdout:
            async for line in self._process.stdout:
                yield line.decode().rstrip()

    async def stop(self, with_signal: signal.Signals = signal.SIGTERM, *, grace: float = 10.0) -> int:
        """Send a signal, wait ``grace`` seconds, then kill the group; returns the exit status.

        A suspended child is resumed. A cancelled ``stop`` kills the group as well.
        """
        self.signal(with_signal)
        self.signal(signal.SIGCONT)
        try:
            async with asyncio.timeout(grace):
                return await self.wait()
        except TimeoutError:
            pass
        finally:
            self.signal(signal.SIGKILL)
        return await self.wait()

    async def kill(self) -> None:
        """Kill the process group, and wait for the end of the process."""
        self.signal(signal.SIGKILL)
        await self.wait()

    def log_tail(self, lines: int = TAIL) -> str:
        """The last lines of the log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.rstrip().splitlines()[-lines:])

    async def until(self, ready: Awaitable[T], *, within: float) -> T:
        """Await ``ready`` for up to ``within`` seconds; returns its result.

        Raises DemoError with the end of the log if the child dies first, or if the time is up.
        """
        waiting = asyncio.ensure_future(ready)
        death = asyncio.ensure_future(self.wait())
        try:
            await asyncio.wait({waiting, death}, timeout=within, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                return waiting.result()
            status = f"ended with status {death.result()}" if death.done() else f"not ready in {within:g} s"
            raise DemoError(f"{self.name}: {status}; the end of its log:\n{self.log_tail()}")
        finally:
            waiting.cancel()
            death.cancel()
            await asyncio.gather(waiting, death, return_exceptions=True)

    async def watch(self) -> NoReturn:
        """Wait for the process's end, then raise a DemoError of one line."""
        status = await self.wait()
        how = f"ended with status {status}" if status >= 0 else f"was ended by {signal.Signals(-status).name}"
        last = self.log_tail(1)
        raise DemoError(f"{self.name} {how}" + (f"; the last line of its log: {last}" if last else ""))

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process group, if the process has not ended."""
        # Later, its id may be that of another process.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)


async def run(name: str, command: Sequence[str | Path], log: Path, *, within: float) -> None:
    """Run a program to its end, with its output appended to the file ``log``.

    Raises DemoError if it is missing or fails, or if it takes more than ``within`` seconds and is killed.
    """
    child = await Child.start(name, command, log)
    try:
        status = await child.until(child.wait(), within=within)
    finally:
        await child.kill()
    if status:
        raise DemoError(f"{name} failed with status {status}; the end of its log:\n{child.log_tail()}")


async def poll(probe: Callable[[], Awaitable[bool]]) -> None:
    """Call ``probe`` repeatedly, less and less often, until it returns True."""
    pause = FIRST_PAUSE
    while not await probe():
        await asyncio.sleep(pause)
        pause = min(1.5 * pause, LONGEST_PAUSE)


def find_program(name: str) -> str:
    """The path of a program, beside the Python interpreter or in PATH. Raises DemoError if it is missing."""
    scripts = sysconfig.get_path("scripts")
    found = shutil.which(name, path=scripts) or shutil.which(name)
    if found is None:
        raise DemoError(f"the program {name} is missing or cannot be run")
    return str(Path(found).absolute())


HOST = "127.0.0.1"
GRPC_OFFSET = 10_000  # SeaweedFS also listens on each of its ports plus this
# Ports below 22768, plus 10000, are below Linux's ephemeral ports: no outgoing connection takes such a port
# between ``is_free`` and the child's bind. No port of the range is another one plus 10000.
PORTS = range(12_000, 22_000)


def free_ports(count: int) -> list[int]:
    """So many loopback ports that are free, as are the ports 10000 above. Raises DemoError."""
    candidates = random.sample(PORTS, k=len(PORTS))
    found: list[int] = []
    for port in candidates:
        if len(found) == count:
            break
        if is_free(port) and is_free(port + GRPC_OFFSET) and _claim(port):
            found.append(port)
    if len(found) < count:
        raise DemoError(f"there are no {count} free ports on {HOST}")
    return found


def _claim(port: int) -> bool:
    """Claim the port among processes of this program until this process ends; whether that succeeded."""
    if sys.platform != "linux":
        return True
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0broadcaster-demo-port-{port}")  # an abstract name, released with the process
    except OSError:
        claim.close()
        return False
    claim.detach()  # it stays open
    return True


def require_free(port: int) -> None:
    """Raise DemoError if the loopback port is in use or invalid."""
    if not 0 < port < 65536:  # noqa: PLR2004 - the range of ports
        raise DemoError(f"there is no port {port}")
    if not is_free(port):
        raise DemoError(f"port {port} on {HOST} is taken")


def lan_address() -> str:
    """The address of this machine on its network. Raises DemoError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # for documents (RFC 5737); chooses a route, and sends nothing
        except OSError as error:
            raise DemoError("--lan: this machine is on no network") from error
        return str(probe.getsockname()[0])


def is_free(port: int) -> bool:
    """Whether no process listens on the loopback port."""
    with socket.socket() as attempt:
        # As servers do: connections in TIME_WAIT are no obstacle.
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((HOST, port))
        except OSError:
            return False
    return True
