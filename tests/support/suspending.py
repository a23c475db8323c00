"""Freezes child processes: connections stay open without answers."""

import contextlib
import os
import signal
import time

from broadcaster.demo.processes import Child

STOPPED = os.WSTOPPED | os.WEXITED | os.WNOWAIT | os.WNOHANG
PATIENCE, LOOK = 1.0, 0.005  # seconds


def suspend(child: Child | None) -> None:
    """Stop the process (SIGSTOP), and wait until it has stopped or ended.

    A process that starts another by vfork does not stop before that one runs its program, and this one is
    stopped as well: both go on for a moment then.
    """
    assert child is not None
    with contextlib.suppress(ChildProcessError, ProcessLookupError):  # it has ended
        while child.returncode is None:
            os.killpg(child.pid, signal.SIGSTOP)
            until = time.monotonic() + PATIENCE
            while time.monotonic() < until:  # its threads stop one after another
                if os.waitid(os.P_PID, child.pid, STOPPED):
                    return
                time.sleep(LOOK)
            resume(child)
            time.sleep(LOOK)


def resume(child: Child | None) -> None:
    """Let a suspended process go on; one that has ended stays ended."""
    if child is not None and child.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGCONT)
