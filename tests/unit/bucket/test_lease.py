"""Who leads under a prefix: at once alone, by force at a start, and else when nobody else gives a sign."""

import asyncio
import logging
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from broadcaster.bucket.lease import (
    IDLE_TTL,
    LIVE_TTL,
    MARGIN,
    RENEWALS,
    TICK,
    LeaseRecord,
    own_name,
    stored_name,
)
from broadcaster.catalog.records import Numbers
from broadcaster.errors import NotLeading, StorageUnavailable
from tests.support.fakes.lease_bucket import LeaseBucket
from tests.support.fakes.pipeline_parts import START
from tests.support.waiting import eventually

GONE = StorageUnavailable("no answer within 10 s")
TWO_HOURS, DAY = 7200, 86_400  # seconds


async def test_alone() -> None:
    """One that is alone, restarts, or lost its state folder, leads with the first answers, in a new epoch."""
    bucket, epochs = LeaseBucket(), [0]
    for name in ("a", "a", "b"):
        owner = bucket.owner(name)
        await owner.renew()
        assert owner.leads
        assert owner.epoch
        assert owner.epoch > epochs[-1]
        epochs.append(owner.epoch)
        await bucket.goes_by(20, owner)
        assert (owner.warning, owner.epoch) == (None, epochs[-1])
        assert bucket.record.owner == name
        assert await owner.ask(surely=True) == epochs[-1]
    assert bucket.record.at <= START + timedelta(seconds=bucket.seconds)


@pytest.mark.parametrize(("ttl", "seconds", "most"), [(LIVE_TTL, TWO_HOURS, 3000), (IDLE_TTL, DAY, 1500)])
async def test_writes(ttl: float, seconds: int, most: int) -> None:
    """Each write costs: two hours of a stream, and a day without one, have a limit."""
    bucket = LeaseBucket()
    bucket.ttl, bucket.step = ttl, ttl / 20
    owner = bucket.owner("a")
    await owner.renew()
    await bucket.goes_by(seconds, owner)
    assert seconds / ttl < bucket.writes <= most
    assert bucket.looks == 1


async def test_by_force(caplog: pytest.LogCaptureFixture) -> None:
    """The second of two that are no standbys leads; the first logs one line until the second is gone."""
    bucket = LeaseBucket()
    first, second = bucket.owner("a"), bucket.owner("b")
    await bucket.goes_by(5, first)
    await bucket.goes_by(30, second, first)
    assert (second.leads, second.warning, second.takeovers) == (True, None, 1)
    assert first.warning
    with pytest.raises(NotLeading, match="another broadcaster leads under live/"):
        await first.ask()
    errors = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert errors == [str(first.warning)]
    assert "another broadcaster writes under live/" in errors[0]
    await bucket.goes_by(LIVE_TTL - 2, first)
    assert not first.leads
    await bucket.goes_by(5, first)
    assert first.leads
    assert first.warning is None


async def test_a_standby_waits() -> None:
    """It takes the lead when the leader gives no sign for the TTL, and keeps it when that comes back."""
    bucket = LeaseBucket()
    first, standby = bucket.owner("a"), bucket.owner("b", standby=True)
    await bucket.goes_by(30, first, standby)
    assert (first.leads, standby.leads) == (True, False)
    gone = bucket.seconds
    while not standby.leads:
        assert bucket.seconds - gone < LIVE_TTL + 4
        assert not (first.leads and bucket.seconds - gone > LIVE_TTL)
        await bucket.goes_by(0.5, standby)
    assert standby.takeovers == 1
    assert not first.leads
    back = bucket.owner("a")
    await bucket.goes_by(30, back, standby)
    assert (back.leads, standby.leads) == (False, True)
    assert back.warning


async def test_numbers_go_on() -> None:
    """Whoever takes the lead begins after all numbers of earlier leaders, renewed or not."""
    bucket = LeaseBucket()
    names = [bucket.owner(name, standby=True) for name in "abab"]
    names[0].numbers = lambda: Numbers(70, 3)
    await bucket.goes_by(5, names[0])
    assert names[0].floor is None
    floors = []
    for owner in names[1:]:
        while not owner.leads:
            await bucket.goes_by(1, owner)
        floors.append(owner.floor)
    assert floors == [Numbers(70, 3).plus(count * MARGIN) for count in (1, 2, 3)]
    last = bucket.owner("a", standby=True)
    await bucket.goes_by(1, names[3], last)
    bucket.body = None  # somebody has cleaned the bucket
    await bucket.goes_by(1, last)
    assert (last.leads, last.floor) == (True, Numbers(70, 3).plus(4 * MARGIN))


@pytest.mark.parametrize(
    ("end", "variants", "expected"),
    [
        (START, frozenset("01"), (START, frozenset("01"))),
        (None, frozenset(), (None, frozenset())),  # the stream is over
        (None, None, (None, None)),
        (START.replace(year=9000), None, (None, None)),  # an encoder's clock, or a forged record
    ],
)
async def test_the_stream_goes_on(
    end: datetime | None,
    variants: frozenset[str] | None,
    expected: tuple[datetime | None, frozenset[str] | None],
) -> None:
    """Whoever takes the lead knows where the stream is, and tells the next one until it lists something."""
    bucket = LeaseBucket()
    leader = bucket.owner("a", standby=True)
    leader.numbers = lambda: Numbers(70, 3, end, variants)
    await bucket.goes_by(5, leader)
    for name in "bc":
        owner = bucket.owner(name, standby=True)
        while not owner.leads:
            await bucket.goes_by(1, owner)
        assert owner.floor
        assert (owner.floor.end, owner.floor.variants) == expected


async def test_the_lead_is_moved_in_good_order() -> None:
    """A standby asks for it; the leader gives it up when it is ready, and never takes it again."""
    bucket = LeaseBucket()
    first, standby = bucket.owner("a", standby=True), bucket.owner("b", standby=True)
    await bucket.goes_by(5, first, standby)
    standby.want()
    await bucket.goes_by(4, standby, first)
    assert (first.must_hand_over, first.leads, standby.leads) == (True, True, False)
    await first.give_up()
    assert not first.leads
    await bucket.goes_by(1, standby)
    assert standby.leads
    await bucket.goes_by(60, first, standby)
    assert (first.leads, standby.leads, standby.takeovers) == (False, True, 1)
    assert not bucket.record.wanted


async def test_a_leader_that_dies_when_it_is_asked() -> None:
    """The standby waits for the TTL, as if it had not asked."""
    bucket = LeaseBucket()
    first, standby = bucket.owner("a", standby=True), bucket.owner("b", standby=True)
    await bucket.goes_by(5, first, standby)
    standby.want()
    await bucket.goes_by(LIVE_TTL - 1, standby)
    assert not standby.leads
    await bucket.goes_by(4, standby)
    assert standby.leads


async def test_who_leads_asks_in_doubt() -> None:
    """After a pause it renews before it changes anything; one that was overtaken meanwhile is refused."""
    bucket = LeaseBucket()
    first, standby = bucket.owner("a"), bucket.owner("b", standby=True)
    await first.renew()
    bucket.seconds += 8
    assert not first.leads
    writes = bucket.writes
    assert await first.ask() == first.epoch
    assert bucket.writes == writes + 1
    await bucket.goes_by(13, standby)
    assert standby.leads
    with pytest.raises(NotLeading):
        await first.ask()


async def test_the_ask_sees_another_at_once() -> None:
    """Deletions ask the bucket itself: one that took the lead by force is seen though the lease is fresh."""
    bucket = LeaseBucket()
    first, second = bucket.owner("a"), bucket.owner("b")
    await first.renew()
    await second.renew()
    assert await first.ask()
    with pytest.raises(NotLeading):
        await first.ask(surely=True)


async def test_an_answer_that_is_lost_or_wrong() -> None:
    """A lease that we wrote, and whose write was not answered, is not taken for another broadcaster's."""
    bucket = LeaseBucket()
    owner = bucket.owner("a")
    await owner.renew()
    epoch = owner.epoch
    bucket.fault = GONE
    with pytest.raises(StorageUnavailable):
        await bucket.goes_by(5, owner)
    await bucket.goes_by(5, owner)
    bucket.refuses = True
    await bucket.goes_by(5, owner)
    assert (owner.warning, owner.epoch, owner.leads, owner.takeovers) == (None, epoch, True, 0)


async def test_a_refusal_without_a_reason() -> None:
    """A leader writes again at once: where answers take seconds, a look before would cost it the lead."""
    bucket = LeaseBucket()
    owner = bucket.owner("a")
    await bucket.goes_by(5, owner)
    looks, writes = bucket.looks, bucket.writes
    bucket.refuses = True
    await bucket.goes_by(LIVE_TTL / RENEWALS, owner)
    assert (owner.leads, bucket.looks, bucket.writes) == (True, looks, writes + 1)


async def test_an_object_that_is_deleted() -> None:
    """Somebody who cleans the bucket is not another broadcaster; the object is written again."""
    bucket = LeaseBucket()
    owner = bucket.owner("a")
    await owner.renew()
    epoch = owner.epoch
    bucket.body = None
    await bucket.goes_by(5, owner)
    assert owner.leads
    assert owner.warning is None
    assert bucket.record.epoch == owner.epoch
    assert owner.epoch
    assert epoch
    assert owner.epoch > epoch


async def test_an_epoch_that_is_outbid() -> None:
    """An edge that has a later epoch than the bucket makes the leader take one that is later still."""
    bucket = LeaseBucket()
    owner = bucket.owner("a")
    await owner.renew()
    assert owner.epoch
    owner.outbid(owner.epoch - 1)
    later = owner.epoch + 7
    owner.outbid(later)
    assert owner.epoch is None
    await owner.renew()
    assert (owner.epoch, bucket.record.epoch) == (later + 1, later + 1)


async def test_nobody_asks_before_the_first_answer() -> None:
    """A write at the start waits for the lease, and is not refused."""
    bucket = LeaseBucket()
    owner = bucket.owner("a")
    asking = asyncio.create_task(owner.ask())
    await asyncio.sleep(0)
    assert not asking.done()
    await owner.renew()
    assert await asking == owner.epoch


async def test_how_long_it_leads() -> None:
    """Until two thirds of the TTL after the sending of the latest confirmed write."""
    bucket = LeaseBucket()
    first, second = bucket.owner("a", standby=True), bucket.owner("b", standby=True)
    assert first.leads_until < 0
    await first.renew()
    assert first.leads_until == pytest.approx(LIVE_TTL * 2 / 3)
    await bucket.goes_by(3, first)
    assert first.leads_until == pytest.approx(bucket.seconds - first.age + LIVE_TTL * 2 / 3)
    await bucket.goes_by(2 * LIVE_TTL, second)
    assert (second.leads, first.leads, second.others_ttl) == (True, False, LIVE_TTL)
    await first.renew()
    assert first.leads_until < 0


async def test_a_stream_that_begins_is_written_at_once() -> None:
    """Others wait for an idle leader for minutes: one that is live says so before it is due."""
    bucket = LeaseBucket()
    bucket.ttl = IDLE_TTL
    owner = bucket.owner("a")
    running = asyncio.create_task(owner.run())
    await eventually(lambda: bucket.writes == 1)
    bucket.ttl = LIVE_TTL
    began = time.monotonic()
    while bucket.writes == 1:
        owner.renew_soon()
        await asyncio.sleep(0)
    assert bucket.record.ttl == LIVE_TTL
    assert time.monotonic() - began < TICK
    running.cancel()


async def test_a_lead_that_is_taken_in_a_stream_is_live() -> None:
    """The first record of a standby, which knows of no stream yet, has the TTL of the leader before."""
    bucket = LeaseBucket()
    first, second = bucket.owner("a", standby=True), bucket.owner("b", standby=True)
    second.ttl = lambda: second.others_ttl
    for owner in (first, second):
        await owner.renew()
    await bucket.goes_by(2 * LIVE_TTL, second)
    assert (bucket.record.owner, bucket.record.ttl) == ("b", LIVE_TTL)
    await bucket.goes_by(LIVE_TTL, second)
    assert second.leads


def test_the_name_lasts(tmp_path: Path) -> None:
    """It is made at the first start and kept beside the journal; where it cannot be, we start as well."""
    assert stored_name(tmp_path) is None
    name = own_name(tmp_path)
    assert own_name(tmp_path) == stored_name(tmp_path) == name
    assert own_name(tmp_path / "none") not in ("", name)


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff", b"[]", b'{"owner": 1}', b'{"owner": "a", "at": "now"}', b'{"owner": "a", "at": 1}'],
)
def test_what_is_no_claim(body: bytes) -> None:
    """Whatever else lies under the key is a ValueError."""
    with pytest.raises(ValueError, match="owner"):
        LeaseRecord.parse(body)


async def test_what_earlier_releases_wrote() -> None:
    """Their object says who and when, and no more: it is read, and taken at a start."""
    bucket = LeaseBucket()
    bucket.body = b'{"owner": "old", "at": "2026-07-10T12:00:00+00:00"}'
    assert bucket.record == LeaseRecord("old", datetime(2026, 7, 10, 12, tzinfo=UTC))
    owner = bucket.owner("a")
    await owner.renew()
    assert owner.leads
