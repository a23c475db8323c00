"""An export from its beginning, or from where the last attempt ended, to the file."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import shutil
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import aiohttp
from pydantic import TypeAdapter, ValidationError

from broadcaster.errors import ExportError
from broadcaster.export import playlists
from broadcaster.export.plan import Item, Plan, Request
from broadcaster.export.remuxing import remuxing
from broadcaster.fetching import Fetcher, Wanted

AT_ONCE = 48  # objects; with 50 ms for each answer, 8 would leave a fast link idle
IN_FLIGHT = 12 * 2**20  # bytes
PATIENCE = 10.0, 120.0  # seconds: for a playlist, whose address may be wrong, and for a segment
EXTRAS = ("av", "tqdm")
# The index at the head of an MP4 is in memory until the file is whole, some 30 MB for an hour at 60 pictures
# a second: what is longer has one in each fragment. (With an empty index at the head nobody unwraps AAC.)
LONG = 3600  # seconds
PLAN_FILE, LOCK_FILE = "plan.json", "export.lock"
_plans = TypeAdapter(Plan)
Bodies = AsyncGenerator[tuple[Wanted, bytes], None]
LARGEST = 256 * 2**20  # bytes of a segment


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
        with _own(folder):
            plan = asyncio.run(_export(request, folder, target))
        shutil.rmtree(folder)
    except KeyboardInterrupt:
        raise ExportError(f"stopped; what is there is in {folder}, and the same command goes on") from None
    except OSError as error:
        room = ": make room, and the same command goes on" if error.errno == errno.ENOSPC else ""
        raise ExportError(f"{error.filename or folder}: {error.strerror}{room}") from None
    more = f"; {plan.more} more parts: --part {request.part + 1}" if plan.more > 0 else ""
    sys.stdout.write(f"{target}: {target.stat().st_size / 1e6:,.1f} MB{more}\n")


@contextmanager
def _own(folder: Path) -> Iterator[None]:
    """Make the folder, which signed addresses may be in, and let nobody else use it.

    One in which nothing has begun yet is of no use to the next attempt.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    if any(folder.iterdir()) and not (folder / LOCK_FILE).exists():
        raise ExportError(f"{folder} is not of an export: remove it, or choose another name")
    with (folder / LOCK_FILE).open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ExportError(f"another export is at work in {folder}") from None
        try:
            yield
        finally:
            if not (folder / PLAN_FILE).exists():
                shutil.rmtree(folder)


async def _export(request: Request, folder: Path, target: Path) -> Plan:
    from broadcaster.export.progress import Progress  # noqa: PLC0415 - an extra

    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        plan = await _plan(request, folder, session)
        fetcher = await stack.enter_async_context(
            Fetcher(
                session,
                at_once=AT_ONCE,
                bytes_in_flight=IN_FLIGHT,
                largest=LARGEST,
                memory=0,
                disk=folder / "fetched",
                disk_bytes=sys.maxsize,
                patience=PATIENCE[1],
            )
        )
        progress = stack.enter_context(Progress(plan, target.name))
        await _remux(plan, fetcher, folder / target.name, progress.step)
    _put_in_place(folder / target.name, target)
    return plan


def _put_in_place(new: Path, target: Path) -> None:
    """What has the name is whole, even after a power cut."""
    with new.open("rb+") as file:
        os.fsync(file.fileno())
    new.replace(target)


async def _plan(request: Request, folder: Path, session: aiohttp.ClientSession) -> Plan:
    """The one of the last attempt, as the playlist may be another one by now."""
    file = folder / PLAN_FILE
    if file.exists():
        try:
            plan = _plans.validate_json(file.read_bytes())
        except ValidationError:
            plan = None
        if plan is None or plan.request != request:
            raise ExportError(f"{folder} is of another export: remove it, or choose another name")
        return plan
    async with Fetcher(session, memory=0, patience=PATIENCE[0]) as fetcher:

        async def get(url: str) -> str:
            return (await fetcher.get(Wanted(url))).decode(errors="replace")

        plan = await playlists.plan(request, get)
    new = file.with_suffix(".new")
    new.write_bytes(_plans.dump_json(plan))
    _put_in_place(new, file)
    return plan


async def _remux(plan: Plan, fetcher: Fetcher, path: Path, step: Callable[[int], None]) -> None:
    """Fetch and write at the same time."""

    async def fill(number: int, items: list[Item]) -> None:
        async with aclosing(cast(Bodies, fetcher.fetch(item.wanted for item in items))) as bodies:
            async for _, body in bodies:
                await remuxer.put(number, body)
                step(len(body))

    path.unlink(missing_ok=True)  # noqa: ASYNC240 - a killed export's process may be about to write to it
    async with remuxing(len(plan.renditions)) as remuxer:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(remuxer.write(path, plan, in_fragments=plan.seconds > LONG))
                for number, rendition in enumerate(plan.renditions):
                    group.create_task(fill(number, rendition.items))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
