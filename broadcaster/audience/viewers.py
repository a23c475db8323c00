"""Who watches now: pages, by a random name that each has while it is open, and that nobody keeps."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from typing import NamedTuple

from broadcaster.audience.experience import UNKNOWN
from broadcaster.audience.places import OF_A_SITE
from broadcaster.figures import Figure
from broadcaster.furthest import Furthest
from broadcaster.tracker.addresses import bounded

MEMORY = 60.0  # seconds for which a page counts after its last report; it sends one every 25
MOST = 25_000  # pages: as many as can report so often
BLIND_OF_A_SITE = 20  # pages without a picture that count: one address may have a network of its own
EARLIEST = 5.0  # seconds after which a page's word counts again


class Page(NamedTuple):
    """One that watches."""

    site: str | None
    variant: str
    heard: float  # monotonic


class Screen(NamedTuple):
    """What a page has last said of its picture."""

    site: str | None
    lit: bool
    heard: float  # monotonic


class Screens:
    """Counts pages by their latest report: those that have played something, and those with errors alone."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pages: OrderedDict[str, Screen] = OrderedDict()  # the latest heard of last
        self._count = Counter[bool]()  # by whether there is a picture
        self._blind_of_sites = Counter[str]()

    def heard(self, name: str, site: str | None, *, played: bool, errors: bool) -> None:
        """Take note of a page's report."""
        self._remove(name)
        if not (played or errors) or len(self._pages) >= MOST:
            return
        if not played and site and self._blind_of_sites[site] >= BLIND_OF_A_SITE:
            return
        self._pages[name] = Screen(site, played, self._clock())
        self._count[played] += 1
        if not played and site:
            self._blind_of_sites[site] += 1

    @property
    def lit(self) -> int:
        """Pages that have a picture."""
        self._forget()
        return self._count[True]

    @property
    def blind(self) -> int:
        """Pages that report errors and have no picture."""
        self._forget()
        return self._count[False]

    def _forget(self) -> None:
        oldest = self._clock() - MEMORY
        while self._pages and next(iter(self._pages.values())).heard < oldest:
            self._remove(next(iter(self._pages)))

    def _remove(self, name: str) -> None:
        if screen := self._pages.pop(name, None):
            self._count[screen.lit] -= 1
            if not screen.lit and screen.site:
                self._blind_of_sites[screen.site] -= 1
                if not self._blind_of_sites[screen.site]:
                    del self._blind_of_sites[screen.site]


class Viewers:
    """Counts pages that watch; those of one site only as far as so many can share an address."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.furthest = Furthest(clock)
        self.screens = Screens(clock)
        self._clock = clock
        self._pages: OrderedDict[str, Page] = OrderedDict()  # the latest heard of last
        self._of_sites: Counter[str] = Counter()
        self._of_variants: Counter[str] = Counter()

    def __len__(self) -> int:
        self._forget()
        return len(self._pages)

    def heard(self, name: str, site: str | None, variant: str, *, leaves: bool = False) -> bool:
        """A page says that it watches, or did and ``leaves``; whether its word counts.

        Not too often, unless it is the last one, nor from too many.
        """
        self._forget()
        now = self._clock()
        before = self._remove(name)
        if before is None and (len(self._pages) >= MOST or self._has_too_many(site)):
            return False
        if leaves:
            return True
        self._pages[name] = Page(site, variant, now)
        self._of_variants[variant] += 1
        for one, _ in bounded(site) if site else []:
            self._of_sites[one] += 1
        return before is None or now - before.heard >= EARLIEST

    def figures(self) -> Iterator[Figure]:
        """How many there are."""
        self._forget()
        text = "Pages that watch now, by the variant that they say they play"
        yield Figure("viewers", text, dict(self._of_variants) or {UNKNOWN: 0.0}, labels=("variant",))
        text = "Pages that report errors and have no picture"
        yield Figure("viewers_without_picture", text, self.screens.blind)
        text = "Seconds that the viewer who is furthest behind live is behind, as pages say"
        yield Figure("viewer_furthest_seconds", text, self.furthest.seconds)

    def _has_too_many(self, site: str | None) -> bool:
        return (
            any(self._of_sites[one] >= times * OF_A_SITE for one, times in bounded(site)) if site else False
        )

    def _forget(self) -> None:
        oldest = self._clock() - MEMORY
        while self._pages and next(iter(self._pages.values())).heard < oldest:
            self._remove(next(iter(self._pages)))

    def _remove(self, name: str) -> Page | None:
        page = self._pages.pop(name, None)
        if page is None:
            return None
        of_site = [(self._of_sites, one) for one, _ in bounded(page.site)] if page.site else []
        for counts, of in (*of_site, (self._of_variants, page.variant)):
            counts[of] -= 1
            if not counts[of]:
                del counts[of]
        return page
