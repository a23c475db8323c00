"""When a test with servers may begin: a slow machine runs fewer tests at a time than workers could.

Most of these tests wait rather than compute, so there are more workers than processors. Where the processors
cannot keep up, all tests at once would measure how busy the machine is.
"""

import os
import socket
import time
from pathlib import Path

PROCESSORS = os.cpu_count() or 1
ALWAYS = 2 * PROCESSORS  # tests that run at a time, however busy the machine is
FREE = 0.15  # of the processors' time: with less no further test begins
LOOK, PAUSE = 0.5, 0.05  # seconds for which the processors are watched, and between two tries
START = 0.5  # seconds until what a test starts can be seen in the processors' time
TURN = 3.0  # seconds for which a worker begins one test after another: most take less than a second


class Pace:
    """Lets the tests of one worker begin; ``run`` is an id of the workers' common run."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.turn_ends = 0.0
        self.place: socket.socket | None = None

    def begin(self) -> None:
        """Wait until the processors are free enough for a test."""
        if time.monotonic() >= self.turn_ends:
            self.place = self._wait()
            self.turn_ends = time.monotonic() + TURN

    def end(self) -> None:
        """The test is done: its place is free."""
        if self.place is not None:
            self.place.close()
            self.place = None

    def _wait(self) -> socket.socket | None:
        place = self._place()
        while place is None:
            door = _taken(f"{self.run}-door")  # one at a time: it sees what the test before it takes
            if door is None:
                time.sleep(PAUSE)
            else:
                with door:
                    if _free() >= FREE:
                        time.sleep(START)
                        break
            place = self._place()
        return place

    def _place(self) -> socket.socket | None:
        """One of the places of the tests that always run; None when all are taken."""
        return next(filter(None, (_taken(f"{self.run}-{number}") for number in range(ALWAYS))), None)


def _taken(name: str) -> socket.socket | None:
    """A lock, as an address that no other process can take; None when it is taken."""
    lock = socket.socket(socket.AF_UNIX)
    try:
        lock.bind(f"\0broadcaster-tests-{name}")
    except OSError:
        lock.close()
        return None
    return lock


def _free() -> float:
    """The share of the processors' time that is idle, or goes to what is nice, as the unit tests are."""
    before = _times()
    time.sleep(LOOK)
    spent = [after - earlier for after, earlier in zip(_times(), before, strict=True)]
    _, nice, _, idle, waiting, *_ = spent
    return (nice + idle + waiting) / max(1, sum(spent))


def _times() -> list[int]:
    """Ticks since the machine's start: user, nice, system, idle, iowait and others (proc(5))."""
    return [int(ticks) for ticks in Path("/proc/stat").read_text().split(None, 9)[1:9]]
