"""The small pictures of what is recorded, which lie in the state folder until the recording has ended."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from broadcaster.own_files import own_folder

MOST = 10_000  # files: a recording of a day has 8,640
UNFINISHED = "unfinished"
_EPOCH = datetime.fromtimestamp(0, UTC)
_MILLISECOND = timedelta(milliseconds=1)


class KeptFrames:
    """A folder of JPEGs by the times of what they show. All of it reads or writes files; raises OSError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, time: datetime, picture: bytes) -> None:
        """Take one in. Past 10,000 the oldest goes."""
        own_folder(self._folder)
        unfinished = self._folder / UNFINISHED
        unfinished.write_bytes(picture)
        unfinished.replace(self._path(time))
        self.drop(self.times()[:-MOST])

    def times(self) -> list[datetime]:
        """What there is, oldest first."""
        names = (path.stem for path in self._folder.glob("*.jpg"))
        return sorted(_EPOCH + int(name) * _MILLISECOND for name in names if name.isdecimal())

    def read(self, times: Iterable[datetime]) -> list[bytes]:
        """These pictures."""
        return [self._path(time).read_bytes() for time in times]

    def drop(self, times: Iterable[datetime]) -> None:
        """Nobody needs these any more."""
        for time in times:
            self._path(time).unlink(missing_ok=True)

    def drop_until(self, end: datetime, needed: Sequence[tuple[datetime, datetime]]) -> None:
        """Drop what there is up to ``end``, but what lies between two times that are ``needed``."""
        past = [time for time in self.times() if time <= end]
        self.drop(time for time in past if not any(begin <= time <= last for begin, last in needed))

    def _path(self, time: datetime) -> Path:
        return self._folder / f"{(time - _EPOCH) // _MILLISECOND}.jpg"
