"""Formats log records for standard error: one line a record, as text, for journald or as JSON."""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime

from broadcaster.printable import printable, printable_json

FORMS = ("text", "json", "journal")

# Syslog's priorities, which the journal takes from the beginning of a line (sd-daemon(3)).
PRIORITIES = {
    logging.CRITICAL: 2,
    logging.ERROR: 3,
    logging.WARNING: 4,
    logging.INFO: 6,
    logging.DEBUG: 7,
}


def set_up(level: str, form: str) -> None:
    """Write what is logged from ``level`` on to standard error, in one of ``FORMS``."""
    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it reports every change
    for library in ("botocore", "aiobotocore"):
        logging.getLogger(library).setLevel(logging.INFO)  # at debug level they show keys and signatures
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(form))
    logging.basicConfig(level=level.upper(), handlers=[handler])


def usual_form() -> str:
    """``journal`` where systemd reads our standard error, else ``text``.

    Systemd names the stream's device and inode, because it may have been redirected since (systemd.exec(5)).
    """
    status = os.fstat(2)
    return "journal" if os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}" else "text"


def last_line(text: str, form: str) -> str:
    """What a command says when it fails; on a terminal, as command line programs say it."""
    if form == "text":
        return printable(f"broadcaster: {text}")
    return _formatter(form).format(
        logging.LogRecord("broadcaster", logging.ERROR, "", 0, text, args=None, exc_info=None)
    )


def _formatter(form: str) -> logging.Formatter:
    match form:
        case "json":
            return _Json()
        case "journal":
            return _Journal()
    return _Line("%(asctime)s %(levelname)-7s %(message)s")


class _Line(logging.Formatter):
    """Text in one line, a traceback too."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class _Journal(_Line):
    """Without the time, which the journal notes itself."""

    def format(self, record: logging.LogRecord) -> str:
        return f"<{PRIORITIES.get(record.levelno, 6)}>{super().format(record)}"


class _Json(logging.Formatter):
    """An object with time (RFC 3339), level, logger and message, and a traceback as exception."""

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
