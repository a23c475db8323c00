"""Parts that the stream can do without: started again after growing pauses, counted, and reported."""

from __future__ import annotations

import asyncio
import logging

import pytest

from broadcaster.service.supervisor import LONGEST_PAUSE, SETTLED, WARN_FOR, Supervisor


class Stage:
    """A supervisor whose clock and pauses are the test's; ``pauses`` has each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.pauses = asyncio.Queue[float]()
        self.supervisor = Supervisor(lambda: self.now)

        async def sleep(seconds: float) -> None:
            self.pauses.put_nowait(seconds)
            self.now += seconds

        monkeypatch.setattr("broadcaster.service.supervisor.asyncio.sleep", sleep)


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A supervisor that has nothing to do yet."""
    return Stage(monkeypatch)


async def test_a_part_that_fails_is_started_again(on: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """Pauses grow up to a minute, and begin anew after a part has worked; each failure counts."""
    failures, over = 9, asyncio.Event()

    async def run() -> None:
        if on.supervisor.failures["part"] < failures:
            raise ExceptionGroup("several", [ZeroDivisionError("boom")])
        on.now += SETTLED + 1
        if on.supervisor.failures["part"] < failures + 1:
            raise ValueError("again")
        over.set()

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        on.supervisor.start(group, "part", run)
        assert on.supervisor.warning is None
        await over.wait()
    pauses = [on.pauses.get_nowait() for _ in range(failures + 1)]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, LONGEST_PAUSE, 60, 1]
    assert on.supervisor.failures == {"part": failures + 1}
    assert "part has failed 10 times" in str(on.supervisor.warning)
    assert "(ValueError: again): the stream goes on" in str(on.supervisor.warning)
    on.now += WARN_FOR
    assert on.supervisor.warning is None
    (metric,) = on.supervisor.metrics()
    assert metric.samples == {("part",): failures + 1}
    assert "ZeroDivisionError: boom" in caplog.text


@pytest.mark.parametrize("error", [MemoryError(), asyncio.CancelledError(), OSError(24, "no files")])
async def test_whatever_it_is(on: Stage, error: BaseException) -> None:
    """A cancellation that nobody asked for is a failure as others are."""
    again = asyncio.Event()

    async def run() -> None:
        if not on.supervisor.failures["part"]:
            raise error
        again.set()
        await asyncio.Event().wait()

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        on.supervisor.start(group, "part", run)
        await again.wait()
        await on.supervisor.stop("part")
    assert on.supervisor.failures["part"] == 1


async def test_a_part_that_is_stopped(on: Stage) -> None:
    """It is not started again, and that is no failure."""
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        for name in ("one", "two"):
            on.supervisor.start(group, name, asyncio.Event().wait)  # type: ignore[arg-type]
        await on.supervisor.stop("one")
        on.supervisor.stop_all()
    assert on.supervisor.failures.total() == 0
    assert on.supervisor.warning is None


def test_a_callback_that_raises(on: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever calls it gets what was agreed upon; the failure is logged with its traceback once a minute."""
    halved = on.supervisor.contained("half", lambda number: 10 // number, -1)
    assert [halved(5), halved(0), halved(0), halved(2)] == [2, -1, -1, 5]
    assert on.supervisor.failures == {"half": 2}
    assert "half has failed twice" not in str(on.supervisor.warning)
    assert "half has failed 2 times, 0 s ago" in str(on.supervisor.warning)
    records = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(records) == 1
    assert records[0].exc_info
