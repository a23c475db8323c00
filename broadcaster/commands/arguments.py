"""Arguments that more than one command has."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from broadcaster import logs

LEAST_RATE = 64  # kbit/s


def origin(url: str) -> str:
    """The origin of a page's address (RFC 6454), in the form of the Origin header. Raises ValueError."""
    match = re.fullmatch(r"(https?://[^\s/?#@]+)(/\S*)?", url.strip().lower())
    if match is None:
        raise ValueError("an http(s) URL is needed")
    return match[1]


def add_log_format(parser: argparse.ArgumentParser) -> None:
    """For what runs until it is stopped."""
    parser.add_argument(
        "--log-format", choices=logs.FORMS, help="default: journal where systemd keeps the log, else text"
    )


def add_upload_options(parser: argparse.ArgumentParser) -> None:
    """How fast, and whom to ask."""
    parser.add_argument("--rate", type=_rate, metavar="KBIT/S", help="leave the rest of the uplink to others")
    parser.add_argument(
        "--service",
        metavar="URL",
        help="from another machine: the operator's listener, as ssh -L brings it here",
    )
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help="with --service: the operator's token"
    )


def _rate(text: str) -> int:
    if not text.isdecimal() or int(text) < LEAST_RATE:
        raise argparse.ArgumentTypeError(f"a number of kbit/s, {LEAST_RATE} at least")
    return int(text)
