"""Waiting for whichever comes first."""

import asyncio
from contextlib import suppress


async def wait_at_most(seconds: float, event: asyncio.Event) -> None:
    """Until the event is set, or so long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
