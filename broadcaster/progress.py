"""How far an upload is."""

from __future__ import annotations

import sys
import time
from typing import Self

LOOK = 0.25  # seconds between two versions of a line that tells how far it is


class Progress:
    """A line of the terminal that tells how far it is; nothing where there is no terminal."""

    def __init__(self, size: int) -> None:
        self._is_shown = sys.stderr.isatty()
        self._size = size
        self._first: tuple[float, int] | None = None  # monotonic, bytes
        self._shown = 0.0  # monotonic

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        sys.stderr.write("\n" if self._shown else "")

    def __call__(self, there: int) -> None:
        """So many bytes are there."""
        now = time.monotonic()
        self._first = self._first or (now, there)
        if not self._is_shown or (now - self._shown < LOOK and there < self._size):
            return
        self._shown = now
        rate = (there - self._first[1]) / max(now - self._first[0], LOOK)
        left = f", {(self._size - there) / rate / 60:.0f} min left" if rate else ""
        text = f"{there / self._size:4.0%} of {self._size / 1e6:,.0f} MB, {rate * 8 / 1e6:.1f} Mbit/s{left}"
        sys.stderr.write(f"\r{text:<60}")
        sys.stderr.flush()
