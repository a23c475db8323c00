"""An export from its beginning, or from where the last attempt ended, to the file."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from broadcaster.errors import ExportError
from broadcaster.export.plan import PLAN_FILE, Request
from broadcaster.export.remuxing import remuxing
from broadcaster.own_files import own_folder, own_lock
from broadcaster.printable import printable, write

EXTRAS = ("av", "tqdm")
LOCK_FILE = "export.lock"


def export(request: Request, target: Path) -> None:
    """Write ``target``. Until it is there, what was read is in the folder ``target.part`` beside it.

    Raises ExportError and StorageError; the same call then goes on where it stood.
    """
    for name in EXTRAS:
        if not find_spec(name):
            raise ExportError(f"exports need the package {name}: pip install {' '.join(EXTRAS)}")
    if target.exists():
        raise ExportError(f"{target} is already there: remove it, or choose another name")
    folder = target.with_name(target.name + ".part")
    try:
        with remuxing() as remuxer, own_while_working(folder):
            # Late, as the process that writes loads what it needs at the same time.
            from broadcaster.export.attempt import attempt  # noqa: PLC0415

            plan = attempt(request, folder, target, remuxer)
        shutil.rmtree(folder)
    except KeyboardInterrupt:
        raise ExportError(f"stopped; what is there is in {folder}, and the same command goes on") from None
    except OSError as error:
        room = ": make room, and the same command goes on" if error.errno == errno.ENOSPC else ""
        raise ExportError(f"{error.filename or folder}: {error.strerror}{room}") from None
    more = f"; {plan.more} more parts: --part {request.part + 1}" if plan.more > 0 else ""
    write(printable(f"{target}: {target.stat().st_size / 1e6:,.1f} MB{more}"))


@contextmanager
def own_while_working(folder: Path) -> Iterator[None]:
    """Make the folder, which signed addresses may be in, and let nobody else use it.

    One in which nothing has begun yet is of no use to the next attempt.
    """
    own_folder(folder)
    if any(folder.iterdir()) and not (folder / LOCK_FILE).exists():
        raise ExportError(f"{folder} is not of an export: remove it, or choose another name")
    try:
        lock = own_lock(folder / LOCK_FILE)
    except BlockingIOError:
        raise ExportError(f"another export is at work in {folder}") from None
    try:
        yield
    finally:
        os.close(lock)
        if not (folder / PLAN_FILE).exists():
            shutil.rmtree(folder)
