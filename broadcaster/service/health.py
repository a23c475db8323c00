"""Evaluates the health of the service: why viewers do not get the stream, and what to do."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, get_args

from broadcaster.ipc.messages import HealthPart, Severity, State, ViewerProblem

SILENT_TARGET_DURATIONS, SILENT_SECONDS = 2.5, 5.0  # without a new segment: the longer of the two
# Without one that viewers get, though segments come: late enough for a bucket that is away to be named first.
STILL_TARGET_DURATIONS, STILL_SECONDS = 4, 12.0
LEAST_FREE = 2 * 2**30  # bytes of the disk; the alert BroadcasterDiskFull says the same
FULL = 0.5  # of the spool; BroadcasterSpoolFills
GIGABYTE = 1e9
LONG = 120  # minutes; what is longer is told in hours
ON = {State.STARTING, State.LIVE}


@dataclass(frozen=True, slots=True)
class HealthInputs:
    """Inputs of ``evaluate_health``. Times are seconds, sizes bytes, texts causes of failures."""

    state: State
    target_duration: int | None = None
    silence: float = 0.0  # since the source brought a segment
    silences: Mapping[str, float] = field(default_factory=dict)  # the same of each variant that is listed
    frozen: float = 0.0  # since viewers got one that can be played
    ended: bool = False  # the source itself says that its stream is over
    paused: bool = False  # the encoder has disconnected, and the time it has to come back is short
    alive: bool = True  # ingest gives signs of life
    folder: bool = True  # the HLS folder answers
    serving: bool = True  # viewers are answered
    source: str | None = None  # why it cannot be read
    refused: str | None = None  # which playlists are written and cannot be followed, and why
    delay: str | None = None  # why finished segments do not get through
    losses: str | None = None  # why nothing but gaps is listed
    waiting: int = 0  # segments on their way
    rate: float = 0.0  # bytes a second, of all variants
    spool: int = 0
    spool_limit: int = 0
    free: float = math.inf  # on the disk of the spool; NaN where that is not known
    journal: str | None = None
    mirror: str | None = None
    owner: str | None = None
    failed: str | None = None  # which parts, that the stream can do without, have failed
    unread: str | None = None  # why a segment that is listed cannot be read as viewers do, and what to do
    unsure: bool = False  # pages of another origin perhaps can, and nobody has said where the page is
    lit: int = 0  # pages that have a picture
    blind: int = 0  # pages that report errors, and have none


@dataclass(frozen=True, slots=True)
class Health:
    """Result of ``evaluate_health``.

    ``reason`` is why viewers do not get the stream, ``warning`` names further problems; both say what to do.
    ``parts`` are the affected parts, ``trouble`` is the problem that viewers are shown.
    """

    reason: str | None
    warning: str | None
    parts: Mapping[HealthPart, Severity]
    trouble: ViewerProblem | None


class Finding(NamedTuple):
    """A problem of one part between encoder and viewers; ``trouble`` is the text key for viewers."""

    part: HealthPart
    severity: Severity
    sentence: str
    trouble: ViewerProblem | None = None


def evaluate_health(inputs: HealthInputs) -> Health:
    """The health of the service. The first cause of several failures is reported, and every warning."""
    findings = list(_findings(inputs))
    failures = [one.sentence for one in findings if one.severity == "failing"]
    warnings = [one.sentence for one in findings if one.severity == "warning"]
    parts = {one.part: one.severity for one in reversed(findings)}  # a failure comes last, and counts
    troubles = {one.trouble: one.severity for one in reversed(findings) if one.trouble}
    # What does not get through is told before an encoder that is silent as well.
    trouble = next((one for one in get_args(ViewerProblem) if one in troubles), None)
    if trouble:  # whatever is not well before them, it is they who have nothing to see
        parts.setdefault("viewers", troubles[trouble])
    reason = _frozen(inputs) + failures[0] if failures else None
    return Health(reason, "; besides, ".join(warnings) or None, parts, trouble)


def _findings(now: HealthInputs) -> Iterator[Finding]:
    """All findings, causes before their effects."""
    failures = list(_failures(now))
    if not failures and _is_still(now):
        act = "restart the service, and keep its log"
        sentence = f"segments come, and viewers get none of them; {act}"
        failures.append(Finding("service", "failing", sentence, "delivery"))
    yield from failures
    if now.refused and now.state in ON and not _is_silent(now):
        sentence = f"a playlist beside those that are served is not followed: {now.refused}"
        yield Finding("encoder", "warning", sentence)
    for part, sentence in _warnings(now):
        yield Finding(part, "warning", sentence, "encoder" if part == "encoder" else None)


def _failures(now: HealthInputs) -> Iterator[Finding]:
    delivery: ViewerProblem | None = "delivery" if now.delay or now.state in ON else None
    if not now.alive:
        sentence = "ingest is stuck: restart the service, and keep its log"
        yield Finding("service", "failing", sentence, delivery)
    if not now.folder:
        sentence = "ingest is stuck: the HLS folder does not answer; look at its disk or its mount"
        yield Finding("service", "failing", sentence, delivery)
    if now.source:
        act = "look at the rights of the HLS folder, and at the limits of this machine"
        yield Finding("service", "failing", f"the source is out of reach ({now.source}): {act}", delivery)
    if now.refused and (now.state not in ON or _is_silent(now)):
        act = "change the encoder's settings; broadcaster check tells more"
        sentence = f"what the encoder writes cannot be followed ({now.refused}): {act}"
        yield Finding("encoder", "failing", sentence, "encoder" if now.state in ON else None)
    if now.delay:
        act = "check the provider's status, its keys, and the uplink"
        sentence = f"the bucket does not get the segments ({now.delay}); {_safe(now)}; {act}"
        yield Finding("bucket", "failing", sentence, delivery)
    if now.losses:
        act = "look at the encoder, and the disk it writes to"
        yield Finding("encoder", "failing", f"nothing but gaps can be listed ({now.losses}): {act}", delivery)
    if _is_unread(now) and not now.lit and not (now.unsure and not now.blind):
        yield Finding("viewers", "failing", f"viewers cannot read the segments: {now.unread}", delivery)
    if not now.serving:
        act = "the process that serves them is being replaced; see the log"
        yield Finding("viewers", "failing", f"viewers are not answered: {act}")
    yield from _silences(now)


def _silences(now: HealthInputs) -> Iterator[Finding]:
    if _is_silent(now) and not (now.ended and not now.paused):
        yield Finding("encoder", "failing", _silence(now), "encoder")
    if silent := _silent_variants(now):
        act = "look at the encoder, and at the log: viewers of that quality see nothing new"
        sentence = f"{silent} while others have: {act}"
        yield Finding("encoder", "failing", sentence)


def _silence(now: HealthInputs) -> str:
    silent = f"the encoder has brought nothing new for {now.silence:.0f} s"
    if now.paused:
        return f"{silent}, and Owncast says that it has disconnected: start it again, or the stream ends"
    return f"{silent}: look at the encoder, its connection, and Owncast"


def _warnings(now: HealthInputs) -> Iterator[tuple[HealthPart, str]]:
    if _is_silent(now) and now.ended and not now.paused:
        over = f"the source says that its stream is over, and has brought nothing for {now.silence:.0f} s"
        act = "viewers are told when the grace time has passed; if it was to go on, start the encoder again"
        yield "encoder", f"{over}: {act}"
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
    told: tuple[tuple[HealthPart, str | None], ...] = (("bucket", now.owner), ("service", now.failed))
    yield from ((part, sentence) for part, sentence in told if sentence)
    if _is_unread(now) and now.unsure and not (now.lit or now.blind):
        act = "if viewers open the page elsewhere, name it in the page's config.json, as pageUrl"
        yield "viewers", f"viewers perhaps cannot read the segments: {now.unread}; {act}"
    elif _is_unread(now) and now.lit and not now.unsure:
        pages = _pages(now.lit, "has", "have")
        yield "viewers", f"a segment cannot be read as viewers do, though {pages} a picture: {now.unread}"
    elif now.state in ON and now.blind >= max(now.lit, 1) and not _is_unread(now):
        failing, playing = _pages(now.blind, "reports", "report"), _pages(now.lit, "has", "have")
        act = "open the page, and look at its browser's console and network"
        yield "viewers", f"{failing} errors and no picture, {playing} one: {act}"


def _is_unread(now: HealthInputs) -> bool:
    return now.unread is not None and now.state in ON


def _pages(count: int, one: str, many: str) -> str:
    return f"{count} page {one}" if count == 1 else f"{count} pages {many}"


def _is_silent(now: HealthInputs) -> bool:
    return now.state is State.LIVE and now.silence > _longest(now, SILENT_TARGET_DURATIONS, SILENT_SECONDS)


def _silent_variants(now: HealthInputs) -> str:
    """Which variants are silent while others are not, and for how long."""
    longest = _longest(now, SILENT_TARGET_DURATIONS, SILENT_SECONDS)
    silent = {one: seconds for one, seconds in now.silences.items() if seconds - now.silence > longest}
    if not silent or now.state is not State.LIVE:
        return ""
    names = ", ".join(sorted(silent))
    which = f"variant {names} has" if len(silent) == 1 else f"variants {names} have"
    return f"{which} brought nothing new for {min(silent.values()):.0f} s"


def _is_still(now: HealthInputs) -> bool:
    """The window does not move, though the source brings segments."""
    longest = _longest(now, STILL_TARGET_DURATIONS, STILL_SECONDS)
    return now.state is State.LIVE and now.frozen > longest and not _is_silent(now)


def _longest(now: HealthInputs, target_durations: float, seconds: float) -> float:
    return max(target_durations * (now.target_duration or 0), seconds)


def _frozen(now: HealthInputs) -> str:
    """How long viewers have looked at the same picture, where they do."""
    longest = _longest(now, SILENT_TARGET_DURATIONS, SILENT_SECONDS)
    is_frozen = now.state is State.LIVE and now.frozen > longest
    return f"VIEWERS FROZEN for {now.frozen:.0f} s: " if is_frozen else ""


def _safe(now: HealthInputs) -> str:
    """What waits, and for how long there is room: on the disk, and in what may be used of it."""
    kept = f"{now.waiting} segments ({_size(now.spool)}) are safe"
    room = min(now.spool_limit - now.spool, math.inf if math.isnan(now.free) else now.free)
    return f"{kept}, the disk lasts {_span(max(room, 0) / now.rate)}" if now.rate else kept


def _span(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < LONG else f"{minutes / 60:.0f} h"


def _size(size: float) -> str:
    return f"{size / GIGABYTE:.1f} GB" if size >= GIGABYTE else f"{size / 1e6:.1f} MB"
