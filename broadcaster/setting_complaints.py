"""What is said of a wrong value: one line in the words of the settings, which never has the value itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# By setting: what it has to be, where its type alone does not say it.
EXPECTED = {
    "R2_ACCOUNT_ID": "must be the account's id alone, 32 characters of 0-9 and a-f, and no address",
    "R2_BUCKET": "must be a bucket's name alone: 3 to 63 lower-case letters, digits, - and .",
    "R2_PREFIX": "must have at most 200 characters",
    "BROADCASTER_LOG_LEVEL": "must be debug, info, warning or error",
    "BROADCASTER_ADMIN_NAMES": "must be names of hosts, with commas between them",
}
UNITS = {"_SECONDS": " of seconds", "_MINUTES": " of minutes", "_SEGMENTS": " of segments"}
# By how the type of pydantic's error begins: what the value has to be.
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


def complaint(error: Mapping[str, Any]) -> str:
    """What is wrong with a setting, as pydantic's ``errors()`` tell of it."""
    name = str(error["loc"][0]) if error["loc"] else ""
    kind, context = str(error["type"]), error.get("ctx", {})
    if kind == "missing":
        return f"{name} is missing"
    if kind == "value_error":  # one of our own
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
