"""The proxy leaves no connection behind, whenever one comes."""

import asyncio
import gc
import socket
from urllib.parse import urlsplit

import pytest

from broadcaster.demo.ports import HOST, free_ports
from tests.support.fault_proxy import TURNS, Fault, FaultProxy


@pytest.mark.parametrize("turns", range(TURNS + 1))
async def test_a_connection_that_comes_while_the_fault_is_switched(turns: int) -> None:
    """However far the loop has come with it, it is closed: pytest fails by what is collected open."""
    async with FaultProxy(*free_ports(1)) as proxy:
        with socket.socket() as client:
            client.connect((HOST, urlsplit(proxy.url).port))
            for _ in range(turns):
                await asyncio.sleep(0)
            await proxy.switch(Fault.REFUSE)
    gc.collect()
