"""The runs of the encoder: one identity for all variants."""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Callable
from datetime import datetime

from broadcaster.catalog.records import Run

logger = logging.getLogger(__name__)

LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz"


def draw() -> str:
    """Four letters or digits by chance, so that two broadcasters never give one id."""
    return "".join(secrets.choice(LETTERS) for _ in range(4))


class RunBook:
    """Gives each encoder run its number and its id, the same for all variants; goes on after ``known``.

    ``draw`` gives the part of an id that is left to chance.
    """

    def __init__(
        self, clock: Callable[[], datetime], known: tuple[Run, ...], draw: Callable[[], str] = draw
    ) -> None:
        self._clock = clock
        self._draw = draw
        self._runs = {run.identity: run for run in known}
        self._next = max((run.number for run in known), default=-1) + 1

    @property
    def breaks(self) -> int:
        """The latest run of a writer that has no ids, whose runs are told apart by counting them."""
        return max((int(identity[1:]) for identity in self._runs if identity.startswith("#")), default=0)

    def assign(self, identity: str) -> Run:
        """The run of that identity, a new one if it is not known yet."""
        if identity not in self._runs:
            number, self._next = self._next, self._next + 1
            encoder = re.sub(r"[^A-Za-z0-9_-]", "-", identity.partition("#")[0])[:40]
            run_id = f"{self._clock():%Y%m%dT%H%M%SZ}-{number}-{self._draw()}"
            run_id += f"-{encoder}" if encoder else ""
            self._runs[identity] = Run(number, run_id, identity)
            logger.info("encoder run %s begins", run_id)
        return self._runs[identity]
