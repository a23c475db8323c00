"""Tells systemd how we are (sd_notify(3)); does nothing where systemd did not start us."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable


def notify(message: str) -> None:
    """Send a state such as ``READY=1``."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
        connection.connect(address)
        connection.sendall(message.encode())


async def keep_watchdog_quiet(is_alive: Callable[[], bool]) -> None:
    """Report to systemd's watchdog as long as ``is_alive`` says so; without one, do nothing."""
    period = int(os.environ.get("WATCHDOG_USEC", "0")) / 1e6
    while period:
        if is_alive():
            notify("WATCHDOG=1")
        await asyncio.sleep(period / 2)
