"""How far back a stream stays listed for those who are paused or behind, as their pages say."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

from broadcaster.ipc.viewer_delay import Furthest

SLACK_TARGET_DURATIONS = 2  # beyond what somebody is at


class Retention:
    """Nobody gets more kept than ``most``, nor than ``size`` bytes: what pages say may not be true.

    ``said`` is how many seconds the furthest of them is behind live; ``clock`` is monotonic. A new process
    that serves viewers has heard of nobody: so what was needed a moment ago is remembered here, too.
    """

    def __init__(
        self,
        most: timedelta = timedelta(),
        size: int = 0,
        said: Callable[[], float] = lambda: 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.is_on = bool(most and size)
        self._most = most.total_seconds()
        self._size = size
        self._said = said
        self._furthest = Furthest(clock)

    def hold(self) -> None:
        """There may be anybody: an earlier process knew."""
        self._furthest.heard(self._most)

    def need(self, target_duration: int) -> timedelta:
        """How far back from the end of the newest segment somebody may want to go on."""
        self._furthest.heard(min(max(0.0, self._said()), self._most))
        if not (furthest := min(self._furthest.seconds, self._most)):
            return timedelta()
        return timedelta(seconds=furthest + SLACK_TARGET_DURATIONS * target_duration)

    def cap(self, bandwidth: int) -> timedelta:
        """How much may be listed at all of variants that never need more bits per second together."""
        carried = 8 * self._size / bandwidth if bandwidth else self._most
        return timedelta(seconds=min(self._most, carried))
