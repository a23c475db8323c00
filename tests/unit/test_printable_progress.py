"""The progress line of a command on a terminal."""

import io
import re

from broadcaster.printable import ProgressLine


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_the_line_shows_share_rate_and_time_left() -> None:
    """The line is overwritten, and removed at the end."""
    terminal = Terminal()
    with ProgressLine(terminal) as progress:
        progress.update(0.25, 1_000_000)
        progress.update(1, 4_000_000)
    first, last, end = re.split(r"\r\x1b\[2K", terminal.getvalue())[1:]
    assert first == " 25% done, 1.0 MB, 0.0 Mbit/s"
    assert re.fullmatch(r"100% done, 4\.0 MB, [0-9.]+ Mbit/s, 0 min left", last)
    assert end == ""


def test_updates_are_limited() -> None:
    """Updates in quick succession write one line only."""
    terminal = Terminal()
    progress = ProgressLine(terminal)
    for done in range(100):
        progress.update(done / 1000, done)
    assert terminal.getvalue().count("done") == 1


def test_nothing_is_written_without_a_terminal() -> None:
    """A file or a pipe gets no progress."""
    stream = io.StringIO()
    with ProgressLine(stream) as progress:
        progress.show("checking")
        progress.update(1, 1)
    assert stream.getvalue() == ""


def test_what_is_shown_is_printable() -> None:
    """Control characters of titles are escaped."""
    terminal = Terminal()
    ProgressLine(terminal).show("a\x1b[31m")
    assert terminal.getvalue() == "\r\x1b[2Ka\\x1b[31m"
