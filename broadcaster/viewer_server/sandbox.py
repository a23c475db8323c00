"""What the process gives up before it talks to strangers. It needs no file but its own."""

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
RULESET_VERSION, PATH_BENEATH = 1, 1
# landlock(7): all that its first version knows of, and of that to read files and folders.
EVERYTHING, TRUNCATE, READ = (1 << 13) - 1, 1 << 14, (1 << 2) | (1 << 3)
IOCTL = 1 << 15  # on devices
BIND_AND_CONNECT = 0b11  # TCP
ABSTRACT_SOCKETS_AND_SIGNALS = 0b11  # of processes that are not shut in with this one
# The versions that brought these.
HAS_TRUNCATE, HAS_NETWORK, HAS_IOCTL, HAS_SCOPES = 3, 4, 5, 6


def keep_memory_private() -> None:
    """Let no other process of this user read the memory and the open files of this one, or trace it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def enter_sandbox() -> None:
    """Drop rights, and die with ingest even when stopped: whoever comes next wants the port."""
    if sys.platform == "linux":
        prctl = ctypes.CDLL(None).prctl
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        prctl(PR_SET_NAME, b"audience", 0, 0, 0)
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    with suppress(OSError):  # the units of systemd allow no such calls
        os.nice(NICENESS)
    # A terminal and systemd tell both processes at once; ingest drains first, and closes the feed then.
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, signal.SIG_IGN)


def landlock() -> int:
    """Which version of it the kernel has, and lets us use; 0 or less: none."""
    if sys.platform != "linux":
        return 0
    return int(ctypes.CDLL(None).syscall(CREATE_RULESET, None, ctypes.c_size_t(0), RULESET_VERSION))


def read_only(folders: Iterable[Path]) -> bool:
    """From here on open nothing but Python's own files and these folders, to read.

    Where the kernel can do that, too, no TCP connection is begun and no port bound (Linux 6.7), and no signal
    and no connection to an abstract socket leaves the process (6.12); sockets that are open go on. Returns
    whether the kernel shuts files away: Linux 5.13 with Landlock.
    """
    version = landlock()
    if version < 1:
        return False
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    files = EVERYTHING | (version >= HAS_TRUNCATE and TRUNCATE) | (version >= HAS_IOCTL and IOCTL)
    # What is of a version that the kernel does not have may not be in the structure.
    handled = [files]
    if version >= HAS_NETWORK:
        handled.append(BIND_AND_CONNECT)
    if version >= HAS_SCOPES:
        handled.append(ABSTRACT_SOCKETS_AND_SIGNALS)
    rights = struct.pack(f"{len(handled)}Q", *handled)
    ruleset = syscall(CREATE_RULESET, rights, ctypes.c_size_t(len(rights)), 0)
    if ruleset < 0:
        return False
    own = {Path(sysconfig.get_path(one)) for one in ("stdlib", "platstdlib")}
    # What is imported later lies beside what has been.
    modules = {
        Path(file).parent for one in list(sys.modules.values()) if (file := getattr(one, "__file__", ""))
    }
    for folder in own | modules | set(folders):
        with suppress(OSError):  # what is not there need not be read
            descriptor = os.open(folder, os.O_PATH | os.O_CLOEXEC)
            syscall(ADD_RULE, ruleset, PATH_BENEATH, struct.pack("=Qi", READ, descriptor), 0)
            os.close(descriptor)
    done: bool = syscall(RESTRICT_SELF, ruleset, 0) == 0
    os.close(ruleset)
    return done
