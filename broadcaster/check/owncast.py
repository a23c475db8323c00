"""Owncast's own interface, which says whether its encoder is connected."""

from __future__ import annotations

from broadcaster.check.report import Finding, ok, warning
from broadcaster.errors import OwncastError
from broadcaster.owncast import fetch, open_session
from broadcaster.printable import printable

REMEDY = "look at BROADCASTER_OWNCAST_URL: it is Owncast's own address, such as http://127.0.0.1:8080"


async def answers(url: str) -> Finding:
    """Owncast answers at ``url``, and which version of it. Streams get through without it."""
    async with open_session() as session:
        try:
            status = await fetch(session, url)
        except OwncastError as error:
            return warning(f"it does not say whether an encoder is connected: {error}", REMEDY)
    encoder = "an encoder is connected" if status.connected else "no encoder is connected"
    return ok(f"version {printable(status.version or 'unknown')} answers; {encoder}")
