"""Processes on cores of their own, so that a server and its clients do not take each other's time."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

SERVER, CLIENT = 0, 1  # cores


def on_core(core: int, command: Sequence[str]) -> list[str]:
    """The command on that core alone, where there is more than one."""
    taskset = shutil.which("taskset")
    return [taskset, "-c", str(core), *command] if taskset and (os.cpu_count() or 1) > 1 else [*command]


@contextmanager
def this_process_on(core: int) -> Iterator[None]:
    """Inside, this process and what it starts have that core alone, where there is more than one."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core} & cores or cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def run(stack: ExitStack, command: Sequence[str], port: int, *, piped: bool = False) -> subprocess.Popen[str]:
    """Start a server on its core, wait until it listens, and end it with the stack."""
    pipe = subprocess.PIPE if piped else None
    process = stack.enter_context(
        subprocess.Popen(on_core(SERVER, command), stdin=pipe, stdout=pipe, text=True)
    )
    stack.callback(process.terminate)
    for _ in range(2400):  # two minutes
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process
        time.sleep(0.05)
    raise RuntimeError(f"{command[0]} did not start")


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
