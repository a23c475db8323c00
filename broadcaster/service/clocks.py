"""The clocks that the parts are given."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta


def now() -> datetime:
    """The wall time."""
    return datetime.now(UTC)


def steady(
    wall: Callable[[], datetime] = now, monotonic: Callable[[], float] = time.monotonic
) -> Callable[[], datetime]:
    """A clock that begins with the wall time and then does not jump, whatever becomes of that."""
    begin, since = wall(), monotonic()
    return lambda: begin + timedelta(seconds=monotonic() - since)
