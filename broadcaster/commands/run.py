"""``broadcaster run``: the service."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os

from broadcaster import logs
from broadcaster.commands.arguments import add_log_format
from broadcaster.commands.stopping import until_stopped
from broadcaster.config import load
from broadcaster.doctor import remarks
from broadcaster.service import serve
from broadcaster.viewer_server.sandbox import keep_memory_private

logger = logging.getLogger(__name__)


def add_options(parser: argparse.ArgumentParser) -> None:
    """All else is a setting."""
    add_log_format(parser)


def run(_options: argparse.Namespace, form: str) -> int:
    """Until it is stopped."""
    settings = load()
    logs.set_up(settings.log_level, form)
    for remark in remarks(settings):
        logger.warning("%s", remark)
    keep_memory_private()
    os.umask(0o077)  # what waits for the bucket, and the journal, are nobody else's
    asyncio.run(until_stopped(lambda stop: serve(settings, stop, log_form=form)))
    return 0
