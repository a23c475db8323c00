"""Only deleting deletes: what is deleted waits for a day in a bin; no edit and no setting destroys it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import pytest

from broadcaster.catalog import Catalog
from broadcaster.catalog.records import Clip, ViewerClipLimits
from broadcaster.catalog.schema import BIN, MIGRATIONS
from broadcaster.recordings.rebuild import rebuild
from broadcaster.service import public_recordings as showing
from broadcaster.upload.deleter import sweep
from tests.support.fakes.old_catalog import old_journal
from tests.support.fakes.pipeline_parts import START
from tests.support.fakes.recorder_fixture import RecorderFixture

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
MANY = ViewerClipLimits(100, 100, 100)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[RecorderFixture]:
    made = RecorderFixture(tmp_path / "state")
    yield made
    made.stream.catalog.close()


async def a_recording_and_a_clip(rig: RecorderFixture) -> tuple[str, Clip]:
    """Both are in the bucket, and a file of the recording."""
    rig.stream.publish("0", count=9)
    rig.stream.channel.end()
    clip = await rig.stream.catalog.clips.make("A goal", START + 5 * SECOND, START + 9 * SECOND)
    rig.upload()
    await rig.recorder.write()
    (name,) = await rig.stream.recordings()
    return name.id, clip


def playlists(rig: RecorderFixture) -> dict[str, bytes]:
    return {
        key: body for key, body in rig.store.objects_.items() if "/recordings/" in key or "/clips/" in key
    }


async def test_what_is_deleted_comes_back_as_it_was(rig: RecorderFixture) -> None:
    """Its address leads nowhere at once; after a restart, and nearly a day, it is restored to the byte."""
    name, clip = await a_recording_and_a_clip(rig)
    before = playlists(rig)
    rig.stream.catalog.recordings.delete(name)
    rig.stream.catalog.clips.delete(clip.id)
    await rig.recorder.write()
    assert rig.index()["recordings"] == []
    assert not [key for key in playlists(rig) if f"/{name}/" in key or f"/{clip.id}/" in key]
    assert (await rig.stream.recordings(), await rig.stream.catalog.clips.all()) == ([], [])
    rig.stream.now += DAY - timedelta(minutes=1)
    rig.restart()
    await rig.recorder.write()
    assert await rig.stream.catalog.due(100) == []
    catalog = rig.stream.catalog
    (binned,), (binned_clip,) = await catalog.recordings.bin(), await catalog.clips.bin()
    assert (binned.id, binned_clip.id) == (name, clip.id)
    assert (await sweep(rig.store, catalog, "live", (), dry_run=True))["objects"] == 0
    catalog.recordings.restore(name)
    catalog.clips.restore(clip.id)
    await rig.recorder.write()
    assert playlists(rig) == before


async def test_the_day_of_the_bin(rig: RecorderFixture) -> None:
    """It is counted from the deletion, whatever is asked meanwhile; then all goes that nothing else has."""
    name, clip = await a_recording_and_a_clip(rig)
    catalog = rig.stream.catalog
    catalog.recordings.delete(name)
    catalog.clips.delete(clip.id)
    rig.stream.now += DAY - SECOND
    catalog.recordings.delete(name)  # again
    await rig.recorder.write()
    rig.stream.now += SECOND
    await rig.recorder.write()
    assert await catalog.recordings.bin() == []
    assert [key for key in playlists(rig) if "index" not in key] == []
    rig.stream.publish("0", run=1, count=8)
    rig.stream.now += DAY
    assert len([key for key in await catalog.due(100) if "/r0/" in key]) == 9


async def test_at_once(rig: RecorderFixture) -> None:
    """Where it is wanted, nothing waits, in the bin or not."""
    name, clip = await a_recording_and_a_clip(rig)
    catalog = rig.stream.catalog
    catalog.recordings.delete(name)
    catalog.recordings.delete(name, at_once=True)
    catalog.clips.delete(clip.id, at_once=True)
    await rig.recorder.write()
    assert [key for key in playlists(rig) if "index" not in key] == []
    catalog.recordings.restore(name)
    assert await rig.stream.recordings() == []


async def test_no_edit_deletes(rig: RecorderFixture) -> None:
    """Whatever number of days is asked for, and whoever edits, it stays for a day at least."""
    rig.restart(timedelta(days=3))
    name, _ = await a_recording_and_a_clip(rig)
    table = rig.stream.catalog.recordings
    for days in (0, -1, -40_000):
        table.keep(name, days)
        await rig.recorder.write()
        rig.stream.now += DAY / 4
        await rig.recorder.write()
        assert [recording.id for recording in await rig.stream.recordings()] == [name]
    for column in ("keep_until", "deleted"):
        with pytest.raises(ValueError, match="no edit deletes"):
            table.change(name, **{column: 0})
    table.delete(name)
    rig.stream.now += DAY * 5 / 6  # and what it was to be kept for passes in the bin
    table.restore(name)
    rig.stream.now += DAY / 2
    assert await table.expired() == []


async def test_a_shorter_setting_deletes_no_clip_of_viewers(rig: RecorderFixture) -> None:
    """Each is kept for as long as was said when it was made, by an older version as well."""
    rig.restart(30 * DAY)
    rig.stream.publish("0", count=6)
    kept, older = [await rig.stream.catalog.clips.make("", START, START + 5 * SECOND, MANY) for _ in range(2)]
    rig.stream.now += 10 * DAY
    connection = rig.stream.catalog.writer._connection  # noqa: SLF001 - as a migration leaves it
    connection.execute("UPDATE clips SET keep_until = -1 WHERE id = ?", (older.id,))
    rig.restart(DAY)
    rig.stream.now += timedelta(hours=2)  # after which no clock is doubted
    assert await rig.stream.catalog.clips.expired() == []
    rig.stream.now += DAY
    assert [name.id for name in await rig.stream.catalog.clips.expired()] == [older.id]
    rig.stream.now += 19 * DAY
    assert {name.id for name in await rig.stream.catalog.clips.expired()} == {kept.id, older.id}


async def test_a_lost_state_loses_no_bin(rig: RecorderFixture, tmp_path: Path) -> None:
    """What was in the bin comes back into it, and nothing that comes back goes at once."""
    rig.restart(DAY)
    name, clip = await a_recording_and_a_clip(rig)
    rig.stream.catalog.recordings.delete(name)
    rig.stream.catalog.clips.delete(clip.id)
    await rig.recorder.write()
    rig.stream.catalog.close()
    rig.stream.now += 40 * DAY
    rig.stream.folder = tmp_path / "another"
    rig.stream.open(None)
    rig.new_recorder()
    catalog = rig.stream.catalog
    assert (await rebuild(rig.store, catalog, "live"))["failed"] == 0
    await rig.recorder.write()
    assert ([name.id for name in await catalog.recordings.bin()], await rig.stream.recordings()) == (
        [name],
        [],
    )
    assert [name.id for name in await catalog.clips.bin()] == [clip.id]
    catalog.recordings.restore(name)
    rig.stream.now += DAY / 2
    await rig.recorder.write()
    assert [name["id"] for name in rig.index()["recordings"]] == [name]


@pytest.mark.parametrize("one_of", ["recording", "clip"])
async def test_restored_at_the_last_moment(
    rig: RecorderFixture, one_of: Literal["recording", "clip"]
) -> None:
    """Who restores one while it is being removed gets it, with its playlists."""
    name, clip = await a_recording_and_a_clip(rig)
    catalog, before = rig.stream.catalog, playlists(rig)
    table, gone = (catalog.recordings, name) if one_of == "recording" else (catalog.clips, clip.id)
    table.delete(gone)
    await rig.recorder.write()
    rig.stream.now += DAY
    rig.store.meanwhile = lambda: table.restore(gone)
    await rig.recorder.write()
    await rig.recorder.write()
    assert playlists(rig) == before


async def test_viewers_clips_take_no_place_from_the_operators(
    rig: RecorderFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many newer ones viewers have made, the operator's have their pages."""
    rig.restart(30 * DAY)
    rig.stream.publish("0", count=6)
    clips = rig.stream.catalog.clips
    own = await clips.make("Mine", START, START + 5 * SECOND)
    for _ in range(4):
        await clips.make("", START + SECOND, START + 6 * SECOND, MANY)
    monkeypatch.setattr(showing, "MOST", 2)
    found = showing.public_recordings((), {}, await clips.all(), "https://video.example.com/live/recordings/")
    assert f"/c/{own.id}" in found
    assert len(found) == 3


async def test_ids_are_not_guessed(rig: RecorderFixture) -> None:
    """An id has more than 64 bits that are left to chance, and so has the address of what is unlisted."""
    name, clip = await a_recording_and_a_clip(rig)
    for public_name in (name, clip.id):
        letters = public_name.rpartition("-")[2]
        assert 31 ** len(letters) > 2**64
    rig.stream.catalog.recordings.change(name, visibility="unlisted", secret="0123456789abcdef")
    await rig.recorder.write()
    (unlisted,) = await rig.stream.recordings()
    assert unlisted.folder == f"{name}-0123456789abcdef"
    found = showing.public_recordings([unlisted], {}, (), "https://video.example.com/live/recordings/")
    assert list(found) == [f"/watch/{unlisted.folder}"]
    assert not [key for key in playlists(rig) if f"/{name}/" in key]


async def test_an_older_bin(tmp_path: Path) -> None:
    """What an older version was about to delete is in the bin after an upgrade; links given out stay."""
    path = tmp_path / "journal.db"
    old_journal(path, MIGRATIONS.index(BIN) + 1)
    values = "'', 0, ?, 's', 0, 1, ?, 0, 0, 1, 1, 0, 0, 0"
    with closing(sqlite3.connect(path)) as connection, connection:
        for name, visibility, until in (("a", "listed", 0), ("b", "unlisted", None)):
            connection.execute(f"INSERT INTO recordings VALUES ('{name}', {values})", (visibility, until))
        connection.executescript(
            """
            INSERT INTO clips VALUES ('c', '', 0, 0, 1, '[]', '[]', 1, 1, 0, 0, 0);
            INSERT INTO clips VALUES ('v', '', 0, 0, 1, '[]', '[]', 0, 1, 1, 0, 0);
            """
        )
    with closing(Catalog(tmp_path, lambda: datetime.now(UTC), recordings=DAY)) as catalog:
        assert [name.id for name in await catalog.recordings.bin()] == ["a"]
        assert [name.folder for name in await catalog.recordings.all()] == ["b"]
        assert [name.id for name in await catalog.clips.bin()] == ["c"]
        assert (await catalog.recordings.expired(), await catalog.clips.expired()) == ([], [])


async def test_the_bin_is_read_by_the_thread_that_writes(rig: RecorderFixture) -> None:
    """While the service runs, the event loop never uses the journal's connection."""
    name, clip = await a_recording_and_a_clip(rig)
    catalog = rig.stream.catalog
    async with catalog.writer:
        await catalog.recordings.delete(name)
        await catalog.clips.delete(clip.id)
        assert len(await catalog.recordings.bin()) == len(await catalog.clips.bin()) == 1
        assert await catalog.files.bin() == await catalog.files.removed(rig.stream.now) == []
        await rig.recorder.write()
        assert (await rebuild(rig.store, catalog, "live"))["failed"] == 0
        assert (await sweep(rig.store, catalog, "live", (), dry_run=True))["objects"] == 0
        await catalog.recordings.restore(name)
        await catalog.clips.restore(clip.id)
        await rig.recorder.write()
    assert [name["id"] for name in rig.index()["recordings"]] == [name]
