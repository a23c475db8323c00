"""Clips that viewers ask for: short, few, one after another."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import timedelta

from broadcaster.catalog.clips import Clips
from broadcaster.catalog.views import Bounds
from broadcaster.errors import CatalogError, NotPossible, TooMany
from broadcaster.feed import ClipAnswer, ClipWish

logger = logging.getLogger(__name__)

SHORTEST, LONGEST = timedelta(seconds=5), timedelta(seconds=90)
BOUNDS = Bounds(of_a_stream=300, of_a_day=500, in_all=2000)
AT_ONCE = 20  # wishes that wait for their turn
PATIENCE = 5.0  # seconds after which nobody waits for an answer: what is made then is never found

Answer = Callable[[ClipAnswer], None]


class ViewersClips:
    """Call it with each wish, and with whom to answer; let ``run`` make them. ``tell`` says that one is made.

    What it is asked comes from a process that strangers talk to: its bounds hold whatever that lets through.
    """

    def __init__(
        self,
        clips: Clips,
        tell: Callable[[], None],
        bounds: Bounds = BOUNDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clips = clips
        self._tell = tell
        self._bounds = bounds
        self._clock = clock
        self._full = False  # as was said
        self._wishes: asyncio.Queue[tuple[float, ClipWish, Answer]] = asyncio.Queue(AT_ONCE)

    def __call__(self, wish: ClipWish, answer: Answer) -> None:
        """Take note of a wish; past what may wait it is refused."""
        try:
            self._wishes.put_nowait((self._clock(), wish, answer))
        except asyncio.QueueFull:
            answer(ClipAnswer(wish.id, refusal="away"))

    async def run(self) -> None:
        """Make them, until cancelled."""
        while True:
            asked, wish, answer = await self._wishes.get()
            if self._clock() - asked < PATIENCE:
                try:
                    made = await self._make(wish)
                except Exception:
                    answer(ClipAnswer(wish.id, refusal="away"))
                    raise
                answer(made)

    async def _make(self, wish: ClipWish) -> ClipAnswer:
        if not SHORTEST <= wish.end - wish.begin <= LONGEST:
            return ClipAnswer(wish.id, refusal="gone")
        try:
            clip = await self._clips.make("", wish.begin, wish.end, self._bounds)
        except TooMany as error:
            if not self._full:  # once, and not for each who asks
                logger.warning("a viewer gets no clip: %s", error)
            self._full = True
            return ClipAnswer(wish.id, refusal="full")
        except NotPossible:
            return ClipAnswer(wish.id, refusal="gone")
        except CatalogError:  # which the log tells of anyway
            return ClipAnswer(wish.id, refusal="away")
        self._full = False
        self._tell()
        return ClipAnswer(wish.id, clip.id)
