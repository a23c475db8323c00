"""What is tried until it works: pauses, and what is said of it."""

import asyncio
import logging

import pytest

from broadcaster.aio import USUAL, Backoff, Fault, Retrying
from broadcaster.errors import Problem, StorageRefused, StorageUnavailable
from tests.support.fakes.pipeline_parts import START


class Naps:
    """Sleep that lasts until the test ends it; ``over`` has the event of each nap, in order."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.over: list[asyncio.Event] = []
        self.begun = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.seconds.append(seconds)
        self.over.append(asyncio.Event())
        self.begun.set()
        await self.over[-1].wait()


async def begin(retrying: Retrying, naps: Naps, seconds: float) -> asyncio.Task[None]:
    naps.begun.clear()
    pause = asyncio.create_task(retrying.pause(seconds))
    await naps.begun.wait()
    return pause


async def test_a_pause() -> None:
    """It lasts as long as it should, or until another attempt works; the next pause is a whole one again."""
    naps = Naps()
    retrying = Retrying("uploads", lambda: START, naps.sleep)
    retrying.failed(StorageUnavailable("busy"))
    first = await begin(retrying, naps, 1)
    naps.over[0].set()
    await first
    woken = [await begin(retrying, naps, 2), await begin(retrying, naps, 3)]
    retrying.worked(over=False)
    await asyncio.gather(*woken)
    assert retrying.fault
    later = await begin(retrying, naps, 4)
    assert naps.seconds == [1, 2, 3, 4]
    assert not later.done()
    later.cancel()
    await asyncio.wait([later])
    assert later.cancelled()
    assert len(asyncio.all_tasks()) == 1, "nobody sleeps on"


def test_what_to_do() -> None:
    """A fault whose error has no remedy has the usual one; what works again is no problem."""
    retrying = Retrying("writes", lambda: START)
    assert retrying.problem is None
    retrying.failed(StorageUnavailable("no answer"))
    assert retrying.problem == Problem("no answer", USUAL)
    retrying.failed(StorageRefused("no such bucket", "check R2_BUCKET"))
    assert retrying.problem == Problem("no such bucket", "check R2_BUCKET")
    retrying.worked()
    assert retrying.problem is None


async def test_what_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """A fault is logged when it begins, when an operator has to mend it, and when it is over."""
    caplog.set_level(logging.INFO)
    retrying = Retrying("uploads", lambda: START)
    assert retrying.fault is None
    retrying.worked()
    retrying.failed(StorageUnavailable("busy"))
    retrying.failed(StorageUnavailable("no answer"))
    assert retrying.fault == Fault(Problem("no answer", USUAL), permanent=False, since=START)
    assert retrying.failed(StorageRefused("check the key")).permanent
    retrying.worked()
    assert retrying.fault is None
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "uploads fail since 12:00:00Z: busy"),
        ("ERROR", "uploads fail since 12:00:00Z: check the key"),
        ("INFO", "uploads work again; they failed since 12:00:00Z"),
    ]


async def test_a_fault_that_goes_on(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is logged again now and then."""
    monkeypatch.setattr("broadcaster.aio.LOG_INTERVAL", -1)
    retrying = Retrying("uploads", lambda: START)
    for _ in range(3):
        retrying.failed(StorageUnavailable("busy"))
    assert len(caplog.records) == 3


def test_pauses_double() -> None:
    """Pauses double up to the longest, and a success begins with the first again."""
    backoff = Backoff(1, 5)
    assert [backoff.next() for _ in range(5)] == [1, 2, 4, 5, 5]
    backoff.reset()
    assert backoff.next() == 1
