"""A lost state folder loses no recording, and what nobody needs in the bucket is found."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from broadcaster.catalog.records import Recording
from broadcaster.errors import NotPossible, StorageUnavailable
from broadcaster.hls import MultivariantPlaylist, parse
from broadcaster.recordings.rebuild import rebuild
from broadcaster.upload.deleter import sweep
from tests.support.fakes.catalog_fixture import CatalogFixture
from tests.support.fakes.pipeline_parts import START
from tests.support.fakes.recorder_fixture import RecorderFixture

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[RecorderFixture]:
    made = RecorderFixture(tmp_path / "state")
    yield made
    made.stream.catalog.close()


def lose_the_state(rig: RecorderFixture) -> None:
    """The next process finds an empty folder."""
    rig.stream.catalog.close()
    shutil.rmtree(rig.stream.folder)
    before = rig.stream
    rig.stream = CatalogFixture(before.folder)
    rig.stream.now, rig.stream.published = before.now, before.published
    rig.new_recorder()


def comparable(found: list[Recording]) -> list[Recording]:
    return [replace(recording, secret="", revision=0) for recording in found]


async def test_all_comes_back(rig: RecorderFixture) -> None:
    """Recordings and clips are as they were, to the byte, when all that is left is the bucket."""
    rig.restart(30 * DAY)
    rig.stream.publish("01", count=3)
    rig.stream.publish("01", run=1, seconds=90)
    rig.stream.publish("01", run=1, lost=True)
    rig.stream.publish("0", run=2, count=3)
    rig.stream.channel.end()
    (first,) = await rig.stream.recordings()
    table = rig.stream.catalog.recordings
    table.change(first.id, title="Größe & Ruhm", titled=True, visibility="hidden", secret="5ec4e7")
    rig.stream.publish("0", run=3, count=9)
    rig.stream.channel.end()
    newest = rig.stream.newest
    clip = await rig.stream.catalog.clips.make("A goal", newest - 9 * SECOND, newest - 4 * SECOND)
    rig.upload()
    await rig.recorder.write()
    objects, recordings = dict(rig.store.objects_), await rig.stream.recordings()
    lose_the_state(rig)
    found = await rebuild(rig.store, rig.stream.catalog, "live")
    assert found == {"recordings": 2, "clips": 1, "failed": 0}
    assert comparable(await rig.stream.recordings()) == comparable(recordings)
    (clip_again,) = await rig.stream.catalog.clips.all()
    assert replace(clip_again, described=clip.described) == clip  # where BANDWIDTH is the measured one
    await rig.recorder.write()
    assert rig.store.objects_ == objects
    again = await rebuild(rig.store, rig.stream.catalog, "live")
    assert again == {"recordings": 0, "clips": 0, "failed": 0}
    sizes = [segment.size for part in await rig.stream.segments() for segment in part]
    assert sizes == [1000] * 9


async def test_what_came_back_goes_as_ever(rig: RecorderFixture) -> None:
    """What was brought back is deleted with its recording, and stays as long as a clip has it."""
    rig.stream.publish("0", count=8)
    rig.stream.channel.end()
    await rig.stream.catalog.clips.make("", START + 5 * SECOND, START + 9 * SECOND)
    rig.upload()
    await rig.recorder.write()
    lose_the_state(rig)
    await rebuild(rig.store, rig.stream.catalog, "live")
    (recording,) = await rig.stream.recordings()
    rig.stream.now += DAY
    assert await rig.stream.catalog.due(100) == []
    rig.stream.catalog.recordings.remove(recording)
    rig.stream.now += DAY
    due = await rig.stream.catalog.due(100)
    assert due == [f"live/r0/0/{number}.ts" for number in (0, 1, 5, 6, 7)]


async def test_clips_that_share_their_time(rig: RecorderFixture) -> None:
    """They come back whole, whichever was made first, though the recording that had them is deleted."""
    rig.stream.publish("01", count=20)
    rig.stream.channel.end()
    catalog = rig.stream.catalog
    await catalog.clips.make("later", START + 21 * SECOND, START + 35 * SECOND)
    rig.stream.now += timedelta(minutes=1)
    await catalog.clips.make("earlier", START + 5 * SECOND, START + 25 * SECOND)
    rig.upload()
    (recording,) = await rig.stream.recordings()
    await catalog.recordings.delete(recording.id, at_once=True)
    await rig.recorder.write()
    before = {key: body for key, body in rig.store.objects_.items() if "/clips/" in key}
    lose_the_state(rig)
    catalog = rig.stream.catalog
    assert await rebuild(rig.store, catalog, "live") == {"recordings": 0, "clips": 2, "failed": 0}
    await rig.recorder.write()
    assert {key: body for key, body in rig.store.objects_.items() if "/clips/" in key} == before
    whole = await catalog.clips.make("all", START + 5 * SECOND, START + 35 * SECOND)
    assert len(await catalog.clips.segments(whole)) == 32


async def test_a_stream_that_was_on_is_over(rig: RecorderFixture) -> None:
    """What was recorded when the state was lost ends there; the stream goes on in another recording."""
    rig.stream.publish("0", count=4)
    rig.upload()
    await rig.recorder.write()
    lose_the_state(rig)
    rig.stream.publish("0", run=7)
    await rebuild(rig.store, rig.stream.catalog, "live")
    await rig.recorder.write()
    on, over = rig.index()["recordings"]
    assert (on["ended"], over["ended"]) == (None, "2026-01-01T12:00:08+00:00")
    assert rig.media(over["playlist"].replace("/playlist", "/0/playlist")).ended


async def test_what_cannot_be_read(rig: RecorderFixture) -> None:
    """One that makes no sense keeps none of the others; a bucket that fails is tried again from the start."""
    for run in range(2):
        rig.stream.publish("0", run=run)
        rig.stream.channel.end()
    await rig.recorder.write()
    (_, first) = await rig.stream.recordings()
    rig.store.objects_[f"live/recordings/{first.id}/0/playlist.m3u8"] = b"no playlist"
    lose_the_state(rig)
    rig.store.faults.append(StorageUnavailable("no answer"))
    with pytest.raises(StorageUnavailable):
        await rebuild(rig.store, rig.stream.catalog, "live")
    found = await rebuild(rig.store, rig.stream.catalog, "live")
    assert found == {"recordings": 1, "clips": 0, "failed": 1}


async def test_strays(rig: RecorderFixture) -> None:
    """The sweep lists what no segment, view or neighbour needs, and deletes nothing else when asked to."""
    rig.stream.publish("01", count=9)
    await rig.stream.catalog.clips.make("", START + 5 * SECOND, START + 9 * SECOND)
    rig.upload()
    await rig.recorder.write()
    half = "live/recordings/2026-01-01-0000-abcdefghijklmn/0/playlist.m3u8"  # without its record
    strays = ["live/r0/0/99.ts", "live/old/0/1.ts", half]
    others = [
        "live/owner.json",
        "live/playlist.m3u8",
        "live/0/playlist.m3u8",
        "live/0/iframes.m3u8",
        "lives/x.ts",
    ]
    rig.store.objects_ |= dict.fromkeys([*strays, *others], b"12345")
    before = set(rig.store.objects_)
    catalog = rig.stream.catalog
    found = await sweep(rig.store, catalog, "live", {"live/owner.json"}, dry_run=True)
    keys = [*sorted(strays[:2]), half]
    assert found == {"objects": 3, "bytes": 15, "uploads": 0, "deleted": False, "keys": keys}
    assert set(rig.store.objects_) == before
    await sweep(rig.store, catalog, "live", {"live/owner.json"}, dry_run=False)
    assert set(rig.store.objects_) == before - set(strays)
    lose_the_state(rig)
    with pytest.raises(NotPossible, match="rebuild"):
        await sweep(rig.store, rig.stream.catalog, "live", (), dry_run=False)
    assert set(rig.store.objects_) == before - set(strays)


async def test_what_is_being_deleted_is_known(rig: RecorderFixture) -> None:
    """Until the objects of a deleted clip are gone, it is not unknown to a sweep, and not brought back."""
    rig.restart(30 * DAY)
    rig.stream.publish(count=9)
    rig.stream.channel.end()
    catalog = rig.stream.catalog
    clip = await catalog.clips.make("", START, START + 5 * SECOND)
    rig.upload()
    await rig.recorder.write()
    for at_once in (False, True):  # into the bin, where its address is another, and out of it
        catalog.clips.delete(clip.id, at_once=at_once)
        assert (await sweep(rig.store, catalog, "live", (), dry_run=True))["objects"] == 0
        async with catalog.writer:
            assert (await rebuild(rig.store, catalog, "live"))["clips"] == 0
    await rig.recorder.write()
    assert not [key for key in rig.store.objects_ if "/clips/" in key]


async def test_asked_for_twice(rig: RecorderFixture) -> None:
    """Two that look into the bucket at once bring all back once, and nobody else suffers."""
    rig.restart(30 * DAY)
    rig.stream.publish(count=9)
    rig.stream.channel.end()
    clips = rig.stream.catalog.clips
    await clips.make("", START, START + 5 * SECOND)
    rig.upload()
    await rig.recorder.write()
    lose_the_state(rig)
    catalog = rig.stream.catalog
    async with catalog.writer:
        both = await asyncio.gather(*(rebuild(rig.store, catalog, "live") for _ in range(2)))
        await catalog.writer.flush()
    assert [sum(summary[what] for summary in both) for what in ("recordings", "clips", "failed")] == [1, 1, 0]
    assert len(await rig.stream.recordings()) == 1
    assert len(await rig.stream.segments()) == 1


@pytest.mark.parametrize(("name", "value"), [("size", "x"), ("size", 2**70), ("id", ""), ("id", "other")])
async def test_what_makes_no_sense(rig: RecorderFixture, name: str, value: object) -> None:
    """What is not as we write it is left alone, and the catalog goes on."""
    rig.stream.publish(count=9)
    rig.stream.channel.end()
    await rig.recorder.write()
    (key,) = [key for key in rig.store.objects_ if key.endswith("recording.json")]
    record = json.loads(rig.store.objects_[key])
    rig.store.objects_[key] = json.dumps({**record, name: value}).encode()
    lose_the_state(rig)
    found = await rebuild(rig.store, rig.stream.catalog, "live")
    assert (found["recordings"], found["failed"]) == (0, 1)
    assert await rig.stream.recordings() == []
    rig.stream.publish()
    assert len(await rig.stream.recordings()) == 1


async def test_a_neighbour_below_our_prefix(rig: RecorderFixture) -> None:
    """What another broadcaster has, under a prefix that begins with ours, is not ours to judge."""
    rig.stream.publish("0")
    theirs = ["live/second/owner.json", "live/second/r0/0/1.ts"]
    rig.store.objects_ |= dict.fromkeys(theirs, b"12345")
    with pytest.raises(NotPossible, match="live/second"):
        await sweep(rig.store, rig.stream.catalog, "live", {"live/owner.json"}, dry_run=False)
    assert set(theirs) <= set(rig.store.objects_)


async def test_written_before_sizes_are_known(rig: RecorderFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who writes while the bucket is still listed does not make up its bandwidth for ever."""
    rig.stream.publish("0", count=8)
    rig.stream.channel.end()
    await rig.stream.catalog.clips.make("", START + 5 * SECOND, START + 9 * SECOND)
    rig.upload()
    await rig.recorder.write()
    mains = [key for key in rig.store.objects_ if key.count("/") == 3 and key.endswith("/playlist.m3u8")]
    rig.store.objects_ |= dict.fromkeys(rig.stream.published, bytes(1_000_000))
    lose_the_state(rig)
    listing = rig.store.objects

    async def objects_meanwhile(prefix: str, *, deadline: float) -> AsyncIterator[tuple[str, int]]:
        if prefix == "live/":
            await rig.recorder.write()
        async for entry in listing(prefix, deadline=deadline):
            yield entry

    monkeypatch.setattr(rig.store, "objects", objects_meanwhile)
    await rebuild(rig.store, rig.stream.catalog, "live")
    await rig.recorder.write()
    assert len(mains) == 2
    for key in mains:
        main = parse(rig.store.objects_[key].decode())
        assert isinstance(main, MultivariantPlaylist)
        assert [variant.bandwidth >= 4_000_000 for variant in main.variants] == [True]
