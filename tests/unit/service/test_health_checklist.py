"""The checklist before an event: yes, no or not known, and what to do."""

import math
from dataclasses import replace
from datetime import timedelta

import pytest

from broadcaster.aio import USUAL
from broadcaster.errors import Problem
from broadcaster.guest import ViewerFault
from broadcaster.ipc.messages import HealthReport, PartFault
from broadcaster.service.health import (
    EVENT,
    CheckFinding,
    address_finding,
    clock_finding,
    disk_finding,
    doors_finding,
    encoder_finding,
    passphrase_finding,
    public_finding,
    recording_finding,
)

LIVE, OFF, STARTING = (HealthReport(state, 0, None) for state in ("live", "offline", "starting"))
SILENCE = PartFault("encoder", "the encoder has brought nothing new for 34 s", "look at the encoder")
REFUSED = PartFault("bucket", "the bucket does not get the segments", "check the uplink")
SILENT = HealthReport(
    "live", 62, REFUSED.cause, faults=(REFUSED, SILENCE), parts={"bucket": "failing", "encoder": "failing"}
)
OVER = replace(SILENT, reason=None, warning=SILENCE.cause, parts={"encoder": "warning"})
UNREADABLE, DOUBTFUL = (replace(LIVE, parts={"viewers": severity}) for severity in ("failing", "warning"))
FAULT = ViewerFault("pages may not read", "set CORS")
WRITES = Problem("no answer", USUAL)
GIGABYTE = 10**9
ROOM = EVENT * 1e6  # bytes of an event of 1 MB/s

TABLE: list[tuple[CheckFinding, str, str]] = [
    (encoder_finding(LIVE, None), "ok", "segments arrive"),
    (encoder_finding(SILENT, True), "failed", "brought nothing new for 34 s"),
    (encoder_finding(OVER, True), "warning", "brought nothing new for 34 s"),
    (encoder_finding(OFF, True), "ok", "it is connected"),
    (encoder_finding(OFF, False), "failed", "nothing arrives"),
    (encoder_finding(OFF, None), "failed", "nothing arrives"),
    (encoder_finding(STARTING, None), "skipped", "none is listed yet"),
    (public_finding(LIVE, None, was_read=False), "skipped", "no segment was listed yet"),
    (public_finding(LIVE, None, was_read=True), "ok", "was read as a viewer's browser does"),
    (public_finding(OFF, FAULT, was_read=True), "failed", "pages may not read"),
    (public_finding(UNREADABLE, FAULT, was_read=True), "failed", "pages may not read"),
    (public_finding(DOUBTFUL, FAULT, was_read=True), "warning", "pages may not read"),
    (recording_finding(OFF, timedelta()), "warning", "streams are not recorded"),
    (recording_finding(LIVE, timedelta(days=30)), "ok", "kept for 30 days"),
    (recording_finding(LIVE, None), "ok", "kept for ever"),
    (recording_finding(LIVE, None, WRITES), "warning", "list of recordings cannot be written: no answer"),
    (recording_finding(SILENT, None, WRITES), "warning", "is behind: 62 segments wait for the bucket"),
    (doors_finding(is_private=False, are_open=True, is_live=False), "skipped", "the event is public"),
    (doors_finding(is_private=True, are_open=False, is_live=True), "ok", "only the crew"),
    (doors_finding(is_private=True, are_open=True, is_live=False), "warning", "guests see a rehearsal"),
    (doors_finding(is_private=True, are_open=True, is_live=True), "skipped", "guests watch"),
    (passphrase_finding(is_set=False, is_unconfirmed=False), "warning", "only who is invited can watch"),
    (passphrase_finding(is_set=True, is_unconfirmed=True), "warning", "or the bucket's key changed"),
    (passphrase_finding(is_set=True, is_unconfirmed=False), "ok", "keeps nobody out"),
    (clock_finding(None), "skipped", "has not answered yet"),
    (clock_finding(-40), "warning", "40 s behind the bucket's"),
    (address_finding(None, None), "skipped", "nothing is linked"),
    (address_finding("https://event.example/live/", "https://media.example"), "ok", "https://event.example"),
    (
        address_finding("http://127.0.0.1:3000", "https://media.example"),
        "warning",
        "http://127.0.0.1:3000 works",
    ),
    (address_finding("http://[::1]:3000/", None), "warning", "on this machine alone"),
    (address_finding("http://0.0.0.0:3000/", None), "warning", "on this machine alone"),
    (
        address_finding("https://event.example", "http://localhost:9000"),
        "warning",
        "http://localhost:9000 works",
    ),
    (address_finding("http://192.168.1.7:3000", None), "ok", "http://192.168.1.7:3000"),
    (disk_finding(math.nan, GIGABYTE, 0, 1e6), "skipped", "is not known"),
    (disk_finding(1e6, GIGABYTE, 0, 1e6), "failed", "1.0 MB left"),
    (disk_finding(5e8, GIGABYTE, 0, 0), "warning", "500 MB left; less than the limit of the spool, 1.0 GB"),
    (disk_finding(1e12, int(ROOM) - 1, 0, 1e6), "warning", "1.0 TB left, for an outage of 9 h"),
    (disk_finding(1e12, int(ROOM), 1, 1e6), "warning", "for an outage of 9 h"),
    (disk_finding(1e12, int(ROOM), 0, 1e6), "ok", "for an outage of 9 h"),
    (disk_finding(1e12, GIGABYTE, 0, 0), "ok", "1.0 TB left"),
    (disk_finding(1e12, int(ROOM) - 1, 0, 1e6, is_live=True), "skipped", "for an outage of 9 h"),
    (disk_finding(1e12, int(ROOM), 0, 1e6, is_live=True), "ok", "for an outage of 9 h"),
    (disk_finding(1e6, GIGABYTE, 0, 1e6, is_live=True), "warning", "1.0 MB left"),
    (disk_finding(1e12, GIGABYTE, GIGABYTE - 1, 1e6, is_live=True), "warning", "for an outage of 0 s"),
]


@pytest.mark.parametrize(("finding", "outcome", "message"), TABLE)
def test_the_table(finding: CheckFinding, outcome: str, message: str) -> None:
    """Each has its reason, and what is wrong has a remedy, unless the reason itself is one."""
    assert finding.outcome == outcome
    assert message in finding.message
    assert bool(finding.remedy) is (outcome in ("warning", "failed"))


def test_each_finding_of_the_recording_has_a_word() -> None:
    """A tile has room for one word, which is not the same for two causes.

    A stream that is not recorded is no fault while it is live: nothing can be done for it any more.
    """
    assert recording_finding(LIVE, timedelta()).outcome == "skipped"
    found = [
        recording_finding(LIVE, timedelta()),
        recording_finding(SILENT, None),
        recording_finding(LIVE, None, WRITES),
        recording_finding(LIVE, None),
    ]
    assert [finding.word for finding in found] == ["off", "behind", "failing", "on"]
