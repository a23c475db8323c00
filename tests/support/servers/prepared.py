"""Starts ``broadcaster`` as a copy of a process that has imported the program already.

To import the program is two thirds of a start, and the tests start it some hundreds of times. So each
process that runs tests has a template (``template_process``), which has imported the program and copies
itself for each start. The copy is a child of the process that runs the tests, which can signal and await it
as any other child.
"""

import asyncio
import atexit
import json
import os
import platform
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import cast

from broadcaster.demo.processes import Child, find_program

# The number of the system call that copies a process; None where that is not known to work.
CLONE = {"x86_64": 56, "aarch64": 220}.get(platform.machine()) if sys.platform == "linux" else None
# Variables that are read when Python starts or imports: a copy has what they made of the template.
READ_AT_START = ("PYTHON", "LD_", "MALLOC_", "SSL_")
LONGEST = 100_000  # bytes of a message
NETWORK = Path("/proc/thread-self/ns/net")  # in which a test may have a service of its own


async def start_broadcaster(
    command: Sequence[str | Path], log: Path, settings: Mapping[str, str], name: str = "broadcaster"
) -> Child:
    """The process of ``command``, its output appended to ``log``; ``settings`` extend the environment.

    It is a copy of the template if the command is ``broadcaster`` or a module of Python, but a new process if
    another program runs it.
    """
    program, *arguments = map(str, command)
    environment = {**os.environ, **settings}
    if program == find_program("broadcaster"):
        arguments = ["-m", "broadcaster.cli", *arguments]
    if CLONE is None or arguments[:1] != ["-m"] or not template().fits(environment):
        return await Child.start(name, command, log, env=settings)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        copy = template().start(arguments[1:], environment, Path.cwd(), [output.fileno()] * 2)
    return Child(name, cast(asyncio.subprocess.Process, copy), log)


class PreparedProcess:
    """A copy that runs; it has of ``asyncio.subprocess.Process`` what is used of it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._descriptor = os.pidfd_open(pid)
        self._loop.add_reader(self._descriptor, self._reap)

    def _reap(self) -> None:
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
        self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self._ended.set()

    async def wait(self) -> int | None:
        """The exit status, when the process has ended."""
        await self._ended.wait()
        return self.returncode

    def kill(self) -> None:
        """SIGKILL."""
        if self.returncode is None:
            os.kill(self.pid, signal.SIGKILL)


class Template:
    """A template, as the process sees it for which it copies itself.

    ``environment`` is that of the template, ``channel`` is where it takes messages.
    """

    def __init__(self, channel: socket.socket, environment: Mapping[str, str]) -> None:
        self._channel = channel
        self._read_at_start = _read_at_start(environment)
        self._network = NETWORK.stat().st_ino

    def fits(self, environment: Mapping[str, str]) -> bool:
        """Whether a copy is the same as a new process in this environment."""
        same_network = NETWORK.stat().st_ino == self._network
        return same_network and _read_at_start(environment) == self._read_at_start

    def start(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        descriptors: Sequence[int],
    ) -> PreparedProcess:
        """Start a copy that runs a module with arguments; the first descriptors are its output and errors."""
        message = json.dumps([list(command), dict(environment), str(folder)])
        socket.send_fds(self._channel, [message.encode()], list(descriptors))
        return PreparedProcess(int(self._channel.recv(LONGEST)))


def _read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in environment.items() if name.startswith(READ_AT_START)}


@cache
def template() -> Template:
    """The template of this process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    environment = {**os.environ, "SSL_CERT_FILE": os.devnull}
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.servers.template_process", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env={**environment, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return Template(ours, environment)
