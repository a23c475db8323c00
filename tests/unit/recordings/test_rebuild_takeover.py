"""A broadcaster that takes over goes on with what another one has recorded, and loses nothing of it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from broadcaster.bucket.lease import MARGIN
from broadcaster.catalog import rows
from broadcaster.catalog.recordings import ViewTable
from broadcaster.catalog.records import Clip, Recording
from broadcaster.catalog.rows import Statement
from broadcaster.catalog.writer import TransactionWriter
from broadcaster.errors import NotPossible, StorageUnavailable
from broadcaster.hls import MediaPlaylist, parse
from broadcaster.recordings.rebuild import catch_up, go_on, rebuild
from broadcaster.upload.deleter import sweep
from tests.support.fakes.pipeline_parts import stored_segment
from tests.support.fakes.recorder_fixture import RecorderFixture

GRACE = timedelta(minutes=5)
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)


@pytest.fixture
def rooms(tmp_path: Path) -> Iterator[list[RecorderFixture]]:
    """Two broadcasters with one bucket, of which the first one leads."""
    made = [RecorderFixture(tmp_path / name) for name in "ab"]
    made[1].store = made[0].store
    for rig in made:
        rig.restart(30 * DAY)
    yield made
    for rig in made:
        rig.stream.catalog.close()


def take_over(rig: RecorderFixture, before: RecorderFixture) -> None:
    """The other one leads no more."""
    stream, reached = rig.stream, before.stream.channel.stream.numbers
    stream.now, stream.count = before.stream.now, before.stream.count
    stream.catalog.begin_after(reached.plus(MARGIN), stream.now + GRACE)
    stream.begin()
    rig.new_recorder()


async def read_all(rig: RecorderFixture) -> str | None:
    """What the service does in the background after a takeover; returns the recording that goes on."""
    going_on = await go_on(rig.store, rig.stream.catalog, "live")
    await catch_up(rig.store, rig.stream.catalog, "live")
    await rig.stream.catalog.caught_up()
    return going_on


async def views(rig: RecorderFixture) -> list[Recording | Clip]:
    """All that it knows, without what each broadcaster has for itself."""
    found = [
        replace(view, revision=0, secret="", bin=view.bin if view.deleted else "")
        if isinstance(view, Recording)
        else view
        for view in await rig.stream.catalog.views()
    ]
    return sorted(found, key=lambda view: view.id)


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("come_before", [0, 1, 5])
async def test_the_recording_goes_on(
    rooms: list[RecorderFixture],
    come_before: int,
    restarts: bool,  # noqa: FBT001
) -> None:
    """It is one, with a discontinuity, of segments of both; the rest is as it was, nothing is deleted.

    It does not matter how much comes before the bucket's recording is read.
    """
    first, second = rooms
    first.stream.publish("01", count=4)
    first.stream.channel.end()
    first.stream.publish("01", run=1, count=9)
    await first.stream.catalog.clips.make("A goal", first.stream.newest - 9 * SECOND, first.stream.newest)
    (_, earlier) = await first.stream.recordings()
    await first.stream.catalog.recordings.delete(earlier.id)
    first.upload()
    await first.recorder.write()
    known, objects = await views(first), set(first.store.objects_)
    take_over(second, first)
    if restarts:
        second.restart(30 * DAY)
    assert second.stream.catalog.load().stream.expected == frozenset("01")
    if come_before:
        second.stream.publish("01", run=MARGIN + 2, count=come_before)
        assert second.stream.catalog.load().stream.expected == frozenset()
    for variant in "01":  # is on its way
        number = second.stream.count
        key = f"live/r{MARGIN + 2}/{variant}/{number}.ts"
        second.stream.catalog.noticed(stored_segment(key, number=number, variant=variant, run=MARGIN + 2))
    if restarts:
        second.restart(30 * DAY)
    for work in (
        sweep(second.store, second.stream.catalog, "live", (), dry_run=False),
        rebuild(second.store, second.stream.catalog, "live"),
    ):
        with pytest.raises(NotPossible, match="are being read"):
            await work
    going_on = await read_all(second)
    if restarts:
        second.restart(30 * DAY)
    second.stream.publish("01", run=MARGIN + 2, count=7 - come_before)
    second.upload()
    await second.recorder.write(everything=True)
    (on,) = second.index()["recordings"]
    assert (on["id"], on["ended"], on["duration"], len(on["parts"])) == (going_on, None, 32, 1)
    playlist = second.media(f"{going_on}/0/playlist.m3u8")
    assert [segment.discontinuity for segment in playlist.segments] == [False] * 9 + [True] + [False] * 6
    names = [segment.uri.rpartition("/")[2] for segment in playlist.segments]
    assert names == [f"{number}.ts" for number in range(4, 20)]
    assert {view.id for view in await views(second)} == {view.id for view in known}
    (in_bin,) = await second.stream.catalog.recordings.bin()
    (was_in_bin,) = await first.stream.catalog.recordings.bin()
    assert (in_bin.deleted, in_bin.keep_until) == (was_in_bin.deleted, was_in_bin.keep_until)
    assert objects <= set(second.store.objects_)


async def read_playlist(rig: RecorderFixture, key: str) -> MediaPlaylist:
    """The media playlist at this key; the times in it may go back."""
    playlist = parse((await rig.store.get(key, deadline=9)).decode())
    assert isinstance(playlist, MediaPlaylist)
    return playlist


async def test_times_that_go_back(rooms: list[RecorderFixture]) -> None:
    """A recording stays in the order of its playlist, also where a leader did not know how far times were."""
    first, second = rooms
    first.stream.publish("01", count=6)
    first.upload()
    await first.recorder.write()
    keys = [key for key in first.store.objects_ if key.endswith(("/0/playlist.m3u8", "/1/playlist.m3u8"))]
    for key in keys:
        playlist = await read_playlist(first, key)
        listed = list(playlist.segments)
        listed[3] = replace(listed[3], program_date_time=listed[0].program_date_time)
        first.store.objects_[key] = replace(playlist, segments=tuple(listed)).render().encode()
    take_over(second, first)
    await read_all(second)
    second.stream.publish("01", run=MARGIN + 1)
    second.upload()
    await second.recorder.write(everything=True)
    for key in keys:
        names = [segment.uri.rpartition("/")[2] for segment in (await read_playlist(second, key)).segments]
        assert names == [f"{number}.ts" for number in range(7)]


@pytest.mark.parametrize("come_before", [0, 2])
async def test_to_and_fro(rooms: list[RecorderFixture], come_before: int) -> None:
    """Whoever has led before knows a part of the recording, and puts the bucket's in its place."""
    first, second = rooms
    numbers = list[str]()
    for run, (before, leader) in enumerate(zip([second, *rooms * 2], rooms * 2 + [first], strict=True)):
        take_over(leader, before)
        leader.stream.publish("01", run=MARGIN * (run + 1) + run, count=come_before)
        await read_all(leader)
        leader.stream.publish("01", run=MARGIN * (run + 1) + run, count=4 - come_before)
        leader.upload()
        await leader.recorder.write(everything=True)
        numbers += [f"{number}.ts" for number in range(4 * run, 4 * run + 4)]
        (on,) = leader.index()["recordings"]
        for variant in "01":
            segments = leader.media(f"{on['id']}/{variant}/playlist.m3u8").segments
            assert [segment.uri.rpartition("/")[2] for segment in segments] == numbers
    leader.restart(30 * DAY)
    assert leader.stream.catalog.load().source.positions["0"].run.number == MARGIN * (run + 1) + run


async def test_the_stream_ends_before_it_is_read(rooms: list[RecorderFixture]) -> None:
    """What has ended, also with other variants, and another stream that is on: each is one recording."""
    first, second = rooms
    first.stream.publish("01", count=6)
    first.upload()
    await first.recorder.write()
    take_over(second, first)
    stream = second.stream
    stream.publish("0", run=MARGIN + 1, count=3)
    stream.publish("01", run=MARGIN + 2, count=3)
    (sequel,) = await stream.recordings()
    stream.catalog.recordings.change(
        sequel.id, title="The final", titled=True, visibility="hidden", secret="s"
    )
    stream.channel.end()
    stream.publish("01", run=MARGIN + 3, count=2)
    going_on = await read_all(second)
    second.upload()
    await second.recorder.write(everything=True)
    on, over = await stream.recordings()
    assert (over.id, over.title, over.visibility) == (going_on, "The final", "hidden")
    assert (on.ended, on.duration, over.duration) == (None, 4 * SECOND, 26 * SECOND)
    folder = f"{going_on}-{over.secret}"
    lists = ("0", "1", "part-2/0", "part-2/1")
    lengths = [len(second.media(f"{folder}/{name}/playlist.m3u8").segments) for name in lists]
    assert lengths == [10, 6, 2, 3]  # that a variant is new is known with its first segment
    assert not [name for name in second.names if name.startswith(sequel.id)]


@pytest.mark.parametrize("pieces", range(8))
async def test_killed_while_it_reads(rooms: list[RecorderFixture], pieces: int) -> None:
    """A long recording is read in pieces, each of them a short transaction, and the next start goes on."""
    first, second = rooms
    first.stream.publish("01", count=9)
    first.stream.publish("012", count=2)
    first.upload()
    await first.recorder.write()
    take_over(second, first)
    second.stream.publish("012", run=MARGIN + 1, count=3)
    longest, transact = 0, TransactionWriter.transact

    def killed(writer: TransactionWriter, statements: Sequence[Statement]) -> None:
        nonlocal pieces, longest
        pieces -= 1
        if pieces < 0:
            raise KeyboardInterrupt
        longest = max(longest, len(statements))
        transact(writer, statements)

    with mock.patch.object(rows, "MOST", 3), mock.patch.object(TransactionWriter, "transact", killed):
        with suppress(KeyboardInterrupt):
            await read_all(second)
        assert pieces < 0
        assert longest <= 12
    second.restart(30 * DAY)
    going_on = await read_all(second)
    second.upload()
    await second.recorder.write(everything=True)
    (on,) = await second.stream.recordings()
    assert on.id == going_on
    segments = [segment for part in await second.stream.segments() for segment in part]
    for variant, begin in (("0", 0), ("1", 0), ("2", 9)):
        names = [segment.key.rpartition("/")[2] for segment in segments if segment.variant == variant]
        assert names == [f"{number}.ts" for number in range(begin, 14)]


@pytest.mark.parametrize("later", range(2, 18, 2))
async def test_segments_come_while_it_reads(rooms: list[RecorderFixture], later: int) -> None:
    """Wherever the stream begins between the pieces that are read, each segment is there once, in order."""
    first, second = rooms
    first.stream.publish("01", count=9)
    first.upload()
    await first.recorder.write()
    take_over(second, first)
    count = 9

    async def reads(writer: TransactionWriter, question: Callable[[], Any]) -> object:
        nonlocal later, count
        later -= 1
        if later < 0:
            second.stream.publish("01", run=MARGIN + 1)
            count += 1
        return await read(writer, question)

    read = TransactionWriter.read
    with mock.patch.object(rows, "MOST", 3), mock.patch.object(TransactionWriter, "read", reads):
        await read_all(second)
    second.upload()
    await second.recorder.write(everything=True)
    (on,) = second.index()["recordings"]
    assert count > 12
    for variant in "01":
        names = [segment.uri for segment in second.media(f"{on['id']}/{variant}/playlist.m3u8").segments]
        assert [name.rpartition("/")[2] for name in names] == [f"{number}.ts" for number in range(count)]


async def test_who_comes_back(rooms: list[RecorderFixture]) -> None:
    """It knows what the other one has changed, restored and deleted, and deletes nothing on its own."""
    first, second = rooms
    for run in range(3):
        first.stream.publish("0", run=run, count=6)
        first.stream.channel.end()
    clip = await first.stream.catalog.clips.make("", first.stream.newest - 9 * SECOND, first.stream.newest)
    newest, restored, gone = await first.stream.recordings()
    await first.stream.catalog.recordings.delete(restored.id)
    first.upload()
    await first.recorder.write()
    take_over(second, first)
    assert await read_all(second) is None
    table = second.stream.catalog.recordings
    table.change(newest.id, title="The final", titled=True, opened=True)
    table.restore(restored.id)
    await table.delete(gone.id, at_once=True)
    await second.stream.catalog.clips.delete(clip.id)
    second.stream.publish("0", run=MARGIN + 3, count=3)
    second.upload()
    await second.recorder.write()
    take_over(first, second)
    first.store.faults.append(StorageUnavailable("no answer"))
    with pytest.raises(StorageUnavailable):
        await read_all(first)
    await read_all(first)
    assert await views(first) == await views(second)
    objects = set(first.store.objects_)
    await first.recorder.write()
    assert objects <= set(first.store.objects_)
    first.stream.now += DAY
    assert await first.stream.catalog.due(100) == []


@pytest.mark.parametrize("state", ["bucket", "standby", "lost"])
@pytest.mark.parametrize("is_deleted", [True, False])
async def test_a_leader_is_killed_while_it_moves(
    rooms: list[RecorderFixture],
    is_deleted: bool,  # noqa: FBT001
    state: str,
) -> None:
    """What was moved into the bin or out of it is there once, and the next leader removes the leftovers."""
    first, second = rooms
    first.stream.publish("01", count=6)
    first.stream.channel.end()
    await first.stream.catalog.clips.make("", first.stream.newest - 9 * SECOND, first.stream.newest)
    first.upload()
    tables: list[ViewTable[Any]] = [first.stream.catalog.recordings, first.stream.catalog.clips]
    names = [view.id for table in tables for view in await table.all()]
    for table, name in zip(tables, names, strict=True):
        await first.recorder.write()
        if not is_deleted:
            await table.delete(name)
            await first.recorder.write()
    if state == "standby":
        await catch_up(second.store, second.stream.catalog, "live")
    for table, name in zip(tables, names, strict=True):
        await (table.delete(name) if is_deleted else table.restore(name))
    with mock.patch.object(first.store, "delete"):  # killed before that
        await first.recorder.write()
    twins = {key for key in first.store.objects_ if key.endswith(("recording.json", "clip.json"))}
    assert len(twins) == 4
    if state == "lost":
        assert (await rebuild(second.store, second.stream.catalog, "live"))["failed"] == 0
        second.new_recorder()
    else:
        take_over(second, first)
        await read_all(second)
    await second.recorder.write()
    left = {key for key in first.store.objects_ if key.endswith(("recording.json", "clip.json"))}
    catalog = second.stream.catalog
    in_bin = [view.id for table in (catalog.recordings, catalog.clips) for view in await table.bin()]
    listed = [view.id for table in (catalog.recordings, catalog.clips) for view in await table.all()]
    assert (in_bin, listed) == ((names, []) if is_deleted else ([], names))
    assert len(left) == 2
    assert left < twins or state == "lost"  # there the bin is another one
    assert first.stream.published <= second.store.objects_.keys()


async def test_a_leftover_that_has_more(rooms: list[RecorderFixture]) -> None:
    """An older folder that lists a segment which the newer one has not is no leftover: nothing is deleted."""
    first, second = rooms
    first.stream.publish("0", count=6)
    first.stream.channel.end()
    first.upload()
    await first.recorder.write()
    (recording,) = await first.stream.recordings()
    await first.stream.catalog.recordings.delete(recording.id)
    with mock.patch.object(first.store, "delete"):
        await first.recorder.write()
    playlist = f"live/recordings/{recording.id}/0/playlist.m3u8"
    text = first.store.objects_[playlist].decode()
    assert "/0/5.ts" in text
    first.store.objects_[playlist] = text.replace("/0/5.ts", "/0/other.ts").encode()
    objects = dict(first.store.objects_)
    take_over(second, first)
    await read_all(second)
    await second.recorder.write()
    assert await views(second) == []
    assert second.store.objects_.items() >= objects.items()


@pytest.mark.parametrize("is_read", [False, True])
@pytest.mark.parametrize("comes", [False, True])
async def test_another_stream(rooms: list[RecorderFixture], comes: bool, is_read: bool) -> None:  # noqa: FBT001
    """A recording whose stream does not go on within the grace time ends; the next one is another."""
    first, second = rooms
    first.stream.publish("0", count=6)
    first.upload()
    await first.recorder.write()
    take_over(second, first)
    over = await go_on(second.store, second.stream.catalog, "live") if is_read else None
    late = second.stream.now = second.stream.now + 2 * GRACE
    if comes:
        second.stream.publish("0", run=MARGIN + 1, count=2)
    assert await read_all(second) is None
    await second.recorder.write()
    *on, ended = await second.stream.recordings()
    assert over in (ended.id, None)
    assert (ended.duration, len(second.media(f"{ended.id}/0/playlist.m3u8").segments)) == (12 * SECOND, 6)
    assert ended.keep_until
    assert late <= ended.keep_until - 30 * DAY <= second.stream.now
    assert [recording.ended for recording in on] == [None] * comes
    assert second.media(f"{ended.id}/0/playlist.m3u8").ended


async def test_what_only_the_catalog_has(rooms: list[RecorderFixture]) -> None:
    """What a leader could not write any more is not lost when it leads again; the bucket's recording ends."""
    first, second = rooms
    first.stream.publish("0", count=6)
    first.upload()
    await first.recorder.write()
    clip = await first.stream.catalog.clips.make("", first.stream.newest - 9 * SECOND, first.stream.newest)
    take_over(second, first)
    second.stream.publish("0", run=MARGIN + 1, count=3)
    going_on = await read_all(second)
    second.upload()
    await second.recorder.write(everything=True)
    stream = first.stream
    stream.now = second.stream.now
    stream.catalog.begin_after(second.stream.channel.stream.numbers.plus(MARGIN))
    stream.restart(30 * DAY)  # the bucket was too slow, and the process was killed
    assert stream.catalog.is_behind
    first.new_recorder()
    await read_all(first)
    await first.recorder.write()
    (ended,) = await stream.recordings()
    assert (ended.id, ended.duration, ended.ended) == (going_on, 18 * SECOND, second.stream.newest)
    assert await stream.catalog.clips.all() == [clip]
    assert len(await stream.catalog.clips.segments(clip)) == 5
    assert not stream.catalog.is_behind
    stream.restart(30 * DAY)
    assert not stream.catalog.is_behind


async def test_time_goes_on(rooms: list[RecorderFixture]) -> None:
    """What the other source has of the same time is placed after it, as after each restart of an encoder."""
    first, second = rooms
    first.stream.publish("0", count=6)
    first.upload()
    await first.recorder.write()
    take_over(second, first)
    second.stream.now -= 7 * SECOND
    second.stream.publish("0", run=MARGIN + 1, count=3)
    await read_all(second)
    times = [segment.time for part in await second.stream.segments() for segment in part]
    assert times == [first.stream.newest + number * 2 * SECOND for number in range(-6, 3)]
