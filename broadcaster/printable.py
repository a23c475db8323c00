"""Escapes text from outside for terminals and logs; commands write only through this module.

Invisible characters are shown as escapes: line breaks, control characters (C0, C1, DEL), format characters
(Unicode's Cf: bidirectional controls, zero-width characters, BOM), invalid bytes and unassigned characters.
"""

from __future__ import annotations

import re
import sys
import traceback
import unicodedata
from types import TracebackType
from typing import TextIO

SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
JOINERS = "\u200c\u200d"  # of several scripts, and of emoji
RUNS = re.compile(r"\s+")


def printable(text: str) -> str:
    """The text in one line, without any character that cannot be seen."""
    return text if text.isprintable() else "".join(map(_shown, text))


def printable_json(text: str) -> str:
    """JSON with the same meaning, in which all characters can be seen, and its own line breaks."""
    return "".join(one if one == "\n" or one.isprintable() else _escaped(one) for one in text)


def clean_title(text: str) -> str:
    """A title or name as it is kept: what ``printable`` would escape is left out, blanks are single ones.

    The joiners stay between characters that can need them.
    """
    kept = "".join(
        one
        for before, one in zip(" " + text, text, strict=False)
        if one.isprintable() or one.isspace() or (one in JOINERS and before > "\x7f" and before.isprintable())
    )
    return RUNS.sub(" ", kept).strip()


def write(text: str, stream: TextIO | None = None) -> None:
    """Write lines, of which each is made printable, to standard output or another stream."""
    stream = sys.stdout if stream is None else stream
    whole = "".join(f"{printable(line)}\n" for line in text.split("\n"))
    encoding = stream.encoding or "utf-8"
    stream.write(whole.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()


def show_exceptions() -> None:
    """Have tracebacks of what nobody has caught written in the same way."""

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        write("".join(traceback.format_exception(kind, error, trace)).rstrip("\n"), sys.stderr)

    sys.excepthook = show


def _shown(char: str) -> str:
    if char.isprintable():
        return char
    return " " if unicodedata.category(char) == "Zs" else SHORT.get(char) or _escaped(char, is_python=True)


def _escaped(char: str, *, is_python: bool = False) -> str:
    code = ord(char)
    if is_python:
        return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004
    if code <= 0xFFFF:  # noqa: PLR2004 - of UTF-16
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
