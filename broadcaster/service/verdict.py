"""Whether viewers get what is on, and what the operator has to do: decided here alone, from plain figures."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from broadcaster.feed import State, Trouble

SILENT_TARGET_DURATIONS, SILENT_SECONDS = 2.5, 5.0  # without a new segment: the longer of the two
LEAST_FREE = 2 * 2**30  # bytes of the disk; the alert BroadcasterDiskFull says the same
FULL = 0.5  # of the spool; BroadcasterSpoolFills
GIGABYTE = 1e9
ON = {State.STARTING, State.LIVE}


@dataclass(frozen=True, slots=True)
class Standing:
    """How everything stands. Times are seconds, sizes bytes; what fails has its words, what does not None."""

    state: State
    target_duration: int | None = None
    silence: float = 0.0  # since the source brought a segment
    ended: bool = False  # the source itself says that its stream is over
    alive: bool = True  # ingest gives signs of life
    folder: bool = True  # the HLS folder answers
    serving: bool = True  # viewers are answered
    delay: str | None = None  # why finished segments do not get through
    losses: str | None = None  # why nothing but gaps is listed
    waiting: int = 0  # segments on their way
    spool: int = 0
    spool_limit: int = 0
    free: float = math.inf  # on the disk of the spool; NaN where that is not known
    journal: str | None = None
    mirror: str | None = None
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """``reason`` is why viewers do not get what is on; ``warning`` what is wrong besides, or not by us.

    Both say what to do. ``trouble`` is what viewers may know of it.
    """

    reason: str | None
    warning: str | None
    trouble: Trouble | None


def verdict(standing: Standing) -> Verdict:
    """Decide. Of several failures the one that causes the others is told, of warnings each."""
    trouble: Trouble | None = None
    if _undelivered(standing) and (standing.delay or standing.state in ON):
        trouble = "delivery"
    elif _is_silent(standing):
        trouble = "encoder"
    return Verdict(_failure(standing), "; besides, ".join(_warnings(standing)) or None, trouble)


def _failure(now: Standing) -> str | None:
    unserved = "viewers are not answered: the process that serves them is being replaced; see the log"
    return _undelivered(now) or (None if now.serving else unserved)


def _undelivered(now: Standing) -> str | None:
    if not now.alive:
        return "ingest is stuck: restart the service, and keep its log"
    if not now.folder:
        return "ingest is stuck: the HLS folder does not answer; look at its disk or its mount"
    if now.delay:
        kept = f"{now.waiting} segments wait, {_size(now.spool)} of them safe on disk"
        return f"viewers get nothing new ({now.delay}): {kept}; look at the bucket, its keys, and the uplink"
    if now.losses:
        return f"viewers get nothing but gaps ({now.losses}): look at the encoder, and the disk it writes to"
    return None


def _warnings(now: Standing) -> Iterator[str]:
    if _is_silent(now) and now.ended:
        yield (
            f"the source says that its stream is over, and has brought nothing for {now.silence:.0f} s: "
            "viewers are told when the grace time has passed; if it was to go on, start the encoder again"
        )
    elif _is_silent(now):
        yield (
            f"the encoder has brought nothing new for {now.silence:.0f} s, and the picture stands still: "
            "look at the encoder, its connection, and Owncast"
        )
    if now.journal:
        yield f"the journal cannot be written: {now.journal}; make room on the disk of the state folder"
    if now.free < LEAST_FREE:
        yield f"{_size(now.free)} are left on the disk of the spool: make room before the next outage"
    if now.spool > FULL * now.spool_limit > 0:
        share = f"{100 * now.spool / now.spool_limit:.0f} %"
        yield f"{share} of the spool is used: when it is full, the oldest segments become gaps"
    if now.mirror:
        yield f"playlists cannot be written into the bucket: {now.mirror}"
    if now.owner:
        yield now.owner


def _is_silent(now: Standing) -> bool:
    longest = max(SILENT_TARGET_DURATIONS * (now.target_duration or 0), SILENT_SECONDS)
    return now.state is State.LIVE and now.silence > longest


def _size(size: float) -> str:
    return f"{size / GIGABYTE:.1f} GB" if size >= GIGABYTE else f"{size / 1e6:.1f} MB"
