"""What each gate of a private event lets through: one table for all places that have a gate."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from broadcaster.access import make_token

SECRET, OTHER_SECRET = bytes(range(32)), bytes(range(1, 33))
GRANT, REVOKED = "00112233445566aa", "ffeeddccbbaa9988"
WAITS = "89abcdef01234567"  # a grant that is valid once the doors are open
FAULTS = {"over": "Your access is over, or this link is incomplete.", "closed": "The doors are still closed."}
OPENED, OTHER = "2026-01-02-1200-abcdefghjkmnpq", "2026-01-01-1200-abcdefghjkmnpq"  # recordings
NOW = 1_800_000_000
# A key with 128 random bits in a folder or at the begin of a name: hexadecimal digits, or letters of which
# each is one of 31. The secret of a recording that is hidden or in the bin can follow.
UNGUESSABLE = re.compile(
    r"(^|/)([0-9a-f]{32}-[^/]+$|\d{4}-\d\d-\d\d-\d{4}-[a-z2-9]{26,}(-[0-9a-f]+)?[/.-]|check-[0-9a-f]{32}/)"
)
# Of a stranger who knows the tracker.
SOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
# What there is to be seen of an event, by its path.
ROUTES = (
    "/",
    "/config.json",
    "/live/playlist.m3u8",
    "/live/0/playlist.m3u8",
    "/live/iframes.m3u8",
    "/live/0/iframes.m3u8",
    "/live/kept.m3u8",
    "/live/0/kept.m3u8",
    "/live/events",
    "/live/events/now",
    "/live/events/17",
    "/live/segments/now",
    "/live/tracker",
    "/recordings",
    "/recordings/newest.json",
    f"/watch/{OTHER}",
    f"/c/{OTHER}",
    "/assets/main.js",
    "/no/such/path",
)


def token(*, grant: str = GRANT, secret: bytes = SECRET, seconds: int = 3600, now: int = NOW) -> str:
    """A token that is valid for so many seconds from ``now``."""
    return make_token(secret, grant, now + seconds)


def bad_tokens(now: int) -> dict[str, str]:
    """What is no valid token, by what is wrong."""
    valid = token(now=now)
    expiry, rest = valid.split(".")
    return {
        "none": "",
        "expired": token(seconds=-1, now=now),
        "expires now": token(seconds=0, now=now),
        "of another event": token(secret=OTHER_SECRET, now=now),
        "revoked": token(grant=REVOKED, now=now),
        "before the doors open": token(grant=WAITS, now=now),
        "forged": valid[:-1] + ("0" if valid[-1] != "0" else "1"),
        "for longer": f"{now + 7200:08x}.{rest}",
        "of another grant": f"{expiry}.{REVOKED}{rest[16:]}",
        "cut": valid[:-1],
        "cut to 128 bits": valid[:-32],
        "without its code": f"{expiry}.{GRANT}",
        "too long": valid + "0",
        "in capitals": valid.upper(),
        "without a dot": valid.replace(".", ""),
        "with a blank": f"{valid}%20",
        "with a zero byte": f"{valid}%00",
        "twice": f"{valid}{valid}",
        "negative": f"-{valid}",
        "not ASCII": valid.replace(valid[-1], "%D9%A0"),
        "of 4,000 letters": "a" * 3000,
    }


VALID, BAD = token(), bad_tokens(NOW)


@dataclass(frozen=True, slots=True)
class Case:
    """A request, and whether it passes; ``fault``: what the page that asks says."""

    name: str
    target: str
    passes: bool
    method: str = "GET"
    headers: dict[str, str] = field(default_factory=dict)
    fault: str | None = None


def cases(now: int = NOW) -> Iterator[Case]:
    """All of them, for a gate whose clock shows ``now``."""
    valid, bad_ones = token(now=now), bad_tokens(now)
    for path in ROUTES:
        yield Case(f"{path} without a token", path, passes=False)
    for name, bad in bad_ones.items():
        yield Case(f"a token {name}", f"/t/{bad}/live/playlist.m3u8", passes=False)
    media = "/live/playlist.m3u8"
    yield Case("a token", f"/t/{valid}{media}", passes=True)
    yield Case("a token and a query", f"/t/{valid}{media}?_HLS_skip=YES", passes=True)
    yield Case("a token, HEAD", f"/t/{valid}{media}", passes=True, method="HEAD")
    yield Case("a token, OPTIONS", f"/t/{valid}{media}", passes=True, method="OPTIONS")
    yield Case("a token alone", f"/t/{valid}", passes=True)
    yield Case("a token and a slash", f"/t/{valid}/", passes=True)
    yield Case("OPTIONS without a token", media, passes=False, method="OPTIONS")
    yield Case("HEAD without a token", media, passes=False, method="HEAD")
    yield Case("a report without a token", "/live/beacon", passes=False, method="POST")
    yield Case("a clip without a token", "/live/clips", passes=False, method="POST")
    yield Case("the token in a query", f"{media}?t={valid}", passes=False)
    yield Case("the token in a query of /t/", f"/t/x{media}?/t/{valid}/", passes=False)
    yield Case(
        "the token as authorization", media, passes=False, headers={"Authorization": f"Bearer {valid}"}
    )
    for name in ("", bad_ones["forged"], bad_ones["revoked"]):
        begin = name and f"/t/{name}"
        yield Case(f"a socket with {name}", f"{begin}/live/tracker", passes=False, headers=SOCKET)
    for key in ("path", "path -", f"path {SECRET.hex()}", f"cookie {valid}"):
        yield Case(f"a gate's key, {key}", media, passes=False, headers={"X-Broadcaster-Gate": key})
    yield Case("two slashes before it", f"//t/{valid}{media}", passes=False)
    yield Case("a capital T", f"/T/{valid}{media}", passes=False)
    yield Case("a folder before it", f"/live/t/{valid}{media}", passes=False)
    yield Case("an encoded slash", f"/t/{valid}%2Flive/playlist.m3u8", passes=False)
    yield Case("out of the token's folder", f"/t/{bad_ones['forged']}/..{media}", passes=False)
    yield Case(
        "a valid token inside a bad one's path", f"/t/{bad_ones['expired']}/t/{valid}{media}", passes=False
    )


def page_cases(now: int = NOW) -> Iterator[Case]:
    """What a browser's window shows to strangers: why they do not get in."""
    faults = {
        "": None,
        token(grant=REVOKED, now=now): "over",
        token(grant=WAITS, now=now): "closed",
        token(grant=WAITS, now=now, seconds=-1): "over",
        token(grant=WAITS, now=now, secret=OTHER_SECRET): "over",
    }
    for found, fault in faults.items():
        html = {"Accept": "text/html"}
        for path in ("", "watch/x", "no/such/path"):
            name = f"/{path} asked by a browser, {fault or 'a stranger'}"
            if found:
                yield Case(f"{name}, path", f"/t/{found}/{path}", passes=False, headers=html, fault=fault)
                html = html | {"Cookie": f"broadcaster_access={found}"}
            yield Case(f"{name}, cookie", f"/{path}", passes=False, headers=html, fault=fault)


def opened_cases(now: int = NOW, *, signs: bool = True) -> Iterator[Case]:
    """A recording that is opened: strangers get what its page needs, and nothing else of the event.

    ``signs``: the gate has the playlists of a private bucket behind it.
    """
    valid, refused = token(now=now), token(grant=REVOKED, now=now)
    page = f"/watch/{OPENED}"
    for path in (
        page,
        f"{page}?t=5",
        f"/recordings/{OPENED}/0/playlist.m3u8",
        "/assets/main.js",
        "/icon-180.png",
    ):
        for method in ("GET", "HEAD"):
            passes = signs or not path.endswith(".m3u8")
            yield Case(f"{method} {path}, opened", path, passes=passes, method=method)
    for name in (valid, refused, "x"):
        headers = {"Cookie": f"broadcaster_access={name}"}
        yield Case(f"an opened recording with a cookie {name}", page, passes=True, headers=headers)
    yield Case("an opened recording with a token", f"/t/{valid}{page}", passes=True)
    yield Case("an opened recording with a token that is refused", f"/t/{refused}{page}", passes=False)
    yield Case("an opened recording, POST", page, passes=False, method="POST")
    ways = [f"/watch/{OTHER}", f"/recordings/{OTHER}/0/playlist.m3u8", f"/recordings/{OPENED}.json"]
    ways += [f"/c/{OPENED}", f"{page}/", f"/{page}", f"{page}/../{OTHER}", f"{page}%2F", page[:-1]]
    ways += [f"/recordings/{OPENED}/../{OTHER}/0/playlist.m3u8", "/assets/../config.json"]
    ways += ["/oembed", "/access.html"]
    for path in (*ROUTES, *ways):
        if path != "/assets/main.js":
            yield Case(f"{path} beside an opened recording", path, passes=False)


def cookie_cases(now: int = NOW) -> Iterator[Case]:
    """The cookie of a page."""
    valid, bad_ones = token(now=now), bad_tokens(now)
    for name, bad in bad_ones.items():
        if "%" not in bad:
            headers = {"Cookie": f"broadcaster_access={bad}"}
            yield Case(f"a cookie {name}", "/live/playlist.m3u8", passes=False, headers=headers)
    headers = {"Cookie": f"a=b; broadcaster_access={valid}"}
    yield Case("a cookie", "/live/playlist.m3u8", passes=True, headers=headers)
    yield Case("a bad path beside it", f"/t/{bad_ones['forged']}/", passes=False, headers=headers)
    yield Case("a cookie of another name", "/", passes=False, headers={"Cookie": f"access={valid}"})
