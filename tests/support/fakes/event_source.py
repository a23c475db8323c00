"""An event stream that says what a test wants it to say."""

import asyncio
import json
import time

from aiohttp import web

NO_STORE = {"Cache-Control": "no-store"}


class EventSource:
    """The state and the trouble of a stream, for every page; without a state there is no event stream."""

    def __init__(self) -> None:
        self.state: str | None = None
        self.trouble: str | None = None
        self._changed = asyncio.Event()

    def tell(self, state: str | None, trouble: str | None = None) -> None:
        """Change what is said; None ends it, as on a static host."""
        self.state, self.trouble = state, trouble
        self._changed.set()
        self._changed = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Tell how things stand, then each change."""
        if self.state is None:
            return web.Response(status=404, headers=NO_STORE)
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream", **NO_STORE})
        await answer.prepare(request)
        name, state = "state", self.state
        while self.state is not None:
            word = {"state": self.state, "trouble": self.trouble, "now": round(1000 * time.time())}
            data = json.dumps({**word, "goingOn": False, "segments": []})
            changed = self._changed
            await answer.write(f"event: {name}\ndata: {data}\n\n".encode())
            await changed.wait()
            same, state = self.state == state, self.state
            name = "trouble" if same else state if state in {"ended", "starting"} else "started"
        return answer
