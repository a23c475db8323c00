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
def room(tmp_path: Path) -> Iterator[RecorderFixture]:
    made = RecorderFixture(tmp_path / "state")
    yield made
    made.studio.catalog.close()


def lose_the_state(room: RecorderFixture) -> None:
    """The next process finds an empty folder."""
    room.studio.catalog.close()
    shutil.rmtree(room.studio.folder)
    before = room.studio
    room.studio = CatalogFixture(before.folder)
    room.studio.now, room.studio.published = before.now, before.published
    room.new_recorder()


def comparable(found: list[Recording]) -> list[Recording]:
    return [replace(recording, secret="", revision=0) for recording in found]


async def test_all_comes_back(room: RecorderFixture) -> None:
    """Recordings and clips are as they were, to the byte, when all that is left is the bucket."""
    room.restart(30 * DAY)
    room.studio.publish("01", count=3)
    room.studio.publish("01", run=1, seconds=90)
    room.studio.publish("01", run=1, lost=True)
    room.studio.publish("0", run=2, count=3)
    room.studio.channel.end()
    (first,) = await room.studio.recordings()
    book = room.studio.catalog.recordings
    book.change(first.id, title="Größe & Ruhm", titled=True, visibility="hidden", secret="5ec4e7")
    room.studio.publish("0", run=3, count=9)
    room.studio.channel.end()
    newest = room.studio.newest
    clip = await room.studio.catalog.clips.make("A goal", newest - 9 * SECOND, newest - 4 * SECOND)
    room.upload()
    await room.recorder.write()
    objects, recordings = dict(room.store.objects_), await room.studio.recordings()
    lose_the_state(room)
    found = await rebuild(room.store, room.studio.catalog, "live")
    assert found == {"recordings": 2, "clips": 1, "failed": 0}
    assert comparable(await room.studio.recordings()) == comparable(recordings)
    (clip_again,) = await room.studio.catalog.clips.all()
    assert replace(clip_again, described=clip.described) == clip  # where BANDWIDTH is the measured one
    await room.recorder.write()
    assert room.store.objects_ == objects
    again = await rebuild(room.store, room.studio.catalog, "live")
    assert again == {"recordings": 0, "clips": 0, "failed": 0}
    sizes = [segment.size for part in await room.studio.segments() for segment in part]
    assert sizes == [1000] * 9


async def test_what_came_back_goes_as_ever(room: RecorderFixture) -> None:
    """What was brought back is deleted with its recording, and stays as long as a clip has it."""
    room.studio.publish("0", count=8)
    room.studio.channel.end()
    await room.studio.catalog.clips.make("", START + 5 * SECOND, START + 9 * SECOND)
    room.upload()
    await room.recorder.write()
    lose_the_state(room)
    await rebuild(room.store, room.studio.catalog, "live")
    (recording,) = await room.studio.recordings()
    room.studio.now += DAY
    assert await room.studio.catalog.due(100) == []
    room.studio.catalog.recordings.remove(recording)
    room.studio.now += DAY
    due = await room.studio.catalog.due(100)
    assert due == [f"live/r0/0/{number}.ts" for number in (0, 1, 5, 6, 7)]


async def test_clips_that_share_their_time(room: RecorderFixture) -> None:
    """They come back whole, whichever was made first, though the recording that had them is deleted."""
    room.studio.publish("01", count=20)
    room.studio.channel.end()
    catalog = room.studio.catalog
    await catalog.clips.make("later", START + 21 * SECOND, START + 35 * SECOND)
    room.studio.now += timedelta(minutes=1)
    await catalog.clips.make("earlier", START + 5 * SECOND, START + 25 * SECOND)
    room.upload()
    (recording,) = await room.studio.recordings()
    await catalog.recordings.delete(recording.id, at_once=True)
    await room.recorder.write()
    before = {key: body for key, body in room.store.objects_.items() if "/clips/" in key}
    lose_the_state(room)
    catalog = room.studio.catalog
    assert await rebuild(room.store, catalog, "live") == {"recordings": 0, "clips": 2, "failed": 0}
    await room.recorder.write()
    assert {key: body for key, body in room.store.objects_.items() if "/clips/" in key} == before
    whole = await catalog.clips.make("all", START + 5 * SECOND, START + 35 * SECOND)
    assert len(await catalog.clips.segments(whole)) == 32


async def test_a_stream_that_was_on_is_over(room: RecorderFixture) -> None:
    """What was recorded when the state was lost ends there; the stream goes on in another recording."""
    room.studio.publish("0", count=4)
    room.upload()
    await room.recorder.write()
    lose_the_state(room)
    room.studio.publish("0", run=7)
    await rebuild(room.store, room.studio.catalog, "live")
    await room.recorder.write()
    on, over = room.index()["recordings"]
    assert (on["ended"], over["ended"]) == (None, "2026-01-01T12:00:08+00:00")
    assert room.media(over["playlist"].replace("/playlist", "/0/playlist")).ended


async def test_what_cannot_be_read(room: RecorderFixture) -> None:
    """One that makes no sense keeps none of the others; a bucket that fails is tried again from the start."""
    for run in range(2):
        room.studio.publish("0", run=run)
        room.studio.channel.end()
    await room.recorder.write()
    (_, first) = await room.studio.recordings()
    room.store.objects_[f"live/recordings/{first.id}/0/playlist.m3u8"] = b"no playlist"
    lose_the_state(room)
    room.store.faults.append(StorageUnavailable("no answer"))
    with pytest.raises(StorageUnavailable):
        await rebuild(room.store, room.studio.catalog, "live")
    found = await rebuild(room.store, room.studio.catalog, "live")
    assert found == {"recordings": 1, "clips": 0, "failed": 1}


async def test_strays(room: RecorderFixture) -> None:
    """The sweep lists what no segment, view or neighbour needs, and deletes nothing else when asked to."""
    room.studio.publish("01", count=9)
    await room.studio.catalog.clips.make("", START + 5 * SECOND, START + 9 * SECOND)
    room.upload()
    await room.recorder.write()
    half = "live/recordings/2026-01-01-0000-abcdefghijklmn/0/playlist.m3u8"  # without its record
    strays = ["live/r0/0/99.ts", "live/old/0/1.ts", half]
    others = [
        "live/owner.json",
        "live/playlist.m3u8",
        "live/0/playlist.m3u8",
        "live/0/iframes.m3u8",
        "lives/x.ts",
    ]
    room.store.objects_ |= dict.fromkeys([*strays, *others], b"12345")
    before = set(room.store.objects_)
    catalog = room.studio.catalog
    found = await sweep(room.store, catalog, "live", {"live/owner.json"}, dry_run=True)
    keys = [*sorted(strays[:2]), half]
    assert found == {"objects": 3, "bytes": 15, "uploads": 0, "deleted": False, "keys": keys}
    assert set(room.store.objects_) == before
    await sweep(room.store, catalog, "live", {"live/owner.json"}, dry_run=False)
    assert set(room.store.objects_) == before - set(strays)
    lose_the_state(room)
    with pytest.raises(NotPossible, match="rebuild"):
        await sweep(room.store, room.studio.catalog, "live", (), dry_run=False)
    assert set(room.store.objects_) == before - set(strays)


async def test_what_is_being_deleted_is_known(room: RecorderFixture) -> None:
    """Until the objects of a deleted clip are gone, it is not unknown to a sweep, and not brought back."""
    room.restart(30 * DAY)
    room.studio.publish(count=9)
    room.studio.channel.end()
    catalog = room.studio.catalog
    clip = await catalog.clips.make("", START, START + 5 * SECOND)
    room.upload()
    await room.recorder.write()
    for at_once in (False, True):  # into the bin, where its address is another, and out of it
        catalog.clips.delete(clip.id, at_once=at_once)
        assert (await sweep(room.store, catalog, "live", (), dry_run=True))["objects"] == 0
        async with catalog.writer:
            assert (await rebuild(room.store, catalog, "live"))["clips"] == 0
    await room.recorder.write()
    assert not [key for key in room.store.objects_ if "/clips/" in key]


async def test_asked_for_twice(room: RecorderFixture) -> None:
    """Two that look into the bucket at once bring all back once, and nobody else suffers."""
    room.restart(30 * DAY)
    room.studio.publish(count=9)
    room.studio.channel.end()
    clips = room.studio.catalog.clips
    await clips.make("", START, START + 5 * SECOND)
    room.upload()
    await room.recorder.write()
    lose_the_state(room)
    catalog = room.studio.catalog
    async with catalog.writer:
        both = await asyncio.gather(*(rebuild(room.store, catalog, "live") for _ in range(2)))
        await catalog.writer.flush()
    assert [sum(summary[what] for summary in both) for what in ("recordings", "clips", "failed")] == [1, 1, 0]
    assert len(await room.studio.recordings()) == 1
    assert len(await room.studio.segments()) == 1


@pytest.mark.parametrize(("name", "value"), [("size", "x"), ("size", 2**70), ("id", ""), ("id", "other")])
async def test_what_makes_no_sense(room: RecorderFixture, name: str, value: object) -> None:
    """What is not as we write it is left alone, and the catalog goes on."""
    room.studio.publish(count=9)
    room.studio.channel.end()
    await room.recorder.write()
    (key,) = [key for key in room.store.objects_ if key.endswith("recording.json")]
    record = json.loads(room.store.objects_[key])
    room.store.objects_[key] = json.dumps({**record, name: value}).encode()
    lose_the_state(room)
    found = await rebuild(room.store, room.studio.catalog, "live")
    assert (found["recordings"], found["failed"]) == (0, 1)
    assert await room.studio.recordings() == []
    room.studio.publish()
    assert len(await room.studio.recordings()) == 1


async def test_a_neighbour_below_our_prefix(room: RecorderFixture) -> None:
    """What another broadcaster has, under a prefix that begins with ours, is not ours to judge."""
    room.studio.publish("0")
    theirs = ["live/second/owner.json", "live/second/r0/0/1.ts"]
    room.store.objects_ |= dict.fromkeys(theirs, b"12345")
    with pytest.raises(NotPossible, match="live/second"):
        await sweep(room.store, room.studio.catalog, "live", {"live/owner.json"}, dry_run=False)
    assert set(theirs) <= set(room.store.objects_)


async def test_written_before_sizes_are_known(room: RecorderFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who writes while the bucket is still listed does not make up its bandwidth for ever."""
    room.studio.publish("0", count=8)
    room.studio.channel.end()
    await room.studio.catalog.clips.make("", START + 5 * SECOND, START + 9 * SECOND)
    room.upload()
    await room.recorder.write()
    mains = [key for key in room.store.objects_ if key.count("/") == 3 and key.endswith("/playlist.m3u8")]
    room.store.objects_ |= dict.fromkeys(room.studio.published, bytes(1_000_000))
    lose_the_state(room)
    listing = room.store.objects

    async def objects_meanwhile(prefix: str, *, deadline: float) -> AsyncIterator[tuple[str, int]]:
        if prefix == "live/":
            await room.recorder.write()
        async for entry in listing(prefix, deadline=deadline):
            yield entry

    monkeypatch.setattr(room.store, "objects", objects_meanwhile)
    await rebuild(room.store, room.studio.catalog, "live")
    await room.recorder.write()
    assert len(mains) == 2
    for key in mains:
        main = parse(room.store.objects_[key].decode())
        assert isinstance(main, MultivariantPlaylist)
        assert [variant.bandwidth >= 4_000_000 for variant in main.variants] == [True]
