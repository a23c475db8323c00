"""Staggered events."""

import asyncio

from broadcaster.viewer_server.snapshots import GROUPS, StaggeredEvent


async def test_other_tasks_run_between_groups() -> None:
    """All waiting tasks wake, and a short task runs while some still sleep."""
    waves, woken = StaggeredEvent(), 0

    async def sleep() -> None:
        nonlocal woken
        await waves.wait()
        woken += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(10 * GROUPS + 3):
            group.create_task(sleep())
        gone = group.create_task(sleep())
        await asyncio.sleep(0)
        gone.cancel()
        waves.set()
        assert waves.is_set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert 0 < woken < 10 * GROUPS
    assert woken == 10 * GROUPS + 3


def test_without_waiting_tasks() -> None:
    """The event is set at once, also without an event loop."""
    waves = StaggeredEvent()
    assert not waves.is_set()
    waves.set()
    assert waves.is_set()
