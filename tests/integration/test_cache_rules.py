"""The cache rules for Cloudflare, applied as Cloudflare does: all that match, the last one wins."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

TERRAFORM = Path(__file__).parents[2] / "deploy/cloudflare/cache-rules.tf"
RULE = re.compile(
    r'ref += "(?P<ref>\w+)".*?expression += "(?P<expression>.*?)"\n(?P<action>.*?)\n    \},\n', re.DOTALL
)
HOSTS = {"${var.video_host}": "video.example.com", "${var.page_host}": "live.example.com"}
FIELDS = {  # the longer names first
    "http.request.uri.path.extension": "extension",
    "http.request.uri.path": "path",
    "http.request.uri.query": "query",
    "http.host": "host",
}
SEGMENT = "https://video.example.com/live/20260101T000000Z-0-abcdef/0/stream-abcdef-7.ts"
MIRRORED = "https://video.example.com/live/0/playlist.m3u8"
PLAYLIST = "https://live.example.com/live/0/playlist.m3u8"


class Rule(NamedTuple):
    """Whom it is for, as an expression of Python's, and what becomes of the answer."""

    expression: str
    eligible: bool
    ignores_query: bool


def rules() -> Iterator[Rule]:
    for found in RULE.finditer(TERRAFORM.read_text()):
        expression = found["expression"].replace('\\"', '"')
        for old, new in (HOSTS | FIELDS).items():
            expression = expression.replace(old, new)
        expression = expression.replace(" eq ", " == ")
        expression = re.sub(r'(\w+) contains ("[^"]*")', r"(\2 in \1)", expression)
        expression = re.sub(r"\{([^}]*)\}", lambda names: f"({', '.join(names[1].split())},)", expression)
        action = re.sub(r"\s+|#.*", "", found["action"])
        yield Rule(
            expression,
            "cache=true" in action,
            "cache_key={custom_key={query_string={exclude={all=true}}}}" in action,
        )


def key(url: str) -> str | None:
    """Under which address an answer is kept; None where none is."""
    parts, eligible, ignores_query = urlsplit(url), False, False
    for rule in rules():
        names = {
            "host": parts.netloc,
            "path": parts.path,
            "extension": parts.path.rpartition(".")[2],
            "query": parts.query,
            "starts_with": str.startswith,
        }
        if eval(rule.expression, {}, names):
            eligible, ignores_query = rule.eligible, ignores_query or rule.ignores_query
    if not eligible:
        return None
    return url.partition("?")[0] if ignores_query else url


@pytest.mark.parametrize("url", [SEGMENT, MIRRORED, PLAYLIST])
@pytest.mark.parametrize("query", ["x", "t=1767225600", "_hls_msn=1&CMCD=br"])
def test_a_query_that_says_nothing_is_ignored(url: str, query: str) -> None:
    """Else everybody who adds one would be a read of the bucket, or a request to the service."""
    assert key(f"{url}?{query}") == key(url) == url


@pytest.mark.parametrize("query", ["_HLS_msn=7", "x=1&_HLS_skip=YES", "%5FHLS_msn=7", "x&_HLS%5fmsn=7"])
def test_directives_are_part_of_the_key(query: str) -> None:
    """However they are spelt: the answer to a blocking reload is kept longer than the plain playlist's."""
    assert key(f"{PLAYLIST}?{query}") == f"{PLAYLIST}?{query}"
    assert key(f"{SEGMENT}?{query}") == SEGMENT


@pytest.mark.parametrize("path", ["/live/events/now", "/live/events/1795601840002", "/live/segments/7"])
def test_all_pages_wait_for_the_same_serial(path: str) -> None:
    """Whatever a page adds to the address, one request of all reaches the service."""
    url = f"https://live.example.com{path}"
    assert key(url) == key(f"{url}?x=1") == url


def test_one_data_centre_asks_for_all() -> None:
    """Tiered Cache is switched on with the rules."""
    assert re.search(r'cloudflare_tiered_cache".*?value += "on"', TERRAFORM.read_text(), re.DOTALL)


@pytest.mark.parametrize(
    "path",
    [
        "/live/events",
        "/live/tracker",
        "/live/beacon",
        "/live/clips",
        "/health",
        "/",
        "/assets/main-0123456789.js",
    ],
)
def test_the_rest_is_left_alone(path: str) -> None:
    """What is for one reader is never kept; for the page, the service's own headers count."""
    assert key(f"https://live.example.com{path}?x") is None


def test_every_rule_is_explained_in_words() -> None:
    """The table in the folder's README has a row for each rule, in the same order."""
    named = [found["ref"].removeprefix("broadcaster_") for found in RULE.finditer(TERRAFORM.read_text())]
    lines = (TERRAFORM.parent / "README.md").read_text().splitlines()
    rows = [line.split("|")[1].strip().replace(" ", "_") for line in lines if line.startswith("| ")]
    assert rows[1:] == named
