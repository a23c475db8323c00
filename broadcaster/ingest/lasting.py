"""What means nothing for a moment."""

from __future__ import annotations


class Lasting:
    """Something that counts once it has gone on for ``seconds``.

    ``since`` is when it began (monotonic), None while it is not; ``counts`` says that it has gone on so long.
    """

    def __init__(self, seconds: float) -> None:
        self.since: float | None = None
        self.counts = False
        self._seconds = seconds

    def note(self, now: float, *, on: bool = True) -> bool:
        """Note whether it is; returns whether it counts from now on: true once, until it is over."""
        if not on:
            self.since, self.counts = None, False
            return False
        self.since = now if self.since is None else self.since
        counted, self.counts = self.counts, now - self.since >= self._seconds
        return self.counts and not counted
