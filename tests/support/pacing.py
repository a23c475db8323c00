"""When a test with servers may begin: a slow machine runs fewer tests at a time than workers could.

Most of these tests wait rather than compute, so there are more workers than processors. Where the processors
cannot keep up, all tests at once would measure how busy the machine is.
"""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROCESSORS = os.cpu_count() or 1
ALWAYS = 2 * PROCESSORS  # tests that run at a time, however busy the machine is
BUSY = 3 * PROCESSORS  # threads that compute or wait for a processor: no further test begins
LOOKS, PAUSE = 10, 0.05  # how often the threads are counted, and seconds in between
START = 1.0  # seconds until what a test starts can be seen in their count


@contextmanager
def paced(run: str) -> Iterator[None]:
    """Wait until the processors are free enough for a test of ``run``, an id, and hold its place."""
    place = _place(run)
    while place is None:
        door = _taken(f"{run}-door")  # one worker at a time, so that it sees what the test before it takes
        if door is None:
            time.sleep(PAUSE)
        else:
            with door:
                if _threads() <= BUSY:
                    time.sleep(START)
                    break
        place = _place(run)
    try:
        yield
    finally:
        if place is not None:
            place.close()


def _place(run: str) -> socket.socket | None:
    """One of the places of the tests that always run; None when all are taken."""
    return next(filter(None, (_taken(f"{run}-{number}") for number in range(ALWAYS))), None)


def _taken(name: str) -> socket.socket | None:
    """A lock, as an address that no other process can take; None when it is taken."""
    lock = socket.socket(socket.AF_UNIX)
    try:
        lock.bind(f"\0broadcaster-tests-{name}")
    except OSError:
        lock.close()
        return None
    return lock


def _threads() -> float:
    """Threads of the machine that compute or wait for a processor, over half a second."""
    seen = 0
    for _ in range(LOOKS):
        lines = Path("/proc/stat").read_text().splitlines()
        seen += next(int(line.split()[1]) for line in lines if line.startswith("procs_running"))
        time.sleep(PAUSE)
    return seen / LOOKS
