"""Servers that tests put between others close what they accept, whenever it comes."""

import asyncio
import gc
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import psutil
import pytest

from broadcaster.demo.processes import HOST, free_ports
from tests.support.faults.fault_proxy import Fault, FaultProxy
from tests.support.faults.forwarding import pass_on
from tests.support.servers.tcp import TcpConnection, TcpServer, connected

BODY = bytes(range(256)) * 4096


@contextmanager
def client_of(port: int) -> Iterator[socket.socket]:
    with socket.create_connection((HOST, port), timeout=60) as client:
        yield client


def is_over(client: socket.socket) -> bool:
    """Whether the server has closed the connection; blocks until it sends or closes."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def sockets_at(port: int) -> set[int]:
    """Return this process's descriptors of connections to the port, and of those from it."""
    found = psutil.Process().net_connections("tcp")
    return {connection.fd for connection in found if port in (connection.laddr[1], *connection.raddr[1:2])}


@pytest.mark.parametrize("turns", range(6))
async def test_a_connection_that_comes_while_the_server_closes(turns: int) -> None:
    """However far the event loop has come with it, its socket is closed when ``close`` returns."""

    async def wait(client: TcpConnection) -> None:
        await client.read_all()

    server = TcpServer(wait)
    server.listen()
    with client_of(server.port) as client:
        for _ in range(turns):
            await asyncio.sleep(0)
        await server.close(reset=bool(turns % 2))
        assert sockets_at(server.port) <= {client.fileno()}
        assert is_over(client)
    gc.collect()  # what is collected open fails the test


async def test_connections_at_work() -> None:
    """Those that pass bytes on are closed on both sides, and the port serves again."""
    server = TcpServer(_echo)
    async with server:
        proxy = TcpServer(lambda client: _pass_to(server.port, client))
        async with proxy, connected(proxy.port) as client:
            await client.write(b"hello")
            assert await client.read_exactly(5) == b"hello"
            await proxy.close()
            assert await client.read() == b""
            proxy.listen()
            async with connected(proxy.port) as again:
                for piece in (BODY, BODY):
                    sending = asyncio.create_task(again.write(piece))
                    assert await again.read_exactly(len(piece)) == piece
                    await sending
    gc.collect()


async def test_a_defect_of_a_handler() -> None:
    """An exception that is none of the connection's fails the test that uses the server."""

    async def fail(_: TcpConnection) -> None:
        raise AssertionError("not as expected")

    with pytest.raises(AssertionError, match="not as expected"):
        async with TcpServer(fail) as server, connected(server.port) as client:
            assert await client.read() == b""


async def test_the_proxy_of_its_own_process() -> None:
    """It passes bytes on, resets and refuses while its fault says so, and ends with the test."""
    async with TcpServer(_echo) as server:
        async with FaultProxy(*free_ports(1)) as proxy:
            port = urlsplit(proxy.url).port or 0
            await proxy.switch(Fault.NONE, port=server.port)
            async with connected(port) as client:
                await client.write(b"hello")
                assert await client.read_exactly(5) == b"hello"
                assert await proxy.met() == 1
                await proxy.switch(Fault.REFUSE)
                with pytest.raises(ConnectionResetError):
                    await client.read()
            with pytest.raises(ConnectionRefusedError):
                client_of(port).__enter__()
            await proxy.switch(Fault.DENIED)
            async with connected(port) as client:
                await client.write(b"PUT /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc")
                assert (await client.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 403 ")
        with pytest.raises(ConnectionRefusedError):
            client_of(port).__enter__()


async def _echo(client: TcpConnection) -> None:
    while data := await client.read():
        await client.write(data)


async def _pass_to(port: int, client: TcpConnection) -> None:
    async with connected(port) as server:
        await pass_on(client, server)
