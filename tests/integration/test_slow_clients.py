"""Clients that do not finish their requests or do not read their answers, thousands at a time.

How long the others wait meanwhile is for ``make bench``.
"""

import asyncio
from pathlib import Path

import aiohttp
import pytest

from broadcaster.http import raise_file_limit
from tests.support.faults.slow_clients import PATH, REQUEST, CrowdedServer, crowded_server, slow_clients
from tests.support.length import SOAK
from tests.support.waiting import eventually

CLIENTS = 2000  # of each kind
NORMAL_CLIENTS = 10
PLACES = 400  # few, so that they are taken before the first of them has been cut
PATIENCE = 180.0  # seconds


@pytest.mark.skipif(not SOAK, reason="make soak runs it: test_unread has clients that read nothing")
@pytest.mark.takes(13)
async def test_slow_clients_take_nothing_from_the_others(tmp_path: Path) -> None:
    """Thousands never finish and thousands hardly read: all others are served, and memory is bounded."""
    assert raise_file_limit(2 * CLIENTS + 100) >= 2 * CLIENTS
    cut = {"unfinished", "stalled"}
    served = 0

    async def ask_again_and_again(server: CrowdedServer, session: aiohttp.ClientSession) -> None:
        nonlocal served
        while True:
            await server.ask(session)
            served += 1
            await asyncio.sleep(0.05)  # a moment, so that the machine has time for others too

    async def all_cut(server: CrowdedServer) -> bool:
        metrics = await server.metrics()
        counts = {metrics[f'broadcaster_connections_cut_total{{reason="{reason}"}}'] for reason in cut}
        return counts == {CLIENTS}

    async with crowded_server(tmp_path, 2 * CLIENTS + 100) as server, aiohttp.ClientSession() as session:
        await server.ask(session)  # whatever is made only once
        memory = server.memory()
        async with slow_clients(server.port) as clients, asyncio.TaskGroup() as group:
            await clients.open(CLIENTS, REQUEST, reading=False)
            await clients.open(CLIENTS, REQUEST + b"\r\n", reading=True)
            others = [
                group.create_task(clients.read_slowly()),
                *(group.create_task(ask_again_and_again(server, session)) for _ in range(NORMAL_CLIENTS)),
            ]
            await eventually(lambda: all_cut(server), within=PATIENCE)
            growth = server.memory() - memory
            for other in others:
                other.cancel()
        print(f"{served} answers to others meanwhile; {growth:.0f} MiB more")
        assert served > NORMAL_CLIENTS
        assert growth < 250
        await server.ask(session)


async def test_a_full_house(tmp_path: Path) -> None:
    """More connections than there are places: some are refused, and viewers get theirs within a second."""
    async with (
        crowded_server(tmp_path, PLACES) as server,
        slow_clients(server.port) as clients,
        aiohttp.ClientSession() as session,
    ):

        async def is_served() -> bool:
            async with session.get(f"http://127.0.0.1:{server.port}{PATH}") as response:
                if response.status == 200:
                    return True
                assert response.status == 503
                assert response.headers["Cache-Control"] == "no-store"
                assert response.headers["Retry-After"]
                return False

        async def cut(reason: str) -> float:
            return (await server.metrics())[f'broadcaster_connections_cut_total{{reason="{reason}"}}']

        # No place can be had of those that are sent an answer, whatever time the machine takes for it.
        await clients.open(PLACES, REQUEST + b"\r\n", reading=True)
        await clients.until_answered()
        assert not await is_served()
        assert await cut("full") >= 1
        clients.leave(30)
        await eventually(server.metrics, lambda metrics: metrics["broadcaster_connections"] <= PLACES - 30)
        await clients.open(60, REQUEST, reading=False)
        await eventually(is_served, within=PATIENCE)
        assert await cut("unfinished") >= 1
