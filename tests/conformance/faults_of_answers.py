"""Faults of headers: caching, validators, encoding, CORS."""

from aiohttp import web

from tests.conformance import caching, transport, validators
from tests.conformance.faulty_server import Behaviour
from tests.conformance.seeds import Fault, headed, kept
from tests.conformance.subject import State

AN_HOUR = "max-age=3600"
CORS = "Access-Control-Allow-Origin"
LONG_AGO, LONG_AFTER = "Thu, 01 Jan 2026 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT"


def weak(_: web.Request, response: web.Response) -> None:
    """ETags are weak."""
    if etag := response.headers.get("ETag"):
        response.headers["ETag"] = f"W/{etag}"


def method_not_allowed(request: web.Request, response: web.Response) -> None:
    """HEAD is refused."""
    if request.method == "HEAD":
        response.set_status(405)


CACHING = (
    Fault(
        "says nothing to caches",
        caching.a_plain_playlist_is_kept_shortly,
        headed("Cache-Control", None),
        "200 without Cache-Control",
    ),
    Fault(
        "has playlists kept long",
        caching.a_plain_playlist_is_kept_shortly,
        kept("plain", AN_HOUR),
        "kept for 3600 s, expected 1 to 1",
    ),
    Fault(
        "has playlists not kept",
        caching.a_plain_playlist_is_kept_shortly,
        kept("plain", "no-cache"),
        "kept for 0 s",
    ),
    Fault(
        "has numbered answers kept shortly",
        caching.a_blocking_answer_is_kept_longer,
        kept("blocking", "max-age=1"),
        "kept for 1 s, expected 2 to 6",
    ),
    Fault(
        "has numbered answers kept long",
        caching.a_blocking_answer_is_kept_longer,
        kept("blocking", AN_HOUR),
        "kept for 3600 s, expected 2 to 6",
    ),
    Fault(
        "has early questions kept",
        caching.too_far_ahead_is_not_kept,
        kept("too far ahead", "max-age=4"),
        "400: kept for 4 s, expected 0 to 0",
    ),
    Fault(
        "has mistakes kept long",
        caching.a_malformed_request_is_not_kept_long,
        kept("malformed", AN_HOUR),
        "400: kept for 3600 s",
    ),
    Fault(
        "has 404s kept long",
        caching.an_unknown_variant_is_not_kept_long,
        kept("missing", AN_HOUR),
        "404: kept for 3600 s",
    ),
    Fault(
        "has 503s kept",
        caching.a_vain_wait_is_hardly_kept,
        kept("timed out", "max-age=2"),
        "503: kept for 2 s, expected 0 to 1",
        State.PAUSED,
    ),
    Fault(
        "has the wait for a stream kept",
        caching.before_a_stream_nothing_is_stored,
        kept("offline", "max-age=1"),
        "404: max-age=1, not no-store",
        State.OFFLINE,
    ),
    Fault(
        "varies by origin",
        caching.answers_vary_by_encoding_alone,
        headed("Vary", "Accept-Encoding, Origin"),
        "Vary: Accept-Encoding, Origin",
    ),
    Fault("varies by everything", caching.answers_vary_by_encoding_alone, headed("Vary", "*"), "Vary: *"),
    Fault(
        "does not vary",
        caching.answers_vary_by_encoding_alone,
        headed("Vary", None),
        "no Vary: Accept-Encoding",
    ),
)

VALIDATORS = (
    Fault(
        "has weak ETags",
        validators.the_etag_is_strong,
        Behaviour(headers=weak),
        'a strong ETag expected, W/"',
    ),
    Fault("has no ETag", validators.the_etag_is_strong, headed("ETag", None), "none seen"),
    Fault(
        "has one ETag for all",
        validators.the_etag_changes_with_the_bytes,
        Behaviour(etag=lambda *_: b""),
        "has stood for different bytes",
    ),
    Fault(
        "has one ETag for both encodings",
        validators.the_etag_changes_with_the_bytes,
        Behaviour(etag=lambda _, plain: plain),
        "has stood for different bytes",
    ),
    Fault(
        "never answers 304",
        validators.an_unchanged_playlist_is_304,
        Behaviour(matches=lambda *_: False),
        "304 expected, 200 seen",
    ),
    Fault(
        "answers 304 without Cache-Control",
        validators.a_304_has_the_headers_of_the_200,
        headed("Cache-Control", None, 304),
        "304 without Cache-Control",
    ),
    Fault(
        "answers 304 without Vary",
        validators.a_304_has_the_headers_of_the_200,
        headed("Vary", None, 304),
        "304 without Vary",
    ),
    Fault(
        "was modified long ago",
        validators.last_modified_is_fresh,
        headed("Last-Modified", LONG_AGO),
        "s old, more than 3 s",
    ),
    Fault(
        "will be modified",
        validators.last_modified_is_fresh,
        headed("Last-Modified", LONG_AFTER),
        "s later than Date",
    ),
    Fault(
        "was never modified",
        validators.last_modified_is_fresh,
        headed("Last-Modified", None),
        "Last-Modified: none",
    ),
    Fault("has a wrong clock", validators.the_date_is_right, headed("Date", LONG_AGO), "s from our clock"),
    Fault("has a broken Age", validators.the_date_is_right, headed("Age", "-1"), "Age: -1"),
)

TRANSPORT = (
    Fault(
        "never compresses",
        transport.gzip_is_answered,
        Behaviour(accepts_gzip=lambda _: False),
        "gzip expected, none seen",
    ),
    Fault(
        "always compresses",
        transport.gzip_is_not_forced,
        Behaviour(accepts_gzip=lambda _: True),
        "'identity'}: Content-Encoding gzip",
    ),
    Fault(
        "does not read q",
        transport.gzip_is_not_forced,
        Behaviour(accepts_gzip=lambda value: "gzip" in value),
        "q=0, identity'}: Content-Encoding gzip",
    ),
    Fault(
        "sends text",
        transport.the_media_type_is_right,
        headed("Content-Type", "text/plain"),
        "Content-Type: text/plain",
    ),
    Fault(
        "refuses HEAD",
        transport.head_is_get_without_the_body,
        Behaviour(headers=method_not_allowed),
        "200 expected, 405 seen",
    ),
    Fault(
        "has no ETag for HEAD",
        transport.head_is_get_without_the_body,
        headed("ETag", None, 200, "HEAD"),
        ": not as in GET",
    ),
    Fault(
        "closes playlists",
        transport.any_page_may_read_a_playlist,
        headed(CORS, None),
        "200 is open to nobody",
    ),
    Fault(
        "opens playlists to another",
        transport.any_page_may_read_a_playlist,
        headed(CORS, "https://a.example"),
        "200 is open to https://a.example",
    ),
    Fault("closes 304s", transport.any_page_may_read_a_304, headed(CORS, None, 304), "304 is open to nobody"),
    Fault(
        "closes 400s", transport.any_page_may_read_a_refusal, headed(CORS, None, 400), "400 is open to nobody"
    ),
    Fault("closes 404s", transport.any_page_may_read_a_404, headed(CORS, None, 404), "404 is open to nobody"),
    Fault(
        "closes 503s",
        transport.any_page_may_read_a_503,
        headed(CORS, None, 503),
        "503 is open to nobody",
        State.PAUSED,
    ),
    Fault(
        "is closed before a stream",
        transport.any_page_may_read_a_404_before_a_stream,
        headed(CORS, None, 404),
        "404 is open to nobody",
        State.OFFLINE,
    ),
    Fault(
        "hides the age",
        transport.a_player_learns_the_age,
        headed("Access-Control-Expose-Headers", "Date, ETag"),
        "exposed: Date, ETag",
    ),
)
