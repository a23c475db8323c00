"""What each gate of a private event lets through: one table for all places that have a gate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from broadcaster.access import make_token

SECRET, OTHER_SECRET = bytes(range(32)), bytes(range(1, 33))
GRANT, REVOKED = "00112233445566aa", "ffeeddccbbaa9988"
NOW = 1_800_000_000
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
    "/watch/2026-01-01-1200-abcdefghjkmnpq",
    "/c/2026-01-01-1200-abcdefghjkmnpq",
    "/assets/main.js",
    "/no/such/path",
)


def token(*, grant: str = GRANT, secret: bytes = SECRET, seconds: int = 3600) -> str:
    """A token that is valid for so many seconds from ``NOW``."""
    return make_token(secret, grant, NOW + seconds)


VALID = token()
EXPIRY, REST = VALID.split(".")
BAD = {
    "none": "",
    "expired": token(seconds=-1),
    "expires now": token(seconds=0),
    "of another event": token(secret=OTHER_SECRET),
    "revoked": token(grant=REVOKED),
    "forged": VALID[:-1] + ("0" if VALID[-1] != "0" else "1"),
    "for longer": f"{NOW + 7200:08x}.{REST}",
    "of another grant": f"{EXPIRY}.{REVOKED}{REST[16:]}",
    "cut": VALID[:-1],
    "cut to 128 bits": VALID[:-32],
    "without its code": f"{EXPIRY}.{GRANT}",
    "too long": VALID + "0",
    "in capitals": VALID.upper(),
    "without a dot": VALID.replace(".", ""),
    "with a blank": f"{VALID}%20",
    "with a zero byte": f"{VALID}%00",
    "twice": f"{VALID}{VALID}",
    "negative": f"-{VALID}",
    "not ASCII": VALID.replace(VALID[-1], "%D9%A0"),
    "of 4,000 letters": "a" * 3000,
}


@dataclass(frozen=True, slots=True)
class Case:
    """A request, and whether it passes."""

    name: str
    target: str
    passes: bool
    method: str = "GET"
    headers: dict[str, str] = field(default_factory=dict)


def cases() -> Iterator[Case]:
    """All of them."""
    for path in ROUTES:
        yield Case(f"{path} without a token", path, passes=False)
    for name, bad in BAD.items():
        yield Case(f"a token {name}", f"/t/{bad}/live/playlist.m3u8", passes=False)
    media = "/live/playlist.m3u8"
    yield Case("a token", f"/t/{VALID}{media}", passes=True)
    yield Case("a token and a query", f"/t/{VALID}{media}?_HLS_skip=YES", passes=True)
    yield Case("a token, HEAD", f"/t/{VALID}{media}", passes=True, method="HEAD")
    yield Case("a token, OPTIONS", f"/t/{VALID}{media}", passes=True, method="OPTIONS")
    yield Case("a token alone", f"/t/{VALID}", passes=True)
    yield Case("a token and a slash", f"/t/{VALID}/", passes=True)
    yield Case("OPTIONS without a token", media, passes=False, method="OPTIONS")
    yield Case("HEAD without a token", media, passes=False, method="HEAD")
    yield Case("a report without a token", "/live/beacon", passes=False, method="POST")
    yield Case("a clip without a token", "/live/clips", passes=False, method="POST")
    yield Case("the token in a query", f"{media}?t={VALID}", passes=False)
    yield Case("the token in a query of /t/", f"/t/x{media}?/t/{VALID}/", passes=False)
    yield Case(
        "the token as authorization", media, passes=False, headers={"Authorization": f"Bearer {VALID}"}
    )
    yield Case("two slashes before it", f"//t/{VALID}{media}", passes=False)
    yield Case("a capital T", f"/T/{VALID}{media}", passes=False)
    yield Case("a folder before it", f"/live/t/{VALID}{media}", passes=False)
    yield Case("an encoded slash", f"/t/{VALID}%2Flive/playlist.m3u8", passes=False)
    yield Case("out of the token's folder", f"/t/{BAD['forged']}/..{media}", passes=False)
    yield Case("a valid token inside a bad one's path", f"/t/{BAD['expired']}/t/{VALID}{media}", passes=False)


def cookie_cases() -> Iterator[Case]:
    """The cookie of a page, for gates that read it."""
    for name, bad in BAD.items():
        if "%" not in bad:
            headers = {"Cookie": f"broadcaster_access={bad}"}
            yield Case(f"a cookie {name}", "/live/playlist.m3u8", passes=False, headers=headers)
    headers = {"Cookie": f"a=b; broadcaster_access={VALID}"}
    yield Case("a cookie", "/live/playlist.m3u8", passes=True, headers=headers)
    yield Case("a bad path beside it", f"/t/{BAD['forged']}/", passes=False, headers=headers)
    yield Case("a cookie of another name", "/", passes=False, headers={"Cookie": f"access={VALID}"})
