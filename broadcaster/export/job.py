"""An export: plan, download, remux; progress on a terminal. A later attempt resumes an earlier one."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import aiohttp

from broadcaster.download import Fetcher, Place, Wanted
from broadcaster.errors import ExportError, StorageError
from broadcaster.export import playlists
from broadcaster.export.plan import PLAN_FILE, ExportPlan, Item, Request
from broadcaster.export.remux_process import Remuxing, remuxing
from broadcaster.own_files import own_folder, own_lock
from broadcaster.printable import printable, write


@contextmanager
def progress(plan: ExportPlan, name: str) -> Iterator[Callable[[int], None]]:
    """A progress bar for a plan's segments; call the function with the bytes of each. Only on a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from tqdm import tqdm  # noqa: PLC0415 - where there is a terminal

    received = 0
    with tqdm(
        total=plan.count, desc=printable(name), unit=" segments", file=sys.stderr, dynamic_ncols=True
    ) as bar:

        def step(size: int) -> None:
            nonlocal received
            received += size
            rate = received / max(bar.format_dict["elapsed"], 1e-3)
            bar.set_postfix_str(f"{rate / 1e6:.1f} MB/s", refresh=False)
            bar.update()

        yield step


AT_ONCE = 48  # objects; with 50 ms for each answer, 8 would leave a fast link idle
IN_FLIGHT = 12 * 2**20  # bytes
PATIENCE = 10.0, 120.0  # seconds: for a playlist, whose address may be wrong, and for a segment
# The index at the head of an MP4 is in memory until the file is whole, some 30 MB for an hour at 60 pictures
# a second: what is longer has one in each fragment. (With an empty index at the head nobody unwraps AAC.)
LONG = 3600  # seconds
Places = AsyncGenerator[tuple[Wanted, Place], None]
LARGEST = 256 * 2**20  # bytes of a segment, which do not have to be in memory
LONGEST = 32 * 2**20  # bytes of a playlist: two days of segments of one second
WRITING = "writing-"  # how the name begins of the folder in which the file is made


def attempt(request: Request, folder: Path, target: Path, remuxer: Remuxing) -> ExportPlan:
    """Write ``target``; downloaded objects stay in ``folder``. Raises as ``export`` does."""
    return asyncio.run(_attempt(request, folder, target, remuxer))


async def _attempt(request: Request, folder: Path, target: Path, remuxer: Remuxing) -> ExportPlan:
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
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
        step = stack.enter_context(progress(plan, target.name))
        new = _place_for_the_file(folder) / target.name
        await _write(plan, fetcher, remuxer, new, step)
    _put_in_place(new, target)
    return plan


def _place_for_the_file(folder: Path) -> Path:
    """A new folder for each attempt: the process of a killed export may still write in the old folder."""
    for old in folder.glob(f"{WRITING}*"):
        shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=WRITING, dir=folder))


def _put_in_place(new: Path, target: Path) -> None:
    """Sync the file and rename it, so that ``target`` is complete even after a power cut."""
    with new.open("rb+") as file:
        os.fsync(file.fileno())
    new.replace(target)


async def _plan(request: Request, folder: Path, session: aiohttp.ClientSession) -> ExportPlan:
    """The plan of the first attempt, with the URLs of now: the playlist may have changed since.

    Signed URLs expire after some days, and the last attempt may be older.
    """
    file = folder / PLAN_FILE
    before = _read(file) if file.exists() else None
    if file.exists() and (before is None or before.request != request):
        raise ExportError(f"{folder} is of another export: remove it, or choose another name")
    async with Fetcher(session, memory=0, bytes_in_flight=LONGEST, patience=PATIENCE[0]) as fetcher:

        async def get(url: str) -> str:
            return (await fetcher.get(Wanted(url))).decode(errors="replace")

        try:
            plan = await playlists.plan(request, get)
        except (ExportError, StorageError):
            if before is None:
                raise
            return before  # all of it may be here, or still be there
    if before:
        return before.with_addresses_of(plan)
    new = file.with_suffix(".new")
    new.write_text(json.dumps(asdict(plan)), "utf-8")
    _put_in_place(new, file)
    return plan


def _read(file: Path) -> ExportPlan | None:
    """The plan in the file, None if there is no valid plan."""
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415 - to load it takes long

    try:
        return TypeAdapter(ExportPlan).validate_json(file.read_bytes())
    except ValidationError:
        return None


async def _write(
    plan: ExportPlan, fetcher: Fetcher, remuxer: Remuxing, path: Path, step: Callable[[int], None]
) -> None:
    """Download and write at the same time."""

    async def fill(number: int, items: list[Item]) -> None:
        async with aclosing(cast(Places, fetcher.store(item.wanted for item in items))) as places:
            async for _, place in places:
                await remuxer.put(number, place)
                step(place[2])

    await remuxer.begin(path, plan, in_fragments=plan.seconds > LONG)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(remuxer.ended())
            for number, rendition in enumerate(plan.renditions):
                group.create_task(fill(number, rendition.items))
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


EXTRAS = ("av", "tqdm")
LOCK_FILE = "export.lock"


def export(request: Request, target: Path) -> None:
    """Write ``target``. Until it is complete, downloaded objects are in the folder ``target.part``.

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
    """Make the folder, private because URLs in it may be signed, and lock it.

    A folder without any download is removed.
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
