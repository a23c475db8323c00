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
def studio(tmp_path: Path) -> Iterator[CatalogFixture]:
    """A stream that is on, of two variants."""
    studio = CatalogFixture(tmp_path)
    studio.most = MOST
    studio.restart(timedelta())
    studio.publish(count=20)
    yield studio
    studio.catalog.close()


def kept(studio: CatalogFixture, variant: str = "0") -> MediaPlaylist:
    """The playlists of viewers who are behind."""
    playlist = studio.channel.view.playlists[variant].kept
    assert playlist
    return playlist


def test_so_much_is_kept_as_somebody_needs(studio: CatalogFixture) -> None:
    """The place of the furthest, two target durations before it, and nobody's playlist is longer for it."""
    assert kept(studio).segments == studio.channel.view.playlists["0"].playlist.segments
    for furthest in range(6, 60, 2):
        studio.furthest = furthest
        studio.publish()
    assert kept(studio).duration == timedelta(seconds=58 + 2 * SECONDS)
    assert len(studio.channel.view.playlists["0"].playlist.segments) == WINDOW


def test_nobody_who_comes_nearer_is_left_without(studio: CatalogFixture) -> None:
    """Only what the furthest has not needed for a while is let go of, also when nothing new comes."""
    studio.furthest = 60
    studio.publish(count=30)
    before = kept(studio)
    studio.furthest = 0
    studio.now += timedelta(seconds=DELAY_MEMORY - 1)
    studio.tick()
    assert kept(studio) == before
    studio.now += timedelta(seconds=2)
    studio.tick()
    assert len(kept(studio).segments) == WINDOW
    assert kept(studio).media_sequence > before.media_sequence


def test_a_restart_lets_go_of_nothing(studio: CatalogFixture) -> None:
    """Nobody has been heard of yet: all that was kept stays for a while, under the same numbers."""
    studio.furthest = 60
    studio.publish(count=15)
    studio.publish(run=1, count=15)
    before = kept(studio)
    studio.furthest = 0
    studio.restart(timedelta())
    assert kept(studio) == before
    studio.publish(run=1)
    assert kept(studio).media_sequence == before.media_sequence
    assert kept(studio).segments[:-1] == before.segments
    studio.publish(run=1, count=int(DELAY_MEMORY / SECONDS))
    assert len(kept(studio).segments) == WINDOW


def test_runs_of_the_encoder_keep_their_numbers(studio: CatalogFixture) -> None:
    """Across reconnects, cuts and restarts a segment has one number, and one discontinuity number."""
    known: dict[str, tuple[int, int]] = {}
    for run in range(6):
        studio.furthest = 40.0 * (run % 3)
        if run % 2:
            studio.restart(timedelta())
        for _ in range(30):
            studio.publish(run=run)
            playlist = parse(kept(studio, "1").render())
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
def test_forged_reports_stay_under_the_caps(studio: CatalogFixture, said: float, size: int) -> None:
    """Whatever is said, all of the time: storage stays below the cap and what is there for everybody."""
    bucket, largest = Bucket(), 0
    studio.most_bytes = size
    studio.restart(timedelta())

    def stored() -> int:
        return 1000 * len(studio.published - bucket.deleted)

    for _ in range(3):
        studio.furthest = said
        for _ in range(80):
            studio.publish()
            asyncio.run(RetentionDeleter(bucket, studio.catalog, prefix="live").sweep())
            largest = max(largest, stored())
            assert kept(studio).duration <= MOST
        studio.furthest = 0
        studio.publish(count=3)
    ordinary = (
        1000 * 2 * (WINDOW + WINDOW + 3)
    )  # listed, and still to be read by viewers who have the playlist
    most = min(size, int(1000 * 2 * MOST.total_seconds() / SECONDS))
    assert largest <= ordinary + most
    if said > 0:
        assert largest > most  # and it is used
    studio.now += timedelta(seconds=DELAY_MEMORY)
    studio.publish()
    studio.now += MOST
    asyncio.run(RetentionDeleter(bucket, studio.catalog, prefix="live").sweep())
    assert stored() <= ordinary


@pytest.mark.parametrize("how", ["ended", "outgrown"])
def test_what_has_ended_can_be_played_to_its_end(studio: CatalogFixture, how: str) -> None:
    """A player does not read again what says ENDLIST: only when it is through is that deleted."""
    studio.furthest = 60
    studio.publish(count=30)
    bucket, held = Bucket(), kept(studio)
    studio.furthest = 0
    if how == "ended":
        studio.channel.end()
        studio.restart(timedelta())
    began = studio.now
    studio.publish(run=1, seconds=9.0 if how == "outgrown" else SECONDS)
    keys = {segment.uri for segment in held.segments}
    assert len(keys & studio.published) > WINDOW
    while studio.now - began < held.duration:
        studio.publish(run=1)
        asyncio.run(RetentionDeleter(bucket, studio.catalog, prefix="live").sweep())
        assert not keys & bucket.deleted
    studio.publish(run=1, count=20)
    asyncio.run(RetentionDeleter(bucket, studio.catalog, prefix="live").sweep())
    assert keys <= bucket.deleted


def test_what_has_ended_stays_as_it_is(studio: CatalogFixture) -> None:
    """Whoever is silent after the end, asleep or offline, still has all that the finished playlist lists."""
    studio.furthest = 60
    studio.publish(count=30)
    studio.channel.end()
    held, bucket = kept(studio), Bucket()
    studio.furthest = 0
    for _ in range(200):
        studio.now += timedelta(seconds=SECONDS)
        studio.tick()
        asyncio.run(RetentionDeleter(bucket, studio.catalog, prefix="live").sweep())
    assert kept(studio) == held
    assert not {segment.uri for segment in held.segments} & bucket.deleted


def test_where_it_is_off_nothing_is_kept(tmp_path: Path) -> None:
    """No playlist for those who are behind, and what an earlier process kept for them goes."""
    studio = CatalogFixture(tmp_path)
    studio.most = MOST
    studio.restart(timedelta())
    studio.furthest = 60
    studio.publish(count=40)
    assert len(kept(studio).segments) > WINDOW
    studio.most = timedelta()
    studio.restart(timedelta())
    studio.publish()
    assert studio.channel.view.playlists["0"].kept is None
    bucket = Bucket()
    studio.now += MOST
    asyncio.run(RetentionDeleter(bucket, studio.catalog, prefix="live").sweep())
    assert len(studio.published - bucket.deleted) == 2 * WINDOW
    studio.catalog.close()


def test_the_viewer_server_has_the_dvr_playlist(studio: CatalogFixture) -> None:
    """Step by step, or all at once to a new one; its multivariant playlist leads to its own."""
    studio.furthest = 60
    stream, before = ServedStream(studio.clock), View()
    for _ in range(30):
        studio.publish()
        sent = view_delta(before, studio.channel.view)
        message = decode(encode(sent)[LENGTH.size :])
        assert message == sent
        stream.apply(sent)
        before = studio.channel.view
    new = ServedStream(studio.clock)
    new.apply(view_delta(View(), before))
    assert sent.updates["0"].kept
    assert len(sent.updates["0"].kept.playlist.segments) == 1
    for playlists in (stream, new):
        shown = playlists.dvr_snapshot("0")
        assert shown
        assert shown.playlist == kept(studio)
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
