"""Freezes child processes: connections stay open without answers."""

import contextlib
import os
import signal

from broadcaster.demo.processes import Child


def suspend(child: Child | None) -> None:
    """Stop the process (SIGSTOP), and wait until it has stopped or ended."""
    assert child is not None
    if child.returncode is None:
        os.killpg(child.pid, signal.SIGSTOP)
        with contextlib.suppress(ChildProcessError):  # its threads stop one after another; or it has ended
            os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)


def resume(child: Child | None) -> None:
    """Let a suspended process go on; one that has ended stays ended."""
    if child is not None and child.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGCONT)
