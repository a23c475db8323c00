"""Text that is safe for terminals and logs; commands write only through this module.

Invisible characters are shown as escapes: line breaks, control characters (C0, C1, DEL), format characters
(Unicode's Cf: bidirectional controls, zero-width characters, BOM), invalid bytes and unassigned characters.
"""

from __future__ import annotations

import math
import re
import sys
import time
import traceback
import unicodedata
from types import TracebackType
from typing import Self, TextIO

SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
JOINERS = "\u200c\u200d"  # of several scripts, and of emoji
CLEAR_LINE = "\r\x1b[2K"
INTERVAL = 0.25  # seconds between two updates of a progress line


def printable(text: str) -> str:
    """The text in one line, with escapes for invisible characters."""
    return text if text.isprintable() else "".join(map(_shown, text))


def printable_json(text: str) -> str:
    """JSON with the same meaning, with escapes for invisible characters except its own line breaks."""
    return "".join(char if char == "\n" or char.isprintable() else _json_escape(char) for char in text)


def clean_title(text: str) -> str:
    """A title or name without invisible characters and with single blanks.

    Joiners stay after characters that can need them.
    """
    visible = "".join(
        char
        for before, char in zip(" " + text, text, strict=False)
        if char.isprintable()
        or char.isspace()
        or (char in JOINERS and before > "\x7f" and before.isprintable())
    )
    return re.sub(r"\s+", " ", visible).strip()


def write(text: str, stream: TextIO | None = None) -> None:
    """Write lines, each made printable, to standard output or another stream."""
    stream = sys.stdout if stream is None else stream
    whole = "".join(f"{printable(line)}\n" for line in text.split("\n"))
    encoding = stream.encoding or "utf-8"
    stream.write(whole.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()


def show_exceptions() -> None:
    """Print the tracebacks of uncaught exceptions through ``write``."""

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        write("".join(traceback.format_exception(kind, error, trace)).rstrip("\n"), sys.stderr)

    sys.excepthook = show


SIZES = "B", "kB", "MB", "GB", "TB"
STEP = 1000  # from one unit to the next
WHOLE = 100  # what is larger has no decimals
SHORT_SPAN, LONG_SPAN = 100, 7200  # seconds: shown as such below, and in hours from here on


def size_text(size: float) -> str:
    """A size with its unit, as the dashboard has it."""
    unit = 0
    while size >= STEP and unit < len(SIZES) - 1:
        size, unit = size / STEP, unit + 1
    return f"{_rounded(size) if size >= WHOLE or not unit else _rounded(10 * size) / 10} {SIZES[unit]}"


def span_text(seconds: float) -> str:
    """A time that need not be exact, as the dashboard has it."""
    if seconds < SHORT_SPAN:
        return f"{_rounded(seconds)} s"
    return f"{_rounded(seconds / 60)} min" if seconds < LONG_SPAN else f"{_rounded(seconds / 3600)} h"


def _rounded(value: float) -> int:
    return math.floor(value + 0.5)


class ProgressLine:
    """A line of a terminal that shows how far a command is. Nothing is written where there is no terminal."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._is_shown = self._stream.isatty()
        self._first: tuple[float, float, float] | None = None  # monotonic time, share, bytes
        self._updated = 0.0  # monotonic

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def show(self, text: str) -> None:
        """Replace the line."""
        if self._is_shown:
            self._stream.write(f"{CLEAR_LINE}{printable(text)}")
            self._stream.flush()

    def clear(self) -> None:
        """Remove the line."""
        self.show("")

    def update(self, share: float, size: float) -> None:
        """Show the share of the work that is done, with the rate and the time left; ``size`` in bytes."""
        now = time.monotonic()
        began, first_share, first_size = self._first = self._first or (now, share, size)
        if now - self._updated < INTERVAL and share < 1:
            return
        self._updated = now
        seconds = max(now - began, INTERVAL)
        minutes = (1 - share) * seconds / (share - first_share) / 60 if share > first_share else None
        left = "" if minutes is None else f", {minutes:.0f} min left"
        rate = (size - first_size) / seconds
        self.show(f"{share:4.0%} done, {size / 1e6:,.1f} MB, {rate * 8 / 1e6:.1f} Mbit/s{left}")


def _shown(char: str) -> str:
    if char.isprintable():
        return char
    if unicodedata.category(char) == "Zs":
        return " "
    return SHORT.get(char) or ascii(char)[1:-1]


def _json_escape(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
