"""Runs checks one after the other, each bounded in time; what needs a failed one is skipped."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from broadcaster.check.report import Finding, Report, Result, Verdict, failed, skipped
from broadcaster.threads import OwnThread

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
