"""What is tried until the bucket does its part: the pauses between attempts, and what is said meanwhile."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from broadcaster.errors import StorageError, StorageRefused

logger = logging.getLogger(__name__)

FIRST_PAUSE, MAX_PAUSE = 0.2, 10.0  # seconds between attempts; doubled each time, of which a random part
LOG_INTERVAL = 60.0  # seconds between lines about a fault that goes on


@dataclass(frozen=True, slots=True)
class Fault:
    """Why the bucket does not do it, and since when; ``permanent`` means that someone must act."""

    message: str
    permanent: bool
    since: datetime


class Retrying:
    """One kind of work, ``what``, of which several attempts may be on; ``fault`` is what is wrong just now.

    ``clock`` gives the wall time, ``sleep`` lets seconds pass.
    """

    def __init__(
        self,
        what: str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.fault: Fault | None = None
        self._what = what
        self._clock = clock
        self._sleep = sleep
        self._worked = asyncio.Event()
        self._logged_at = 0.0  # monotonic

    def failed(self, error: StorageError | OSError) -> Fault:
        """An attempt has failed; that is said when it is new, and now and then."""
        permanent = isinstance(error, StorageRefused)
        known = self.fault and self.fault.permanent == permanent
        self.fault = Fault(str(error), permanent, self.fault.since if self.fault else self._clock())
        if not known or time.monotonic() - self._logged_at > LOG_INTERVAL:
            self._logged_at = time.monotonic()
            level = logging.ERROR if permanent else logging.WARNING
            logger.log(level, "%s fail since %s: %s", self._what, f"{self.fault.since:%H:%M:%SZ}", error)
        return self.fault

    def worked(self, *, over: bool = True) -> None:
        """An attempt got through: whoever pauses tries again. The fault is ``over`` if no other has it."""
        if self.fault is None:
            return
        self._worked.set()
        self._worked = asyncio.Event()
        if over:
            logger.info("%s work again; they failed since %s", self._what, f"{self.fault.since:%H:%M:%SZ}")
            self.fault = None

    async def pause(self, seconds: float) -> None:
        """Wait before the next attempt, so long or until another one works."""
        waits = [asyncio.ensure_future(one) for one in (self._sleep(seconds), self._worked.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waits:
                one.cancel()
