"""The types of settings: which values they take, and the rule that an error line gives for others."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, TypeAdapter, ValidationError

MAX_PREFIX = 200  # bytes: with run, variant and name a key has 1024 at most
MAX_WAIT = 7 * 24 * 3600.0  # seconds
MAX_RETENTION = timedelta(days=36_525)  # dates end with the year 9999
MIN_SPOOL, MAX_SPOOL = ByteSize(2**18), ByteSize(2**50)  # the least holds a short segment


def _matching(pattern: str, rule: str) -> AfterValidator:
    """A validator of texts that match as a whole."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(rule)
        return value

    return AfterValidator(check)


def _url(pattern: str, rule: str) -> AfterValidator:
    """A validator of URLs with a possible host and port."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(rule)
        try:
            is_valid = bool(urlsplit(value).hostname) and urlsplit(value).port != 0
        except ValueError:  # unmatched brackets, or a port that is no number or too large
            is_valid = False
        if not is_valid:
            raise ValueError("has an impossible host or port")
        return value

    return AfterValidator(check)


def seconds(value: object) -> object:
    """A number of seconds of any size as a timedelta; pydantic itself reads ISO 8601 only."""
    if not (isinstance(value, str) and value.isdecimal()):
        return value
    try:
        return timedelta(seconds=int(value))
    except (OverflowError, ValueError):  # more than a timedelta holds, or more digits than int reads
        return timedelta.max


def keep_time(least: str, unit: str) -> BeforeValidator:
    """A validator of a retention time: ``least`` is zero, ``keep`` is None, a number counts units."""
    length = timedelta(**{unit: 1})
    most = MAX_RETENTION // length

    def read(value: object) -> object:
        if not isinstance(value, str) or value in (least, "keep"):
            return timedelta() if value == least else None if value == "keep" else value
        if not value.isdecimal():
            raise ValueError(f"must be {least}, keep, or a number of {unit}")
        if (number := int(value.lstrip("0")[:15] or 0)) > most:
            raise ValueError(f"must be at most {most} {unit}, or keep")
        return number * length

    return BeforeValidator(read)


def _standby(value: object) -> object:
    with suppress(ValidationError):
        return value if value == "warm" else TypeAdapter(bool).validate_python(value)
    raise ValueError("must be true, false or warm")


def _spool_limit(value: ByteSize) -> ByteSize:
    if not MIN_SPOOL <= value <= MAX_SPOOL:
        raise ValueError("must be between 256KiB, to hold a segment, and 1PiB")
    return value


def _folder(value: Path) -> Path:
    """The folder, with ``~`` replaced by the home folder."""
    try:
        return value.expanduser()
    except RuntimeError:
        raise ValueError("begins with ~, and there is no such home folder") from None


SpoolSize = Annotated[ByteSize, AfterValidator(_spool_limit)]
Folder = Annotated[Path, AfterValidator(_folder)]
Seconds = Annotated[float, Field(ge=0, le=MAX_WAIT, allow_inf_nan=False)]
HttpUrl = Annotated[
    str,
    _url(r"https?://[^\s/?#@]+(/[^\s?#]*)?", "must be an http(s) URL without a query"),
    AfterValidator(lambda url: url.rstrip("/")),
]
ListenerUrl = Annotated[
    str,
    _url(r"http://[^\s/?#@]+/?", "must be http://ADDRESS:PORT"),
    AfterValidator(lambda url: url.rstrip("/")),
]
SocketUrl = Annotated[str, _url(r"wss?://[^\s/?#@]+(/[^\s#]*)?", "must be a ws(s) URL")]
AccountId = Annotated[
    str,
    _matching("[0-9a-f]{32}", "must be the account's id alone, 32 characters of 0-9 and a-f, and no address"),
]
BucketName = Annotated[
    str,
    _matching(
        "[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]",
        "must be a bucket's name alone: 3 to 63 lower-case letters, digits, - and .",
    ),
]
Prefix = Annotated[
    str,
    Field(max_length=MAX_PREFIX),
    _matching(
        "[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*", "must be made of letters, digits, - and _, with / between folders"
    ),
]
Standby = Annotated[bool | Literal["warm"], BeforeValidator(_standby)]
HostNames = Annotated[
    str, _matching("[A-Za-z0-9._:, -]*", "must be names of hosts, with commas between them")
]
LogLevel = Annotated[str, _matching("(?i)debug|info|warning|error", "must be debug, info, warning or error")]
