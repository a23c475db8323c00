"""What the doctor says: verdicts, findings, and the report as text and as JSON.

Runs checks one after the other, each bounded in time; what needs a failed one is skipped.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ParamSpec, TypeVar

from broadcaster.aio import OwnThread
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


P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Check:
    """One check. ``needs`` names those that must not have failed, nor been skipped because others had.

    ``deadline`` is in seconds; ``on_timeout`` is the remedy when it is not kept. An ``always`` check is run
    even when the time of the whole is used up.
    """

    name: str
    title: str
    run: Callable[[], Awaitable[Finding]]
    needs: tuple[str, ...] = ()
    deadline: float = 4.0
    on_timeout: str = "check again; if it lasts, look at the network between"
    always: bool = False


async def examine(
    checks: Sequence[Check],
    *,
    budget: float,
    on_start: Callable[[str], None] = lambda _: None,
    on_result: Callable[[Result], None] = lambda _: None,
) -> Report:
    """Run the checks in order, within ``budget`` seconds.

    ``on_start`` is told the title of each check that begins, ``on_result`` each result.
    """
    report = Report()
    started = time.monotonic()
    lost: dict[str, str] = {}  # names of checks that nothing can build on, and what became of them
    for check in checks:
        on_start(check.title)
        began = time.monotonic()
        left = check.deadline if check.always else min(check.deadline, budget - (began - started))
        obstacle = _obstacle(check, lost, left)
        finding = obstacle or await _bounded(check, left)
        if obstacle or finding.verdict is Verdict.FAILED:
            lost[check.name] = "was skipped" if obstacle else "failed"
        result = Result(check.name, check.title, finding, time.monotonic() - began)
        report.results.append(result)
        on_result(result)
    report.seconds = time.monotonic() - started
    return report


def _obstacle(check: Check, lost: dict[str, str], left: float) -> Finding | None:
    for name in check.needs:
        if name in lost:
            return skipped(f"needs {name}, which {lost[name]}")
    return skipped("no time is left") if left <= 0 else None


async def _bounded(check: Check, deadline: float) -> Finding:
    try:
        async with asyncio.timeout(deadline):
            return await check.run()
    except TimeoutError:
        return failed(f"no answer within {deadline:.0f} s", check.on_timeout)
    except Exception as error:  # noqa: BLE001 - one check that fails must not hide the others
        return failed(f"the check itself failed ({type(error).__name__})", "please report this")


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call ``function`` where it may hang: a network file system can hold a call for ever."""
    with OwnThread("check") as thread:
        return await thread.call(function, *args, **kwargs)
