"""One attempt to fetch all of it and to have it written, from where the last one ended."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import asdict
from pathlib import Path
from typing import cast

import aiohttp

from broadcaster.errors import ExportError, StorageError
from broadcaster.export import playlists
from broadcaster.export.plan import PLAN_FILE, Item, Plan, Request
from broadcaster.export.progress import progress
from broadcaster.export.remuxing import Remuxing
from broadcaster.fetching import Fetcher, Place, Wanted

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


def attempt(request: Request, folder: Path, target: Path, remuxer: Remuxing) -> Plan:
    """Write ``target``; what was read is kept in ``folder``. Raises as ``work.export`` does."""
    return asyncio.run(_attempt(request, folder, target, remuxer))


async def _attempt(request: Request, folder: Path, target: Path, remuxer: Remuxing) -> Plan:
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
    """One for each attempt: a killed export's process may be about to write in that of the last one."""
    for old in folder.glob(f"{WRITING}*"):
        shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=WRITING, dir=folder))


def _put_in_place(new: Path, target: Path) -> None:
    """What has the name is whole, even after a power cut."""
    with new.open("rb+") as file:
        os.fsync(file.fileno())
    new.replace(target)


async def _plan(request: Request, folder: Path, session: aiohttp.ClientSession) -> Plan:
    """The first attempt's, as the playlist may be another one by now, but at the addresses of today.

    Those that are signed are good for some days, and the last attempt may be longer ago.
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


def _read(file: Path) -> Plan | None:
    """The plan in a file, if it is one."""
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415 - to load it takes long

    try:
        return TypeAdapter(Plan).validate_json(file.read_bytes())
    except ValidationError:
        return None


async def _write(
    plan: Plan, fetcher: Fetcher, remuxer: Remuxing, path: Path, step: Callable[[int], None]
) -> None:
    """Fetch and write at the same time."""

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
