"""``broadcaster demo``: all of it without an account anywhere."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from broadcaster import logs
from broadcaster.commands.stopping import until_stopped
from broadcaster.demo.show import run_demo


def add_options(parser: argparse.ArgumentParser) -> None:
    """What it shows, and where."""
    parser.add_argument(
        "--source", type=Path, metavar="DIR", help="follow this HLS folder, not a simulated Owncast"
    )
    parser.add_argument("--port", type=int, default=3000, help="where the page is served (default: 3000)")


def run(options: argparse.Namespace, form: str) -> int:
    """Until it is stopped."""
    logs.set_up("warning", form)

    async def demo(stop: asyncio.Event) -> None:
        """Nothing of a demo is worth finishing: it ends at once."""
        running = asyncio.create_task(run_demo(options.source, options.port))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        running.cancel()
        await running

    asyncio.run(until_stopped(demo))
    return 0
