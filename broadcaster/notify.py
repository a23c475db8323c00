"""Sends the state of the service to systemd (sd_notify(3)); does nothing without systemd."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable

logger = logging.getLogger(__name__)


def notify(message: str) -> None:
    """Send a state such as ``READY=1``. Where that fails, a stream that is on goes on all the same."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    try:
        with socket.socket(socket.AF_UNIX, kind) as connection:
            connection.connect(address)
            connection.send(message.encode())
    except OSError as error:
        logger.warning("systemd was not told %s: %s", message, error.strerror or error)


def notify_stopping(seconds: float) -> None:
    """Say that we stop, and that it may take so many seconds from now, whatever TimeoutStopSec says."""
    notify("STOPPING=1")
    notify(f"EXTEND_TIMEOUT_USEC={seconds * 1e6:.0f}")


async def keep_watchdog_quiet(is_alive: Callable[[], bool]) -> None:
    """Report to systemd's watchdog as long as ``is_alive`` says so; without one, do nothing."""
    period = int(os.environ.get("WATCHDOG_USEC", "0")) / 1e6
    while period:
        if is_alive():
            notify("WATCHDOG=1")
        await asyncio.sleep(period / 2)
