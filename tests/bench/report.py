"""Figures and the promises they are held against."""

import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One measured figure; ``at_least`` or ``at_most`` is what was promised of it, if anything was."""

    name: str
    value: float
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None

    @property
    def kept(self) -> bool:
        above = self.at_least is None or self.value >= self.at_least
        return above and (self.at_most is None or self.value <= self.at_most)


def progress(text: str) -> None:
    """A line about what is going on, apart from the figures."""
    sys.stderr.write(f"{text}\n")


def show(figures: list[Figure]) -> int:
    """Print all figures; 1 when one of them breaks its promise."""
    for figure in figures:
        promise = ""
        if figure.at_least is not None:
            promise = f"  (at least {figure.at_least:g}: {'kept' if figure.kept else 'BROKEN'})"
        if figure.at_most is not None:
            promise = f"  (at most {figure.at_most:g}: {'kept' if figure.kept else 'BROKEN'})"
        print(f"{figure.name:<58} {figure.value:>10.4g} {figure.unit}{promise}")
    return 0 if all(figure.kept for figure in figures) else 1


def percentile(values: list[float], share: float) -> float:
    """The value that ``share`` (0 to 1) of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
