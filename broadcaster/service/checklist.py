"""The checklist before an event, by rules that ``broadcaster check`` and ``/health`` have as well."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from broadcaster.guest import ViewerFault
from broadcaster.ipc.messages import HealthReport, State
from broadcaster.printable import size_text, span_text
from broadcaster.service.health import seconds_of_room

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
    """An outcome with its reason and a remedy. Never contains a key or a signature."""

    outcome: Outcome
    message: str
    remedy: str = ""


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


def clock_finding(skew: float) -> CheckFinding:
    """The finding for a clock that is ``skew`` seconds ahead of the endpoint's."""
    side = "ahead of" if skew > 0 else "behind"
    ahead = f"this machine's clock is {span_text(abs(skew))} {side} the bucket's"
    remedy = "set it by NTP: timedatectl set-ntp true"
    if abs(skew) > REFUSED_SKEW:
        return failed(f"{ahead}: every signature is refused (RequestTimeTooSkewed)", remedy)
    if abs(skew) > SKEW:
        return warning(f"{ahead}: times in the playlists and the delay shown are wrong", remedy)
    return ok(f"within {SKEW:.0f} s of the bucket's")


def disk_finding(free: float, limit: int, used: int, rate: float) -> CheckFinding:
    """The finding for the spool's disk and limit, in bytes; ``rate`` in bytes per second, 0 if unknown."""
    if math.isnan(free):
        return skipped("the free space of the spool's disk is not known")
    lasts = seconds_of_room(free, limit, used, rate)
    message = f"{size_text(free)} left" + ("" if lasts is None else f", for an outage of {span_text(lasts)}")
    if free < MIN_ROOM:
        return failed(message, "make room on the disk of BROADCASTER_STATE_DIR")
    if free < limit - used:
        return warning(
            f"{message}; less than BROADCASTER_SPOOL_LIMIT, {size_text(limit)}",
            "lower it below what is free: then the oldest segments become gaps, and the disk never fills up",
        )
    if lasts is not None and lasts < EVENT:
        return warning(message, f"raise BROADCASTER_SPOOL_LIMIT, so that it lasts {span_text(EVENT)}")
    return ok(message)


def encoder_finding(report: HealthReport, connected: bool | None) -> CheckFinding:  # noqa: FBT001 - three values
    """The finding for the encoder; ``connected`` is the word of Owncast or MediaMTX."""
    if "encoder" in report.parts:
        return failed(report.reason or report.warning or "it brings nothing", "")
    if report.stream == State.LIVE:
        return ok("segments arrive")
    if connected:
        return ok("it is connected; no segment is listed yet")
    if report.stream == State.STARTING:
        return skipped("segments arrive, and none is listed yet")
    return failed("nothing arrives", "start it; broadcaster check looks at what it writes")


def public_finding(fault: ViewerFault | None, *, was_read: bool) -> CheckFinding:
    """The finding for a listed segment at its public URL."""
    if fault:
        return failed(fault.message, fault.remedy)
    if not was_read:
        return skipped("no segment was listed yet: it is read when there is one")
    return ok("a listed segment was read as a viewer's browser does")


def recording_finding(kept: timedelta | None, fault: str | None = None) -> CheckFinding:
    """The finding for recordings that are ``kept`` so long after their end, None for ever."""
    if fault:
        return failed(f"recordings cannot be written: {fault}", "see the bucket's fault; nothing is lost yet")
    if kept == timedelta():
        return warning("streams are not recorded", "set BROADCASTER_RECORDINGS, and restart the service")
    return ok(f"each stream is kept {f'for {kept.days} days' if kept else 'for ever'}")


def doors_finding(*, is_private: bool, are_open: bool, is_live: bool) -> CheckFinding:
    """The finding for the doors before the event; during it they may be open."""
    if not is_private:
        return skipped("the event is public: it has no doors")
    if not are_open:
        return ok("only the crew can watch")
    if is_live:
        return skipped("they are open: guests watch")
    return warning("they are open: guests see a rehearsal", "close them, under Guests")
