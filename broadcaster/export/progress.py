"""A bar with rate and time left, on a terminal; elsewhere nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from broadcaster.export.plan import Plan
from broadcaster.printable import printable


@contextmanager
def progress(plan: Plan, name: str) -> Iterator[Callable[[int], None]]:
    """Of the segments of a plan; what it gives is told of each, with its bytes."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from tqdm import tqdm  # noqa: PLC0415 - where there is a terminal

    received = 0
    with tqdm(
        total=plan.count, desc=printable(name), unit=" segments", file=sys.stderr, dynamic_ncols=True
    ) as bar:

        def step(size: int) -> None:
            nonlocal received
            received += size
            rate = received / max(bar.format_dict["elapsed"], 1e-3)
            bar.set_postfix_str(f"{rate / 1e6:.1f} MB/s", refresh=False)
            bar.update()

        yield step
