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
from pathlib import Path
from typing import cast

import aiohttp
from pydantic import ValidationError

from broadcaster.errors import ExportError
from broadcaster.export import playlists
from broadcaster.export.hopper import Hopper
from broadcaster.export.plan import PLAN, Item, Plan, Request
from broadcaster.fetching import Fetcher, Wanted
from broadcaster.threads import OwnThread

AT_ONCE = 48  # objects; with 50 ms for each answer, 8 would leave a fast link idle
IN_FLIGHT, IN_HOPPER = 12 * 2**20, 4 * 2**20  # bytes
PATIENCE = 10.0, 120.0  # seconds: for a playlist, whose address may be wrong, and for a segment
INSTALL = "pip install av tqdm"
PLAN_FILE, LOCK_FILE = "plan.json", "export.lock"
Bodies = AsyncGenerator[tuple[Wanted, bytes], None]
LARGEST = 256 * 2**20  # bytes of a segment
ENDS_WITHIN = 5.0  # seconds, when it is stopped: for what is being written just now


def export(request: Request, target: Path) -> None:
    """Write ``target``. Until it is there, what was read is in the folder ``target.part`` beside it.

    Raises ExportError and StorageError; the same call then goes on where it stood.
    """
    try:
        import av  # noqa: F401, PLC0415 - an extra, as the next one
        import tqdm  # noqa: F401, PLC0415
    except ImportError as error:
        raise ExportError(f"exports need the package {error.name}: {INSTALL}") from None
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
            plan = PLAN.validate_json(file.read_bytes())
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
    new.write_bytes(PLAN.dump_json(plan))
    _put_in_place(new, file)
    return plan


async def _remux(plan: Plan, fetcher: Fetcher, path: Path, step: Callable[[int], None]) -> None:
    """Fetch and write at the same time: the thread that writes takes one object after the other."""
    from broadcaster.export.remux import Remuxer  # noqa: PLC0415 - an extra

    hoppers = [Hopper(IN_HOPPER) for _ in plan.renditions]

    async def fill(hopper: Hopper, items: list[Item]) -> None:
        async with aclosing(cast(Bodies, fetcher.fetch(item.wanted for item in items))) as bodies:
            async for _, body in bodies:
                await hopper.put(body)
                step(len(body))

    with OwnThread("export") as thread:
        remuxer = Remuxer(path, plan, lambda number: hoppers[number].take())
        work = asyncio.wrap_future(thread.submit(remuxer.run))
        try:
            async with asyncio.TaskGroup() as group:
                for hopper, rendition in zip(hoppers, plan.renditions, strict=True):
                    group.create_task(fill(hopper, rendition.items))
                await asyncio.shield(work)
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            for hopper in hoppers:
                hopper.close()
            await asyncio.wait([work], timeout=ENDS_WITHIN)
            if work.done() and not work.cancelled():
                work.exception()  # it is known by now
