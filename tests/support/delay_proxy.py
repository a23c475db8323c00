"""A server that is far away: each request reaches it so many seconds later.

``python -m tests.support.delay_proxy PORT SECONDS`` prints the port it listens on.
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable

from broadcaster.demo.ports import HOST

CHUNK = 2**18  # bytes


class DelayProxy:
    """Before the server on ``port``; ``requests`` counts them, ``on_request`` is called with each count."""

    def __init__(self, port: int, delay: float) -> None:
        self.requests = 0
        self.on_request: Callable[[int], None] = lambda _: None
        self.port = 0
        self._upstream = port
        self._delay = delay
        self._tasks: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Its address."""
        async with await asyncio.start_server(self._serve, HOST, limit=CHUNK) as server:
            self.port = server.sockets[0].getsockname()[1]
            yield f"http://{HOST}:{self.port}"
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.closing(writer), contextlib.suppress(OSError):
            answers, requests = await asyncio.open_connection(HOST, self._upstream, limit=CHUNK)
            with contextlib.closing(requests):
                back = asyncio.create_task(_copy(answers, writer))
                try:
                    while data := await reader.read(CHUNK):
                        self.requests += 1
                        self.on_request(self.requests)
                        await asyncio.sleep(self._delay)
                        requests.write(data)
                        await requests.drain()
                finally:
                    back.cancel()
                    await asyncio.gather(back, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
        writer.close()


async def _main(port: int, delay: float) -> None:
    proxy = DelayProxy(port, delay)
    async with proxy.running():
        print(proxy.port, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)  # as long as somebody holds it


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), float(sys.argv[2])))
