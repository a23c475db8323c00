"""Forwarding of bytes between two TCP connections, for proxies."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tests.support.servers.tcp import TcpConnection

Copy = Callable[[TcpConnection, TcpConnection], Awaitable[None]]


async def copy(source: TcpConnection, target: TcpConnection) -> None:
    """Forward bytes, and the end."""
    while data := await source.read():
        await target.write(data)
    target.end()


async def pass_on(
    client: TcpConnection, server: TcpConnection, there: Copy = copy, back: Copy = copy
) -> None:
    """Forward both ways, until the way back ends or either way fails."""
    forth = asyncio.ensure_future(there(client, server))
    returning = asyncio.ensure_future(back(server, client))
    try:
        await asyncio.wait({forth, returning}, return_when=asyncio.FIRST_COMPLETED)
        if not returning.done():
            await forth  # its failure ends both; after its end the answer may still come
        await returning
    finally:
        forth.cancel()
        returning.cancel()
        await asyncio.gather(forth, returning, return_exceptions=True)
