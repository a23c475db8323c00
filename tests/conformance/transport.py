"""What a playlist's answer is like, whatever it says: encoding, media type, CORS, HEAD."""

from tests.conformance.asking import GZIP, missing, offline, refused, timed_out
from tests.conformance.subject import IDENTITY, ORIGIN, Answer, Subject
from tests.conformance.validators import not_modified
from tests.conformance.verdicts import Violation, require

MEDIA_TYPES = {"application/vnd.apple.mpegurl", "audio/mpegurl"}  # §4
NO_GZIP = {"Accept-Encoding": "gzip;q=0, identity"}
EXPOSED = {"age", "date", "etag"}
SAME_FOR_HEAD = ("Content-Type", "ETag", "Last-Modified", "Vary", "Access-Control-Allow-Origin")


async def gzip_is_answered(subject: Subject) -> None:
    """Playlists are sent with gzip to who accepts it (AS 10.1), and say the same."""
    for _ in subject.attempts:
        await subject.new_version()
        zipped, plain = await subject.ask(headers=GZIP), await subject.ask()
        encoding = zipped.headers.get("Content-Encoding", "none")
        require(encoding == "gzip", f"Content-Encoding gzip expected, {encoding} seen")
        if zipped.text == plain.text:
            return
    raise Violation("the playlist in gzip never says the same as without")


async def gzip_is_not_forced(subject: Subject) -> None:
    """Who does not accept gzip gets none (RFC 9110, 12.5.3)."""
    for headers in (IDENTITY, NO_GZIP):
        encoding = (await subject.ask(headers=headers)).headers.get("Content-Encoding", "identity")
        require(encoding == "identity", f"{headers}: Content-Encoding {encoding}")


async def the_media_type_is_right(subject: Subject) -> None:
    """``application/vnd.apple.mpegurl`` or ``audio/mpegurl`` (§4)."""
    for url in {subject.url, *subject.media_urls}:
        media_type = (await subject.ask(url=url)).headers.get("Content-Type", "none")
        require(media_type.partition(";")[0].strip().lower() in MEDIA_TYPES, f"Content-Type: {media_type}")


async def head_is_get_without_the_body(subject: Subject) -> None:
    """HEAD has the status and the headers of GET, and no body (RFC 9110, 9.3.2)."""
    for _ in subject.attempts:
        await subject.new_version()
        head, get = await subject.ask(method="HEAD"), await subject.ask()
        require(head.status == get.status, f"{get.status} expected, {head.status} seen")
        differ = [name for name in SAME_FOR_HEAD if head.headers.get(name) != get.headers.get(name)]
        if not differ:
            kept = ("Cache-Control" in answer.headers for answer in (head, get))
            require(len(set(kept)) == 1, "Cache-Control: not as in GET")
            length = head.headers.get("Content-Length", str(len(get.body)))
            require(length == str(len(get.body)), f"Content-Length {length}, the body has {len(get.body)}")
            return
    raise Violation(f"{', '.join(differ)}: not as in GET")


async def any_page_may_read_a_playlist(subject: Subject) -> None:
    """CORS: a 200 is open to the page that the player is in."""
    _is_open(await subject.ask())


async def any_page_may_read_a_304(subject: Subject) -> None:
    """CORS on a 304 too: else the browser keeps from the page what it already has."""
    _is_open(await not_modified(subject))


async def any_page_may_read_a_refusal(subject: Subject) -> None:
    """CORS on a 400 too: else the player sees a broken network."""
    _is_open(await refused(subject, {"_HLS_part": 0}))


async def any_page_may_read_a_404(subject: Subject) -> None:
    """CORS on a 404 too: else the player sees a broken network."""
    _is_open(await missing(subject))


async def any_page_may_read_a_404_before_a_stream(subject: Subject) -> None:
    """CORS while there is no stream: the page has to learn that."""
    _is_open(await offline(subject))


async def any_page_may_read_a_503(subject: Subject) -> None:
    """CORS on a 503 too: else the player sees a broken network."""
    _is_open(await timed_out(subject))


async def a_player_learns_the_age(subject: Subject) -> None:
    """Access-Control-Expose-Headers lets Age, Date and ETag through (B.1)."""
    value = (await subject.ask()).headers.get("Access-Control-Expose-Headers", "nothing")
    exposed = {name.strip().lower() for name in value.split(",")}
    require("*" in exposed or exposed >= EXPOSED, f"exposed: {value}")


def _is_open(answer: Answer) -> None:
    allowed = answer.headers.get("Access-Control-Allow-Origin", "nobody")
    require(allowed in ("*", ORIGIN), f"{answer.status} is open to {allowed}")
