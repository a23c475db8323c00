"""Clips, as an operator makes them."""

import asyncio
from datetime import datetime, timedelta
from pathlib import Path

import aiohttp

from tests.support.servers.service import Service
from tests.support.waiting import eventually


async def clip_of(service: Service, begin: datetime) -> str:
    """Have one of six seconds made and wait until it is there; returns its id."""
    folder = Path(service.environment["BROADCASTER_STATE_DIR"])
    token = await asyncio.to_thread((folder / "operator-token").read_text)
    times = {"begin": begin.isoformat(), "end": (begin + timedelta(seconds=6)).isoformat()}
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
        async with session.post(f"{service.admin_address}/api/clips", json=times) as response:
            assert response.status == 201
            name = str((await response.json())["id"])

        async def is_there() -> bool:
            async with session.head(f"{service.address}/c/{name}") as response:
                return response.ok

        await eventually(is_there)
    return name
