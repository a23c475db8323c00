"""Log lines on standard error, as text, JSON or for the systemd journal, and state reports to systemd."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sys
from collections.abc import Callable
from datetime import UTC, datetime

from broadcaster.printable import printable, printable_json

FORMATS = ("text", "json", "journal")

# Syslog's priorities, which the journal reads at the beginning of a line (sd-daemon(3)).
PRIORITIES = {
    logging.CRITICAL: 2,
    logging.ERROR: 3,
    logging.WARNING: 4,
    logging.INFO: 6,
    logging.DEBUG: 7,
}

logger = logging.getLogger(__name__)


def set_up(level: str, log_format: str) -> None:
    """Write log records of ``level`` and above to standard error, in one of ``FORMATS``."""
    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it reports every change
    for library in ("botocore", "aiobotocore"):
        logging.getLogger(library).setLevel(logging.INFO)  # at debug level they show keys and signatures
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(log_format))
    logging.basicConfig(level=level.upper(), handlers=[handler])


def default_format() -> str:
    """``journal`` where systemd reads standard error, else ``text``.

    Systemd names the stream's device and inode, because the stream may have been redirected since
    (systemd.exec(5)).
    """
    status = os.fstat(2)
    return "journal" if os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}" else "text"


def last_line(text: str, log_format: str) -> str:
    """The line with which a failed command ends; on a terminal without time and level."""
    if log_format == "text":
        return printable(f"broadcaster: {text}")
    return _formatter(log_format).format(
        logging.LogRecord("broadcaster", logging.ERROR, "", 0, text, args=None, exc_info=None)
    )


def _formatter(log_format: str) -> logging.Formatter:
    match log_format:
        case "json":
            return _JsonFormatter()
        case "journal":
            return _JournalFormatter()
    return _LineFormatter("%(asctime)s %(levelname)-7s %(message)s")


class _LineFormatter(logging.Formatter):
    """One line for each record, traceback included."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class _JournalFormatter(_LineFormatter):
    """A line that begins with its priority; the journal adds the time."""

    def format(self, record: logging.LogRecord) -> str:
        return f"<{PRIORITIES.get(record.levelno, 6)}>{super().format(record)}"


class _JsonFormatter(logging.Formatter):
    """An object with time (RFC 3339), level, logger and message; a traceback is its ``exception``."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return printable_json(json.dumps(entry))


def notify(message: str) -> None:
    """Send a state such as ``READY=1`` to systemd (sd_notify(3)). A failure is only logged."""
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
        logger.warning("cannot report %s to systemd: %s", message, error.strerror or error)


def notify_stopping(seconds: float) -> None:
    """Report the stop, and extend its time limit to ``seconds`` from now, whatever TimeoutStopSec says."""
    notify("STOPPING=1")
    notify(f"EXTEND_TIMEOUT_USEC={seconds * 1e6:.0f}")


async def feed_watchdog(is_alive: Callable[[], bool]) -> None:
    """Report to systemd's watchdog while ``is_alive`` returns True; returns at once without a watchdog."""
    period = int(os.environ.get("WATCHDOG_USEC", "0")) / 1e6
    while period:
        if is_alive():
            notify("WATCHDOG=1")
        await asyncio.sleep(period / 2)
