"""Waiting for what others do: by an event where there is one, else by looking again and again."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

from broadcaster.demo.processes import poll

T = TypeVar("T")
PATIENCE = 120.0  # seconds for anything, on a busy machine


@overload
async def eventually(
    look: Callable[[], Awaitable[T]], is_so: Callable[[T], object] = ..., *, within: float = ...
) -> T: ...


@overload
async def eventually(
    look: Callable[[], T], is_so: Callable[[T], object] = ..., *, within: float = ...
) -> T: ...


async def eventually(
    look: Callable[[], Any], is_so: Callable[[Any], object] = bool, *, within: float = PATIENCE
) -> Any:
    """Look until ``is_so`` of what is seen; returns that. A failure tells what was seen last."""
    seen = None

    async def look_again() -> bool:
        nonlocal seen
        found = look()
        seen = await found if inspect.isawaitable(found) else found
        return bool(is_so(seen))

    try:
        async with asyncio.timeout(within):
            await poll(look_again)
    except TimeoutError as error:
        raise AssertionError(f"not within {within:g} s; what was seen last: {seen!r}") from error
    return seen


async def changes(changed: asyncio.Event, is_so: Callable[[], object], *, within: float = PATIENCE) -> None:
    """Wait until ``is_so``, which may come true whenever ``changed`` is set; raises TimeoutError."""
    async with asyncio.timeout(within):
        while not is_so():
            changed.clear()
            await changed.wait()
