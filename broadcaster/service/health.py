"""Evaluates the health of the service: why viewers do not get the stream, and what to do.

The checklist before an event is by rules that ``broadcaster check`` and ``/health`` have as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import NamedTuple, get_args

from broadcaster.errors import Problem
from broadcaster.guest import ViewerFault, host_of, is_local
from broadcaster.ipc.messages import HealthPart, HealthReport, PartFault, Severity, State, ViewerProblem
from broadcaster.printable import size_text, span_text

SILENT_TARGET_DURATIONS, SILENT_SECONDS = 2.5, 5.0  # without a new segment: the longer of the two
# Without a new listed segment, though segments come: long enough that a failing bucket is named first.
STILL_TARGET_DURATIONS, STILL_SECONDS = 4, 12.0
LEAST_FREE = 2 * 2**30  # bytes of the disk; the alert BroadcasterDiskFull has the same limit
FULL = 0.5  # of the spool; the alert BroadcasterSpoolFills has the same limit
ON = {State.STARTING, State.LIVE}
UNCONFIRMED = (
    "nobody has entered the passphrase since the secret of private events or the bucket's key changed: a"
    " flood of wrong ones would keep guests out (BROADCASTER_ACCESS_SECRET)"
)
BESIDES = "; besides, "
NOTHING = ("", "")  # is wrong, and is to be done
REWRITE = "change the encoder's settings; broadcaster check says more"
ROOM = "make room before the next outage"
DRAIN = "see the bucket and the uplink, or raise the limit of the spool (BROADCASTER_SPOOL_LIMIT)"
CONFIRM = "enter it once on the page, or set it again: broadcaster passphrase"


@dataclass(frozen=True, slots=True)
class HealthInputs:
    """Inputs of ``evaluate_health``. Times are seconds, sizes bytes, texts causes of failures."""

    state: State
    target_duration: int | None = None
    silence: float = 0.0  # since the source brought a segment
    silences: Mapping[str, float] = field(default_factory=dict)  # the same for each listed variant
    frozen: float = 0.0  # since a playable segment was listed
    ended: bool = False  # the source itself says that its stream is over
    paused: bool = False  # the encoder has disconnected, and its grace time is short
    alive: bool = True  # ingest is not stuck
    folder: bool = True  # the HLS folder answers
    serving: bool = True  # the viewer server answers
    source: str | None = None  # why the source cannot be read
    refused: str | None = None  # which playlists cannot be followed, and why
    delay: Problem | None = None  # why segments do not reach the bucket
    gaps: str | None = None  # why only gaps are listed
    waiting: int = 0  # segments not yet in the bucket
    rate: float = 0.0  # bytes a second, of all variants
    spool: int = 0
    spool_limit: int = 0
    free: float = math.inf  # on the disk of the spool; NaN if unknown
    journal: str | None = None
    playlist_writes: Problem | None = None
    owner: Problem | None = None
    edge: Problem | None = None  # why viewers at the edge do not see what they should
    access: Problem | None = None  # why the bucket does not know who may watch a private event
    unconfirmed: bool = False  # the right passphrase is not known by its digest
    failed: Problem | None = None  # which optional parts have failed
    unreadable: ViewerFault | None = None  # why viewers cannot read a listed segment
    uncertain: bool = False  # the page's origin is unknown, and pages of another origin may read the segment
    playing_pages: int = 0  # pages that have a picture
    failing_pages: int = 0  # pages that report errors and have no picture
    undecodable_pages: Mapping[str, int] = field(default_factory=dict)  # without a decoder, by the codec


@dataclass(frozen=True, slots=True)
class Health:
    """Result of ``evaluate_health``.

    ``reason`` is why viewers do not get the stream, ``warning`` names further problems; both say what to do.
    ``parts`` are the affected parts, ``trouble`` is the problem that viewers are shown. ``faults`` and
    ``frozen`` are those of ``HealthReport``.
    """

    reason: str | None
    warning: str | None
    parts: Mapping[HealthPart, Severity]
    trouble: ViewerProblem | None
    faults: tuple[PartFault, ...] = ()
    frozen: float | None = None


class Finding(NamedTuple):
    """A problem of one part between encoder and viewers; ``trouble`` is the text key for viewers."""

    part: HealthPart
    severity: Severity
    cause: str
    remedy: str = ""
    trouble: ViewerProblem | None = None

    @property
    def sentence(self) -> str:
        """What is wrong, and what to do."""
        return f"{self.cause}; {self.remedy}" if self.remedy else self.cause


def evaluate_health(inputs: HealthInputs) -> Health:
    """The health of the service: the first cause of a failure, and every warning."""
    findings = list(_findings(inputs))
    failures = [finding for finding in findings if finding.severity == "failing"]
    warnings = [finding for finding in findings if finding.severity == "warning"]
    firsts: dict[HealthPart, Finding] = {}  # of each part; failures come before warnings
    for finding in findings:
        firsts.setdefault(finding.part, finding)
    parts = {part: finding.severity for part, finding in firsts.items()}
    troubles = {finding.trouble: finding.severity for finding in reversed(findings)}
    # A failing delivery is shown before a silent encoder.
    trouble = next((problem for problem in get_args(ViewerProblem) if problem in troubles), None)
    if trouble and parts.get("viewers") != "failing":
        parts["viewers"] = troubles[trouble]
    frozen = _frozen(inputs) if failures else None
    still = "" if frozen is None else f"VIEWERS FROZEN for {span_text(frozen)}: "
    shown = list(firsts.values()) if failures else findings
    faults = [PartFault(finding.part, finding.cause, finding.remedy) for finding in shown]
    if failures:
        faults[0] = faults[0]._replace(cause=still + failures[0].cause)
    return Health(
        still + failures[0].sentence if failures else None,
        BESIDES.join(finding.sentence for finding in warnings) or None,
        parts,
        trouble,
        tuple(faults),
        frozen,
    )


def _findings(now: HealthInputs) -> Iterator[Finding]:
    """All findings, failures before warnings and causes before their effects."""
    failures = list(_failures(now))
    yield from failures
    if not failures and _is_still(now):
        cause, act = "segments come, and viewers get none of them", "restart the service, and keep its log"
        yield Finding("service", "failing", cause, act, "delivery")
    if now.refused and now.state in ON and not _is_silent(now):
        cause = f"a playlist beside those that are served is not followed: {now.refused}"
        yield Finding("encoder", "warning", cause, REWRITE)
    for part, cause, act in _warnings(now):
        yield Finding(part, "warning", cause, act, "encoder" if part == "encoder" else None)


def _failures(now: HealthInputs) -> Iterator[Finding]:
    delivery: ViewerProblem | None = "delivery" if now.delay or now.state in ON else None
    if not now.alive:
        act = "restart the service, and keep its log"
        yield Finding("service", "failing", "ingest is stuck", act, delivery)
    if not now.folder:
        cause = "ingest is stuck: the HLS folder does not answer"
        yield Finding("service", "failing", cause, "look at its disk or its mount", delivery)
    if now.source:
        act = "look at the rights of the HLS folder, and at the limits of this machine"
        yield Finding("service", "failing", f"the source is out of reach ({now.source})", act, delivery)
    if now.refused and (now.state not in ON or _is_silent(now)):
        cause = f"what the encoder writes cannot be followed ({now.refused})"
        yield Finding("encoder", "failing", cause, REWRITE, "encoder" if now.state in ON else None)
    yield from _delivery_failures(now, delivery)
    if _is_silent(now) and (now.paused or not now.ended):
        yield Finding("encoder", "failing", *_silence(now), "encoder")
    if silent := _silent_variants(now):
        cause = f"{silent} while others have: viewers of that quality see nothing new"
        yield Finding("encoder", "failing", cause, "look at the encoder, and at the log")


def _delivery_failures(now: HealthInputs, delivery: ViewerProblem | None) -> Iterator[Finding]:
    if now.delay:
        cause = f"the bucket does not get the segments ({now.delay.cause}); {_safe(now)}"
        yield Finding("bucket", "failing", cause, now.delay.remedy, delivery)
    if now.gaps:
        act = "look at the encoder, and the disk it writes to"
        yield Finding("encoder", "failing", f"nothing but gaps can be listed ({now.gaps})", act, delivery)
    unreadable = _unreadable(now)
    if unreadable and not now.playing_pages and (now.failing_pages or not now.uncertain):
        cause = f"viewers cannot read the segments: {unreadable.message}"
        yield Finding("viewers", "failing", cause, unreadable.remedy, delivery)
    if not now.serving:
        cause = "viewers are not answered: the process that serves them is being replaced"
        yield Finding("viewers", "failing", cause, "see the log")


def _silence(now: HealthInputs) -> tuple[str, str]:
    silent = f"the encoder has brought nothing new for {span_text(now.silence)}"
    if now.paused:
        return f"{silent}, and Owncast says that it has disconnected", "start it again, or the stream ends"
    return silent, "look at the encoder, its connection, and Owncast"


def _warnings(now: HealthInputs) -> Iterator[tuple[HealthPart, str, str]]:
    if _is_silent(now) and now.ended and not now.paused:
        over = "the source says that its stream is over, and has brought nothing for"
        act = "if it was to go on, start the encoder again: the stream ends after the grace time"
        yield "encoder", f"{over} {span_text(now.silence)}", act
    if now.journal:
        act = "make room on the disk of the state folder"
        yield "service", f"the journal cannot be written: {now.journal}", act
    if now.free < LEAST_FREE:
        left = f"{size_text(now.free)} are left on the disk of the spool"
        yield "service", left, ROOM
    if _is_filling(now.spool, now.spool_limit):
        share = f"{100 * now.spool / now.spool_limit:.0f} %"
        cause = f"{share} of the spool is used: when it is full, the oldest segments become gaps"
        yield "service", cause, DRAIN
    if now.playlist_writes:
        why, act = now.playlist_writes
        yield "bucket", f"playlists cannot be written into the bucket: {why}", act
    access = now.access and (
        f"a standby does not know who may watch now: {now.access.cause}",
        now.access.remedy,
    )
    others: Sequence[tuple[HealthPart, tuple[str, str]]] = (
        ("bucket", now.owner or NOTHING),
        ("viewers", now.edge or NOTHING),
        ("bucket", access or NOTHING),
        ("service", now.failed or NOTHING),
        ("viewers", (UNCONFIRMED, CONFIRM) if now.unconfirmed else NOTHING),
        ("viewers", _page_warning(now)),
        ("viewers", _decoder_warning(now)),
    )
    yield from ((part, cause, act) for part, (cause, act) in others if cause)


def _decoder_warning(now: HealthInputs) -> tuple[str, str]:
    """A warning about browsers without a decoder, from a tenth of the pages on."""
    lacking = sum(now.undecodable_pages.values())
    if now.state not in ON or 10 * lacking < max(now.playing_pages, 1):
        return NOTHING
    codecs = " or ".join(sorted(now.undecodable_pages))
    act = "add a variant in H.264 and AAC, which all browsers play"
    return f"{_pages(lacking, 'is', 'are')} in a browser that cannot play {codecs}", act


def _page_warning(now: HealthInputs) -> tuple[str, str]:
    """A warning about segments that pages may not be able to read."""
    unreadable = _unreadable(now)
    if unreadable and now.uncertain and not (now.playing_pages or now.failing_pages):
        elsewhere = "if viewers open the page elsewhere, name it in the page's config.json, as pageUrl"
        cause = f"viewers perhaps cannot read the segments: {unreadable.message}"
        return cause, f"{unreadable.remedy}; {elsewhere}"
    if unreadable and now.playing_pages and not now.uncertain:
        pages = _pages(now.playing_pages, "has", "have")
        cause = f"a segment cannot be read as viewers do, though {pages} a picture: {unreadable.message}"
        return cause, unreadable.remedy
    if now.state in ON and now.failing_pages >= max(now.playing_pages, 1) and not unreadable:
        failing = _pages(now.failing_pages, "reports", "report")
        playing = _pages(now.playing_pages, "has", "have")
        act = "open the page, and look at its browser's console and network"
        return f"{failing} errors and no picture, {playing} one", act
    return NOTHING


def _unreadable(now: HealthInputs) -> ViewerFault | None:
    return now.unreadable if now.state in ON else None


def _pages(count: int, singular: str, plural: str) -> str:
    return f"{count} page {singular}" if count == 1 else f"{count} pages {plural}"


def _is_silent(now: HealthInputs) -> bool:
    return now.state is State.LIVE and now.silence > _silent_after(now)


def _silent_variants(now: HealthInputs) -> str:
    """Which variants are silent while others are not, and for how long."""
    longest = now.silence + _silent_after(now)
    silent = {name: seconds for name, seconds in now.silences.items() if seconds > longest}
    if not silent or now.state is not State.LIVE:
        return ""
    names = ", ".join(sorted(silent))
    which = f"variant {names} has" if len(silent) == 1 else f"variants {names} have"
    return f"{which} brought nothing new for {span_text(min(silent.values()))}"


def _is_still(now: HealthInputs) -> bool:
    """Whether the window does not move although the source brings segments."""
    longest = max(STILL_TARGET_DURATIONS * (now.target_duration or 0), STILL_SECONDS)
    return now.state is State.LIVE and now.frozen > longest and not _is_silent(now)


def _silent_after(now: HealthInputs) -> float:
    return max(SILENT_TARGET_DURATIONS * (now.target_duration or 0), SILENT_SECONDS)


def _frozen(now: HealthInputs) -> float | None:
    """How long viewers have seen a still picture; None if they do not.

    While the encoder is silent, that begins with its last segment: a fault has one beginning.
    """
    if now.state is not State.LIVE or now.frozen <= _silent_after(now):
        return None
    return max(now.frozen, now.silence) if _is_silent(now) else now.frozen


def _is_filling(spool: int, limit: int) -> bool:
    return spool > FULL * limit > 0


def seconds_of_room(free: float, limit: int, used: int, rate: float) -> float | None:
    """How long the disk and the spool's limit leave room, at ``rate`` bytes per second; None without one."""
    room = min(limit - used, math.inf if math.isnan(free) else free)
    return max(room, 0) / rate if rate else None


def _safe(now: HealthInputs) -> str:
    """What waits in the spool, and for how long there is room."""
    safe = f"{now.waiting} segments ({size_text(now.spool)}) are safe"
    lasts = seconds_of_room(now.free, now.spool_limit, now.spool, now.rate)
    return safe if lasts is None else f"{safe}, the disk lasts {span_text(lasts)}"


MIN_ROOM = 64 * 2**20  # bytes: the journal and a few segments
EVENT = 9 * 3600.0  # seconds: the longest outage that the spool has to last
REFUSED_SKEW = 900.0  # seconds: beyond it S3 refuses a signature (RequestTimeTooSkewed)
SKEW = 30.0  # seconds that players and logs would notice


class Outcome(StrEnum):
    """The outcome of a check."""

    OK = "ok"
    WARNING = "warning"  # it works, but not as well as it should
    FAILED = "failed"  # a stream would not reach viewers
    SKIPPED = "skipped"  # the check could not be made


@dataclass(frozen=True, slots=True)
class CheckFinding:
    """An outcome with its reason and a remedy. Never contains a key or a signature.

    ``word`` says the reason where there is no room for more.
    """

    outcome: Outcome
    message: str
    remedy: str = ""
    word: str = ""


def ok(message: str) -> CheckFinding:
    """A finding without fault."""
    return CheckFinding(Outcome.OK, message)


def warning(message: str, remedy: str) -> CheckFinding:
    """A finding for something that works, but not well."""
    return CheckFinding(Outcome.WARNING, message, remedy)


def failed(message: str, remedy: str) -> CheckFinding:
    """A finding for a fault with which a stream would not work."""
    return CheckFinding(Outcome.FAILED, message, remedy)


def skipped(message: str, remedy: str = "") -> CheckFinding:
    """A finding for a check that could not be made."""
    return CheckFinding(Outcome.SKIPPED, message, remedy)


def clock_finding(skew: float | None) -> CheckFinding:
    """The finding for a clock that is ``skew`` seconds ahead of the endpoint's; None if that is not known."""
    if skew is None:
        return skipped("the bucket has not answered yet")
    side = "ahead of" if skew > 0 else "behind"
    ahead = f"this machine's clock is {span_text(abs(skew))} {side} the bucket's"
    remedy = "set it by NTP: timedatectl set-ntp true"
    if abs(skew) > REFUSED_SKEW:
        return failed(f"{ahead}: every signature is refused (RequestTimeTooSkewed)", remedy)
    if abs(skew) > SKEW:
        return warning(f"{ahead}: times in the playlists and the delay shown are wrong", remedy)
    return ok(f"within {SKEW:.0f} s of the bucket's")


def disk_finding(free: float, limit: int, used: int, rate: float, *, is_live: bool = False) -> CheckFinding:
    """The finding for the spool's disk and limit, in bytes; ``rate`` in bytes per second, 0 if unknown.

    While a stream ``is_live``, it is no better and no worse than health has the disk.
    """
    found = _room(free, limit, used, rate)
    if not is_live:
        return found
    if free < LEAST_FREE or _is_filling(used, limit):
        return warning(found.message, ROOM if free < LEAST_FREE else DRAIN)
    return found if found.outcome is Outcome.OK else skipped(found.message)


def _room(free: float, limit: int, used: int, rate: float) -> CheckFinding:
    if math.isnan(free):
        return skipped("the free space of the spool's disk is not known")
    lasts = seconds_of_room(free, limit, used, rate)
    message = f"{size_text(free)} left" + ("" if lasts is None else f", for an outage of {span_text(lasts)}")
    if free < MIN_ROOM:
        return failed(message, "make room on the disk of the state folder (BROADCASTER_STATE_DIR)")
    if free < limit - used:
        return warning(
            f"{message}; less than the limit of the spool, {size_text(limit)}",
            "lower the limit below what is free: then the oldest segments become gaps, and the disk never"
            " fills up (BROADCASTER_SPOOL_LIMIT)",
        )
    if lasts is not None and lasts < EVENT:
        act = f"raise the limit of the spool, so that it lasts {span_text(EVENT)} (BROADCASTER_SPOOL_LIMIT)"
        return warning(message, act)
    return ok(message)


def _like_its_lamp(report: HealthReport, part: HealthPart, message: str, remedy: str) -> CheckFinding:
    """The finding for a fault, no better and no worse than ``report`` has its part."""
    finding = {"failing": failed, "warning": warning}.get(report.parts.get(part, "ok"), skipped)
    return finding(message, remedy)


def encoder_finding(report: HealthReport, connected: bool | None) -> CheckFinding:  # noqa: FBT001 - three values
    """The finding for the encoder; ``connected`` is the word of Owncast or MediaMTX."""
    for fault in report.faults:
        if fault.part == "encoder":
            return _like_its_lamp(report, *fault)
    if report.stream == State.LIVE:
        return ok("segments arrive")
    if connected:
        return ok("it is connected; no segment is listed yet")
    if report.stream == State.STARTING:
        return skipped("segments arrive, and none is listed yet")
    return failed("nothing arrives", "start it; broadcaster check looks at what it writes")


def public_finding(report: HealthReport, fault: ViewerFault | None, *, was_read: bool) -> CheckFinding:
    """The finding for a listed segment at its public URL."""
    if fault and report.stream in ON:
        return _like_its_lamp(report, "viewers", fault.message, fault.remedy)
    if fault:
        return failed(fault.message, fault.remedy)
    if not was_read:
        return skipped("no segment was listed yet: it is read when there is one")
    return ok("a listed segment was read as a viewer's browser does")


def address_finding(page: str | None, media: str | None) -> CheckFinding:
    """The finding for the address of the page, with which links begin, and of the bucket; None: not used."""
    for url, act in (
        (page, "name the page's address in its config.json, as pageUrl"),
        (media, "name the bucket's custom domain as its public address (R2_PUBLIC_URL)"),
    ):
        if url and is_local(url):
            return warning(f"{host_of(url)} works on this machine alone: nobody else can open its links", act)
    return ok(f"links begin with {host_of(page)}") if page else skipped("nothing is linked")


def recording_finding(
    report: HealthReport, kept: timedelta | None, fault: Problem | None = None
) -> CheckFinding:
    """The finding for recordings that are ``kept`` so long after their end, None for ever."""
    if kept == timedelta():
        act = "switch recordings on, and restart the service (BROADCASTER_RECORDINGS)"
        outcome = Outcome.SKIPPED if report.stream in ON else Outcome.WARNING  # too late for this stream
        return CheckFinding(outcome, "streams are not recorded", act, "off")
    if report.parts.get("bucket") == "failing" and report.backlog:
        behind = f"the recording is behind: {report.backlog} segments wait for the bucket"
        return CheckFinding(Outcome.WARNING, behind, "see the bucket's fault; nothing is lost yet", "behind")
    if fault:
        cause = f"the list of recordings cannot be written: {fault.cause}"
        return CheckFinding(Outcome.WARNING, cause, fault.remedy, "failing")
    length = f"for {kept.days} days" if kept else "for ever"
    return CheckFinding(Outcome.OK, f"each stream is kept {length}", word="on")


def doors_finding(*, is_private: bool, are_open: bool, is_live: bool) -> CheckFinding:
    """The finding for the doors before the event; during it they may be open."""
    if not is_private:
        return skipped("the event is public: it has no doors")
    if not are_open:
        return ok("only the crew can watch")
    if is_live:
        return skipped("they are open: guests watch")
    return warning("they are open: guests see a rehearsal", "close them, under Guests")


def passphrase_finding(*, is_set: bool, is_unconfirmed: bool) -> CheckFinding:
    """The finding for the passphrase of an event that has one."""
    if not is_set:
        return warning("it is not set: only who is invited can watch", "set it: broadcaster passphrase")
    if is_unconfirmed:
        return warning(UNCONFIRMED, CONFIRM)
    return ok("it is set, and a flood of wrong ones keeps nobody out")
