"""Whether viewers get what is on, and what the operator has to do: decided here alone, from plain figures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from broadcaster.feed import Part, Severity, State, Trouble

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
    source: str | None = None  # why it cannot be read
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

    Both say what to do. ``parts`` are those that are not well, ``trouble`` is what viewers may know of it.
    """

    reason: str | None
    warning: str | None
    parts: Mapping[Part, Severity]
    trouble: Trouble | None


class Finding(NamedTuple):
    """Something is wrong with a part of the way from the encoder to viewers."""

    part: Part
    severity: Severity
    sentence: str


def verdict(standing: Standing) -> Verdict:
    """Decide. Of several failures the one that causes the others is told, of warnings each."""
    findings = list(_findings(standing))
    failures = [one for one in findings if one.severity == "failing"]
    warnings = [one.sentence for one in findings if one.severity == "warning"]
    parts = {one.part: one.severity for one in reversed(findings)}  # a failure comes last, and counts
    trouble: Trouble | None = None
    if any(one.part != "viewers" for one in failures) and (standing.delay or standing.state in ON):
        trouble = "delivery"
    elif _is_silent(standing):
        trouble = "encoder"
    if trouble:  # whatever is not well before them, it is they who have nothing to see
        parts.setdefault("viewers", "failing" if trouble == "delivery" else "warning")
    reason = failures[0].sentence if failures else None
    return Verdict(reason, "; besides, ".join(warnings) or None, parts, trouble)


def _findings(now: Standing) -> Iterator[Finding]:
    """All that is wrong: causes before what they cause."""
    for part, sentence in _failures(now):
        yield Finding(part, "failing", sentence)
    for part, sentence in _warnings(now):
        yield Finding(part, "warning", sentence)


def _failures(now: Standing) -> Iterator[tuple[Part, str]]:
    if not now.alive:
        yield "service", "ingest is stuck: restart the service, and keep its log"
    if not now.folder:
        yield "service", "ingest is stuck: the HLS folder does not answer; look at its disk or its mount"
    if now.source:
        act = "look at the rights of the HLS folder, and at the limits of this machine"
        yield "service", f"the source is out of reach ({now.source}): {act}"
    if now.delay:
        kept = f"{now.waiting} segments wait, {_size(now.spool)} of them safe on disk"
        act = "look at the bucket, its keys, and the uplink"
        yield "bucket", f"viewers get nothing new ({now.delay}): {kept}; {act}"
    if now.losses:
        act = "look at the encoder, and the disk it writes to"
        yield "encoder", f"viewers get nothing but gaps ({now.losses}): {act}"
    if not now.serving:
        act = "the process that serves them is being replaced; see the log"
        yield "viewers", f"viewers are not answered: {act}"


def _warnings(now: Standing) -> Iterator[tuple[Part, str]]:
    if _is_silent(now) and now.ended:
        over = f"the source says that its stream is over, and has brought nothing for {now.silence:.0f} s"
        act = "viewers are told when the grace time has passed; if it was to go on, start the encoder again"
        yield "encoder", f"{over}: {act}"
    elif _is_silent(now):
        silent = f"the encoder has brought nothing new for {now.silence:.0f} s, and the picture stands still"
        yield "encoder", f"{silent}: look at the encoder, its connection, and Owncast"
    if now.journal:
        act = "make room on the disk of the state folder"
        yield "service", f"the journal cannot be written: {now.journal}; {act}"
    if now.free < LEAST_FREE:
        left = f"{_size(now.free)} are left on the disk of the spool"
        yield "service", f"{left}: make room before the next outage"
    if now.spool > FULL * now.spool_limit > 0:
        share = f"{100 * now.spool / now.spool_limit:.0f} %"
        yield "service", f"{share} of the spool is used: when it is full, the oldest segments become gaps"
    if now.mirror:
        yield "bucket", f"playlists cannot be written into the bucket: {now.mirror}"
    if now.owner:
        yield "bucket", now.owner


def _is_silent(now: Standing) -> bool:
    longest = max(SILENT_TARGET_DURATIONS * (now.target_duration or 0), SILENT_SECONDS)
    return now.state is State.LIVE and now.silence > longest


def _size(size: float) -> str:
    return f"{size / GIGABYTE:.1f} GB" if size >= GIGABYTE else f"{size / 1e6:.1f} MB"
