"""What the doctor says: verdicts, findings, and the report as text and as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum

from broadcaster.printable import printable, printable_json

WIDTH = 8  # characters of the longest verdict, and a blank


class Verdict(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"  # it works, but not as well as it should
    FAILED = "failed"  # a stream would not get through
    SKIPPED = "skipped"  # not to be known now


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict, why, and what to do about it. Never carries a key or a signature."""

    verdict: Verdict
    message: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """The finding of one check; ``name`` is its name in JSON, ``title`` the one that people read."""

    name: str
    title: str
    finding: Finding
    seconds: float

    @property
    def text(self) -> str:
        """One line, and a second one that says what to do."""
        verdict = self.finding.verdict
        word = verdict.upper() if verdict is Verdict.FAILED else verdict
        line = printable(f"{word:<{WIDTH}} {self.title}: {self.finding.message}")
        return f"{line}\n{'':<{WIDTH}} → {printable(self.finding.remedy)}" if self.finding.remedy else line


@dataclass(slots=True)
class Report:
    """All results, in order, and how long it took."""

    results: list[Result] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def is_good(self) -> bool:
        """Whether nothing failed."""
        return not any(one.finding.verdict is Verdict.FAILED for one in self.results)

    def summary(self) -> str:
        """How many checks ended how."""
        verdicts = [one.finding.verdict for one in self.results]
        counts = ", ".join(f"{verdicts.count(one)} {one}" for one in Verdict if one in verdicts)
        return f"{counts}, in {self.seconds:.1f} s"

    def as_json(self) -> str:
        """Everything, for programs."""
        checks = [
            {
                "name": one.name,
                "title": one.title,
                "verdict": one.finding.verdict,
                "message": one.finding.message,
                "remedy": one.finding.remedy,
                "seconds": round(one.seconds, 3),
            }
            for one in self.results
        ]
        found = {"ok": self.is_good, "seconds": round(self.seconds, 3), "checks": checks}
        return printable_json(json.dumps(found, indent=2))


def ok(message: str) -> Finding:
    """All is well."""
    return Finding(Verdict.OK, message)


def warning(message: str, remedy: str) -> Finding:
    """It works, but not as well as it should."""
    return Finding(Verdict.WARNING, message, remedy)


def failed(message: str, remedy: str) -> Finding:
    """A stream would not get through."""
    return Finding(Verdict.FAILED, message, remedy)


def skipped(message: str, remedy: str = "") -> Finding:
    """It cannot be known now."""
    return Finding(Verdict.SKIPPED, message, remedy)


def bytes_text(size: float) -> str:
    """A size as people read it."""
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:  # noqa: PLR2004 - of the binary units
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def rate_text(rate: float) -> str:
    """Bytes per second as a bit rate, the way encoders name it."""
    return f"{rate * 8 / 1e6:.2f} Mbit/s"


def time_text(seconds: float) -> str:
    """A time span as people read it."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.1f} s"
