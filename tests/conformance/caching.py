"""How long caches may keep each kind of answer (appendix B.1), and for whom."""

import re

from tests.conformance.asking import (
    FAR_AHEAD,
    GZIP,
    SKIP,
    blocking_playlist,
    missing,
    offline,
    refused,
    timed_out,
)
from tests.conformance.subject import NOTHING, ORIGIN, Answer, Subject
from tests.conformance.verdicts import Violation, require

DIRECTIVE = re.compile(r'([a-z-]+)(?:="?([^",]*)"?)?')
NOT_KEPT = {"no-store", "no-cache", "private"}
# Target durations for which the kinds of answers may be kept (appendix B.1). For a plain playlist it says
# half of one; a whole one is still right where the next version is not due before.
PLAIN, BLOCKING, FAILED, FAILED_BLOCKING = 1, 6, 1, 4
IN_VAIN = 1  # seconds


async def a_plain_playlist_is_kept_shortly(subject: Subject) -> None:
    """At least a second, so that a cache collapses its audience; a target duration at most (B.1)."""
    for query in (NOTHING, SKIP):
        answer = await subject.ask(query)
        _is_kept(answer, 1, PLAIN * subject.target_duration)


async def a_blocking_answer_is_kept_longer(subject: Subject) -> None:
    """A numbered answer stays right: longer than a plain one, up to 6 target durations (B.1)."""
    last = (await blocking_playlist(subject)).last
    for number in (last, last + 1):
        answer = await subject.ask({"_HLS_msn": number})
        require(answer.status == 200, f"_HLS_msn={number}: 200 expected, {answer.status} seen")
        _is_kept(answer, PLAIN * subject.target_duration + 1, BLOCKING * subject.target_duration)


async def too_far_ahead_is_not_kept(subject: Subject) -> None:
    """The number's time will come: the 400 must be gone by then."""
    last = (await blocking_playlist(subject)).last
    _is_kept(await refused(subject, {"_HLS_msn": last + FAR_AHEAD}), 0, 0)


async def a_malformed_request_is_not_kept_long(subject: Subject) -> None:
    """A failed blocking request may be kept for 4 target durations (B.1)."""
    answer = await refused(subject, {"_HLS_part": 0})
    _is_kept(answer, 0, FAILED_BLOCKING * subject.target_duration)


async def an_unknown_variant_is_not_kept_long(subject: Subject) -> None:
    """It may come: a 404 may be kept for a target duration (B.1)."""
    _is_kept(await missing(subject), 0, FAILED * subject.target_duration)


async def a_vain_wait_is_hardly_kept(subject: Subject) -> None:
    """The next segment may come at once: a 503 (§6.2.5.2) is for those who wait beside, a second at most."""
    _is_kept(await timed_out(subject), 0, IN_VAIN)


async def before_a_stream_nothing_is_stored(subject: Subject) -> None:
    """The stream can begin at any moment: 404 with no-store."""
    _is_not_stored(await offline(subject))


async def answers_vary_by_encoding_alone(subject: Subject) -> None:
    """Vary: Accept-Encoding where gzip is answered, and nothing that splits a cache (RFC 9110, 12.5.5)."""
    zipped, plain = await subject.ask(headers=GZIP), await subject.ask()
    for answer in (zipped, plain):
        vary = {name.strip().lower() for name in answer.headers.get("Vary", "").split(",")} - {""}
        require(vary <= {"accept-encoding"}, f"Vary: {answer.headers.get('Vary')}; our Origin is {ORIGIN}")
        if zipped.headers.get("Content-Encoding") == "gzip":
            require(vary, "no Vary: Accept-Encoding, though gzip is answered")


def _is_kept(answer: Answer, shortest: int, longest: int) -> None:
    """Between so many seconds; what may not be stored is kept for none."""
    directives = _directives(answer)
    seconds = 0
    if not directives.keys() & NOT_KEPT:
        value = directives.get("s-maxage", directives.get("max-age", ""))
        if not value.isdecimal():
            raise Violation(f"no max-age in Cache-Control: {answer.headers['Cache-Control']}")
        seconds = int(value)
    require(
        shortest <= seconds <= longest,
        f"{answer.status}: kept for {seconds} s, expected {shortest} to {longest}",
    )


def _is_not_stored(answer: Answer) -> None:
    require(
        "no-store" in _directives(answer), f"{answer.status}: {answer.headers['Cache-Control']}, not no-store"
    )


def _directives(answer: Answer) -> dict[str, str]:
    """Cache-Control; raises Violation where there is none: caches would make something up."""
    value = answer.headers.get("Cache-Control")
    if value is None:
        raise Violation(f"{answer.status} without Cache-Control")
    return dict(DIRECTIVE.findall(value.lower()))
