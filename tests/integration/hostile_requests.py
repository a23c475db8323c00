"""Requests that no player makes: a generated set, the same each time."""

import random
from collections.abc import Iterator

SEED = 6
FILES = (
    "secret.txt",
    "../secret.txt",
    ".env",
    "state/journal.db",
    "etc/passwd",
    "package.json",
    "js/../../secret.txt",
)
CLIMBS = (
    "../",
    "..%2f",
    "%2e%2e/",
    "%2e%2e%2f",
    "..%5c",
    "..\\",
    "%252e%252e%252f",
    "..%c0%af",
    "..;/",
    "....//",
    ".%00./",
    "%uff0e%uff0e/",
)
FOLDERS = (
    "/",
    "/live/",
    "/live/0/",
    "/assets/",
    "/vendor/",
    "/dashboard/",
    "/live/tracker/",
    "/watch/",
    "/recordings/",
    "//",
    "/./",
)
METHODS = (
    "POST",
    "PUT",
    "DELETE",
    "PATCH",
    "TRACE",
    "CONNECT",
    "PROPFIND",
    "PRI",
    "get",
    "GE T",
    "\x00GET",
    "G" * 5000,
    "",
)
ROUTES = (
    "/",
    "/live/playlist.m3u8",
    "/live/0/playlist.m3u8",
    "/live/beacon",
    "/live/clips",
    "/health",
    "/config.json",
    "/recordings",
    "/recordings/newest.json",
    "/watch/2026-11-22-0912-k3f9",
    "/metrics",
    "/dashboard",
    "/dashboard/data.json",
)


def hostile_requests() -> Iterator[bytes]:
    """All of them, each to be sent on a connection of its own."""
    yield from _paths()
    yield from _methods()
    yield from _headers()
    yield from _bodies()
    yield from _smuggling()
    yield from _queries()
    yield from _noise()


def _request(target: str, method: str = "GET", extra: str = "", body: bytes = b"") -> bytes:
    head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{extra}\r\n"
    return head.encode("latin-1", "replace") + body


def _paths() -> Iterator[bytes]:
    for folder in FOLDERS:
        for climb in CLIMBS:
            for depth in (1, 3, 8):
                for file in FILES:
                    yield _request(f"{folder}{climb * depth}{file}")
    for target in (
        "*",
        "http://x/metrics",
        "x:80",
        "/" * 3000,
        "/" + "a" * 20_000,
        "/%",
        "/%zz",
        "/\x7f",
        "/caf\xe9",
    ):
        yield _request(target)


def _methods() -> Iterator[bytes]:
    for method in METHODS:
        for route in ROUTES:
            yield _request(route, method)


def _headers() -> Iterator[bytes]:
    odd = (
        "X: " + "a" * 100_000,
        "\r\n".join(f"X{number}: y" for number in range(2000)),
        "A" * 50_000 + ": y",
        "If-None-Match: " + ",".join(['"x"'] * 800),
        "If-None-Match: \x01\x02",
        "Accept-Encoding: " + "gzip;q=" * 400,
        "Accept-Encoding: gzip;q=9e999, *;q=nan",
        "Range: bytes=0-1,2-3," + ",".join("4-5" for _ in range(500)),
        "Range: bytes=99999999999999999999-",
        "If-Modified-Since: yesterday",
        "Cookie: " + "a=b; " * 600,
        "no colon at all",
        " : y",
        "X: a\r\n b",
        "X: \x00",
        "Host: y",
        "Expect: 100-continue",
        "Expect: a miracle",
        "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
        "Last-Event-ID: " + "9" * 4000,
    )
    for header in odd:
        for route in ROUTES:
            yield _request(route, extra=header + "\r\n")


def _bodies() -> Iterator[bytes]:
    for route in ROUTES:
        yield _request(route, "POST", "Content-Length: 1000000\r\n", b"x" * 1_000_000)
        yield _request(route, "POST", "Content-Length: 99999999999999999999\r\n", b"x")
        yield _request(route, "POST", "Content-Length: -1\r\n", b"x")
        yield _request(route, "POST", "Content-Length: 5\r\nContent-Encoding: gzip\r\n", b"hello")
        yield _request(route, "POST", "Transfer-Encoding: chunked\r\n", b"ffffffffffffffff\r\nx")
        yield _request(route, "POST", "Transfer-Encoding: chunked\r\n", b"zz\r\n\r\n")
    for body in (b"\xff\xfe", b"[" * 900, b'{"seconds":1e999}', b'{"seconds":{}}', b"null", b'"' * 1000):
        yield _request("/live/beacon", "POST", f"Content-Length: {len(body)}\r\n", body)
        charset = f"Content-Type: text/plain; charset=nothing\r\nContent-Length: {len(body)}\r\n"
        yield _request("/live/beacon", "POST", charset, body)
        yield _request("/live/clips", "POST", charset, body)
    for begin in ("0", "1e999", "-1e300", '"0"', "[]", "253402300800000", "1767268800000"):
        body = f'{{"begin": {begin}, "end": {begin}9}}'.encode()
        yield _request("/live/clips", "POST", f"Content-Length: {len(body)}\r\n", body)
    body = b'{"begin": 1767268800000, "end": 1767268809000}'
    for _ in range(50):
        yield _request("/live/clips", "POST", f"Content-Length: {len(body)}\r\n", body)


def _smuggling() -> Iterator[bytes]:
    inner = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
    for route in ROUTES:
        both = "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n"
        yield _request(route, "POST", both, b"0\r\n\r\n" + inner)
        yield _request(route, "POST", "Content-Length: 0\r\nContent-Length: 44\r\n", inner)
        yield _request(route, "GET", f"Content-Length: {len(inner)}\r\n", inner)
        yield _request(route, "POST", "Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n" + inner)
        yield _request(
            route, "POST", "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n", b"0\r\n\r\n" + inner
        )
        yield _request(route, "POST", "Transfer-Encoding:\x0bchunked\r\n", b"0\r\n\r\n" + inner)
        yield _request(route) + inner


def _queries() -> Iterator[bytes]:
    values = ("x", "-1", "1e9", "9" * 400, "%00", "1&_HLS_msn=2", "1;2", "%D9%A1", "0x10", "a" * 3000)
    for name in ("_HLS_msn", "_HLS_part", "_HLS_skip", "_HLS_push", "since", "x"):
        for value in values:
            for route in ROUTES[1:3]:
                yield _request(f"{route}?{name}={value}")


def _noise() -> Iterator[bytes]:
    chance = random.Random(SEED)
    for _ in range(200):
        yield chance.randbytes(chance.randint(1, 2000))
    whole = _request("/live/playlist.m3u8")
    for _ in range(200):  # a good request, with some of its bytes changed
        changed = bytearray(whole)
        for _ in range(chance.randint(1, 6)):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        yield bytes(changed)
