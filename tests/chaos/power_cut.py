"""What a power cut leaves of a state folder: at least what was synced, and of the rest it may be anything.

A disk may be behind in three ways, of which ``Behind`` names those that are tried:

- *Data*: names are as they were, but a file that nobody synced has no bytes. A hard link is the file that it
  links, so that the source loses them too.
- *Names*: a file that nobody synced is not there at all; one that was, and was removed, is back unless its
  folder was synced after that. A synced file has its name, as ext4 and XFS keep it.
- *The log* of the database is as long as at its last sync: the last commit under ``synchronous = FULL``, else
  the last checkpoint, or nothing. The main file is whole: SQLite syncs it whenever it writes there.
"""

import builtins
import functools
import io
import json
import os
from collections.abc import Iterator
from enum import Flag, auto
from pathlib import Path
from typing import Any

BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Behind(Flag):
    """What a disk had not written yet."""

    DATA = auto()
    NAMES = auto()
    LOG = auto()


def facts(record: Path) -> Iterator[dict[str, Any]]:
    """What a process of ``kill_points`` wrote down, in order."""
    lines = record.read_text().splitlines() if record.exists() else []
    return map(json.loads, lines)


def cut_power(state_dir: Path, record: Path, behind: Behind) -> None:
    """Bring the folder back to what was synced; no process uses it now."""
    synced, logs, removed = _replay(record)
    files = [path for path in (state_dir / "spool").rglob("*") if path.is_file()]
    for path in files:
        if path.stat().st_ino in synced:
            continue
        if Behind.NAMES in behind:
            path.unlink()
        elif Behind.DATA in behind:
            os.truncate(path, 0)
    for path, copy in removed.items():
        if Behind.NAMES in behind and copy.stat().st_ino in synced and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.hardlink_to(copy)
    for log in state_dir.glob("*-wal"):
        if Behind.LOG in behind:
            os.truncate(log, min(log.stat().st_size, logs.get(log, 0)))


def _replay(record: Path) -> tuple[set[int], dict[Path, int], dict[Path, Path]]:
    """Inodes that were synced, how much of each log was, and removed files whose removal may be lost."""
    synced: set[int] = set()
    logs: dict[Path, int] = {}
    removed: dict[Path, tuple[Path, int]] = {}
    for fact in facts(record):
        if "synced" in fact:
            synced.add(fact["synced"])
            if fact["folder"]:
                removed = {path: found for path, found in removed.items() if found[1] != fact["synced"]}
        elif "log" in fact:
            logs[Path(fact["log"])] = fact["size"]
        elif "removed" in fact:
            removed[Path(fact["removed"])] = (Path(fact["copy"]), fact["parent"])
    return synced, logs, {path: copy for path, (copy, _) in removed.items()}


def give_boot_id(text: str) -> None:
    """Let this be what the kernel tells."""
    real = io.open

    @functools.wraps(real)
    def opened(file: Any, mode: str = "r", *values: Any, **options: Any) -> Any:  # noqa: ANN401 - as there
        if not isinstance(file, str | os.PathLike) or os.fspath(file) != BOOT_ID:
            return real(file, mode, *values, **options)
        return io.BytesIO(text.encode()) if "b" in mode else io.StringIO(text)

    builtins.open = io.open = opened
