"""The access that the viewer server gives up at its start (Landlock, prctl)."""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import sys
import sysconfig
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

NICENESS = 5  # ingest, which must lose nothing, goes first
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NAME, PR_SET_NO_NEW_PRIVS = 1, 4, 15, 38  # prctl(2)
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # of Landlock, on every architecture
RULESET_VERSION, PATH_BENEATH, NET_PORT = 1, 1, 2
# landlock(7): all rights of its first version; of these, to read files and folders.
EVERYTHING, TRUNCATE, READ = (1 << 13) - 1, 1 << 14, (1 << 2) | (1 << 3)
IOCTL = 1 << 15  # on devices
BIND_AND_CONNECT, CONNECT = 0b11, 0b10  # TCP
ABSTRACT_SOCKETS_AND_SIGNALS = 0b11  # of processes outside the sandbox
# The versions that introduced these rights.
HAS_TRUNCATE, HAS_NETWORK, HAS_IOCTL, HAS_SCOPES = 3, 4, 5, 6


def keep_memory_private() -> None:
    """Keep other processes of this user from tracing this one, and from reading its memory and open files."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def enter_sandbox() -> None:
    """Drop rights, and end with ingest even when stopped: the next process needs the port."""
    if sys.platform == "linux":
        prctl = ctypes.CDLL(None).prctl
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        prctl(PR_SET_NAME, b"audience", 0, 0, 0)
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    keep_memory_private()
    with suppress(OSError):  # the units of systemd refuse the call
        os.nice(NICENESS)
    # A terminal and systemd signal both processes; ingest drains first, and closes the channel then.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def landlock() -> int:
    """The version of Landlock that can be used; 0 or less for none."""
    if sys.platform != "linux":
        return 0
    return int(ctypes.CDLL(None).syscall(CREATE_RULESET, None, ctypes.c_size_t(0), RULESET_VERSION))


def read_only(folders: Iterable[Path], connects_to: int | None = None) -> bool:
    """Forbid this process to open any file, except Python's own and these folders for reading.

    From Linux 6.7 on it also cannot bind TCP sockets, and connects to the port ``connects_to`` alone, from
    6.12 on it cannot signal processes or connect to abstract sockets outside; open sockets stay usable.
    Returns whether the kernel supports it (Linux 5.13 with Landlock).
    """
    version = landlock()
    if version < 1:
        return False
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    files = EVERYTHING | (version >= HAS_TRUNCATE and TRUNCATE) | (version >= HAS_IOCTL and IOCTL)
    # The structure may not have fields of a later version.
    handled = [files, BIND_AND_CONNECT, ABSTRACT_SOCKETS_AND_SIGNALS]
    handled = handled[: 1 + (version >= HAS_NETWORK) + (version >= HAS_SCOPES)]
    rights = struct.pack(f"{len(handled)}Q", *handled)
    ruleset = syscall(CREATE_RULESET, rights, ctypes.c_size_t(len(rights)), 0)
    if ruleset < 0:
        return False
    own = {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")}
    # Later imports are in the folders of modules that are imported now.
    files_of_modules = (getattr(module, "__file__", "") for module in list(sys.modules.values()))
    modules = {Path(file).parent for file in files_of_modules if file}
    for folder in own | modules | set(folders):
        with suppress(OSError):  # a folder may not exist
            descriptor = os.open(folder, os.O_PATH | os.O_CLOEXEC)
            syscall(ADD_RULE, ruleset, PATH_BENEATH, struct.pack("=Qi", READ, descriptor), 0)
            os.close(descriptor)
    if connects_to is not None and version >= HAS_NETWORK:
        syscall(ADD_RULE, ruleset, NET_PORT, struct.pack("=QQ", CONNECT, connects_to), 0)
    done: bool = syscall(RESTRICT_SELF, ruleset, 0) == 0
    os.close(ruleset)
    return done
