"""What is kept for viewers who are paused or behind: what one of them needs, and no more than the caps."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from broadcaster.bucket import ObjectStore
from broadcaster.hls import MediaPlaylist, MultivariantPlaylist
from broadcaster.hls.parser import parse
from broadcaster.ipc.messages import DELAY_MEMORY, LENGTH, MaxViewerDelay, View, decode, encode, view_delta
from broadcaster.upload.deleter import RetentionDeleter
from broadcaster.viewer_server.snapshots import ServedStream
from tests.support.fakes.catalog_fixture import WINDOW, CatalogFixture
from tests.support.fakes.playback_reports import Gate

MOST = timedelta(minutes=2)
SECONDS = 2.0  # of a segment, and the target duration


class Bucket(ObjectStore):
    """Remembers what was deleted."""

    def __init__(self) -> None:
        self.deleted: set[str] = set()

    async def delete(self, keys: Sequence[str], *, deadline: float) -> None:
        assert deadline > 0
        self.deleted |= set(keys)


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[CatalogFixture]:
    """A stream that is on, of two variants."""
    stream = CatalogFixture(tmp_path)
    stream.most = MOST
    stream.restart(timedelta())
    stream.publish(count=20)
    yield stream
    stream.catalog.close()


def kept(stream: CatalogFixture, variant: str = "0") -> MediaPlaylist:
    """The playlists of viewers who are behind."""
    playlist = stream.channel.view.playlists[variant].kept
    assert playlist
    return playlist


def test_so_much_is_kept_as_somebody_needs(stream: CatalogFixture) -> None:
    """The place of the furthest, two target durations before it, and nobody's playlist is longer for it."""
    assert kept(stream).segments == stream.channel.view.playlists["0"].playlist.segments
    for furthest in range(6, 60, 2):
        stream.furthest = furthest
        stream.publish()
    assert kept(stream).duration == timedelta(seconds=58 + 2 * SECONDS)
    assert len(stream.channel.view.playlists["0"].playlist.segments) == WINDOW


def test_nobody_who_comes_nearer_is_left_without(stream: CatalogFixture) -> None:
    """Only what the furthest has not needed for a while is let go of, also when nothing new comes."""
    stream.furthest = 60
    stream.publish(count=30)
    before = kept(stream)
    stream.furthest = 0
    stream.now += timedelta(seconds=DELAY_MEMORY - 1)
    stream.tick()
    assert kept(stream) == before
    stream.now += timedelta(seconds=2)
    stream.tick()
    assert len(kept(stream).segments) == WINDOW
    assert kept(stream).media_sequence > before.media_sequence


def test_a_restart_lets_go_of_nothing(stream: CatalogFixture) -> None:
    """Nobody has been heard of yet: all that was kept stays for a while, under the same numbers."""
    stream.furthest = 60
    stream.publish(count=15)
    stream.publish(run=1, count=15)
    before = kept(stream)
    stream.furthest = 0
    stream.restart(timedelta())
    assert kept(stream) == before
    stream.publish(run=1)
    assert kept(stream).media_sequence == before.media_sequence
    assert kept(stream).segments[:-1] == before.segments
    stream.publish(run=1, count=int(DELAY_MEMORY / SECONDS))
    assert len(kept(stream).segments) == WINDOW


def test_runs_of_the_encoder_keep_their_numbers(stream: CatalogFixture) -> None:
    """Across reconnects, cuts and restarts a segment has one number, and one discontinuity number."""
    known: dict[str, tuple[int, int]] = {}
    for run in range(6):
        stream.furthest = 40.0 * (run % 3)
        if run % 2:
            stream.restart(timedelta())
        for _ in range(30):
            stream.publish(run=run)
            playlist = parse(kept(stream, "1").render())
            assert isinstance(playlist, MediaPlaylist)
            number = playlist.discontinuity_sequence
            for sequence, segment in enumerate(playlist.segments, playlist.media_sequence):
                number += segment.discontinuity
                assert known.setdefault(segment.uri, (sequence, number)) == (sequence, number)
            for earlier, later in pairwise(playlist.segments):
                assert earlier.program_date_time
                assert earlier.program_date_time + earlier.duration == later.program_date_time
    assert len(known) == 180 + WINDOW - 1


@pytest.mark.parametrize(
    ("said", "size"), [(float("inf"), 2**40), (1e15, 40_000), (float("nan"), 2**40), (-1.0, 2**40)]
)
def test_forged_reports_stay_under_the_caps(stream: CatalogFixture, said: float, size: int) -> None:
    """Whatever is said, all of the time: storage stays below the cap and what is there for everybody."""
    bucket, largest = Bucket(), 0
    stream.most_bytes = size
    stream.restart(timedelta())

    def stored() -> int:
        return 1000 * len(stream.published - bucket.deleted)

    for _ in range(3):
        stream.furthest = said
        for _ in range(80):
            stream.publish()
            asyncio.run(RetentionDeleter(bucket, stream.catalog, prefix="live").sweep())
            largest = max(largest, stored())
            assert kept(stream).duration <= MOST
        stream.furthest = 0
        stream.publish(count=3)
    ordinary = (
        1000 * 2 * (WINDOW + WINDOW + 3)
    )  # listed, and still to be read by viewers who have the playlist
    most = min(size, int(1000 * 2 * MOST.total_seconds() / SECONDS))
    assert largest <= ordinary + most
    if said > 0:
        assert largest > most  # and it is used
    stream.now += timedelta(seconds=DELAY_MEMORY)
    stream.publish()
    stream.now += MOST
    asyncio.run(RetentionDeleter(bucket, stream.catalog, prefix="live").sweep())
    assert stored() <= ordinary


@pytest.mark.parametrize("how", ["ended", "outgrown"])
def test_what_has_ended_can_be_played_to_its_end(stream: CatalogFixture, how: str) -> None:
    """A player does not read again what says ENDLIST: only when it is through is that deleted."""
    stream.furthest = 60
    stream.publish(count=30)
    bucket, held = Bucket(), kept(stream)
    stream.furthest = 0
    if how == "ended":
        stream.channel.end()
        stream.restart(timedelta())
    began = stream.now
    stream.publish(run=1, seconds=9.0 if how == "outgrown" else SECONDS)
    keys = {segment.uri for segment in held.segments}
    assert len(keys & stream.published) > WINDOW
    while stream.now - began < held.duration:
        stream.publish(run=1)
        asyncio.run(RetentionDeleter(bucket, stream.catalog, prefix="live").sweep())
        assert not keys & bucket.deleted
    stream.publish(run=1, count=20)
    asyncio.run(RetentionDeleter(bucket, stream.catalog, prefix="live").sweep())
    assert keys <= bucket.deleted


def test_what_has_ended_stays_as_it_is(stream: CatalogFixture) -> None:
    """Whoever is silent after the end, asleep or offline, still has all that the finished playlist lists."""
    stream.furthest = 60
    stream.publish(count=30)
    stream.channel.end()
    held, bucket = kept(stream), Bucket()
    stream.furthest = 0
    for _ in range(200):
        stream.now += timedelta(seconds=SECONDS)
        stream.tick()
        asyncio.run(RetentionDeleter(bucket, stream.catalog, prefix="live").sweep())
    assert kept(stream) == held
    assert not {segment.uri for segment in held.segments} & bucket.deleted


def test_where_it_is_off_nothing_is_kept(tmp_path: Path) -> None:
    """No playlist for those who are behind, and what an earlier process kept for them goes."""
    stream = CatalogFixture(tmp_path)
    stream.most = MOST
    stream.restart(timedelta())
    stream.furthest = 60
    stream.publish(count=40)
    assert len(kept(stream).segments) > WINDOW
    stream.most = timedelta()
    stream.restart(timedelta())
    stream.publish()
    assert stream.channel.view.playlists["0"].kept is None
    bucket = Bucket()
    stream.now += MOST
    asyncio.run(RetentionDeleter(bucket, stream.catalog, prefix="live").sweep())
    assert len(stream.published - bucket.deleted) == 2 * WINDOW
    stream.catalog.close()


def test_the_viewer_server_has_the_dvr_playlist(stream: CatalogFixture) -> None:
    """Step by step, or all at once to a new one; its multivariant playlist leads to its own."""
    stream.furthest = 60
    served, before = ServedStream(stream.clock), View()
    for _ in range(30):
        stream.publish()
        sent = view_delta(before, stream.channel.view)
        message = decode(encode(sent)[LENGTH.size :])
        assert message == sent
        served.apply(sent)
        before = stream.channel.view
    new = ServedStream(stream.clock)
    new.apply(view_delta(View(), before))
    assert sent.updates["0"].kept
    assert len(sent.updates["0"].kept.playlist.segments) == 1
    for playlists in (served, new):
        shown = playlists.dvr_snapshot("0")
        assert shown
        assert shown.playlist == kept(stream)
        assert "EXT-X-SKIP" in shown.delta.body.decode()
        assert playlists.kept_main
        main = parse(playlists.kept_main.full.body.decode())
        assert isinstance(main, MultivariantPlaylist)
        assert main.uris == {"0/kept.m3u8", "1/kept.m3u8"}


def test_a_report_counts_for_a_while() -> None:
    """The furthest falls behind further, until it has not been heard of for so long."""
    now = 1000.0
    furthest = MaxViewerDelay()
    assert furthest.seconds(now) == 0
    furthest.note(50, now)
    furthest.note(20, now)
    now += 60
    furthest.note(30, now)
    assert furthest.seconds(now) == 110
    now += DELAY_MEMORY - 59
    assert furthest.seconds(now) == 30 + DELAY_MEMORY - 59
    now += 60
    assert furthest.seconds(now) == 0


@pytest.mark.parametrize("said", [-1, 1e300, "600", None, True, [600]])
def test_what_is_no_distance_is_no_report(said: object) -> None:
    """Nobody is heard who says what cannot be."""
    gate = Gate("0")
    with pytest.raises(ValueError, match="number"):
        gate.send(1, behind=said)
    assert gate.viewers.delay == 0
    assert gate.send(1, behind=600.5, over=True)
    assert gate.viewers.delay == 600.5
    assert len(gate.viewers) == 0
