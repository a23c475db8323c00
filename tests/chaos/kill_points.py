"""The service in a process that kills itself at its N-th boundary: ``python -m tests.chaos.kill_points N``.

A boundary lies before and after each commit of a database, each link, rename and removal in the state folder
and each fsync there, each PUT and DELETE to the bucket; before a copy is begun; and after each version that
becomes visible. They are counted from 1; with N = 0 nothing is killed. Only public seams are used (``os``,
``sqlite3``, the store's methods, events), so that what is inside may change its names.

``--record`` names a file to which a line of JSON is appended for each boundary, each listed segment, and what
``tests.chaos.power_cut`` has to know: what was synced, and where a copy of each removed file is.
``--boot-id`` is what the machine gives as its boot id.
"""

import argparse
import asyncio
import contextlib
import functools
import itertools
import json
import os
import re
import signal
import sqlite3
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Literal, TypeVar

from broadcaster import logs
from broadcaster.bucket import ObjectStore
from broadcaster.config import Settings, load
from broadcaster.events import Event, SegmentPublished, StreamEnded, StreamStarted
from broadcaster.service import serve
from tests.chaos.power_cut import give_boot_id

T = TypeVar("T")

COMMIT = re.compile(r"\s*(COMMIT|END)\b", re.IGNORECASE)
WRITE = re.compile(r"\s*(INSERT|UPDATE|DELETE|REPLACE|CREATE|ALTER|DROP)\b", re.IGNORECASE)
SYNCED_AT_COMMIT = 2  # PRAGMA synchronous = FULL


class KillPoints:
    """Counts the boundaries of this process and ends it at number ``at``; ``record`` tells what was done."""

    def __init__(self, at: int, record: Path) -> None:
        self._at = at
        self._count = itertools.count(1)
        self._lock = threading.Lock()
        # Unbuffered and one write for each line: what is written is there, however this process ends.
        self._record = os.open(record, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def at(self, what: str) -> None:
        """A boundary."""
        with self._lock:
            number = next(self._count)
            self.note(boundary=number, what=what)
            if number == self._at:
                os.kill(os.getpid(), signal.SIGKILL)

    def note(self, **facts: object) -> None:
        """A line for the record."""
        os.write(self._record, json.dumps(facts).encode() + b"\n")

    def around(self, what: str, work: Callable[[], T]) -> T:
        """Do it between two boundaries."""
        self.at(f"before {what}")
        result = work()
        self.at(f"after {what}")
        return result


class Files:
    """What happens in ``folder``, by the functions of ``os`` that change names or sync."""

    def __init__(self, folder: Path, points: KillPoints) -> None:
        self._folder = folder.absolute()
        self._removed = folder.absolute().with_name("removed")
        self._removed.mkdir(parents=True, exist_ok=True)
        self._points = points
        self._unlink, self._link = os.unlink, os.link

    def install(self) -> None:
        """From now on."""
        for name in ("link", "rename", "replace"):
            setattr(os, name, self._counted(name, getattr(os, name)))
        for name in ("unlink", "remove"):
            setattr(os, name, self._remove)
        for name in ("fsync", "fdatasync"):
            setattr(os, name, self._synced(name, getattr(os, name)))
        sys.addaudithook(self._audit)

    def _is_ours(self, path: object) -> bool:
        return isinstance(path, str | os.PathLike) and Path(path).absolute().is_relative_to(self._folder)

    def _counted(self, name: str, real: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(real)
        def counted(source: Any, target: Any, **options: Any) -> None:  # noqa: ANN401 - as os has them
            if not self._is_ours(target):
                return real(source, target, **options)
            return self._points.around(name, lambda: real(source, target, **options))

        return counted

    def _remove(self, path: Any, **options: Any) -> None:  # noqa: ANN401 - as os has it
        if not self._is_ours(path) or not os.path.lexists(path):
            return self._unlink(path, **options)
        copy = self._removed / f"{os.getpid()}-{os.urandom(4).hex()}"
        self._link(path, copy)
        return self._points.around("unlink", lambda: self._note_removed(Path(path).absolute(), copy))

    def _note_removed(self, path: Path, copy: Path) -> None:
        parent = path.parent.stat().st_ino
        self._unlink(path)
        self._points.note(removed=str(path), copy=str(copy), parent=parent)

    def _synced(self, name: str, real: Callable[[int], None]) -> Callable[[Any], None]:
        @functools.wraps(real)
        def synced(file: Any) -> None:  # noqa: ANN401 - a number, or an object that has one
            descriptor = file if isinstance(file, int) else file.fileno()

            def sync() -> None:
                real(descriptor)
                status = os.fstat(descriptor)
                self._points.note(synced=status.st_ino, folder=stat.S_ISDIR(status.st_mode))

            self._points.around(name, sync)

        return synced

    def _audit(self, event: str, values: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(values[2], int) and values[2] & (os.O_WRONLY | os.O_RDWR):
            path = os.fsdecode(values[0]) if isinstance(values[0], bytes) else values[0]
            if self._is_ours(path):
                self._points.at("before writing")


class Database(sqlite3.Connection):
    """Counts its commits, and notes how far its log was synced."""

    points: ClassVar[KillPoints]

    def __init__(self, database: Any, *values: Any, **options: Any) -> None:  # noqa: ANN401 - as there
        super().__init__(database, *values, **options)
        self._main = Path(database)
        self._log = self._main.with_name(self._main.name + "-wal")
        self._copied = self._main.stat().st_mtime_ns

    def execute(self, sql: str, values: Any = (), /) -> sqlite3.Cursor:  # noqa: ANN401 - as there
        if COMMIT.match(sql) or (WRITE.match(sql) and not self.in_transaction):
            return self._committed(lambda: sqlite3.Connection.execute(self, sql, values))
        cursor = super().execute(sql, values)
        if "checkpoint" in sql.lower():
            self._note_synced()
        return cursor

    def executescript(self, script: str, /) -> sqlite3.Cursor:
        return self._committed(lambda: sqlite3.Connection.executescript(self, script))

    def commit(self) -> None:
        self._committed(lambda: sqlite3.Connection.commit(self))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        return self._committed(lambda: sqlite3.Connection.__exit__(self, kind, error, trace))

    def _committed(self, work: Callable[[], T]) -> T:
        self.points.at("before commit")
        result = work()
        self._note_synced()
        self.points.at("after commit")
        return result

    def _note_synced(self) -> None:
        """The log is synced at each commit, or else when it is copied into the main file."""
        at_commit = sqlite3.Connection.execute(self, "PRAGMA synchronous").fetchone()[0]
        copied = self._main.stat().st_mtime_ns
        if at_commit >= SYNCED_AT_COMMIT or copied != self._copied:
            self._copied = copied
            size = self._log.stat().st_size if self._log.exists() else 0
            self.points.note(log=str(self._log), size=size)


def count_requests(points: KillPoints) -> None:
    """Count what is sent to the bucket."""

    def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(real)
        async def call(*values: Any, **options: Any) -> Any:  # noqa: ANN401 - as the store has them
            points.at(f"before {name}")
            result = await real(*values, **options)
            points.at(f"after {name}")
            return result

        return call

    for name in ("put", "delete"):
        setattr(ObjectStore, name, counted(name, getattr(ObjectStore, name)))


def count_versions(points: KillPoints) -> Callable[[Event], None]:
    """An observer."""

    def observe(event: Event) -> None:
        if isinstance(event, SegmentPublished):
            entry = event.segment
            points.note(
                listed=entry.url, gap=entry.gap, variant=event.segment.variant, number=event.segment.number
            )
        if isinstance(event, SegmentPublished | StreamStarted | StreamEnded):
            points.at(f"after {type(event).__name__}")

    return observe


def note_what_is_listed(points: KillPoints, journal: Path) -> None:
    """It is served from the first moment on, and may have left the window before anybody looks."""
    if journal.exists():
        with contextlib.closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'segments'").fetchone():
                return  # killed before there were tables
            query = "SELECT url, fault IS NOT NULL, variant, number FROM segments WHERE step = 'listed'"
            for url, gap, variant, number in connection.execute(query):
                points.note(listed=url, gap=bool(gap), variant=variant, number=number)


def main() -> None:
    """Serve, with settings from the environment, until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("at", type=int)
    parser.add_argument("--record", type=Path, default=Path(os.devnull))
    parser.add_argument("--boot-id")
    options = parser.parse_args()
    settings: Settings = load()
    logs.set_up(settings.log_level, "text")
    points = KillPoints(options.at, options.record)
    note_what_is_listed(points, settings.state_dir / "journal.db")
    if options.boot_id:
        give_boot_id(options.boot_id)
    Files(settings.state_dir, points).install()
    Database.points = points
    # Whoever opens a database gets one that counts.
    vars(sqlite3)["connect"] = functools.partial(sqlite3.connect, factory=Database)
    count_requests(points)
    asyncio.run(serve(settings, on_event=count_versions(points)))


if __name__ == "__main__":
    main()
