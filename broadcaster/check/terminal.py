"""``broadcaster check`` as people and scripts meet it."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from typing import TextIO

from broadcaster.check.bucket import Means
from broadcaster.check.doctor import examine
from broadcaster.check.plan import Plan
from broadcaster.check.probe import probing
from broadcaster.check.report import Report, Result, failed
from broadcaster.check.settings_client import open_settings
from broadcaster.config import Settings, load
from broadcaster.errors import ConfigError
from broadcaster.guest import open_browser
from broadcaster.printable import printable, write
from broadcaster.service import bucket_of
from broadcaster.storage import open_store

EXIT_FAILED, EXIT_CONFIG = 1, 2
BUDGET = 10.0  # seconds for all checks; what the start, the cleaning up and the end take comes on top
SIGNED_FOR = timedelta(minutes=10)
CLEAR_LINE = "\r\x1b[2K"


class _Progress:
    """Shows what is being checked, on a terminal, and each result as it comes."""

    def __init__(self, output: TextIO, *, results: bool) -> None:
        self._output = output
        self._results = results
        self._clear = CLEAR_LINE if output.isatty() else ""

    def start(self, title: str) -> None:
        if self._clear:
            self._output.write(f"{self._clear}...      {printable(title)}")
            self._output.flush()

    def result(self, result: Result) -> None:
        self._output.write(self._clear)
        if self._results:
            write(result.text, self._output)
        self._output.flush()


def check(
    *, fix: bool, as_json: bool, origin: str | None, public: str | None, uploads: str | None = None
) -> int:
    """Check everything that ``run`` needs; returns the exit status: 0, 1 when something failed, 2 as ``run``.

    ``fix`` sets the bucket's CORS policy and lifecycle rules; ``origin`` is where the page is, and ``public``
    where the world finds the service, which is asked there then; ``uploads`` is where the operator opens the
    dashboard to upload files; all as scheme://host. Output and errors never show a key or a signature.
    """
    try:
        settings = load()
    except ConfigError as error:
        finding = failed(
            str(error), "set it in the environment or in .env; .env.example says what each means"
        )
        report = Report([Result("settings", "settings", finding, 0.0)])
        write(report.as_json() if as_json else report.results[0].text)
        return EXIT_CONFIG
    progress = _Progress(sys.stderr if as_json else sys.stdout, results=not as_json)
    try:
        report = asyncio.run(
            _examine(settings, progress, fix=fix, origin=origin, public=public, uploads=uploads)
        )
    except KeyboardInterrupt:
        write("\nbroadcaster: interrupted", sys.stderr)
        return EXIT_FAILED
    write(report.as_json() if as_json else f"\n{report.summary()}")
    return 0 if report.is_good else EXIT_FAILED


async def _examine(  # noqa: PLR0913 - what can be asked for
    settings: Settings,
    progress: _Progress,
    *,
    fix: bool,
    origin: str | None,
    public: str | None,
    uploads: str | None,
) -> Report:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    page = origin or public or f"http://{host}:{settings.port}"
    bucket = bucket_of(settings, SIGNED_FOR)
    async with (
        open_browser(page) as browser,
        open_store(bucket) as store,
        open_settings(bucket) as client,
        probing(store, settings.prefix) as objects,
    ):
        plan = Plan(settings, Means(browser, store, client, objects), public, uploads)
        checks = plan.checks((origin or "*") if fix else None)
        budget = 2 * BUDGET if public else BUDGET
        return await examine(checks, budget=budget, on_start=progress.start, on_result=progress.result)
