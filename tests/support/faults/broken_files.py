"""A file system that fails, and a process that has run out of descriptors."""

import asyncio
import io
import os
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from broadcaster import own_files as descriptors
from broadcaster.catalog.records import Segment
from broadcaster.events import SourceEvent, SourceFault
from broadcaster.source import FolderSource, scanner

CALLS = ("open", "stat", "lstat", "scandir", "link", "unlink")


@contextmanager
def broken(folder: Path, number: int, *, calls: tuple[str, ...] = CALLS) -> Iterator[list[str]]:
    """Inside, these calls fail with this errno for all below ``folder``; yields those that did."""
    failed: list[str] = []

    def failing(name: str, call: Callable[..., object]) -> Callable[..., object]:
        def fail(path: str | Path | int, *args: object, **kwargs: object) -> object:
            if not isinstance(path, int) and Path(path).is_relative_to(folder):
                failed.append(f"{name} {path}")
                raise OSError(number, os.strerror(number), str(path))
            return call(path, *args, **kwargs)

        return fail

    def failing_beneath(call: Callable[[int, str, int], int]) -> Callable[[int, str, int], int]:
        def fail(base: int, name: str, flags: int) -> int:
            root = Path(f"/proc/self/fd/{base}").readlink()
            kind = "scandir" if flags & os.O_DIRECTORY else "stat" if flags == descriptors.LOOK else "open"
            if kind in calls and (root / name).is_relative_to(folder):
                failed.append(f"{kind} {root / name}")
                raise OSError(number, os.strerror(number), name)
            return call(base, name, flags)

        return fail

    with pytest.MonkeyPatch.context() as patch:
        for name in calls:
            patch.setattr(os, name, failing(name, getattr(os, name)))
        if "open" in calls:
            patch.setattr(io, "open", failing("open", io.open))
        patch.setattr(descriptors, "open_at", failing_beneath(descriptors.open_at))
        yield failed


async def _follow_without_descriptors(folder: Path) -> None:
    """Print the events of ``folder``. A line of input forbids new descriptors, the next allows them again."""

    async def tell(event: SourceEvent) -> None:
        match event:
            case Segment():
                print("segment", event.name, "gap" if event.gap else "whole", flush=True)
            case SourceFault():
                print("fault", event.message or "over", flush=True)

    source = FolderSource(folder, lambda: datetime.now(UTC))
    following = asyncio.create_task(source.run(tell))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    while await asyncio.to_thread(sys.stdin.readline):
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        print("none left", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    following.cancel()


if __name__ == "__main__":
    scanner.FAULT_AFTER = 0.5  # seconds
    asyncio.run(_follow_without_descriptors(Path(sys.argv[1])))
