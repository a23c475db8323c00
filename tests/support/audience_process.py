"""The process that serves viewers, as a test disturbs it."""

import asyncio
import contextlib

import aiohttp
import psutil

from broadcaster.demo.children import poll
from tests.support.service import Service

REPLACED_WITHIN = 60.0  # seconds, on a busy machine


def audience_of(service: Service) -> psutil.Process:
    """The process that serves viewers."""
    assert service.child
    (found,) = psutil.Process(service.child.pid).children()
    assert "broadcaster.audience" in found.cmdline()
    return found


async def answered(service: Service) -> int:
    """The status of the main playlist; who comes before anybody serves it waits."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{service.address}/live/playlist.m3u8") as response,
    ):
        return response.status


async def replaced(service: Service, before: psutil.Process) -> None:
    """Wait until another process answers viewers."""

    async def answers() -> bool:
        with contextlib.suppress(aiohttp.ClientError, ValueError, psutil.Error, AssertionError):
            if audience_of(service).pid != before.pid:
                return await answered(service) == 200
        return False

    async with asyncio.timeout(REPLACED_WITHIN):
        await poll(answers)
