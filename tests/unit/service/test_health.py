"""The words for the operator, and for viewers, of everything that can be wrong."""

import math
from dataclasses import replace

import pytest

from broadcaster.aio import USUAL
from broadcaster.errors import Problem
from broadcaster.guest import ViewerFault
from broadcaster.ipc.messages import HealthReport, State
from broadcaster.service.health import BESIDES, LEAST_FREE, Health, HealthInputs, evaluate_health

MISSING, NO_CORS = ViewerFault("404", "make it public"), ViewerFault("no CORS", "set CORS")
LIVE = HealthInputs(State.LIVE, 2, spool_limit=1000)
DELAY = replace(
    LIVE,
    delay=Problem("since 12:00: no answer", USUAL),
    waiting=62,
    spool=48_000_000,
    spool_limit=1_000_000_000,
)

TABLE: list[tuple[HealthInputs, str, str | None, str]] = [
    # How everything stands; severity, the word for viewers, and what the operator's sentence has.
    (HealthInputs(State.OFFLINE, silence=900), "ok", None, "no stream is on"),
    (replace(LIVE, silence=5), "ok", None, "LIVE: 412 viewers"),
    (replace(LIVE, state=State.STARTING, silence=60), "ok", None, "a stream is starting"),
    (replace(LIVE, state=State.ENDED, silence=60, ended=True), "ok", None, "the stream has ended"),
    (replace(LIVE, silence=12.4), "failing", "encoder", "the encoder has brought nothing new for 12 s"),
    (replace(LIVE, silence=12.4), "failing", "encoder", "look at the encoder"),
    (replace(LIVE, silence=9, frozen=9.6), "failing", "encoder", "VIEWERS FROZEN for 10 s: the encoder has"),
    (replace(LIVE, silence=24, target_duration=10), "ok", None, "LIVE: 412 viewers"),
    (replace(LIVE, silence=26, target_duration=10), "failing", "encoder", "nothing new for 26 s"),
    (replace(LIVE, silence=9, ended=True), "warning", "encoder", "the source says that its stream is over"),
    (replace(LIVE, silence=9, frozen=9, ended=True), "warning", "encoder", "the source says that its stream"),
    (
        replace(LIVE, silence=9, ended=True, paused=True),
        "failing",
        "encoder",
        "Owncast says that it has disc",
    ),
    (replace(LIVE, ended=True), "ok", None, "LIVE: 412 viewers"),
    (
        HealthInputs(State.OFFLINE, refused="0/a.m3u8 lists nothing that can be carried"),
        "failing",
        None,
        "what the encoder writes cannot be followed (0/a.m3u8 lists nothing",
    ),
    (replace(LIVE, refused="tv_vtt.m3u8 holds subtitles"), "warning", None, "tv_vtt.m3u8 holds subtitles"),
    (
        replace(LIVE, silence=9, refused="a.m3u8 is encrypted"),
        "failing",
        "encoder",
        "cannot be followed (a.m3u8 is encrypted)",
    ),
    (replace(LIVE, frozen=12), "ok", None, "LIVE: 412 viewers"),
    (replace(LIVE, frozen=13), "failing", "delivery", "VIEWERS FROZEN for 13 s: segments come, and viewers"),
    (replace(LIVE, frozen=39, target_duration=10), "ok", None, "LIVE: 412 viewers"),
    (replace(LIVE, frozen=13, silence=13), "failing", "encoder", "VIEWERS FROZEN for 13 s: the encoder has"),
    (
        DELAY,
        "failing",
        "delivery",
        "the bucket does not get the segments (since 12:00: no answer); 62",
    ),
    (DELAY, "failing", "delivery", "62 segments (48.0 MB) are safe; check the provider's status, its keys"),
    (replace(DELAY, frozen=67), "failing", "delivery", "VIEWERS FROZEN for 67 s: the bucket does not get"),
    (
        replace(DELAY, rate=1e6),
        "failing",
        "delivery",
        "62 segments (48.0 MB) are safe, the disk lasts 16 min; ",
    ),
    (replace(DELAY, rate=1e6, free=1e9), "failing", "delivery", "are safe, the disk lasts 16 min; "),
    (replace(DELAY, rate=1e6, free=6e7), "failing", "delivery", "are safe, the disk lasts 60 s; "),
    (replace(DELAY, rate=1e6, free=math.nan), "failing", "delivery", "the disk lasts 16 min"),
    (
        replace(DELAY, rate=1e6, spool=2_000_000_000),
        "failing",
        "delivery",
        "are safe, the disk lasts 0 s; ",
    ),
    (replace(DELAY, rate=3e4, spool_limit=972_048_000_000), "failing", "delivery", "the disk lasts 9000 h"),
    (replace(DELAY, state=State.OFFLINE, frozen=900), "failing", "delivery", "the bucket does not get"),
    (replace(DELAY, silence=60), "failing", "delivery", "the bucket does not get"),
    (replace(LIVE, gaps="all 9 were lost"), "failing", "delivery", "nothing but gaps can be listed (all 9"),
    (replace(DELAY, gaps="9 were lost"), "failing", "delivery", "does not get the segments (since 12:00"),
    (replace(LIVE, alive=False), "failing", "delivery", "ingest is stuck; restart the service"),
    (replace(LIVE, folder=False), "failing", "delivery", "the HLS folder does not answer; look at its disk"),
    (replace(LIVE, source="no rights"), "failing", "delivery", "(no rights); look at the rights of the HLS"),
    (replace(DELAY, source="no rights"), "failing", "delivery", "the source is out of reach"),
    (HealthInputs(State.OFFLINE, source="no rights"), "failing", None, "the source is out of reach"),
    (HealthInputs(State.OFFLINE, folder=False), "failing", None, "the HLS folder does not answer"),
    (replace(LIVE, serving=False), "failing", None, "viewers are not answered"),
    (replace(LIVE, serving=False, silence=60), "failing", "encoder", "viewers are not answered"),
    (replace(LIVE, journal="disk full"), "warning", None, "journal cannot be written: disk full; make room"),
    (replace(LIVE, free=LEAST_FREE), "ok", None, "LIVE: 412 viewers"),
    (replace(LIVE, free=1.54e9), "warning", None, "1.5 GB are left on the disk of the spool; make room"),
    (replace(LIVE, free=3e6), "warning", None, "3.0 MB are left"),
    (replace(LIVE, free=math.nan), "ok", None, "LIVE: 412 viewers"),
    (replace(LIVE, spool=500), "ok", None, "LIVE: 412 viewers"),
    (replace(LIVE, spool=501), "warning", None, "50 % of the spool is used"),
    (
        replace(LIVE, playlist_writes=Problem("denied", "check the key")),
        "warning",
        None,
        "playlists cannot be written into the bucket: denied",
    ),
    (
        replace(LIVE, owner=Problem("another one is there", "stop one")),
        "warning",
        None,
        "another one is there",
    ),
    (
        replace(LIVE, edge=Problem("the edge is 12 s behind", "see Cloudflare")),
        "warning",
        None,
        "the edge is 12 s behind",
    ),
    (
        replace(LIVE, access=Problem("no answer", USUAL)),
        "warning",
        None,
        "a standby does not know who may watch now: no answer; check the provider's status",
    ),
    (replace(LIVE, unconfirmed=True), "warning", None, "nobody has entered the passphrase since"),
    (replace(LIVE, unreadable=MISSING), "failing", "delivery", "viewers cannot read the segments: 404"),
    (
        replace(LIVE, unreadable=MISSING, failing_pages=3),
        "failing",
        "delivery",
        "viewers cannot read the segments: 404",
    ),
    (
        replace(LIVE, unreadable=MISSING, playing_pages=1),
        "warning",
        None,
        "though 1 page has a picture: 404",
    ),
    (
        replace(LIVE, unreadable=NO_CORS, uncertain=True),
        "warning",
        None,
        "viewers perhaps cannot read the segments",
    ),
    (replace(LIVE, unreadable=NO_CORS, uncertain=True), "warning", None, "config.json, as pageUrl"),
    (
        replace(LIVE, unreadable=NO_CORS, uncertain=True, failing_pages=1),
        "failing",
        "delivery",
        "cannot read the segments",
    ),
    (replace(LIVE, unreadable=NO_CORS, uncertain=True, playing_pages=5), "ok", None, "LIVE: 412 viewers"),
    (
        replace(LIVE, state=State.ENDED, unreadable=MISSING, failing_pages=3),
        "ok",
        None,
        "the stream has ended",
    ),
    (replace(DELAY, unreadable=MISSING), "failing", "delivery", "the bucket does not get"),
    (
        replace(LIVE, failing_pages=1),
        "warning",
        None,
        "1 page reports errors and no picture, 0 pages have one",
    ),
    (
        replace(LIVE, failing_pages=4, playing_pages=4),
        "warning",
        None,
        "4 pages report errors and no picture, 4 pages have",
    ),
    (replace(LIVE, failing_pages=4, playing_pages=5), "ok", None, "LIVE: 412 viewers"),
    (
        replace(LIVE, undecodable_pages={"HEVC": 2, "AV1": 1}, playing_pages=30),
        "warning",
        None,
        "3 pages are in a browser that cannot play AV1 or HEVC; add a variant in H.264",
    ),
    (replace(LIVE, undecodable_pages={"HEVC": 2}, playing_pages=30), "ok", None, "LIVE: 412 viewers"),
]


@pytest.mark.parametrize(("inputs", "severity", "trouble", "text"), TABLE)
def test_the_table(inputs: HealthInputs, severity: str, trouble: str | None, text: str) -> None:
    """Each has its severity, its sentence, what to do, and the word for viewers."""
    found = evaluate_health(inputs)
    assert all(remedy for _, _, remedy in found.faults)
    report = HealthReport(
        inputs.state,
        0,
        found.reason,
        found.warning,
        silence=inputs.silence,
        viewers=412,
        trouble=found.trouble,
        faults=found.faults,
    )
    assert (report.severity, report.trouble) == (severity, trouble)
    assert text in (found.reason or found.warning or report.sentence)
    sentences = ["; ".join(filter(None, fault[1:])) for fault in report.faults]
    assert BESIDES.join(sentences[:1] if found.reason else sentences) == (found.reason or found.warning or "")


def test_no_warning_hides_another() -> None:
    """They have nothing to do with each other, so each is reported; and a failure hides none of them."""
    found = evaluate_health(replace(DELAY, journal="disk full", free=1e6))
    assert found.reason
    assert found.warning
    assert found.warning.count("make room") == 2
    assert evaluate_health(LIVE) == Health(None, None, {}, None)


def test_each_lamp_that_is_not_well_has_its_words() -> None:
    """Two faults at a time are told with what to do about each; beside a failure, the first of each part."""
    found = evaluate_health(replace(DELAY, frozen=67, journal="disk full", free=1e6, silence=60))
    parts, causes, remedies = zip(*found.faults, strict=True)
    assert parts == ("bucket", "encoder", "service")
    assert [cause.partition(" (")[0] for cause in causes] == [
        "VIEWERS FROZEN for 67 s: the bucket does not get the segments",
        "the encoder has brought nothing new for 60 s",
        "the journal cannot be written: disk full",
    ]
    assert all(remedies)
    assert len(evaluate_health(replace(LIVE, journal="disk full", free=1e6)).faults) == 2


def test_how_long_the_picture_stands_still() -> None:
    """The seconds are those of the sentence; who only pauses, or has not begun, is not frozen."""
    assert evaluate_health(replace(LIVE, silence=9, frozen=9.6)).frozen == 9.6
    assert evaluate_health(replace(LIVE, silence=9.4, frozen=8.9)).frozen == 9.4, "a fault has one beginning"
    assert evaluate_health(replace(LIVE, silence=9, frozen=9, ended=True)).frozen is None
    assert evaluate_health(replace(DELAY, state=State.STARTING, frozen=67)).frozen is None


def test_the_part_that_is_not_well() -> None:
    """Each finding belongs to one, of which the failure counts; and viewers are not well who see nothing."""
    assert evaluate_health(replace(LIVE, journal="disk full")).parts == {"service": "warning"}
    assert evaluate_health(replace(LIVE, silence=60)).parts == {"encoder": "failing", "viewers": "failing"}
    over = replace(LIVE, silence=60, ended=True)
    assert evaluate_health(over).parts == {"encoder": "warning", "viewers": "warning"}
    assert evaluate_health(replace(LIVE, serving=False)).parts == {"viewers": "failing"}
    assert evaluate_health(replace(LIVE, unreadable=MISSING)).parts == {"viewers": "failing"}
    assert evaluate_health(replace(LIVE, failing_pages=1)).parts == {"viewers": "warning"}
    assert evaluate_health(replace(DELAY, unconfirmed=True)).parts["viewers"] == "failing"
    both = evaluate_health(
        replace(DELAY, owner=Problem("another one is there", "stop one"), journal="disk full")
    )
    assert both.parts == {"bucket": "failing", "service": "warning", "viewers": "failing"}


@pytest.mark.parametrize(
    ("silence", "silences", "reason"),
    [
        (
            1.0,
            {"0": 16.5, "1": 1.0, "2": 20.0},
            "variants 0, 2 have brought nothing new for 17 s while others",
        ),
        (1.0, {"0": 15.0, "1": 1.0}, None),
        (1.0, {"0": 17.0, "1": 1.0}, "variant 0 has brought nothing new for 17 s while others have"),
        (20.0, {"0": 22.0, "1": 20.0}, "the encoder has brought nothing new for 20 s"),
    ],
)
def test_a_silent_variant(silence: float, silences: dict[str, float], reason: str | None) -> None:
    """Its viewers see nothing new, whatever others bring; where none brings anything, it is the encoder."""
    found = evaluate_health(HealthInputs(State.LIVE, 6, silence=silence, silences=silences))
    assert (found.reason or "").startswith(reason or "")
    assert (found.reason is None) is (reason is None)
