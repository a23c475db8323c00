"""The command line: ``broadcaster run | demo | check | recordings | export | relay``."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from broadcaster import logs
from broadcaster.check import check, origin, remarks
from broadcaster.config import load
from broadcaster.errors import BroadcasterError, CatalogError, ConfigError
from broadcaster.export import add_options as add_export_options
from broadcaster.export import export, request_of
from broadcaster.manage import (
    add_commands,
    add_upload_options,
    address_of,
    manage,
    needs_settings,
    upload_of,
)
from broadcaster.relay import add_options as add_relay_options
from broadcaster.relay import options_of, relay
from broadcaster.service import serve

logger = logging.getLogger(__name__)

EXIT_FAILED, EXIT_CONFIG = 1, 2


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 1 when something failed, 2 for a wrong setting."""
    options = _parser().parse_args(arguments)
    form = options.log_format or logs.usual_form()
    try:
        return _do(options, form)
    except (ConfigError, CatalogError) as error:
        return _complain(error, EXIT_CONFIG, form)
    except BroadcasterError as error:
        return _complain(error, EXIT_FAILED, form)
    except KeyboardInterrupt:
        return 0
    except BaseExceptionGroup as group:
        first = _first(group)
        status = EXIT_CONFIG if isinstance(first, ConfigError | CatalogError) else EXIT_FAILED
        return _complain(first, status, form)


def _do(options: argparse.Namespace, form: str) -> int:
    match options.command:
        case "run":
            settings = load()
            logs.set_up(settings.log_level, form)
            for remark in remarks(settings):
                logger.warning("%s", remark)
            os.umask(0o077)  # what waits for the bucket, and the journal, are nobody else's
            asyncio.run(_until_stopped(lambda stop: serve(settings, stop, log_form=form)))
        case "check":
            logs.set_up("error", form)
            return check(
                fix=options.fix,
                as_json=options.json,
                origin=options.origin,
                public=options.public,
                uploads=options.uploads,
            )
        case "recordings":
            manage(load() if needs_settings(options) else None, options)
        case "relay":
            logs.set_up("info", form)
            os.umask(0o077)  # a private bucket's segments are nobody else's
            asyncio.run(_until_stopped(lambda stop: relay(options_of(options), stop)))
        case "export":
            logs.set_up("warning", form)
            upload = upload_of(options) if options.upload else None
            if not (upload and options.file.exists()):  # it is whole: its upload goes on
                is_address = "://" in options.address
                address = options.address if is_address else address_of(load(), options.address, options.part)
                export(request_of(options, address), options.file)
            if upload:
                manage(load() if needs_settings(upload) else None, upload)
        case _:
            logs.set_up("warning", form)
            _demo(options.source, options.port)
    return 0


async def _until_stopped(work: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Do the work until SIGTERM, SIGINT or SIGHUP sets its event; a second signal ends it without waiting."""
    stop = asyncio.Event()
    task = asyncio.ensure_future(work(stop))

    def on_signal() -> None:
        if stop.is_set():
            task.cancel()
        stop.set()

    loop = asyncio.get_running_loop()
    for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(one, on_signal)
    try:
        await task
    except asyncio.CancelledError:
        if not stop.is_set():
            raise


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="broadcaster", description="An Owncast stream, out of Cloudflare R2."
    )
    parser.set_defaults(log_format=None)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser(
        "run", help="follow the folder and serve it; settings from the environment and .env"
    )
    demo = commands.add_parser("demo", help="everything on embedded stand-ins, on this machine")
    demo.add_argument(
        "--source", type=Path, metavar="DIR", help="follow this HLS folder, not a simulated Owncast"
    )
    demo.add_argument("--port", type=int, default=3000, help="where the page is served (default: 3000)")
    doctor = commands.add_parser("check", help="find out what is wrong with settings, folders and bucket")
    doctor.add_argument("--fix", action="store_true", help="set the bucket's CORS policy and lifecycle rules")
    doctor.add_argument("--json", action="store_true", help="the report for programs")
    doctor.add_argument(
        "--origin", type=origin, metavar="URL", help="where viewers open the page: https://watch.example.com"
    )
    doctor.add_argument(
        "--public",
        type=origin,
        metavar="URL",
        help="ask the service through its tunnel or proxy, too: https://live.example.com",
    )
    doctor.add_argument(
        "--uploads",
        type=origin,
        metavar="URL",
        help="where you open the dashboard, if you upload files there: http://127.0.0.1:3001",
    )
    add_commands(commands.add_parser("recordings", help="what was recorded; asks the running service"))
    relaying = commands.add_parser("relay", help="serve another broadcaster's stream: each byte comes once")
    relaying.add_argument("origin", type=origin, metavar="URL", help="https://live.example.com")
    add_relay_options(relaying)
    for one in (run, relaying):
        one.add_argument(
            "--log-format",
            choices=logs.FORMS,
            help="default: journal where systemd keeps the log, else text",
        )
    exporting = commands.add_parser("export", help="a recording, a clip or the live window as one file")
    add_export_options(exporting)
    exporting.add_argument("--upload", action="store_true", help="then make the file the recording's own")
    add_upload_options(exporting)
    return parser


def _demo(source: Path | None, port: int) -> None:
    from broadcaster.demo.show import run_demo  # noqa: PLC0415 - its packages are an extra

    async def demo(stop: asyncio.Event) -> None:
        """Nothing of a demo is worth finishing: it ends at once."""
        running = asyncio.create_task(run_demo(source, port))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        running.cancel()
        await running

    asyncio.run(_until_stopped(demo))


def _complain(error: BaseException, status: int, form: str) -> int:
    if isinstance(error, BroadcasterError):
        text = str(error)
    else:  # a bug: say where
        frames = traceback.extract_tb(error.__traceback__)
        where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
        text = f"{type(error).__name__}: {error}{where}"
    sys.stderr.write(logs.last_line(" ".join(text.split()), form) + "\n")  # one line, whatever it was
    return status


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first failure inside nested groups."""
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


if __name__ == "__main__":
    sys.exit(main())
