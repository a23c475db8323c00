"""Can this uplink carry this stream? Measured with objects of growing size, against the folder's segments."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

from broadcaster.check.report import Finding, bytes_text, failed, ok, rate_text, time_text, warning
from broadcaster.check.survey import Survey
from broadcaster.errors import StorageError

SIZES = tuple(16_384 * 4**step for step in range(5))  # bytes: 16 KiB to 4 MiB
LONG_ENOUGH = 0.5  # seconds: what takes longer is measured well enough
PATIENCE = 4.0  # seconds for all of it
MARGIN = 2.0  # times the stream's own rate, to make up for an outage and for scenes with much motion


@dataclass(frozen=True, slots=True)
class Measurement:
    """An upload of ``size`` bytes took ``seconds``; ``finished`` is False when it was given up then."""

    size: int
    seconds: float
    finished: bool = True

    @property
    def rate(self) -> float:
        """Bytes per second; more than it can have been when the upload was given up."""
        return self.size / self.seconds


class Target(Protocol):
    """Where objects can be put."""

    async def put(self, name: str, size: int, *, deadline: float) -> bytes:
        """Store so many bytes within ``deadline`` seconds; raises StorageError."""


async def measure(objects: Target) -> Measurement:
    """Upload larger and larger objects until one takes long enough. Raises StorageError."""
    end = time.monotonic() + PATIENCE
    best = None
    for size in SIZES:
        started = time.monotonic()
        try:
            await objects.put(f"uplink-{size}", size, deadline=end - started)
        except StorageError:
            given_up = time.monotonic()
            if best:
                return best
            if given_up < end:
                raise
            return Measurement(size, given_up - started, finished=False)
        best = Measurement(size, time.monotonic() - started)
        if best.seconds > LONG_ENOUGH or time.monotonic() + 2 * best.seconds > end:
            break
    assert best  # noqa: S101 - there is at least one size
    return best


def judge(measured: Measurement, found: Survey | None, overhead: float) -> Finding:
    """Whether uploads this fast keep up with the segments found. ``overhead`` of a tiny PUT, in seconds."""
    how = f"{bytes_text(measured.size)} in {time_text(measured.seconds)}"
    speed = f"{'' if measured.finished else 'less than '}{rate_text(measured.rate)} ({how})"
    if not found or not found.rate:
        if not measured.finished:
            return failed(f"the uplink carries {speed}", SLOW)
        return ok(f"the uplink carries {speed}; check again during a stream to compare")
    largest = max(found.streamed, key=lambda one: one.largest)
    put = overhead + largest.largest / measured.rate
    stream = f"the stream makes {rate_text(found.rate)} in {len(found.streamed)} variant(s)"
    segment = (
        f"a PUT of {bytes_text(largest.largest)} takes {time_text(put)} "
        f"of its segment's {time_text(largest.target_duration)}"
    )
    message = f"{stream}, the uplink carries {speed}; {segment}"
    if measured.rate < found.rate:
        return failed(message, SLOW)
    if measured.rate < MARGIN * found.rate:
        return warning(message, f"leave room for outages and motion: {MARGIN:.0f} times the stream; {SLOW}")
    return ok(message)


SLOW = (
    "lower the bit rate or the number of variants in Owncast, or use a faster uplink; "
    "if uploads are under way at the moment, check without them"
)
