"""What the values of settings have to be."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field

MAX_WAIT = 7 * 24 * 3600.0  # seconds; whoever wants longer wants something else
MAX_RETENTION = timedelta(days=36_525)  # dates end with the year 9999
MIN_SPOOL, MAX_SPOOL = ByteSize(2**18), ByteSize(2**50)  # room for a short segment, at least


def _http_url(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", value):
        raise ValueError("must be an http(s) URL without a query")
    _check_host(value)
    return value.rstrip("/")


def _prefix(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*", value):
        raise ValueError("must be made of letters, digits, - and _, with / between folders")
    return value


def _seconds(value: object) -> object:
    """A plain number of seconds; by itself pydantic would want ISO 8601, and no number is too large."""
    if not (isinstance(value, str) and value.isdecimal()):
        return value
    try:
        return timedelta(seconds=int(value))
    except (OverflowError, ValueError):  # more than a timedelta holds, more digits than int reads
        return timedelta.max


def kept(least: str, unit: str) -> BeforeValidator:
    """A time for which something is kept: ``least`` → zero, ``keep`` → None, else so many of the unit."""
    most = MAX_RETENTION // (one := timedelta(**{unit: 1}))

    def read(value: object) -> object:
        if not isinstance(value, str) or value in (least, "keep"):
            return timedelta() if value == least else None if value == "keep" else value
        if not value.isdecimal():
            raise ValueError(f"must be {least}, keep, or a number of {unit}")
        if (number := int(value.lstrip("0")[:15] or 0)) > most:
            raise ValueError(f"must be at most {most} {unit}, or keep")
        return number * one

    return BeforeValidator(read)


def _socket_url(value: str) -> str:
    if not re.fullmatch(r"wss?://[^\s/?#@]+(/[^\s#]*)?", value):
        raise ValueError("must be a ws(s) URL")
    _check_host(value)
    return value


def _check_host(url: str) -> None:
    try:
        fits = bool(urlsplit(url).hostname) and urlsplit(url).port != 0
    except ValueError:  # brackets that do not match, or a port that is no number or too large
        fits = False
    if not fits:
        raise ValueError("has a host or a port that cannot be")


def _spool_limit(value: ByteSize) -> ByteSize:
    if not MIN_SPOOL <= value <= MAX_SPOOL:
        raise ValueError("must be between 256KiB, to hold a segment, and 1PiB")
    return value


def _folder(value: Path) -> Path:
    """The folder; ``~`` is the home folder, as in a shell."""
    try:
        return value.expanduser()
    except RuntimeError:
        raise ValueError("begins with ~, and there is no such home folder") from None


Folder = Annotated[Path, AfterValidator(_folder)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
SocketUrl = Annotated[str, AfterValidator(_socket_url)]
Window = Annotated[timedelta, BeforeValidator(_seconds)]
Prefix = Annotated[str, AfterValidator(_prefix)]
SpoolLimit = Annotated[ByteSize, AfterValidator(_spool_limit)]
Seconds = Annotated[float, Field(ge=0, le=MAX_WAIT, allow_inf_nan=False)]
