"""What the page is told here: what the origin tells its own, with the relay's addresses."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from urllib.parse import urljoin, urlsplit

from broadcaster.errors import OriginError
from broadcaster.relay.origin import Origin

logger = logging.getLogger(__name__)

EVERY, EVERY_WITHOUT = 60.0, 2.0  # seconds between two looks
OK, MISSING = 200, 404
OURS: Mapping[str, object] = {
    "eventsUrl": "/live/events",
    "beaconUrl": "/live/beacon",
    "recordings": None,  # they are the origin's: to watch one, one goes there
}
WHOLE = ("poster", "chatUrl", "pageUrl")  # addresses that may be within the origin
# All that holds here, too. Anything else is of what a relay does not do, as clips are, or would have viewers
# go past it, as the fallback would.
KEPT = {
    *("title", "performer", "startsAt", "mode", "iceServers", "colors", "texts", "prices", "costs"),
    *("trackerUrl", *WHOLE),
}


class PageSettings:
    """Keeps ``now`` as the origin has it: one dictionary, which is changed in its place."""

    def __init__(self, origin: Origin) -> None:
        self.now: dict[str, object] = {**OURS, "trackerUrl": "/live/tracker"}
        self._origin = origin

    async def run(self) -> None:
        """Look from time to time, until cancelled."""
        while True:
            pause = EVERY
            try:
                answer = await self._origin.ask(self._origin.url("/config.json"))
                if answer.status not in (OK, MISSING):  # it has no place for us at the moment
                    raise OriginError(f"it answers {answer.status}")
                found = json.loads(answer.text) if answer.status == OK else {}
                if isinstance(found, dict):
                    self.take(found)
            except (OriginError, ValueError, RecursionError) as error:
                logger.debug("the origin's page settings cannot be read: %s", error)
                pause = EVERY_WITHOUT
            await asyncio.sleep(pause)

    def take(self, found: dict[str, object]) -> None:
        """What the origin's page is told."""
        told = {name: value for name, value in found.items() if name in KEPT}
        for name in WHOLE:
            if isinstance(value := told.get(name), str):
                told[name] = _whole(self._origin.address, value)
        tracker = told.get("trackerUrl")
        if isinstance(tracker, str) and not urlsplit(tracker).netloc:  # the origin's own: here it is ours
            told["trackerUrl"] = "/live/tracker"
        self.now.clear()
        self.now.update({"trackerUrl": None, **told, **OURS})


def _whole(base: str, address: str) -> str | None:
    try:
        return urljoin(base + "/", address)
    except ValueError:
        return None
