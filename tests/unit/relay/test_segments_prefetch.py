"""Which segments a relay fetches in advance."""

import asyncio

import pytest

from broadcaster.errors import StorageUnavailable
from broadcaster.relay.segments import WATCHED, Prefetch
from broadcaster.relay.url_map import MappedObject
from tests.support.fakes.clock import Clock

BUCKET = "https://video.example.com/live/r/0"


def held(number: int, variant: str = "0") -> MappedObject:
    return MappedObject(f"token{number}", f"{number}.ts", variant, f"{BUCKET}/{number}.ts")


async def test_only_watched_variants_are_prefetched() -> None:
    """Announced segments are prefetched once, for half a minute after a request for the variant."""
    clock, fetched, done = Clock(), [], asyncio.Event()

    async def fetch(wanted: MappedObject) -> None:
        fetched.append(wanted.token)
        if len(fetched) == 2:
            done.set()
        raise StorageUnavailable("is away")

    prefetch = Prefetch(fetch, clock)
    working = asyncio.create_task(prefetch.run())
    prefetch.announce([held(1)])
    prefetch.on_request(held(1))
    prefetch.announce([held(2), held(3, "1")])
    prefetch.announce([held(2)])
    clock.now += WATCHED
    prefetch.announce([held(4)])
    prefetch.on_request(held(4))
    prefetch.announce([held(5)])
    async with asyncio.timeout(30):
        await done.wait()
    assert fetched == ["token2", "token5"]
    working.cancel()


async def test_a_fetch_that_does_not_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A fetch that does not end is cancelled, and later segments are prefetched."""
    monkeypatch.setattr("broadcaster.relay.segments.WITHIN", 0.01)
    done = asyncio.Event()

    async def fetch(wanted: MappedObject) -> None:
        if wanted.token == "token9":
            done.set()
        else:
            await asyncio.Event().wait()

    prefetch = Prefetch(fetch)
    working = asyncio.create_task(prefetch.run())
    prefetch.on_request(held(0))
    prefetch.announce(map(held, range(10)))
    async with asyncio.timeout(20):
        await done.wait()
    working.cancel()
