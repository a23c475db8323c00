"""Whatever somebody has written into the bucket is refused or taken in, and harms no other recording.

``make soak`` tries 2,000 buckets.
"""

import asyncio
import gzip
import itertools
import json
import shutil
import tempfile
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from broadcaster.bucket import Bucket
from broadcaster.bucket.client import LARGEST, ObjectStore
from broadcaster.catalog.records import Recording, RecordingSegment
from broadcaster.errors import StorageRefused
from broadcaster.recordings.rebuild import rebuild
from broadcaster.service.public_recordings import public_recordings
from broadcaster.upload.deleter import RetentionDeleter
from tests.support.fakes.catalog_fixture import CatalogFixture
from tests.support.fakes.pipeline_parts import START
from tests.support.fakes.recorder_fixture import RecorderFixture
from tests.support.length import seconds

YEAR = timedelta(days=365)
BASE = "https://video.example.com/live/recordings/"
OWN = "live/20260101T120000Z-3-abcd/0/x.ts"


@dataclass
class World:
    """A bucket with a recording that the catalog knows, and a clip of it, and one that was lost."""

    rig: RecorderFixture
    known: Recording
    lost: str
    objects: dict[str, bytes]
    segments: dict[str, list[list[str]]]


def keys(parts: list[list[RecordingSegment]]) -> list[list[str]]:
    return [[segment.key for segment in part] for part in parts]


def flat(parts: list[list[str]]) -> list[str]:
    return list(itertools.chain(*parts))


async def made(folder: Path) -> World:
    rig = RecorderFixture(folder / "first")
    rig.stream.publish("01", count=4)
    rig.stream.channel.end()
    rig.upload()
    await rig.recorder.write()
    (lost,) = await rig.stream.recordings()
    segments = {lost.id: keys(await rig.stream.segments())}
    rig.stream.catalog.close()
    before, rig.stream = rig.stream, CatalogFixture(folder / "second")
    rig.stream.now, rig.stream.count = before.now, before.count
    rig.new_recorder()
    rig.stream.publish("0", run=1, count=8)
    rig.stream.channel.end()
    begin = before.now + timedelta(seconds=2)
    await rig.stream.catalog.clips.make("Mine", begin, begin + timedelta(seconds=5))
    rig.upload()
    await rig.recorder.write()
    (known,) = await rig.stream.recordings()
    segments[known.id] = keys(await rig.stream.segments())
    return World(rig, known, lost.id, dict(rig.store.objects_), segments)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, Path]:
    """Made once: each example has a copy of the catalog and of the bucket."""
    folder = tmp_path_factory.mktemp("world")
    world = asyncio.run(made(folder))
    world.rig.stream.catalog.close()
    return world, folder / "second"


def copy_of(world: World, catalog: Path, folder: Path) -> World:
    shutil.copytree(catalog, folder / "state")
    rig = RecorderFixture(folder / "state")
    rig.stream.now = world.rig.stream.now
    rig.store.objects_ = dict(world.objects)
    return World(rig, world.known, world.lost, world.objects, world.segments)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
TIMES = st.sampled_from(
    [
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "1970-01-01T00:00:00+00:00",
        "2026-01-01T12:00:00+00:00",
        "2199-12-31T23:59:59Z",
        "2026-01-01T12:00:00",
        1e300,
        -1,
        None,
    ]
)
NUMBERS = st.sampled_from([0, -1, 1e300, 1e15, 2**53, 2**63, 2**70, "18", "x", True, [[[]]]])
IDS = st.sampled_from(
    ["2", "", "..", "2026", "a/b", "2026-01-01-1200-abcd", "2026-01-01-1200-abcdefghjkmnpq"]
)
CHANGES = {
    "id": IDS,
    "title": st.text(max_size=30),
    "visibility": st.sampled_from(["listed", "unlisted", "hidden", "x", None]),
    "started": TIMES,
    "ended": TIMES,
    "keepUntil": TIMES,
    "deleted": TIMES,
    "duration": NUMBERS,
    "size": NUMBERS,
    "file": st.sampled_from(
        [
            None,
            {},
            {"url": "../files/2026-01-01-1200-abcd-0123456789abcdef.mp4", "size": 5, "type": "video/mp4"},
            {"url": "../owner.json", "size": 5, "type": "video/mp4"},
            {"url": "../r1/0/5.ts", "size": 2**70, "type": "a\nb"},
        ]
    ),
    "poster": st.sampled_from([None, "x", 5]),
}
KEYS = st.sampled_from(
    [
        "../../../r0/0/0.ts",
        "../../../r1/0/4.ts",
        "../../../r1/0/5.ts",
        "../../../20260101T120000Z-3-abcd/0/x.ts",
        "../../../owner.json",
        "../../index.json",
        "../playlist.m3u8",
        "../../../../../../etc/passwd",
        "/live/r1/0/4.ts",
        "https://evil.example/x.ts",
        "../../../second/r0/0/1.ts",
        "../../../files/0/x.mp4",
        "../../../r1/0/%2e%2e/x.ts",
    ]
)
SEGMENTS = st.lists(
    st.tuples(KEYS, st.sampled_from(["2.0", "600", "0", "1e300", "nan", "-1"]), st.booleans()),
    max_size=6,
)


def media(segments: list[tuple[str, str, bool]], map_key: str | None, time: str) -> bytes:
    lines = ["#EXTM3U", "#EXT-X-VERSION:8", "#EXT-X-TARGETDURATION:2"]
    lines += [f'#EXT-X-MAP:URI="{map_key}"'] if map_key else []
    lines += [f"#EXT-X-PROGRAM-DATE-TIME:{time}"]
    for key, duration, gap in segments:
        lines += [*(["#EXT-X-GAP"] if gap else []), f"#EXTINF:{duration},", key]
    return "\n".join([*lines, "#EXT-X-ENDLIST", ""]).encode()


@st.composite
def crafted(draw: st.DrawFn) -> dict[str, bytes]:
    """Objects of a folder that somebody has written, and an index."""
    name = draw(
        st.sampled_from(["2", "2026-01-01-1200-abcd", "2026-01-01-1200-abcd", "2026-01-01-1200-abcd-12ab"])
    )
    kind, file_name = draw(st.sampled_from([("recordings", "recording.json"), ("clips", "clip.json")]))
    record: dict[str, Any] = {"id": name[:20], "title": "", "visibility": "listed", "keepUntil": None}
    moments = ("started", "ended", "made", "begin")
    record |= dict.fromkeys(moments, "2026-01-01T12:00:00+00:00")
    record |= {"end": "2026-01-01T12:00:20+00:00", "duration": 8, "size": 8000, "file": None, "poster": None}
    for field in draw(st.lists(st.sampled_from(sorted(CHANGES)), max_size=3, unique=True)):
        record[field] = draw(CHANGES[field] | ANYTHING)
    body = draw(
        st.sampled_from([json.dumps(record).encode()] * 6 + [b"[" * 100_000, b"{", b"\xff", b"null", b""])
        | st.binary(max_size=40)
        | ANYTHING.map(lambda value: json.dumps(value).encode())
    )
    variant = draw(st.sampled_from(["0", "0", "0", "..", "r1", "files", "0\n", "a" * 70]))
    uri = draw(st.sampled_from([f"{variant}/playlist.m3u8"] * 5 + ["playlist.m3u8", "../x/0/playlist.m3u8"]))
    bandwidth = draw(st.sampled_from(["1000"] * 5 + ["9" * 30, "1e300"]))
    main = f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH={bandwidth}\n{uri}\n".encode()
    time = draw(st.sampled_from(["2026-01-01T12:00:01Z"] * 5 + ["0001-01-01T00:00:00+14:00"]))
    folder = f"live/{kind}/{name}"
    found = {
        f"{folder}/{file_name}": body,
        f"{folder}/playlist.m3u8": draw(st.sampled_from([main, main, b"x"])),
    }
    listed = media(draw(SEGMENTS), draw(st.none() | KEYS), time)
    found[f"{folder}/{variant}/playlist.m3u8"] = draw(st.sampled_from([listed, listed, main, b"\x1f\x8b"]))
    if draw(st.booleans()):
        found[f"{folder}/part-{draw(st.sampled_from(['2', '3', '9' * 40]))}/playlist.m3u8"] = main
    found["live/recordings/index.json"] = draw(ANYTHING.map(lambda value: json.dumps(value).encode()))
    return found


async def attacked(world: World, objects: dict[str, bytes]) -> None:
    """The service finds them, brings back what it can, goes on, and deletes what came back."""
    rig, catalog = world.rig, world.rig.stream.catalog
    store = rig.store.objects_
    store |= objects
    others = {"live/owner.json": b"{}", OWN: b"1", "live/second/r0/0/1.ts": b"2", "live/files/0/x.mp4": b"3"}
    store |= others
    found = await rebuild(rig.store, catalog, "live")
    assert found["recordings"] + found["clips"] + found["failed"] == 2
    event("refused" if found["failed"] else "taken in")
    taken = [recording.id for recording in (*await rig.stream.recordings(), *await catalog.recordings.bin())]
    assert world.lost in taken
    assert world.known.id in taken
    for _ in range(2):
        await rig.recorder.write()
    assert rig.recorder.fault is None
    clips = await catalog.clips.all()
    public_recordings(await rig.stream.recordings(), await catalog.recordings.parts(), clips, BASE)
    # What came back goes again, with everything that only it has; the index is the service's own.
    ours = {world.known.id, world.lost}
    for name in set(taken) - ours:
        catalog.recordings.delete(name, at_once=True)
    for clip in (*clips, *await catalog.clips.bin()):
        if clip.title != "Mine":
            catalog.clips.delete(clip.id, at_once=True)
    await rig.recorder.write()
    assert {recording["id"] for recording in rig.index()["recordings"]} == ours
    rig.stream.publish("0", run=2, count=8)
    for _ in range(3):
        rig.stream.now += YEAR
        await RetentionDeleter(rig.store, catalog, prefix="live").sweep()
    parts = await catalog.recordings.parts()
    for name, listed in world.segments.items():
        known_segments = [await catalog.recordings.segments(part.number) for part in parts[name]]
        assert sorted(flat(keys(known_segments))) == sorted(flat(listed))
        assert store.keys() >= {key for part in listed for key in part}
    del others[OWN]  # it looks like our own, and may have been a segment of what was deleted
    assert {key: store.get(key) for key in others} == others
    kept = {key: body for key, body in world.objects.items() if any(f"/{name}/" in key for name in ours)}
    assert store.keys() >= kept.keys()


@settings(max_examples=seconds(2000, 100), deadline=None, derandomize=True)
@given(objects=crafted())
def test_a_crafted_bucket(template: tuple[World, Path], objects: dict[str, bytes]) -> None:
    """It is refused, or taken in; nothing of another recording is touched, and the service goes on."""
    world, catalog = template
    with tempfile.TemporaryDirectory() as folder:
        copy = copy_of(world, catalog, Path(folder))
        try:
            asyncio.run(attacked(copy, objects))
        finally:
            copy.rig.stream.catalog.close()


async def test_one_that_lists_what_is_anothers(tmp_path: Path) -> None:
    """Two recordings that list the same objects are both whole, and the objects go with the last of them."""
    world = await made(tmp_path)
    rig, catalog = world.rig, world.rig.stream.catalog
    name = "2026-01-01-1100-abcd"  # it comes first
    store = rig.store.objects_
    listed = [("../../../r0/0/0.ts", "2.0", False), ("../../../r1/0/4.ts", "2.0", False)]
    record = {"id": name, "title": "", "visibility": "listed", "started": START.isoformat(), "duration": 4}
    store[f"live/recordings/{name}/recording.json"] = json.dumps(
        {**record, "ended": None, "size": 1}
    ).encode()
    store[f"live/recordings/{name}/playlist.m3u8"] = (
        b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n0/playlist.m3u8\n"
    )
    store[f"live/recordings/{name}/0/playlist.m3u8"] = media(listed, None, "2026-01-01T12:00:00Z")
    assert (await rebuild(rig.store, catalog, "live"))["recordings"] == 2
    parts = await catalog.recordings.parts()
    for recording, expected in (*world.segments.items(), (name, [["live/r0/0/0.ts", "live/r1/0/4.ts"]])):
        found = [await catalog.recordings.segments(part.number) for part in parts[recording]]
        assert sorted(flat(keys(found))) == sorted(flat(expected))
    rig.stream.publish("0", run=2, count=8)
    for removed, left in ((name, 2), (world.lost, 1), (world.known.id, 0)):
        catalog.recordings.delete(removed, at_once=True)
        await rig.recorder.write()
        for _ in range(2):
            rig.stream.now += YEAR
            await RetentionDeleter(rig.store, catalog, prefix="live").sweep()
        assert len({"live/r0/0/0.ts", "live/r1/0/4.ts"} & store.keys()) == (left > 1) + (left > 0)
    catalog.close()


async def test_two_folders_of_one_recording(tmp_path: Path) -> None:
    """Of the same time, neither is taken in or deleted: only the operator knows which is the right one."""
    world = await made(tmp_path)
    rig = world.rig
    rig.store.times.clear()
    twin = {
        key.replace(f"/{world.lost}/", f"/{world.lost}-0123456789abcdef/"): body
        for key, body in world.objects.items()
        if f"/{world.lost}/" in key
    }
    rig.store.objects_ |= twin
    assert (await rebuild(rig.store, rig.stream.catalog, "live"))["failed"] == 2
    await rig.recorder.write()
    assert rig.store.objects_.keys() >= world.objects.keys() | twin.keys()
    rig.stream.catalog.close()


@dataclass
class OneObject:
    """An S3 client whose bucket has one object."""

    body: bytes
    length: int = 0

    async def get_object(self, **_: str) -> dict[str, Any]:
        return {"Body": self, "ContentLength": self.length or len(self.body), "ContentEncoding": "gzip"}

    async def read(self) -> bytes:
        return self.body


async def test_what_is_read_is_bounded() -> None:
    """An object that is too large, or is so once it is unpacked, and one that is cut off, is refused."""
    bucket = Bucket("http://127.0.0.1:1", "live", "a", "b", None)
    bomb = gzip.compress(bytes(LARGEST + 1))
    assert len(bomb) < LARGEST / 500
    good = gzip.compress(b"#EXTM3U")
    for wrong in (OneObject(bomb), OneObject(good, LARGEST + 1), OneObject(good[:-9]), OneObject(b"x")):
        with pytest.raises(StorageRefused):
            await ObjectStore(cast("Any", wrong), bucket).get("live/x", deadline=20)
    assert await ObjectStore(cast("Any", OneObject(good)), bucket).get("live/x", deadline=20) == b"#EXTM3U"
