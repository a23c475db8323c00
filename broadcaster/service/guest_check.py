"""Reads segments as viewers do: what is listed may be out of their reach while all else is well."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import aiohttp

from broadcaster.catalog.records import Segment
from broadcaster.config import Settings
from broadcaster.events import Event, SegmentPublished
from broadcaster.figures import Figure
from broadcaster.guest import (
    SETTING,
    Browser,
    Fault,
    open_browser,
    why_no_answer,
    why_not_allowed,
    why_not_public,
    why_not_read,
)

logger = logging.getLogger(__name__)

EVERY, EVERY_IN_FAULT = 60.0, 5.0  # seconds from one check to the next
CONFIRM = 1.0  # seconds after which a first failure is tried again: it may have been one lost packet
PATIENCE = 30.0  # seconds for a segment of the variant that has its turn
DEADLINE = 90.0  # seconds for one check
MOST_UNKNOWN = 2**30  # bytes of an object whose size is not known
SIGNED = "check R2_ENDPOINT_URL, the rights of the key, and this machine's clock"


class GuestCheck:
    """Reads the first segment of each run, and one a minute, at the address that viewers get, with an Origin.

    An observer of events. ``page`` is where viewers open the page, if that is known, else ``default``. While
    the stream is ``busy``, it leaves the network alone. ``fault`` is why viewers cannot read; None while they
    can, or nobody knows. It is ``unsure`` where pages of another origin perhaps can.
    """

    def __init__(
        self,
        page: Callable[[], str | None],
        default: str,
        *,
        signed: bool = False,
        busy: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.fault: Fault | None = None
        self.unsure = False
        self._page = page
        self._default = default
        self._signed = signed
        self._busy = busy
        self._clock = clock
        self._run: str | None = None
        self._next: Segment | None = None  # to be read
        self._is_first = False  # of its run
        self._due = clock()
        self._checked: dict[str, float] = {}  # by variant of this run: when
        self._news = asyncio.Event()
        self._outcomes = Counter({"done": 0, "failed": 0})

    def __call__(self, event: Event) -> None:
        """Take note of what is listed."""
        if not isinstance(event, SegmentPublished) or event.segment.gap or not event.segment.url:
            return
        segment = event.segment
        if segment.run.id != self._run:
            self._run, self._checked, self._is_first = segment.run.id, {}, True
        elif self._clock() < self._due:
            self._checked.setdefault(segment.variant, 0.0)
            return
        elif self._next or not self._has_turn(segment.variant):
            return
        self._next = segment
        self._news.set()

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            segment, self._next = self._next, None
            is_first, self._is_first = self._is_first, False
            if segment and (is_first or not self._busy()):
                await self._check(segment)

    def _has_turn(self, variant: str) -> bool:
        """The variant that was read longest ago has its turn, unless nothing comes of it."""
        oldest = min(self._checked.values(), default=0.0)
        return self._checked.get(variant, 0.0) <= oldest or self._clock() > self._due + PATIENCE

    def figures(self) -> Iterator[Figure]:
        """How the checks went, and whether viewers can read as far as they tell."""
        text = "Segments read as viewers do by outcome: done or failed"
        yield Figure("guest_checks", text, dict(self._outcomes), labels=("outcome",), rises=True)
        text = "1 while a segment that is listed cannot be read as viewers do"
        yield Figure("guest_check_failing", text, self.fault is not None)

    async def _check(self, segment: Segment) -> None:
        self._due = float("inf")  # one at a time, but for a new run
        try:
            fault = await self._read(segment)
            if fault and not self.fault:
                await asyncio.sleep(CONFIRM)
                fault = await self._read(segment)
            self._note(fault)
        finally:
            self._checked[segment.variant] = self._clock()
            self._due = self._clock() + (EVERY_IN_FAULT if self.fault else EVERY)

    async def _read(self, segment: Segment) -> Fault | None:
        """Why viewers cannot read this one, or its EXT-X-MAP."""
        page = await asyncio.to_thread(self._page)
        async with open_browser(_origin(page or self._default), "guest") as browser:
            for url in filter(None, (segment.map_url, segment.url)):
                expected = (segment.size, segment.sha256) if url == segment.url else (0, None)
                setting = "R2_ENDPOINT_URL" if self._signed else SETTING
                try:
                    async with asyncio.timeout(DEADLINE):
                        fault = await _read(browser, url, *expected)
                except (aiohttp.ClientError, OSError) as error:
                    fault = why_no_answer(error, url, setting)
                if fault:
                    self.unsure = page is None and not fault.certain
                    return fault._replace(remedy=SIGNED) if self._signed and fault.certain else fault
        return None

    def _note(self, fault: Fault | None) -> None:
        self._outcomes["failed" if fault else "done"] += 1
        if fault and (self.fault is None or self.fault.message != fault.message):
            logger.error("viewers cannot read what is listed: %s; %s", fault.message, fault.remedy)
        elif self.fault and not fault:
            logger.info("viewers can read what is listed again")
        self.fault = fault


async def _read(browser: Browser, url: str, size: int, sha256: str | None) -> Fault | None:
    answer = await browser.measure(url, size or MOST_UNKNOWN)
    same = size in (0, answer.size) and sha256 in (None, answer.sha256)
    return why_not_read(answer, same=same) or why_not_allowed(answer, browser.origin)


def warn_of_address(settings: Settings) -> None:
    """Log what is wrong with the public address of the bucket by its name alone."""
    url = settings.public_url if settings.urls == "public" else None
    if url and (fault := why_not_public(url)):
        level = logging.ERROR if fault.certain else logging.WARNING
        logger.log(level, "%s: %s; %s", SETTING, fault.message, fault.remedy)


def told_page(settings: Settings) -> str | None:
    """Where viewers open the live page, as the operator has told it."""
    try:
        told = json.loads((settings.viewer_dir / "config.json").read_text())
    except (OSError, ValueError):
        return None
    url = told.get("pageUrl") if isinstance(told, dict) else None
    return url if isinstance(url, str) and url.startswith(("http://", "https://")) else None


def _origin(url: str) -> str:
    """As the Origin header has it (RFC 6454)."""
    parts = urlsplit(url.lower())
    return f"{parts.scheme}://{parts.netloc}"
