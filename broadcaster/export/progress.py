"""A bar with rate and time left, on a terminal; elsewhere nothing."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from tqdm import tqdm

from broadcaster.export.plan import Plan


class Progress:
    """Of the segments of a plan."""

    def __init__(self, plan: Plan, name: str) -> None:
        self._received = 0
        self._bar = tqdm(
            total=plan.count,
            desc=name,
            unit=" segments",
            file=sys.stderr,
            disable=not sys.stderr.isatty(),
            dynamic_ncols=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def step(self, size: int) -> None:
        """One more, of so many bytes."""
        self._received += size
        rate = self._received / max(self._bar.format_dict["elapsed"], 1e-3)
        self._bar.set_postfix_str(f"{rate / 1e6:.1f} MB/s", refresh=False)
        self._bar.update()
