"""ETag, Last-Modified and Date (RFC 9110, 8.8 and 13.1.2): how a cache asks whether it is still right."""

import re
import time
from datetime import datetime
from email.utils import parsedate_to_datetime

from tests.conformance.asking import GZIP, SKIP
from tests.conformance.subject import IDENTITY, NOTHING, Answer, Subject
from tests.conformance.verdicts import Violation, require

STRONG = re.compile(r'"[\x21\x23-\x7e]*"')
VERSIONS = 3
OLDEST_TARGET_DURATIONS = 3  # of a live playlist; players take an older one for outdated
CLOCKS_DIFFER = 60  # seconds, ours and the server's, at most
ROUNDING = 1  # second


async def the_etag_is_strong(subject: Subject) -> None:
    """A quoted, strong validator on every playlist (RFC 9110, 8.8.3)."""
    for headers in (IDENTITY, GZIP):
        etag = (await subject.ask(headers=headers)).headers.get("ETag", "none")
        require(STRONG.fullmatch(etag), f"a strong ETag expected, {etag} seen")


async def the_etag_changes_with_the_bytes(subject: Subject) -> None:
    """Different bytes, be it another version, encoding or delta update, never share one (RFC 9110, 8.8.1)."""
    bodies: dict[str, bytes] = {}
    for _ in range(VERSIONS):
        await subject.new_version()
        for query in (NOTHING, SKIP):
            for headers in (IDENTITY, GZIP):
                answer = await subject.ask(query, headers=headers)
                etag = answer.headers.get("ETag", "none")
                known = bodies.setdefault(etag, answer.body)
                require(known == answer.body, f"ETag {etag} has stood for different bytes")


async def an_unchanged_playlist_is_304(subject: Subject) -> None:
    """If-None-Match with its ETag gets a 304 without a body (RFC 9110, 13.1.2)."""
    answer = await not_modified(subject)
    require(not answer.body, "the 304 has a body")


async def a_304_has_the_headers_of_the_200(subject: Subject) -> None:
    """Cache-Control, Date, ETag and Vary, so that a cache can go on with it (RFC 9110, 15.4.5)."""
    answer = await not_modified(subject)
    usual = await subject.ask()
    for name in ("Cache-Control", "Date", "ETag", "Vary"):
        require(name in answer.headers or name not in usual.headers, f"304 without {name}")
    require("Cache-Control" in answer.headers, "304 without Cache-Control")


async def last_modified_is_fresh(subject: Subject) -> None:
    """A live playlist was modified lately and not in the future; players take an old one for outdated."""
    await subject.new_version()
    answer = await subject.ask()
    age = (_time(answer, "Date") - _time(answer, "Last-Modified")).total_seconds()
    oldest = OLDEST_TARGET_DURATIONS * subject.target_duration + subject.delay
    require(age >= -ROUNDING, f"Last-Modified is {-age:.0f} s later than Date")
    require(age <= oldest + ROUNDING, f"Last-Modified is {age:.0f} s old, more than {oldest:.0f} s")


async def the_date_is_right(subject: Subject) -> None:
    """Date and Age, by which players judge how old a playlist is, agree with the clock (B.1)."""
    answer = await subject.ask()
    age = answer.headers.get("Age", "0")
    require(age.isdecimal(), f"Age: {age}")
    differs = abs(time.time() - _time(answer, "Date").timestamp() - int(age))
    require(differs <= CLOCKS_DIFFER + subject.delay, f"Date and Age are {differs:.0f} s from our clock")


async def not_modified(subject: Subject) -> Answer:
    """A 304; raises Violation where there is none to be had."""
    for _ in subject.attempts:
        await subject.new_version()
        etag = (await subject.ask()).headers.get("ETag", "none")
        answer = await subject.ask(headers={**IDENTITY, "If-None-Match": f'"another", {etag}'})
        if answer.status == 304:
            same = answer.headers.get("ETag", etag)  # compared weakly, as If-None-Match is
            require(same.removeprefix("W/") == etag.removeprefix("W/"), f"304 with {same}, not {etag}")
            return answer
    raise Violation(f"304 expected, {answer.status} seen")


def _time(answer: Answer, name: str) -> datetime:
    value = answer.headers.get(name, "none")
    try:
        return parsedate_to_datetime(value)
    except ValueError:
        raise Violation(f"{name}: {value}") from None
