"""What of recordings is in the bucket: whole, by relative addresses, also after failures and restarts."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from broadcaster.catalog.records import Clip, Part, Recording
from broadcaster.errors import NotPossible, StorageUnavailable
from broadcaster.hls import ByteRange, MediaSegment, MultivariantPlaylist, parse
from broadcaster.hls.manifest import VodPlaylistBuilder
from broadcaster.hls.parser import byte_ranges
from broadcaster.ipc.messages import PublicRecording
from broadcaster.recordings.writer import EVERY, INTERVAL, Recorder
from broadcaster.service.public_recordings import public_recordings
from tests.support.fakes.pipeline_parts import START, stored_segment, variants_listed
from tests.support.fakes.recorder_fixture import RecorderFixture

DAY = timedelta(days=1)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[RecorderFixture]:
    made = RecorderFixture(tmp_path)
    yield made
    made.stream.catalog.close()


async def test_a_stream_that_is_on(rig: RecorderFixture) -> None:
    """Who comes late can begin at the start: an EVENT, which only grows, and is VOD after the end."""
    rig.title = "Evening"
    rig.stream.publish(count=9)
    await rig.recorder.write()
    (recording,) = rig.index()["recordings"]
    assert (recording["title"], recording["ended"], recording["duration"]) == ("Evening", None, 18)
    main = parse(rig.text(recording["playlist"]))
    assert isinstance(main, MultivariantPlaylist)
    assert [variant.uri for variant in main.variants] == ["0/playlist.m3u8", "1/playlist.m3u8"]
    before = rig.media(f"{recording['id']}/1/playlist.m3u8")
    assert (before.playlist_type, len(before.segments), before.ended) == ("EVENT", 9, False)
    assert before.segments[0].uri == "../../../r0/1/0.ts"
    rig.stream.publish(run=1, count=1)
    rig.stream.channel.end()
    await rig.recorder.write()
    after = rig.media(f"{recording['id']}/1/playlist.m3u8")
    assert (after.playlist_type, after.ended) == ("VOD", True)
    assert after.segments[:9] == before.segments
    assert after.segments[9].discontinuity
    (recording,) = rig.index()["recordings"]
    assert (recording["ended"], recording["duration"], recording["size"]) == (
        "2026-01-01T12:00:20+00:00",
        20,
        20_000,
    )
    rig.store.writes.clear()
    await rig.recorder.write()
    assert rig.store.writes == []


async def test_the_i_frame_playlist_of_a_recording(rig: RecorderFixture) -> None:
    """Key frames are listed beside the smallest variant's segments, in a recording and in a clip of it."""
    rig.stream.publish(count=2)
    rig.stream.publish(lost=True)
    rig.stream.publish(run=1)
    clip = await rig.stream.catalog.clips.make("", START, START + timedelta(seconds=4))
    rig.stream.channel.end()
    await rig.recorder.write()
    (recording,) = rig.index()["recordings"]
    for folder, name, count, bits in (("recordings", recording["id"], 4, 3445), ("clips", clip.id, 2, 1723)):
        assert rig.text(f"{name}/playlist.m3u8", folder).endswith(
            f'#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH={bits},URI="0/iframes.m3u8"\n'
        )
        media = rig.text(f"{name}/0/playlist.m3u8", folder)
        text = rig.text(f"{name}/0/iframes.m3u8", folder)
        assert byte_ranges(text) == {
            segment.uri: ByteRange(188 * (number + 1), 376)
            for number, segment in enumerate(rig.media(f"{name}/0/playlist.m3u8", folder).segments)
            if not segment.gap
        }
        lines = [line for line in text.splitlines() if "BYTERANGE" not in line and "VERSION" not in line]
        lines.remove("#EXT-X-I-FRAMES-ONLY")
        assert lines == [line for line in media.splitlines() if "VERSION" not in line]
        assert text.count("#EXTINF") == count
        assert f"live/{folder}/{name}/1/iframes.m3u8" not in rig.store.objects_


async def test_whole_where_the_live_playlist_has_a_gap(rig: RecorderFixture) -> None:
    """A segment too long for players of the live stream is one of the recording."""
    rig.stream.publish(count=3)
    rig.stream.publish(seconds=90)
    rig.stream.channel.end()
    await rig.recorder.write()
    (recording,) = rig.index()["recordings"]
    playlist = rig.media(f"{recording['id']}/0/playlist.m3u8")
    assert [segment.gap for segment in playlist.segments] == [False] * 4
    assert playlist.target_duration == 90


async def test_each_part_has_its_playlists(rig: RecorderFixture) -> None:
    """A part that is over is VOD while the stream goes on with other variants."""
    rig.stream.publish("01", count=3)
    rig.stream.publish("0", run=1, count=3)
    await rig.recorder.write()
    (recording,) = rig.index()["recordings"]
    assert recording["parts"] == [recording["playlist"], f"{recording['id']}/part-2/playlist.m3u8"]
    first, second = (rig.media(f"{recording['id']}/{part}playlist.m3u8") for part in ("0/", "part-2/0/"))
    assert (first.ended, second.ended) == (True, False)
    assert second.segments[0].uri == "../../../../r1/0/3.ts"
    assert (second.discontinuity_sequence, second.segments[0].discontinuity) == (0, False)


async def test_variants_that_begin_in_different_runs(rig: RecorderFixture) -> None:
    """One variant's last segment of a run may be met after another's first of the next: both are listed."""
    rig.stream.channel.list_variants(variants_listed("0", "1"))
    for variant, run in (("0", 1), ("1", 0), ("1", 1)):
        key = f"live/r{run}/{variant}/0.ts"
        segment = stored_segment(key, variant=variant, run=run, time=START + timedelta(seconds=2 * run))
        rig.stream.catalog.noticed(segment)
        rig.stream.channel.expect(variant)
        rig.stream.channel.publish(segment)
    rig.stream.channel.end()
    await rig.recorder.write()
    (recording,) = rig.index()["recordings"]
    first, second = (rig.media(f"{recording['id']}/{variant}/playlist.m3u8") for variant in "01")
    assert [segment.uri for segment in first.segments] == ["../../../r1/0/0.ts"]
    assert [segment.discontinuity for segment in second.segments] == [False, True]
    assert first.discontinuity_sequence + first.segments[0].discontinuity == 1


async def test_a_variant_that_is_behind(rig: RecorderFixture) -> None:
    """What was noticed before, and listed after, what has been written already, is written as well."""
    rig.stream.publish("01", count=2)
    slow = stored_segment("live/r0/1/slow.ts", variant="1", time=rig.stream.now)
    fast = stored_segment("live/r0/0/fast.ts", variant="0", time=rig.stream.now)
    for segment in (slow, fast):
        rig.stream.catalog.noticed(segment)
        rig.stream.channel.expect(segment.variant)
    rig.stream.channel.publish(fast)
    await rig.recorder.write()
    rig.stream.channel.publish(slow)
    rig.stream.channel.end()
    await rig.recorder.write()
    (recording,) = rig.index()["recordings"]
    for variant, name in (("0", "fast"), ("1", "slow")):
        playlist = rig.media(f"{recording['id']}/{variant}/playlist.m3u8")
        assert [Path(segment.uri).stem for segment in playlist.segments] == ["0", "1", name]


async def test_what_could_not_be_written_is_written_later(rig: RecorderFixture) -> None:
    """A bucket that fails, and a process that dies, leave nothing half done for long."""
    rig.stream.publish(count=2)
    rig.stream.channel.end()
    for _ in range(8):
        rig.store.faults.append(StorageUnavailable("no answer"))
        with pytest.raises(StorageUnavailable):
            await rig.recorder.write()
        rig.restart()
    await rig.recorder.write()
    (recording,) = rig.index()["recordings"]
    assert len(rig.media(f"{recording['id']}/0/playlist.m3u8").segments) == 2


async def test_it_tries_again_by_itself(rig: RecorderFixture) -> None:
    """The task goes on after failures, and learns of an end at once."""
    resting, pauses = asyncio.Event(), list[float]()

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if seconds == EVERY - INTERVAL:
            resting.set()
            await asyncio.Event().wait()

    rig.recorder = Recorder(rig.store, rig.stream.catalog, "live", sleep=sleep)
    rig.stream.publish(count=2)
    rig.store.faults += [StorageUnavailable("no answer")] * 2
    task = asyncio.create_task(rig.recorder.run())
    async with asyncio.timeout(20):
        await resting.wait()
        assert pauses == [1, 2, INTERVAL, EVERY - INTERVAL]
        assert rig.index()["recordings"][0]["ended"] is None
        rig.stream.events.clear()
        rig.stream.channel.end()
        resting.clear()
        for event in rig.stream.events:
            rig.recorder(event)
        await resting.wait()
    assert rig.index()["recordings"][0]["ended"]
    assert rig.recorder.fault is None
    task.cancel()


async def test_playlists_are_renewed_when_that_is_worth_their_bytes(rig: RecorderFixture) -> None:
    """Not each time while they are large beside the media; but at once for the operator, and for the last."""

    async def versions(*, everything: bool = False) -> int:
        rig.store.writes.clear()
        await rig.recorder.write(everything=everything)
        return sum(name.endswith("/0/playlist.m3u8") for name in rig.store.writes)

    rig.stream.publish("0", count=300)
    assert await versions() == 1
    rig.stream.publish("0", count=2)
    assert await versions() == 0  # 2 kB of media, and 2 kB of playlist
    (recording,) = await rig.stream.recordings()
    rig.stream.catalog.recordings.change(recording.id, visibility="unlisted")
    assert await versions() == 1
    rig.stream.publish("0")
    assert await versions() == 0
    assert await versions(everything=True) == 1
    rig.stream.publish("0", count=16)  # a twentieth more
    assert await versions() == 1
    rig.stream.publish("0", size=10**7)
    assert await versions() == 1
    rig.stream.publish("0")
    rig.stream.channel.end()
    assert await versions() == 1
    (recording,) = await rig.stream.recordings()
    playlist = rig.media(f"{recording.folder}/0/playlist.m3u8")
    assert (playlist.ended, len(playlist.segments)) == (True, 321)


async def test_a_failure_leaves_no_hole(rig: RecorderFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments that were read, and could not be added, are added the next time."""
    append, failures = VodPlaylistBuilder.append, [ValueError("not foreseen")]

    def fail_once(
        playlist: VodPlaylistBuilder,
        segment: MediaSegment,
        *,
        discontinuity: int,
        independent: bool,
        size: int,
    ) -> None:
        if failures and segment.uri.endswith("/12.ts"):
            raise failures.pop()
        append(playlist, segment, discontinuity=discontinuity, independent=independent, size=size)

    monkeypatch.setattr(VodPlaylistBuilder, "append", fail_once)
    rig.stream.publish("0", count=10)
    await rig.recorder.write()
    rig.stream.publish("0", count=10)
    with pytest.raises(ValueError, match="not foreseen"):
        await rig.recorder.write()
    rig.stream.channel.end()
    await rig.recorder.write()
    (recording,) = rig.index()["recordings"]
    playlist = rig.media(f"{recording['id']}/0/playlist.m3u8")
    assert [Path(segment.uri).stem for segment in playlist.segments] == [str(number) for number in range(20)]


async def test_one_that_cannot_be_written_holds_up_no_other(
    rig: RecorderFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect that one recording brings to light leaves the next one, and clips, as they should be."""
    rig.stream.publish("0", count=6)
    rig.stream.channel.end()
    rig.stream.publish("0", count=6, run=1)
    clip = await rig.stream.catalog.clips.make("", START, START + timedelta(seconds=5))
    rig.stream.channel.end()
    first, second = sorted(await rig.stream.recordings(), key=lambda recording: recording.started)
    write = Recorder._write  # noqa: SLF001 - a defect in it

    async def broken(recorder: Recorder, recording: Recording, parts: Sequence[Part]) -> None:
        if recording.id == first.id:
            raise ZeroDivisionError("a defect")
        await write(recorder, recording, parts)

    monkeypatch.setattr(Recorder, "_write", broken)
    with pytest.raises(ZeroDivisionError):
        await rig.recorder.write()
    assert [recording["id"] for recording in rig.index()["recordings"]] == [second.id]
    assert f"live/clips/{clip.id}/playlist.m3u8" in rig.store.objects_


async def test_who_writes_holds_the_lock(rig: RecorderFixture) -> None:
    """Whoever has recordings written, at the end of the service too, waits for an album that has the lock."""
    rig.stream.publish("0")
    async with rig.recorder.lock:
        writing = asyncio.create_task(rig.recorder.write())
        for _ in range(20):
            await asyncio.sleep(0)
        assert rig.store.objects_ == {}
    await writing
    assert rig.index()["recordings"]


async def test_who_finds_it(rig: RecorderFixture) -> None:
    """What is unlisted or hidden is not in the index, and moves to an address that nobody knows, and back."""
    rig.stream.publish("0")
    rig.stream.channel.end()
    await rig.recorder.write()
    (recording,) = rig.index()["recordings"]
    table = rig.stream.catalog.recordings
    written = ("0/iframes.m3u8", "0/playlist.m3u8", "playlist.m3u8", "recording.json")
    names = [f"{recording['id']}/{name}" for name in written]
    assert rig.names == [*names, "index.json"]
    table.change(recording["id"], visibility="unlisted", secret="0123456789abcdef")
    await rig.recorder.write()
    assert rig.names == [*(name.replace("/", "-0123456789abcdef/", 1) for name in names), "index.json"]
    assert rig.index()["recordings"] == []
    table.change(recording["id"], visibility="hidden", secret="5ec4e7")
    await rig.recorder.write()
    assert rig.names == [*(name.replace("/", "-5ec4e7/", 1) for name in names), "index.json"]
    rig.restart()
    table = rig.stream.catalog.recordings
    table.change(recording["id"], visibility="listed")
    await rig.recorder.write()
    assert rig.names == [*names, "index.json"]


async def test_its_time_is_over(rig: RecorderFixture) -> None:
    """What is kept no longer leaves the index first, then its playlists go, then its segments."""
    rig.restart(DAY)
    rig.stream.publish("0", count=8)
    rig.stream.channel.end()
    await rig.recorder.write()
    rig.stream.now += DAY
    rig.store.faults.append(StorageUnavailable("no answer"))
    with pytest.raises(StorageUnavailable):
        await rig.recorder.write()
    rig.restart(DAY)
    rig.stream.now += timedelta(hours=1)
    await rig.recorder.write()
    assert rig.names == ["index.json"]
    assert rig.index() == {"recordings": [], "older": None}
    assert await rig.stream.recordings() == []
    assert await rig.stream.catalog.due(10) == []
    rig.stream.now += DAY
    assert await rig.stream.catalog.due(10) == ["live/r0/0/0.ts", "live/r0/0/1.ts"]


async def test_older_pages(rig: RecorderFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first page has the newest and links to the one before; what is added changes no older one."""
    monkeypatch.setattr("broadcaster.recordings.writer.PAGE", 2)
    for run in range(7):
        rig.stream.publish("0", run=run)
        rig.stream.channel.end()
        rig.store.writes.clear()
        await rig.recorder.write()
    assert "live/recordings/index-1.json" not in rig.store.writes
    ids = [recording.id for recording in await rig.stream.recordings()]
    found, name = [], "index.json"
    while name:
        page = rig.index(name)
        found.append([ids.index(recording["id"]) for recording in page["recordings"]])
        name = page["older"]
    assert found == [[0, 1, 2], [3, 4], [5, 6]]


async def test_titles(rig: RecorderFixture) -> None:
    """It is called as the stream is, and as the operator says, whatever the stream is called then."""
    rig.stream.publish("0")
    for rig.title in ("One", "Two", None):
        await rig.recorder.write()
    (recording,) = rig.index()["recordings"]
    assert recording["title"] == "Two"
    rig.stream.catalog.recordings.change(recording["id"], title="Mine", titled=True)
    rig.title = "Three"
    await rig.recorder.write()
    assert rig.index()["recordings"][0]["title"] == "Mine"


async def test_a_clip(rig: RecorderFixture) -> None:
    """Whole segments, from the exact point; they outlive the window and the recording, and not the clip."""
    rig.stream.publish(count=8)
    clips = rig.stream.catalog.clips
    clip = await clips.make("A goal", START + timedelta(seconds=5), START + timedelta(seconds=9))
    rig.stream.channel.end()
    await rig.recorder.write()
    main = parse(rig.text(f"{clip.id}/playlist.m3u8", "clips"))
    assert isinstance(main, MultivariantPlaylist)
    assert [variant.uri for variant in main.variants] == ["0/playlist.m3u8", "1/playlist.m3u8"]
    playlist = rig.media(f"{clip.id}/1/playlist.m3u8", "clips")
    assert [segment.uri for segment in playlist.segments] == [
        f"../../../r0/1/{number}.ts" for number in (2, 3, 4)
    ]
    assert (playlist.start, playlist.playlist_type, playlist.ended) == (timedelta(seconds=1), "VOD", True)
    (recording,) = await rig.stream.recordings()
    rig.stream.catalog.recordings.remove(recording)
    rig.stream.publish("0", run=1, count=8)
    rig.stream.now += DAY
    due = await rig.stream.catalog.due(100)
    rig.restart()
    clips = rig.stream.catalog.clips
    assert len(due) == 16 - 6
    assert not {segment.key for segment in await clips.segments(clip)} & set(due)
    clips.delete(clip.id, at_once=True)
    await rig.recorder.write()
    assert not [name for name in rig.store.objects_ if "/clips/" in name]
    await rig.stream.catalog.deleted(due)
    rig.stream.now += DAY
    assert len(await rig.stream.catalog.due(100)) == 6


async def test_no_clip_of_what_is_not_there(rig: RecorderFixture) -> None:
    """What has not come, or has gone, is refused, and nothing is kept for it."""
    rig.stream.restart(timedelta())
    rig.stream.publish(count=12)
    clips = rig.stream.catalog.clips
    with pytest.raises(NotPossible):
        await clips.make("", START + timedelta(seconds=20), START + timedelta(seconds=26))
    rig.stream.now += DAY
    assert len(await rig.stream.catalog.due(100)) == 12
    with pytest.raises(NotPossible):
        await clips.make("", START, START + timedelta(seconds=6))
    assert len(await rig.stream.catalog.due(100)) == 12
    assert await clips.all() == []


async def test_another_prefix(rig: RecorderFixture) -> None:
    """The index has recordings and clips of earlier prefixes; their objects stay where they are."""
    rig.stream.catalog.prefixes("live")
    rig.stream.publish("0", count=8)
    await rig.stream.catalog.clips.make("", START + timedelta(seconds=5), START + timedelta(seconds=9))
    rig.stream.channel.end()
    await rig.recorder.write()
    (recording,) = await rig.stream.recordings()
    (clip,) = await rig.stream.catalog.clips.all()
    rig.restart()
    rig.stream.catalog.prefixes("sub/other")
    await Recorder(rig.store, rig.stream.catalog, "sub/other").write()
    for kind, name in (("recordings", recording.id), ("clips", clip.id)):
        text = rig.store.objects_[f"sub/other/{kind}/{name}/0/playlist.m3u8"].decode()
        assert "\n../../../../../live/r0/0/4.ts\n" in text


async def test_what_the_bucket_has_is_shown(rig: RecorderFixture) -> None:
    """After each write, also where there was nothing to write; hidden ones are not for viewers."""
    shown: list[dict[str, PublicRecording]] = []

    def show(
        recordings: Sequence[Recording], parts: Mapping[str, Sequence[Part]], clips: Sequence[Clip]
    ) -> None:
        shown.append(
            public_recordings(recordings, parts, clips, "https://video.example.com/live/recordings/")
        )

    rig.stream.publish(count=4)
    rig.stream.channel.end()
    await rig.recorder.write()
    clip = await rig.stream.catalog.clips.make("Best of", START, START + timedelta(seconds=4))
    await rig.recorder.write()
    recorder = Recorder(rig.store, rig.stream.catalog, "live", show=show)
    await recorder.write()
    (recording,) = await rig.stream.recordings()
    base = "https://video.example.com/live"
    assert set(shown[-1]) == {f"/watch/{recording.id}", f"/c/{clip.id}"}
    assert shown[-1][f"/watch/{recording.id}"].playlists == (
        f"{base}/recordings/{recording.id}/playlist.m3u8",
    )
    assert shown[-1][f"/c/{clip.id}"].playlists == (f"{base}/clips/{clip.id}/playlist.m3u8",)
    assert shown[-1][f"/watch/{recording.id}"].listed
    assert not shown[-1][f"/c/{clip.id}"].listed
    for visibility, paths in (("unlisted", 2), ("hidden", 1)):
        rig.stream.catalog.recordings.change(recording.id, visibility=visibility)
        await recorder.write()
        assert len(shown[-1]) == paths
    rig.stream.catalog.recordings.change(recording.id, visibility="listed")
    rig.store.faults = [StorageUnavailable("no answer")] * 100
    await recorder.show()
    assert len(shown[-1]) == 2


async def test_kept_at_the_last_moment(rig: RecorderFixture) -> None:
    """A recording that is kept while it is being removed stays, with its playlists; the answer says so."""
    rig.restart(DAY)
    rig.stream.publish(count=9)
    rig.stream.channel.end()
    await rig.recorder.write()
    (recording,) = rig.index()["recordings"]
    rig.stream.now += 2 * DAY
    table = rig.stream.catalog.recordings
    rig.store.meanwhile = lambda: table.keep(recording["id"], None)
    await rig.recorder.write()
    await rig.recorder.write()
    assert [kept.id for kept in await rig.stream.recordings()] == [recording["id"]]
    assert rig.index()["recordings"] == [recording]
    assert rig.media(f"{recording['id']}/0/playlist.m3u8").ended


async def test_nothing_is_named_before_it_is_there(rig: RecorderFixture) -> None:
    """The index has a recording when its playlists are written, and pages when they are."""
    rig.stream.publish(count=3)
    rig.stream.channel.end()
    rig.store.meanwhile = lambda: rig.stream.publish(run=1)
    await rig.recorder.write()
    assert len(await rig.stream.recordings()) == 2
    assert [f"{recording['playlist']}" in rig.names for recording in rig.index()["recordings"]] == [True]
    await rig.recorder.write()
    assert [f"{recording['playlist']}" in rig.names for recording in rig.index()["recordings"]] == [
        True,
        True,
    ]


async def test_removed_under_both_prefixes(rig: RecorderFixture) -> None:
    """What was recorded under an earlier prefix is found under the present one, and removed under both."""
    rig.stream.publish(count=9)
    rig.stream.channel.end()
    clip = await rig.stream.catalog.clips.make("", START, START + timedelta(seconds=5))
    await rig.recorder.write()
    (recording,) = await rig.stream.recordings()
    for _ in range(2):
        recorder = Recorder(rig.store, rig.stream.catalog, "other/live")
        await recorder.write()
    text = rig.store.objects_[f"other/live/recordings/{recording.id}/0/playlist.m3u8"].decode()
    assert "\n../../../../../live/r0/0/0.ts\n" in text
    assert f"other/live/clips/{clip.id}/playlist.m3u8" in rig.store.objects_
    rig.stream.catalog.recordings.delete(recording.id, at_once=True)
    rig.stream.catalog.clips.delete(clip.id, at_once=True)
    await recorder.write()
    assert [key for key in rig.store.objects_ if recording.id in key or clip.id in key] == []


async def test_a_defect_of_one_recording(rig: RecorderFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording that cannot be written keeps no other one, and no clip, from the bucket."""
    rig.stream.publish("0", count=4)
    clip = await rig.stream.catalog.clips.make("", START, START + timedelta(seconds=4))
    rig.stream.channel.end()
    (bad,) = await rig.stream.recordings()
    rig.stream.publish("0", run=1, count=4)
    rig.stream.channel.end()
    good, _ = await rig.stream.recordings()
    write = rig.recorder._write  # noqa: SLF001 - no recording that is known fails

    async def failing(recording: Recording, parts: Sequence[Part]) -> None:
        if recording.id == bad.id:
            raise ValueError("not foreseen")
        await write(recording, parts)

    monkeypatch.setattr(rig.recorder, "_write", failing)
    with pytest.raises(ValueError, match="not foreseen"):
        await rig.recorder.write()
    assert f"{good.id}/playlist.m3u8" in rig.names
    assert f"live/clips/{clip.id}/playlist.m3u8" in rig.store.objects_
