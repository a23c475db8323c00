"""The objects read last, in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable


class MemoryCache:
    """Keeps so many bytes of them; what was asked for longest ago goes first."""

    def __init__(self, limit: int) -> None:
        self.size = 0  # bytes
        self._limit = limit
        self._bodies: OrderedDict[Hashable, bytes] = OrderedDict()

    def get(self, key: Hashable) -> bytes | None:
        """One of them."""
        body = self._bodies.get(key)
        if body is not None:
            self._bodies.move_to_end(key)
        return body

    def drop(self, key: Hashable) -> None:
        """Forget one of them."""
        self.size -= len(self._bodies.pop(key, b""))

    def put(self, key: Hashable, body: bytes) -> None:
        """Keep it, unless it is larger than all may be."""
        if len(body) > self._limit:
            return
        self.size += len(body) - len(self._bodies.pop(key, b""))
        self._bodies[key] = body
        while self.size > self._limit:
            self.size -= len(self._bodies.popitem(last=False)[1])
