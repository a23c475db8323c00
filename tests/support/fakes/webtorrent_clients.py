"""Messages as WebTorrent clients send them, and a crowd of connections to a tracker without sockets."""

import json
from random import Random
from typing import Any

from broadcaster.tracker.protocol import info_hash, stream_index
from broadcaster.tracker.tracker import Action, Close, Send, Tracker, TrackerLimits

RUN = "20260101T000000Z-0-abcdef"
SWARM = info_hash(RUN, stream_index(None))
OTHER_SWARM = info_hash("another", stream_index(None))


def identifier(name: str) -> str:
    """A peer id or offer id."""
    return f"{name:-<20}"


def announce(
    peer: str,
    made: int | list[str] = 0,
    *,
    swarm: str = SWARM,
    event: str | None = "started",
    **more: object,
) -> str:
    """An announce of ``peer`` with so many offers, or offers of these names, as the client writes it."""
    names = [f"{peer}-{number}" for number in range(made)] if isinstance(made, int) else made
    fields: dict[str, object] = {
        "numwant": len(names),
        "uploaded": 0,
        "downloaded": 0,
        "event": event,
        "action": "announce",
        "info_hash": swarm,
        "peer_id": identifier(peer),
        "offers": [
            {"offer": {"type": "offer", "sdp": f"offer of {name}"}, "offer_id": identifier(name)}
            for name in names
        ],
    }
    return json.dumps({name: value for name, value in {**fields, **more}.items() if value is not None})


def answer(peer: str, to_peer: str, offer: str, *, swarm: str = SWARM, **more: object) -> str:
    """The answer of ``peer`` to an offer."""
    fields: dict[str, object] = {
        "action": "announce",
        "info_hash": swarm,
        "peer_id": identifier(peer),
        "to_peer_id": identifier(to_peer),
        "answer": {"type": "answer", "sdp": f"answer of {peer}"},
        "offer_id": identifier(offer),
    }
    return json.dumps({**fields, **more})


class Crowd:
    """Connections by name, at a time that a test sets. ``gone`` is who was closed, and why."""

    def __init__(self, limits: TrackerLimits | None = None) -> None:
        self.now = 1000.0
        self.tracker = Tracker(limits, Random(1))
        self.tracker.admit([RUN], [])
        self.gone: dict[str, str] = {}
        self._numbers: dict[str, int] = {}

    def connect(self, *names: str, address: str | None = None) -> None:
        for name in names:
            self._numbers[name] = self.tracker.connect(address, self.now)

    def disconnect(self, name: str) -> None:
        self.tracker.disconnect(self._numbers[name])

    def say(self, name: str, message: str | bytes) -> dict[str, list[dict[str, Any]]]:
        """Let a connection send; returns what each client received because of it."""
        return self._delivered(self.tracker.receive(self._numbers[name], message, self.now))

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self._delivered(self.tracker.sweep(self.now))

    def ping(self, name: str) -> None:
        self._delivered(self.tracker.charge(self._numbers[name], self.now))

    def _delivered(self, actions: list[Action]) -> dict[str, list[dict[str, Any]]]:
        names = {number: name for name, number in self._numbers.items()}
        messages: dict[str, list[dict[str, Any]]] = {}
        for action in actions:
            match action:
                case Send(number, text):
                    messages.setdefault(names[number], []).append(json.loads(text))
                case Close(number, reason):
                    self.gone[names[number]] = reason
        return messages
