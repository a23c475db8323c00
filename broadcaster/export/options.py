"""What can be asked of an export on the command line."""

from __future__ import annotations

import argparse
import re
from datetime import datetime
from pathlib import Path
from typing import cast

from broadcaster.export.plan import Kind, Request

KINDS = ("mp4", "m4a", "ts")
CLOCK = re.compile(r"(?:(?:(\d{1,3}):)?(\d{1,4}):)?(\d{1,7}(?:\.\d{1,6})?)")


def add_options(parser: argparse.ArgumentParser) -> None:
    """An address, a file, and what of it."""
    parser.add_argument(
        "address",
        help="of a playlist or of the page of a recording or clip; or its id (asks the service)",
    )
    parser.add_argument("file", type=_file, help="out.mp4, out.m4a (sound only) or out.ts")
    what = "1:02:03, seconds, or a time as 2026-11-22T20:15:03Z; whole segments"
    parser.add_argument("--from", dest="begin", type=_moment, metavar="TIME", help=f"where it begins: {what}")
    parser.add_argument("--to", dest="end", type=_moment, metavar="TIME", help="where it ends")
    parser.add_argument(
        "--variant", default="best", help="best (default), worst, 720p, or its place: 0, 1, ..."
    )
    parser.add_argument(
        "--part", type=int, default=1, help="of a recording whose qualities changed (default: 1)"
    )


def request_of(options: argparse.Namespace, address: str) -> Request:
    """What was asked for, of this address."""
    kind = cast(Kind, options.file.suffix[1:])
    return Request(address, kind, options.variant, max(options.part, 1), options.begin, options.end)


def _file(text: str) -> Path:
    path = Path(text)
    if path.suffix[1:] not in KINDS:
        raise argparse.ArgumentTypeError("a file that ends in .mp4, .m4a or .ts")
    return path


def _moment(text: str) -> float | str:
    if match := CLOCK.fullmatch(text):
        hours, minutes, seconds = (float(one or 0) for one in match.groups())
        return hours * 3600 + minutes * 60 + seconds
    try:
        if datetime.fromisoformat(text).tzinfo:
            return text
    except ValueError:
        pass
    raise argparse.ArgumentTypeError("1:02:03, seconds, or a time with its zone: 2026-11-22T20:15:03Z")
