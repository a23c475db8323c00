"""What half, and what nearly all of the values of a while are at most: one outlier hides no other."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Mapping

HALF, MOST = 0.5, 0.95
Pair = tuple[float | None, float | None]  # the median and the 95th percentile; None of nothing


def percentiles(values: Iterable[float]) -> Pair:
    """Of values as they are."""
    ordered = sorted(values)
    if not ordered:
        return None, None
    half, most = (ordered[math.ceil(share * len(ordered)) - 1] for share in (HALF, MOST))
    return half, most


class Buckets:
    """Those of a histogram that only rises, looked at again and again: what came in the last ``looks``."""

    def __init__(self, looks: int) -> None:
        self._seen: deque[Mapping[float, float]] = deque(maxlen=looks + 1)

    def look(self, counts: Mapping[float, float]) -> Pair:
        """Percentiles by interpolation; ``counts`` are how many values were at most each upper bound."""
        self._seen.append(counts)
        before = self._seen[0] if len(self._seen) > 1 else {}
        bounds = sorted(counts)
        came = [counts[bound] - before.get(bound, 0.0) for bound in bounds]
        if not came or came[-1] <= 0:
            return None, None
        half, most = (_reached(bounds, came, share * came[-1]) for share in (HALF, MOST))
        return half, most


def _reached(bounds: list[float], came: list[float], wanted: float) -> float:
    """Where so many are reached; the last bound that is finite stands for all above it."""
    at = bisect_left(came, wanted)
    low, under = (bounds[at - 1], came[at - 1]) if at else (0.0, 0.0)
    if math.isinf(bounds[at]):
        return low
    return low + (bounds[at] - low) * (wanted - under) / (came[at] - under)
