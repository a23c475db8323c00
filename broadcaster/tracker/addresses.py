"""What comes from where: the only thing that is kept about addresses, and no longer than it takes."""

from __future__ import annotations

from dataclasses import dataclass

from broadcaster.tracker.limits import Bucket, Limits, Refusal, Refused

ADDRESSES_PER_CONNECTION = 2  # remembered, for each connection that there may be
FORGET = 10.0  # seconds between two looks at who may be forgotten


@dataclass(slots=True)
class _Address:
    announces: Bucket
    connections: int = 0


class Addresses:
    """Counts connections and announces by address. None is an unknown one, which is not limited."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._known: dict[str, _Address] = {}
        self._looked = 0.0

    def __len__(self) -> int:
        return len(self._known)

    def enter(self, name: str | None, now: float) -> None:
        """One more connection; raises Refused."""
        if name is None:
            return
        limits = self._limits
        address = self._known.get(name)
        if address is None:
            if len(self._known) >= ADDRESSES_PER_CONNECTION * limits.connections:
                raise Refused(Refusal.CONNECTIONS, "the tracker is full")
            address = _Address(Bucket.full(limits.address_rate, limits.address_burst, now))
            self._known[name] = address
        if address.connections >= limits.connections_per_address or not address.announces.take(now):
            raise Refused(Refusal.ADDRESS, "too many connections from this address")
        address.connections += 1

    def announce(self, name: str | None, now: float) -> None:
        """One more announce; raises Refused."""
        if name is not None and not self._known[name].announces.take(now):
            raise Refused(Refusal.ADDRESS, "too many announces from this address")

    def leave(self, name: str | None) -> None:
        """One connection less."""
        if name is not None:
            self._known[name].connections -= 1

    def forget(self, now: float) -> None:
        """Let go of addresses that nothing has come from lately."""
        if now - self._looked < FORGET:
            return
        self._looked = now
        for name, address in list(self._known.items()):
            if not address.connections and address.announces.is_full(now):
                del self._known[name]
