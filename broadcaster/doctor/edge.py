"""Checks of the edge tier (``--edge``): the Worker's address, key, version and page, and a trial of its own.

The trial uses a channel that viewers do not see: a request is held, a push wakes it, a replay and a push of
an earlier epoch change nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from broadcaster.doctor.public import TunnelChecks
from broadcaster.doctor.report import Check, in_thread
from broadcaster.edge import PROBE, VERSION, EdgeAnswer, EdgeClient, encode, open_edge
from broadcaster.errors import EdgeError
from broadcaster.guest import Browser
from broadcaster.service.health import CheckFinding, failed, ok, skipped, warning

PLAYLIST = "live/playlist.m3u8"
SETTINGS = (
    "set address and key of the Worker (BROADCASTER_EDGE_URL, BROADCASTER_EDGE_KEY);"
    " docs/scaling.md has each step"
)
DEPLOY = "deploy the Worker of this release: npx wrangler deploy in deploy/cloudflare/worker"
WRONG_KEY = "k" * 43
HELD_FOR = 0.3  # seconds that the trial's request waits before the push
WOKEN_WITHIN = 2.0  # seconds, from the push to the answer
REQUESTS = re.compile(r"^broadcaster_requests_total\{.*\} (?P<count>\S+)$", re.MULTILINE)


class EdgeChecks:
    """The checks of the Worker at ``url``; ``admin`` is the address of the service's operator's listener."""

    def __init__(self, browser: Browser, url: str | None, key: str | None, admin: str, folder: Path) -> None:
        self._browser = browser
        self._url = url
        self._key = key or ""
        self._admin = admin
        self._folder = folder
        self._answer: EdgeAnswer | None = None
        self._requests: float | None = None

    def checks(self) -> list[Check]:
        """All of them, in order."""
        needs = ("edge-address",)
        return [
            Check("edge-address", "edge", self.address),
            Check("edge-key", "edge's key", self.key, needs),
            Check("edge-version", "edge's version", self.version, needs),
            Check("edge-page", "page at the edge", self.page, needs),
            Check("edge-trial", "trial at the edge", self.trial, needs),
            Check("edge-closed", "operator's pages at the edge", self.closed, needs),
            Check("edge-requests", "viewers past the edge", self.requests, needs),
        ]

    async def address(self) -> CheckFinding:
        """The Worker answers at its address, over https, with the service's key."""
        if not self._url:
            return failed("the address of the edge is not set", SETTINGS)
        self._requests = await self._count()
        return await self._with(self._ask_address)

    async def _ask_address(self, edge: EdgeClient) -> CheckFinding:
        self._answer = answer = await edge.status()
        if answer.http == HTTPStatus.UNAUTHORIZED:
            return failed(
                "the edge refuses the key",
                "give the Worker this key (npx wrangler secret put EDGE_KEY; here BROADCASTER_EDGE_KEY)",
            )
        if answer.http != HTTPStatus.OK:
            return failed(f"the edge answers {answer.http}", DEPLOY)
        parts = urlsplit(self._url or "")
        if parts.scheme != "https" and parts.hostname not in {"127.0.0.1", "::1", "localhost"}:
            return failed("the key goes over plain http", "use its https address (BROADCASTER_EDGE_URL)")
        return ok(f"it answers; the latest push was {answer.status.silent / 1000:.0f} s ago")

    async def key(self) -> CheckFinding:
        """No other key is taken."""

        async def ask(edge: EdgeClient) -> CheckFinding:
            answer = await edge.status()
            if answer.http != HTTPStatus.UNAUTHORIZED:
                return failed(f"a wrong key is answered {answer.http}", DEPLOY)
            return ok("another key is refused")

        return await self._with(ask, WRONG_KEY)

    async def version(self) -> CheckFinding:
        """The Worker speaks this version of the protocol."""
        found = self._answer.status.v if self._answer else 0
        if found != VERSION:
            return failed(f"the edge has version {found} of the protocol, this release {VERSION}", DEPLOY)
        return ok(f"version {VERSION}")

    async def page(self) -> CheckFinding:
        """The Worker has the page of this release."""
        ours = await in_thread(self._digest)
        if ours is None:
            return skipped(f"there is no page in {self._folder}")
        if self._answer is None or self._answer.status.page != ours:
            return warning("the edge has another page than this service", DEPLOY)
        return ok("it is this service's")

    async def trial(self) -> CheckFinding:
        """A held request wakes with a push; a replay and a push of an earlier epoch change nothing."""
        return await self._with(self._try)

    async def closed(self) -> CheckFinding:
        """The operator's routes are not at the edge, nor is the push without a key."""
        return await TunnelChecks(self._browser, self._url or "").closed()

    async def requests(self) -> CheckFinding:
        """The service saw no request of viewers meanwhile."""
        now = await self._count()
        if now is None or self._requests is None:
            return skipped("the service does not run")
        if seen := now - self._requests:
            return warning(
                f"the service answered {seen:.0f} requests of viewers meanwhile",
                "let the page's hostname lead to the Worker alone",
            )
        return ok("the service saw no request of viewers meanwhile")

    async def _try(self, edge: EdgeClient) -> CheckFinding:
        epoch = round(1000 * time.time())
        try:
            if not (first := await edge.push(_push(epoch, 1, 1), PROBE)).is_taken:
                return failed(f"a push is answered {first.http} {first.status.reason}".rstrip(), DEPLOY)
            held = asyncio.create_task(edge.request("GET", f"/origin/v1/{PROBE}/{PLAYLIST}?_HLS_msn=2"))
            await asyncio.sleep(HELD_FOR)
            if held.done():
                return failed("a request for what is to come is not held", DEPLOY)
            pushed = time.perf_counter()
            await edge.push(_push(epoch, 2, 2), PROBE)
            async with asyncio.timeout(WOKEN_WITHIN):
                status, body = await held
            woken = time.perf_counter() - pushed
            replay, old = await edge.push(_push(epoch, 2, 3), PROBE), await edge.push(_push(1, 9, 4), PROBE)
            _, after = await edge.request("GET", f"/origin/v1/{PROBE}/{PLAYLIST}")
        except TimeoutError:
            return failed(f"a held request does not wake within {WOKEN_WITHIN:g} s", DEPLOY)
        finally:
            await edge.forget(PROBE)
        if status != HTTPStatus.OK or body != _text(2) or after != body:
            return failed(f"a held request is answered {status} with something else", DEPLOY)
        if not replay.is_taken or old.http != HTTPStatus.CONFLICT:
            return failed(f"a push of an earlier epoch is answered {old.http}", DEPLOY)
        return ok(f"a held request woke {woken * 1000:.0f} ms after the push; an old push was refused")

    async def _with(
        self, ask: Callable[[EdgeClient], Coroutine[Any, Any, CheckFinding]], key: str = ""
    ) -> CheckFinding:
        try:
            async with open_edge(self._url or "", key or self._key) as edge:
                return await ask(edge)
        except EdgeError as error:
            return failed(str(error), SETTINGS)

    def _digest(self) -> str | None:
        index = self._folder / "index.html"
        return hashlib.sha256(index.read_bytes()).hexdigest() if index.is_file() else None

    async def _count(self) -> float | None:
        """Requests of viewers that the service has answered; None where it does not run."""
        try:
            answer = await self._browser.fetch(f"{self._admin}/metrics")
        except (aiohttp.ClientError, OSError):
            return None
        return sum(float(match["count"]) for match in REQUESTS.finditer(answer.body.decode(errors="replace")))


def _text(number: int) -> bytes:
    return f"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:{number}\n".encode()


def _push(epoch: int, serial: int, number: int) -> bytes:
    """A push of a whole view with one playlist, whose last segment has this number."""
    about = {"last": number, "live": True, "target": 10, "seconds": 10}
    return encode(
        {
            "v": VERSION,
            "epoch": epoch,
            "serial": serial,
            "base": None,
            "now": 1000 * time.time(),
            "state": {},
            "sampling": {},
            "texts": {PLAYLIST: {**about, "ops": [_text(number).decode()]}},
        }
    )
