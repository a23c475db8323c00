"""What a test needs to stand in for systemd."""

import asyncio
import socket
from pathlib import Path

from tests.support.waiting import PATIENCE


class Ears:
    """The socket on which systemd listens."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(path))

    async def hear(self, within: float = PATIENCE) -> str:
        async with asyncio.timeout(within):
            return (await asyncio.get_running_loop().sock_recv(self._socket, 1000)).decode()

    async def until(self, message: str) -> None:
        heard = None
        while heard != message:
            heard = await self.hear()

    async def until_silence(self, seconds: float) -> None:
        """Wait until nothing has been heard for so long."""
        while True:
            try:
                await self.hear(seconds)
            except TimeoutError:
                return

    def close(self) -> None:
        self._socket.close()
