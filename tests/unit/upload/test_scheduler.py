"""Who may use the uplink, and what is said of it."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from broadcaster.catalog.records import Segment, SourceFile
from broadcaster.upload.scheduler import (
    MOST,
    PROBES,
    SAMPLES,
    SLOW,
    START,
    AdaptiveLimit,
    UplinkMonitor,
    UploadScheduler,
)
from tests.support.fakes.pipeline_parts import segment_of


def segment(number: int, size: int, late: float = 0.0) -> Segment:
    due = segment_of(None, number=number, variant=str(size))
    time = due.program_date_time + timedelta(seconds=late)
    return replace(due, program_date_time=time, file=SourceFile("x", Path("x"), size, 0))


async def take_all(turns: UploadScheduler, segments: list[Segment]) -> list[Segment]:
    """The order of their turns, one at a time."""
    order = []

    async def upload(segment: Segment) -> None:
        async with turns.slot(segment):
            order.append(segment)
            await asyncio.sleep(0)

    await asyncio.gather(*map(upload, segments))
    return order


async def test_the_oldest_time_and_of_it_the_smallest() -> None:
    """Whatever came first, and however little the times of one moment differ."""
    turns = UploadScheduler()
    turns.limit = 1
    first = segment(5, 9)
    waiting = [segment(2, 9), segment(1, 9), segment(1, 1, 0.3), segment(2, 1, -0.1), segment(1, 4, -0.2)]
    order = await take_all(turns, [first, *waiting])
    assert order == [first, waiting[2], waiting[4], waiting[1], waiting[3], waiting[0]]


async def test_a_segment_of_no_length_has_its_turn() -> None:
    """Whatever a source says that it lasts, also less than nothing, the oldest comes first."""
    turns = UploadScheduler()
    turns.limit = 1
    waiting = [replace(segment(number, 1), duration=timedelta(seconds=-number)) for number in range(3)]
    assert await take_all(turns, waiting[::-1]) == [waiting[2], waiting[0], waiting[1]]


async def test_one_that_waits_may_be_given_up() -> None:
    """It takes nobody's turn, neither while it waits nor in the moment in which its turn comes."""
    turns = UploadScheduler()
    turns.limit = 1
    due = segment(0, 1)
    async with AsyncExitStack() as held:
        await held.enter_async_context(turns.slot(due))
        uploads = [asyncio.create_task(take_all(turns, [segment(number, 1)])) for number in (1, 2, 3)]
        await asyncio.sleep(0)
        uploads[1].cancel()
        uploads[0].cancel()
    uploads[2].cancel()  # its turn has come
    await asyncio.gather(*uploads, return_exceptions=True)
    assert turns.in_flight == 0
    assert await take_all(turns, [due]) == [due]


async def test_few_while_the_bucket_fails() -> None:
    """Those find out whether it is back; then all go on."""
    turns = UploadScheduler()
    turns.probing = True
    end = asyncio.Event()

    async def upload(number: int) -> None:
        async with turns.slot(segment(number, 1)):
            await end.wait()
            turns.probing = False

    uploads = [asyncio.create_task(upload(number)) for number in range(20)]
    await asyncio.sleep(0)
    assert turns.in_flight == PROBES
    end.set()
    await asyncio.gather(*uploads)
    assert turns.in_flight == 0


def test_their_number_follows_the_link() -> None:
    """More while uploads are quick, fewer while they are slow, half after a failure; two on a thin link."""
    turns = UploadScheduler()
    assert turns.limit == START
    for _ in range(200):
        turns.succeeded(0.1)
    assert turns.limit == MOST
    for _ in range(200):
        turns.succeeded(SLOW + 1)
    assert turns.limit == 2
    turns.limit = 12
    turns.failed()
    assert turns.limit == 6
    for _ in range(9):
        turns.failed()
    assert turns.limit == 1
    turns.succeeded(SLOW + 1)
    assert turns.limit == 2


def watch(balance: UplinkMonitor, megabits: float, *, looks: int = SAMPLES + 1, in_use: bool = True) -> None:
    """So much moves each second, seen twice a second."""
    for look in range(looks):
        balance.measure(int(look * 0.5 * megabits * 125_000), look * 0.5, in_use=in_use)


def test_an_uplink_that_does_not_carry_the_stream() -> None:
    """Both rates are named, of all variants together."""
    balance = UplinkMonitor()
    for number in range(10):
        balance.add("0", 2 * 625_000, 2.0, number * 2.0)
        balance.add("1", 2 * 125_000, 2.0, number * 2.0)
    watch(balance, 3.1)
    assert balance.shortage == "the uplink carries 3.1 Mbit/s, the stream needs 6.0"


def test_what_the_uplink_has_left() -> None:
    """It is the share of the last minute without uploads, while a stream needs it and the bucket works."""
    uplink = UplinkMonitor()
    for look in range(300):
        uplink.note_busy(0.125 * look, 0.5 * look)
    assert uplink.left is None
    uplink.add("0", 750_000, 2.0, 150.0)
    assert uplink.left == 0.75
    uplink.forget()
    assert uplink.left is None


async def test_the_time_of_uploads_counts_once() -> None:
    """Two at once use the link no longer than one."""
    now = 100.0
    limit = AdaptiveLimit[str](clock=lambda: now)
    async with limit.slot("a"):
        now = 102.0
        async with limit.slot("b"):
            now = 103.0
            assert limit.busy == 3
        now = 105.0
    now = 200.0
    assert limit.busy == 5


def test_nothing_is_said_of_a_link_that_is_not_known() -> None:
    """A link that carries the stream, is hardly used, was away, or has just come back, is no shortage."""
    balance = UplinkMonitor()
    assert balance.shortage is None
    balance.add("0", 2 * 750_000, 2.0, 0.0)
    watch(balance, 7)
    assert balance.shortage is None
    balance.forget()
    watch(balance, 3, looks=SAMPLES)
    assert balance.shortage is None
    balance.forget()
    watch(balance, 3, in_use=False)
    assert balance.shortage is None
