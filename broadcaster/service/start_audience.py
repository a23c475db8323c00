"""Starts the process that serves viewers, with nothing but the sockets it needs."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

# The very program that runs, whatever became of its path since: an upgrade, or rights that were dropped.
OURSELVES = "/proc/self/exe"
# What Python needs to find itself and to speak a language; no keys, and nothing that leads to them.
ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ")


async def start_audience(
    listening: Sequence[socket.socket],
) -> tuple[asyncio.subprocess.Process, socket.socket]:
    """It, on sockets that listen already, and our end of its feed; raises OSError."""
    ours, theirs = socket.socketpair()
    with theirs, ExitStack() as stack:
        stack.callback(ours.close)
        descriptors = [theirs.fileno(), *(one.fileno() for one in listening)]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "broadcaster.audience", *map(str, descriptors)),
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
