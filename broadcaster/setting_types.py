"""The types of the settings' values, and the error lines for wrong values and misspelt names.

An error line names the variable and the rule for its value. It never shows the value, which may be a secret.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import AfterValidator, BeforeValidator, ByteSize, Field

MAX_WAIT = 7 * 24 * 3600.0  # seconds
MAX_RETENTION = timedelta(days=36_525)  # dates end with the year 9999
MIN_SPOOL, MAX_SPOOL = ByteSize(2**18), ByteSize(2**50)  # the least holds a short segment


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
    """Read a number of seconds of any size; pydantic itself would want ISO 8601."""
    if not (isinstance(value, str) and value.isdecimal()):
        return value
    try:
        return timedelta(seconds=int(value))
    except (OverflowError, ValueError):  # more than a timedelta holds, more digits than int reads
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
    """The folder, with ``~`` replaced by the home folder."""
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

# By setting: the rule for its value, where the type of pydantic's error does not say it.
EXPECTED = {
    "R2_ACCOUNT_ID": "must be the account's id alone, 32 characters of 0-9 and a-f, and no address",
    "R2_BUCKET": "must be a bucket's name alone: 3 to 63 lower-case letters, digits, - and .",
    "R2_PREFIX": "must have at most 200 characters",
    "BROADCASTER_LOG_LEVEL": "must be debug, info, warning or error",
    "BROADCASTER_ADMIN_NAMES": "must be names of hosts, with commas between them",
}
UNITS = {"_SECONDS": " of seconds", "_MINUTES": " of minutes", "_SEGMENTS": " of segments"}
# By the first letters of the type of pydantic's error: the rule for the value.
KINDS = {
    "int": "must be a whole number{unit}, in digits alone",
    "float": "must be a number{unit}, in digits alone",
    "finite": "must be a number{unit}, in digits alone",
    "time_delta": "must be a number of seconds, in digits alone",
    "byte_size": "must be a number of bytes, or one with a unit, such as 512MiB or 20GiB",
    "bool": "must be true or false",
    "literal": "must be {expected}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "string_too_short": "must not be empty",
}
UNKNOWN = "has a value that cannot be; .env.example says what it means"


def describe_error(error: Mapping[str, Any]) -> str:
    """An item of pydantic's ``errors()`` as one line, which never shows the value."""
    name = str(error["loc"][0]) if error["loc"] else ""
    kind, context = str(error["type"]), error.get("ctx", {})
    if kind == "missing":
        return f"{name} is missing"
    if kind == "value_error":  # raised by a validator of ours
        message = str(error["msg"]).removeprefix("Value error, ")
    else:
        message = _message(name, kind, context)
    return f"{name}: {message}" if name else message


def _message(name: str, kind: str, context: Mapping[str, Any]) -> str:
    template = next((text for begin, text in KINDS.items() if kind.startswith(begin)), UNKNOWN)
    if template is UNKNOWN:
        return EXPECTED.get(name, UNKNOWN)
    unit = next((text for ending, text in UNITS.items() if name.endswith(ending)), "")
    words = {"ge": "", "le": "", "expected": "", "unit": unit}
    words |= {key: _shown(value) for key, value in context.items() if key != "unit"}
    return template.format_map(words)


def _shown(value: object) -> str:
    seconds = getattr(value, "total_seconds", None)
    return f"{seconds():.0f} seconds" if seconds else str(value).replace("'", "")


OWN_PREFIX = "BROADCASTER_"  # of all settings but the bucket's
BUCKET_PREFIX = "R2_"  # other programs have such variables too
FOREIGN_PREFIXES = ("AWS_",)  # names of other programs that resemble the bucket's
# Least similarity (difflib) to a setting's name: of names with each prefix, and of all others.
OWN_CUTOFF, BUCKET_CUTOFF, OTHER_CUTOFF = 0.6, 0.7, 0.88


def misspelt_names(known: Collection[str], env_file: Path, encoding: str = "utf-8") -> list[str]:
    """Unknown names in the environment and in ``env_file`` that resemble a setting's, one line for each."""
    names = {*os.environ, *dotenv_values(env_file, interpolate=False, encoding=encoding)}
    found = (
        (name, _nearest_name(name.upper(), known)) for name in sorted(names) if name.upper() not in known
    )
    return [
        f"{name} is not a setting{f' (perhaps {meant} is meant)' if meant else ''}"
        for name, meant in found
        if meant or name.upper().startswith(OWN_PREFIX)
    ]


def _nearest_name(name: str, known: Collection[str]) -> str | None:
    """The most similar setting, if any is similar enough. The prefix that all settings share is ignored."""
    if name.startswith(OWN_PREFIX):
        names, cutoff = {key.removeprefix(OWN_PREFIX): key for key in known}, OWN_CUTOFF
    elif name.startswith(FOREIGN_PREFIXES):
        return None
    else:
        names, cutoff = (
            {key: key for key in known},
            BUCKET_CUTOFF if name.startswith(BUCKET_PREFIX) else OTHER_CUTOFF,
        )
    nearest = get_close_matches(name.removeprefix(OWN_PREFIX), names, n=1, cutoff=cutoff)
    return names[nearest[0]] if nearest else None
