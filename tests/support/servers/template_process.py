"""A template: a process that has imported the program, has no settings, and copies itself for each start.

A copy is a child of the template's parent (CLONE_PARENT of clone(2)). It reads the message of its start,
with the arguments, the environment, the folder and the descriptors, and runs a module. It keeps a template
of its own, which starts its viewer servers. A template is copied before the message is read, so neither a
template nor a viewer server has had a secret.
"""

import asyncio
import atexit
import ctypes
import gc
import json
import os
import runpy
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

from aiobotocore.config import AioConfig

import broadcaster.doctor
import broadcaster.relay.serve
import broadcaster.service.serve
import broadcaster.viewer_server.process  # noqa: F401 - this and those above are for the copies
from broadcaster.bucket.session import Bucket, create_client
from broadcaster.config import unknown_names
from tests.support.servers.prepared import CLONE, LONGEST, Template

CLONE_PARENT = 0x8000
PR_SET_PDEATHSIG = 1
MOST_DESCRIPTORS = 16
VIEWER_SERVER = "broadcaster.viewer_server"

Start = Callable[[], tuple[list[str], list[int]]]


def copied_for_each(channel: socket.socket) -> Start:
    """Copy this process for each message until the channel closes. It returns in the copies alone.

    What it returns reads the message, sets up the process as the message says, and returns the command and
    the descriptors, but not those of output and errors.
    """
    while channel.recv(1, socket.MSG_PEEK):
        until_read, has_read = os.pipe()
        if not (pid := copy_of_this()):
            os.close(until_read)
            return partial(_set_up, channel, has_read)
        os.read(until_read, 1)
        os.close(until_read)
        os.close(has_read)
        channel.send(str(pid).encode())
    os._exit(0)


def _set_up(channel: socket.socket, has_read: int) -> tuple[list[str], list[int]]:
    message, (output, errors, *others), *_ = socket.recv_fds(channel, LONGEST, MOST_DESCRIPTORS)
    os.write(has_read, b".")
    channel.close()
    command, environment, folder = json.loads(message)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(folder)
    os.dup2(output, 1)
    os.dup2(errors, 2)
    for descriptor in (output, errors, has_read):
        os.close(descriptor)
    return command, others


def copy_of_this() -> int:
    """``os.fork``, but the copy is a child of this process's parent."""
    assert CLONE is not None
    python = ctypes.pythonapi
    python.PyOS_BeforeFork()
    pid = int(ctypes.PyDLL(None).syscall(CLONE, CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0))
    if pid:
        python.PyOS_AfterFork_Parent()
    else:
        python.PyOS_AfterFork_Child()
    if pid < 0:
        raise OSError("the process cannot be copied")
    return pid


def tie_to_parent() -> None:
    """End with the parent."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def run(module: str, *arguments: str) -> None:
    """``python -m``, without the last step of an end in good order.

    That would clear all modules, and first copy the memory that they share with the template: 60 ms.
    """
    sys.argv[1:] = arguments
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            raise
        status = end.code or 0
    else:
        status = 0
    threading._shutdown()  # type: ignore[attr-defined] # noqa: SLF001 - as Py_FinalizeEx does, in this order
    atexit._run_exitfuncs()  # noqa: SLF001
    gc.collect()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def template_of_viewer_servers(not_ours: socket.socket) -> Template:
    """A copy of this process, which copies itself for each viewer server; ``not_ours`` is closed in there."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork():
        theirs.close()
        return Template(ours, {})
    ours.close()
    not_ours.close()
    _, descriptors = copied_for_each(theirs)()
    run(VIEWER_SERVER, *map(str, descriptors))
    raise AssertionError


def start_viewer_servers_with(template: Template) -> None:
    """From now on asyncio starts them as copies of the template."""
    start_program = asyncio.create_subprocess_exec

    async def start(*command: str, **options: Any) -> asyncio.subprocess.Process:  # noqa: ANN401 - of any program
        if VIEWER_SERVER not in command:
            return await start_program(*command, **options)
        descriptors = [1, 2, *options["pass_fds"]]
        copy = template.start(command, options["env"], Path(options["cwd"]), descriptors)
        return cast(asyncio.subprocess.Process, copy)

    vars(asyncio)["create_subprocess_exec"] = start


async def load_what_clients_read() -> None:
    """The data of botocore that each S3 client of a process reads, which the session keeps."""
    async with create_client(Bucket("http://127.0.0.1:9", "none", "none", "none", None), AioConfig()):
        pass


if __name__ == "__main__":
    asyncio.run(load_what_clients_read())
    unknown_names()  # they are compared with those of all settings
    gc.collect()
    gc.freeze()
    channel = socket.socket(fileno=int(sys.argv[1]))
    start = copied_for_each(channel)
    os.setsid()
    tie_to_parent()
    start_viewer_servers_with(template_of_viewer_servers(channel))
    command, _ = start()
    run(*command)
