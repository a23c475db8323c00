"""Reads a playlist file that is rewritten in place, and so may be met empty, torn or as garbage."""

from __future__ import annotations

import codecs
import logging
import os
from pathlib import Path

from broadcaster.descriptors import status_beneath
from broadcaster.errors import PlaylistError
from broadcaster.hls import MediaPlaylist, MultivariantPlaylist, PlaylistReader
from broadcaster.ingest.completeness import QUIET, OutsideError, is_open_for_writing, open_inside, pause
from broadcaster.ingest.lasting import Lasting
from broadcaster.printable import printable

logger = logging.getLogger(__name__)

MAX_BYTES = 32 * 1024 * 1024  # a day of segments of one second, and a bound for what is kept of it
TORN_FOR = 1.0  # seconds after which an unreadable playlist is not torn, but wrong
# Seconds after which that is said: two transcoders of Owncast may write it at once, until one writes again.
REPORT_AFTER = 6.0
# By what a playlist begins with in them; with UTF-32 first, whose mark begins as UTF-16's does.
WIDE_ENCODINGS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    "#E".encode("utf-16-le"): "utf-16-le",
    "#E".encode("utf-16-be"): "utf-16-be",
}
FORBIDDEN = (
    "cannot be read: permission denied. Owncast makes its closing playlist readable by its own user alone: "
    "what it finished is taken by its files. If this is said in the middle of a stream, run the service as "
    "Owncast's user, or as one of its group with files of mode 0640 or more"
)


class PlaylistFile:
    """One playlist on disk.

    ``unsettled`` asks for another look soon; ``unreadable`` says that its latest version cannot be read,
    because it may not or because it stays torn.
    """

    def __init__(self, root: Path, path: Path) -> None:
        self.path = path
        self.name = path.relative_to(root).as_posix().encode(errors="backslashreplace").decode()
        self.modified = 0.0  # seconds since the epoch, of what was read last
        self.written = 0.0  # the same, of the file as it was at the latest look
        self.unsettled = False
        self.unreadable = False
        self._root = root
        self._read: tuple[int, int, int] | None = None
        self._read_at = 0.0
        self._torn_since: float | None = None
        self._reader = PlaylistReader()
        self._fault = ""
        self._wrong = Lasting(REPORT_AFTER)

    def read(self, now: float) -> MediaPlaylist | MultivariantPlaylist | None:
        """The playlist if it changed since it was read last, else None; ``now`` is monotonic, in seconds.

        Raises OSError when the file is gone, and when it cannot be read now: then it is as it was.
        """
        status = status_beneath(self._root, self.path)
        self.written = status.st_mtime
        signature = _signature(status)
        if signature == self._read and not self.unsettled and self._fault != FORBIDDEN:
            self._report(now)
            return None
        text = ""
        try:
            text, writing, status = self._load()
            signature = _signature(status)
            settled = signature == self._read and now - self._read_at >= QUIET
            closed = settled if writing is None else not writing
            playlist = self._reader.read(text, closed=closed)
        except PermissionError:
            self.unreadable = True
            self._read, self.unsettled = signature, False
            self._fault, self._torn_since = FORBIDDEN, None
            self._report(now)
            return None
        except OSError:
            self.read_again()
            raise
        except (PlaylistError, OutsideError) as error:
            # Owncast may read a playlist at the moment when it is rewritten, and close an empty one.
            self.unreadable = text.rstrip().endswith("#EXT-X-ENDLIST")
            if self.unreadable:
                self._read, self.unsettled, self._fault = signature, False, ""
                logger.info("%s is closed without what it has listed", self.name)
            else:
                self._torn(error, signature, now)
            return None
        self.unreadable, self._fault = False, ""
        self._report(now)
        if signature != self._read:
            self._read_at = now
        # What is there of a playlist still being written is a prefix of the new one: true, but not all.
        quiet = QUIET if writing is None else TORN_FOR
        self.unsettled = writing is not False and now - self._read_at < quiet
        self._read, self._torn_since, self.modified = signature, None, status.st_mtime
        return playlist

    @property
    def refusal(self) -> str:
        """Why it cannot be followed, once that has lasted; empty while it can, or may not be read."""
        return self._fault if self._wrong.counts and self._fault != FORBIDDEN else ""

    def read_again(self) -> None:
        """The next look is at the same version once more."""
        self._read, self.unsettled = None, False

    def pause(self, now: float) -> float | None:
        """How many seconds from ``now`` to look again, None when it is settled."""
        return pause(now - self._read_at) if self.unsettled else None

    def _load(self) -> tuple[str, bool | None, os.stat_result]:
        """The text; whether it is still being written, None where that cannot be known; the file's status."""
        descriptor = open_inside(self._root, self.path)
        with os.fdopen(descriptor, "rb") as file:
            writing, status = is_open_for_writing(descriptor), os.fstat(descriptor)
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise PlaylistError(f"is larger than {MAX_BYTES} bytes")
        return decoded(data), writing, status

    def _torn(self, error: Exception, signature: tuple[int, int, int], now: float) -> None:
        """Read again what may be torn; report once what stays unreadable."""
        if signature != self._read or self._torn_since is None:
            self._read, self._read_at, self._torn_since = signature, now, now
        self.unsettled = now - self._torn_since < TORN_FOR
        self.unreadable = not self.unsettled
        self._fault = f"{printable(str(error))}; it is left out until it changes"
        self._report(now)  # it may change before each look

    def _report(self, now: float) -> None:
        """Say what is wrong, once, when it has lasted."""
        if self._wrong.note(now, on=bool(self._fault)):
            logger.warning("%s %s", self.name, self._fault)


def decoded(data: bytes) -> str:
    """The text of a playlist; what Windows' tools write may be UTF-16."""
    for mark, encoding in WIDE_ENCODINGS.items():
        if data.startswith(mark):
            return data.decode(encoding, errors="replace")
    return data.decode(errors="backslashreplace")


def _signature(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns
