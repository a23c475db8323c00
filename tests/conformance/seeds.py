"""How a fault is seeded into the small server."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from tests.conformance.checks import Check
from tests.conformance.faulty_server import Behaviour, Reply
from tests.conformance.subject import State


@dataclass(frozen=True)
class Fault:
    """A way to be wrong, in one state of the stream.

    ``caught_by`` is the check that is meant for it, ``says`` a part of the reason that it then gives.
    """

    name: str
    caught_by: Check
    behaviour: Behaviour
    says: str
    state: State = State.LIVE


def rewritten(pattern: str, by: str, *, of: Callable[[Reply], bool] = lambda _: True) -> Behaviour:
    """Answers in which the pattern is replaced."""
    return Behaviour(text=lambda reply: re.sub(pattern, by, reply.text) if of(reply) else reply.text)


def headed(name: str, value: str | None, status: int = 200, method: str = "GET") -> Behaviour:
    """Answers of one status with another header, or without it."""

    def replace(request: web.Request, response: web.Response) -> None:
        if response.status == status and request.method == method:
            response.headers.popall(name, None)
            if value is not None:
                response.headers[name] = value

    return Behaviour(headers=replace)


def kept(kind: str, cache_control: str) -> Behaviour:
    """One kind of answers with another Cache-Control."""
    return Behaviour(cache_control={kind: cache_control})
