"""An answer that was made before it was asked for: of what a playlist takes, most was making its head."""

from __future__ import annotations

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter


class Ready(web.StreamResponse):
    """Head and body as they are sent, on a connection that stays open (HTTP/1.1)."""

    def __init__(self, status: int, data: bytes) -> None:
        super().__init__(status=status)
        self._data = data
        self._writer: AbstractStreamWriter | None = None

    @property
    def keep_alive(self) -> bool:
        """It says nothing of closing."""
        return True

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send it; raises ConnectionResetError when the client has left."""
        if self._writer is None:
            if request.transport is None or request.transport.is_closing():
                raise ConnectionResetError
            self._writer = request.writer
            request.transport.write(self._data)
        return self._writer

    async def write_eof(self, data: bytes = b"") -> None:  # noqa: ARG002 - as its base has it
        """Wait for a client that does not read: it may have sent more requests at once."""
        if self._writer is not None:
            await self._writer.drain()
