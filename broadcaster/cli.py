"""The command line: ``broadcaster run``, ``demo``, ``check`` and the others of ``COMMANDS``.

Each command imports the packages that it needs inside its functions, so that it loads nothing of the others.
An expected failure is raised as a BroadcasterError.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from broadcaster import __version__, logs
from broadcaster.errors import BroadcasterError, CatalogError, ConfigError, first_error
from broadcaster.printable import printable, show_exceptions, write

EXIT_FAILED, EXIT_CONFIG = 1, 2
MIN_UPLOAD_RATE = 64  # kbit/s

logger = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 1 for a failure, 2 for a wrong setting."""
    show_exceptions()
    options = parse(sys.argv[1:] if arguments is None else arguments)
    log_format = options.log_format or logs.default_format()
    try:
        return COMMANDS[options.command].run(options, log_format)
    except BroadcasterError as error:
        return _report(error, log_format)
    except KeyboardInterrupt:
        return 0
    except BaseExceptionGroup as group:
        return _report(first_error(group), log_format)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parse a command line. Only the named command's options are added."""
    parser = _Parser(prog="broadcaster", description="An Owncast stream, out of Cloudflare R2.")
    parser.add_argument("--version", action="version", version=f"broadcaster {__version__}")
    parser.set_defaults(log_format=None)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, command in COMMANDS.items():
        subparser = commands.add_parser(name, help=command.help)
        if name in arguments[:1]:
            command.add_options(subparser)
    return parser.parse_args(arguments)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors show the arguments without control characters."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def _report(error: BaseException, log_format: str) -> int:
    """Write the error as one line; returns the exit status."""
    if isinstance(error, BroadcasterError):
        text = str(error)
    else:  # a bug: name its place
        frames = traceback.extract_tb(error.__traceback__)
        where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
        text = f"{type(error).__name__}: {error}{where}"
    write(logs.last_line(" ".join(text.split()), log_format), sys.stderr)
    return EXIT_CONFIG if isinstance(error, ConfigError | CatalogError) else EXIT_FAILED


class Command(NamedTuple):
    """A command: ``add_options`` fills its parser, ``run`` returns the exit status.

    ``run`` takes the options and the format of log lines.
    """

    help: str
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, str], int]


def origin(url: str) -> str:
    """The origin of a URL (RFC 6454), as in the Origin header. Raises ValueError."""
    match = re.fullmatch(r"(https?://[^\s/?#@]+)(/\S*)?", url.strip().lower())
    if match is None:
        raise ValueError("an http(s) URL is needed")
    return match[1]


def guest_origin(url: str) -> str:
    """The origin of a URL, and of a guest's link the token as well. Raises ValueError."""
    token = re.match(r"https?://[^/]+(/t/[0-9a-f.]+)", url.strip())
    return origin(url) + (token[1] if token else "")


async def until_stopped(work: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Run ``work``, whose event is set by SIGTERM, SIGINT or SIGHUP. A second signal cancels it."""
    stop = asyncio.Event()
    task = asyncio.ensure_future(work(stop))

    def on_signal() -> None:
        if stop.is_set():
            task.cancel()
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal)
    try:
        await task
    except asyncio.CancelledError:
        if not stop.is_set():
            raise


def _add_log_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--log-format", choices=logs.FORMATS, help="default: journal where systemd keeps the log, else text"
    )


def _add_upload_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rate", type=_rate, metavar="KBIT/S", help="limit of the upload's bit rate")
    parser.add_argument(
        "--service",
        metavar="URL",
        help="address of the admin listener of another machine, e.g. through ssh -L",
    )
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help="with --service: the operator's token"
    )


def _rate(text: str) -> int:
    if not text.isdecimal() or int(text) < MIN_UPLOAD_RATE:
        raise argparse.ArgumentTypeError(f"a number of kbit/s, {MIN_UPLOAD_RATE} at least")
    return int(text)


def _run(_options: argparse.Namespace, log_format: str) -> int:
    gc.disable()  # until the service is ready: what is imported stays, and to look through it takes time
    from broadcaster.config import load
    from broadcaster.doctor import startup_warnings
    from broadcaster.service import serve
    from broadcaster.viewer_server.sandbox import keep_memory_private

    settings = load()
    logs.set_up(settings.log_level, log_format)
    for text in startup_warnings(settings):
        logger.warning("%s", text)
    keep_memory_private()
    os.umask(0o077)  # only this user may read the spool and the catalog
    asyncio.run(until_stopped(lambda stop: serve(settings, stop, log_format=log_format)))
    return 0


def _add_demo_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--source", type=Path, metavar="DIR", help="follow this HLS folder instead of showing a film"
    )
    parser.add_argument(
        "--encoder",
        choices=["owncast", "mediamtx"],
        default="owncast",
        help="what the film goes through: ffmpeg with Owncast's options, or MediaMTX (default: owncast)",
    )
    parser.add_argument("--port", type=int, default=3000, help="where the page is served (default: 3000)")
    parser.add_argument(
        "--lan",
        action="store_true",
        help="let devices of this network watch, e.g. a phone, and show a QR code",
    )


def _demo(options: argparse.Namespace, log_format: str) -> int:
    from broadcaster.demo.show import run_demo

    logs.set_up("warning", log_format)

    async def demo(stop: asyncio.Event) -> None:
        """Run the demo, which a signal cancels at once."""
        mediamtx = options.encoder == "mediamtx"
        running = asyncio.create_task(
            run_demo(options.source, options.port, lan=options.lan, mediamtx=mediamtx)
        )
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        running.cancel()
        await running

    asyncio.run(until_stopped(demo))
    return 0


def _add_check_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--fix", action="store_true", help="set the bucket's CORS policy and lifecycle rules")
    parser.add_argument("--json", action="store_true", help="the report for programs")
    parser.add_argument(
        "--origin", type=origin, metavar="URL", help="where viewers open the page: https://watch.example.com"
    )
    parser.add_argument(
        "--public",
        type=origin,
        metavar="URL",
        help="ask the service through its tunnel or proxy, too: https://live.example.com",
    )
    parser.add_argument("--edge", action="store_true", help="test the edge tier's Worker, too")
    parser.add_argument(
        "--uploads",
        type=origin,
        metavar="URL",
        help="where you open the dashboard, if you upload files there: http://127.0.0.1:3001",
    )


def _check(options: argparse.Namespace, log_format: str) -> int:
    from broadcaster.doctor import check

    logs.set_up("error", log_format)
    return check(
        fix=options.fix,
        as_json=options.json,
        origin=options.origin,
        public=options.public,
        uploads=options.uploads,
        edge=options.edge,
    )


def _add_recordings_options(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="what", required=True)
    commands.add_parser("list", help="list the recordings, newest first")
    texts = {
        "show": "show a recording with all its fields",
        "title": "set the title; an empty title restores the stream's title",
        "keep": "keep a recording for so many days from now, or for ever",
        "hide": "hide a recording from viewers",
        "open": "let strangers watch a recording of a private event, by its page's address",
        "close": "let guests alone watch it again",
        "delete": "put a recording or a clip into the bin, which deletes it after a day",
        "restore": "take a recording, a clip or a file out of the bin",
    }
    parsers = {name: commands.add_parser(name, help=text) for name, text in texts.items()}
    for subparser in parsers.values():
        subparser.add_argument("id")
    parsers["title"].add_argument("title")
    parsers["keep"].add_argument("days", type=_days, metavar="DAYS|forever")
    _add_now(parsers["delete"])
    parsers["delete"].add_argument("--yes", action="store_true", help="do not ask on a terminal")
    commands.add_parser("bin", help="list the bin, with the time of deletion")
    how = parsers["hide"].add_mutually_exclusive_group()
    how.add_argument(
        "--unlisted", action="store_true", help="hide it from the list, not from viewers with its address"
    )
    how.add_argument("--undo", action="store_true", help="show it to all viewers again")
    sweep = commands.add_parser("sweep", help="delete unused objects under the prefix")
    sweep.add_argument("--dry-run", action="store_true", help="only list the objects")
    _add_upload(commands.add_parser("upload", help="upload a file that viewers can download"))
    commands.add_parser("rebuild", help="restore recordings from the bucket after the state folder was lost")


def _add_now(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--now", action="store_true", help="delete at once, also from the bin")


def _add_upload(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("file", type=Path, nargs="?")
    what.add_argument("--cancel", action="store_true", help="cancel an unfinished upload")
    what.add_argument("--remove", action="store_true", help="put the recording's file into the bin")
    _add_now(parser)
    _add_upload_options(parser)


def _days(text: str) -> int | None:
    if text == "forever":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("a number of days, 1 or more, or forever")
    return int(text)


def _recordings(options: argparse.Namespace, _log_format: str) -> int:
    from broadcaster.admin_client import run_command

    run_command(options)
    return 0


def _passphrase(_options: argparse.Namespace, _log_format: str) -> int:
    from broadcaster.admin_client import set_passphrase

    set_passphrase()
    return 0


def _add_invite_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", required=True, help="the guest, or what the link is for")
    parser.add_argument(
        "--until",
        type=_until,
        default=None,
        metavar="TIME",
        help="2026-12-24 or 2026-12-24T22:00 (default: 30 days)",
    )
    parser.add_argument("--crew", action="store_true", help="for the crew: also while the doors are closed")
    parser.add_argument("--json", action="store_true", help="the link and the path for programs")
    parser.add_argument("--qr", type=Path, metavar="FILE", help="write the link as a QR code: .png or .svg")
    parser.add_argument("--ics", type=Path, metavar="FILE", help="write the event's date for calendars")


def _until(text: str) -> datetime:
    """A local time, or the end of a day."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError("a day or a time: 2026-12-24, 2026-12-24T22:00") from None
    is_day = "T" not in text and " " not in text
    return (when + timedelta(days=is_day)).astimezone()


def _invite(options: argparse.Namespace, _log_format: str) -> int:
    from broadcaster.admin_client import invite

    if options.qr and options.qr.suffix not in {".png", ".svg"}:
        raise ConfigError("--qr: the name ends with .png or .svg")
    invite(options)
    return 0


def _add_blur_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("picture", type=Path, help="JPEG, PNG or WebP")


def _blur(options: argparse.Namespace, _log_format: str) -> int:
    """Print the setting of the page that has the picture."""
    from base64 import b64encode
    from shutil import which

    from broadcaster.recordings.frame_grabber import Ffmpeg

    name = os.environ.get("BROADCASTER_PICTURES", "ffmpeg")
    if not (program := which(name)):
        raise ConfigError(f"there is no {name} here: name the path of an ffmpeg (BROADCASTER_PICTURES)")
    try:
        picture = options.picture.read_bytes()
    except OSError as error:
        raise ConfigError(f"{options.picture}: {error.strerror}") from None
    blurred = asyncio.run(Ffmpeg(program).blurred(picture))
    write(f'"posterBlur": "data:image/png;base64,{b64encode(blurred).decode()}"')
    return 0


def _add_doors_options(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="what", required=True)
    opening = commands.add_parser("open", help="let all guests in, now; they see nothing of before")
    opening.add_argument("--keep", action="store_true", help="they may see what was before")
    closing = commands.add_parser("closed", help="let the crew in alone")
    closing.add_argument("--until", type=_until, metavar="TIME", help="when the doors open: 2026-12-24T20:00")


def _doors(options: argparse.Namespace, _log_format: str) -> int:
    from broadcaster.admin_client import set_doors

    set_doors(options)
    return 0


def _lead(_options: argparse.Namespace, _log_format: str) -> int:
    from broadcaster.admin_client import take_lead

    take_lead()
    return 0


def _add_invitations_options(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="what", required=True)
    commands.add_parser("list", help="list the invitations").add_argument("--json", action="store_true")
    commands.add_parser("revoke", help="end the access of all who came with an invitation").add_argument("id")


def _invitations(options: argparse.Namespace, _log_format: str) -> int:
    from broadcaster.admin_client import list_or_revoke_invitations

    list_or_revoke_invitations(options)
    return 0


def _add_relay_options(parser: argparse.ArgumentParser) -> None:
    from broadcaster.relay import add_options

    what = "https://live.example.com, or a guest's link to a private event"
    parser.add_argument("origin", type=guest_origin, metavar="URL", help=what)
    add_options(parser)
    _add_log_format(parser)


def _relay(options: argparse.Namespace, log_format: str) -> int:
    from broadcaster.own_files import NotOursError
    from broadcaster.relay import options_of, relay

    logs.set_up("info", log_format)
    os.umask(0o077)  # only this user may read the cached segments of a private bucket
    try:
        asyncio.run(until_stopped(lambda stop: relay(options_of(options), stop)))
    except NotOursError as error:
        raise ConfigError(f"--cache: {error.filename} {error.strerror}") from None
    return 0


def _add_export_options(parser: argparse.ArgumentParser) -> None:
    from broadcaster.export.plan import add_options

    add_options(parser)
    parser.add_argument("--upload", action="store_true", help="then upload the file to the recording")
    _add_upload_options(parser)


def _export(options: argparse.Namespace, log_format: str) -> int:
    """Write the file, unless it exists and only its upload is left."""
    from broadcaster.export.job import export
    from broadcaster.export.plan import request_of

    logs.set_up("warning", log_format)
    if "://" in options.address and not options.upload:
        export(request_of(options, options.address), options.file)
        return 0
    # Loading the settings and the uploader takes longer than exporting a short clip.
    from broadcaster.admin_client import address_of, run_command, upload_of
    from broadcaster.config import load

    upload = upload_of(options) if options.upload else None
    if not (upload and options.file.exists()):
        is_address = "://" in options.address
        address = options.address if is_address else address_of(load(), options.address, options.part)
        export(request_of(options, address), options.file)
    if upload:
        run_command(upload)
    return 0


COMMANDS = {
    name: Command(text, add_options, run)
    for name, text, add_options, run in (
        (
            "run",
            "follow the folder and serve it; all options are settings",
            _add_log_format,
            _run,
        ),
        ("demo", "run everything here, with an embedded bucket and encoder", _add_demo_options, _demo),
        ("check", "check settings, machine, folders, bucket and addresses", _add_check_options, _check),
        ("recordings", "list and change recordings", _add_recordings_options, _recordings),
        ("passphrase", "set the passphrase of a private event", lambda _: None, _passphrase),
        ("invite", "make a link to a private event", _add_invite_options, _invite),
        ("invitations", "list and revoke invitations", _add_invitations_options, _invitations),
        ("blur", "make the blurred poster of the page that asks", _add_blur_options, _blur),
        ("doors", "let all guests in, or the crew alone", _add_doors_options, _doors),
        ("lead", "take the lead from another broadcaster, in good order", lambda _: None, _lead),
        ("relay", "serve another broadcaster's stream from a cache", _add_relay_options, _relay),
        ("export", "write a recording, clip or live window into a file", _add_export_options, _export),
    )
}


if __name__ == "__main__":
    sys.exit(main())
