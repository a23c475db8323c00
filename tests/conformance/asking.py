"""Questions that several checks ask."""

import asyncio

from yarl import URL

from tests.conformance.subject import Answer, Query, Subject
from tests.conformance.text import Playlist
from tests.conformance.verdicts import NotApplicable, Violation, require

SKIP: Query = {"_HLS_skip": "YES"}
GZIP = {"Accept-Encoding": "gzip"}
FAR_AHEAD = 1000  # segments
LATE = 3  # answers in a row that are late: a busy machine is not meant
MISSING = URL("no-such-variant/playlist.m3u8")  # beside the playlist that is tested


async def blocking_playlist(subject: Subject) -> Playlist:
    """The current playlist; raises NotApplicable where blocking reload is not advertised."""
    playlist = (await subject.ask_origin()).playlist
    if not playlist.can_block:
        raise NotApplicable("CAN-BLOCK-RELOAD is not advertised")
    return playlist


async def without_and_with(subject: Subject, query: Query) -> tuple[Answer, Answer]:
    """Two answers, asked for at the same time: what is slow about both is not the query's doing."""
    return await asyncio.gather(subject.ask_origin(), subject.ask(query))


def is_at_once(subject: Subject, plain: Answer, answer: Answer) -> bool:
    """Whether nothing has held up the second answer."""
    return answer.seconds - plain.seconds < subject.promptly


async def at_once(subject: Subject, query: Query) -> tuple[Answer, Answer]:
    """Two such answers, neither held up by the query; raises Violation where that is so each time."""
    for _ in range(LATE):
        plain, answer = await without_and_with(subject, query)
        if is_at_once(subject, plain, answer):
            return plain, answer
    raise Violation(f"answered {answer.seconds - plain.seconds:.1f} s later than without the query")


async def refused(subject: Subject, query: Query) -> Answer:
    """The answer to what is no proper blocking request; raises Violation unless that is a 400 at once."""
    await blocking_playlist(subject)
    _, answer = await at_once(subject, query)
    require(answer.status == 400, f"{query}: 400 expected, {answer.status} seen")
    return answer


async def timed_out(subject: Subject) -> Answer:
    """The answer to a request for a segment that does not come; raises Violation unless that is a 503."""
    number = (await blocking_playlist(subject)).last + 1
    answer = await subject.ask({"_HLS_msn": number})
    require(answer.status == 503, f"503 expected, {answer.status} seen")
    return answer


async def missing(subject: Subject) -> Answer:
    """The answer under an address that has no playlist; raises Violation unless that is a 404."""
    answer = await subject.ask(url=subject.url.join(MISSING))
    require(answer.status == 404, f"{MISSING}: 404 expected, {answer.status} seen")
    return answer


async def offline(subject: Subject) -> Answer:
    """The answer before there is a stream; raises Violation unless that is a 404."""
    answer = await subject.ask(url=subject.url)
    require(answer.status == 404, f"404 expected, {answer.status} seen")
    return answer
