"""``broadcaster relay``: another broadcaster's stream."""

from __future__ import annotations

import argparse
import asyncio
import os

from broadcaster import logs
from broadcaster.commands.arguments import add_log_format, origin
from broadcaster.commands.stopping import until_stopped
from broadcaster.errors import ConfigError
from broadcaster.own_files import NotOursError
from broadcaster.relay import add_options as add_relay_options
from broadcaster.relay import options_of, relay


def add_options(parser: argparse.ArgumentParser) -> None:
    """Whose stream, and what of this machine it takes."""
    parser.add_argument("origin", type=origin, metavar="URL", help="https://live.example.com")
    add_relay_options(parser)
    add_log_format(parser)


def run(options: argparse.Namespace, form: str) -> int:
    """Until it is stopped."""
    logs.set_up("info", form)
    os.umask(0o077)  # a private bucket's segments are nobody else's
    try:
        asyncio.run(until_stopped(lambda stop: relay(options_of(options), stop)))
    except NotOursError as error:
        raise ConfigError(f"--cache: {error.filename} {error.strerror}") from None
    return 0
