"""Playlists of recordings in a private bucket: signed when somebody asks, one at a time, and nothing else."""

import asyncio
import base64
import gzip
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pytest_aiohttp.plugin import AiohttpClient

from broadcaster.bucket import Bucket, ObjectStore
from broadcaster.bucket.session import Signer
from broadcaster.errors import StorageRefused
from broadcaster.ipc.messages import (
    LENGTH,
    PublicRecording,
    Setup,
    SignedPlaylist,
    decode,
    encode,
    recordings_delta,
)
from broadcaster.recordings.signer import MOST, Signing, signed_playlist
from broadcaster.viewer_server.app import ViewerServer
from tests.support.waiting import changes, eventually

START = datetime(2026, 11, 22, 9, 12, 30, tzinfo=UTC)
NAME = "2026-11-22-0912-k3f9"
MEDIA = f"recordings/{NAME}/0/playlist.m3u8"
VOD = """#EXTM3U
#EXT-X-MAP:URI="../../../r1/0/init.mp4"
#EXTINF:2,
../../../r1/0/a%20b.ts
#EXT-X-ENDLIST
"""
MAIN = """#EXTM3U
#EXT-X-MEDIA:TYPE=AUDIO,URI="1/playlist.m3u8"
#EXT-X-STREAM-INF:BANDWIDTH=1
0/playlist.m3u8
"""
NONE = (
    "owner.json",
    "r1/0/a.ts",
    "recordings/x.m3u8",
    "recordings/../r1/x.m3u8",
    "recordings/x/../../y.m3u8",
    "recordings/x/recording.json",
    "recordings/x/a/b/c/playlist.m3u8",
    "recordings/\nx/playlist.m3u8",
)


def test_what_is_signed() -> None:
    """Objects by their keys, whatever folder they lie in; playlists stay, and so does all else."""
    text = signed_playlist(VOD, f"live/recordings/{NAME}/0", lambda key: f"https://b/{key}?signed")
    assert text.splitlines()[1:4:2] == [
        '#EXT-X-MAP:URI="https://b/live/r1/0/init.mp4?signed"',
        "https://b/live/r1/0/a b.ts?signed",
    ]
    assert signed_playlist(MAIN, "live/recordings/x", lambda _: "wrong") == MAIN
    other = "#EXTM3U\n#EXTINF:2,\n../../../../private/backup.tar\n"
    assert signed_playlist(other, "live/recordings/x/0", lambda _: "wrong") == other


def test_an_address_is_the_same_at_the_same_time() -> None:
    """Two processes sign alike, and neither shows the secret."""
    bucket = Bucket("https://s3.example", "video", "key", "SECRET", None, timedelta(days=7))
    number, same = (Signer(bucket, START, timedelta(days=7)).url("live/r1/0/a b.ts") for _ in range(2))
    assert number == same
    assert number.startswith("https://s3.example/video/live/r1/0/a%20b.ts?X-Amz-Algorithm=")
    assert "X-Amz-Date=20261122T091230Z&X-Amz-Expires=604800&" in number
    assert "SECRET" not in number
    assert Signer(bucket, START + timedelta(hours=1), timedelta(days=7)).url("live/r1/0/a b.ts") != number


class SignerFixture(ObjectStore):
    """A bucket with one recording, and the playlists that were shown."""

    def __init__(self) -> None:
        self.now = START
        self.read: list[str] = []
        self.signed: list[SignedPlaylist] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.arrived = asyncio.Event()
        self.signing = Signing(self, self.signer, "live", self.take, lambda: self.now)

    async def get(self, key: str, *, deadline: float) -> bytes:
        assert deadline > 0
        self.read.append(key)
        await self.gate.wait()
        if key != f"live/{MEDIA}":
            raise StorageRefused("NoSuchKey")
        return VOD.encode()

    def signer(self, when: datetime) -> Callable[[str], str]:
        return lambda key: f"https://b/{key}?{when:%H%M%S}"

    def take(self, message: SignedPlaylist) -> None:
        decoded = decode(encode(message)[LENGTH.size :])
        assert isinstance(decoded, SignedPlaylist)
        self.signed.append(decoded)
        self.arrived.set()

    async def until_signed(self, count: int) -> None:
        await changes(self.arrived, lambda: len(self.signed) >= count)


async def test_one_text_in_an_hour() -> None:
    """What is asked for is signed as of the full hour, and may be kept until the next one."""
    fixture = SignerFixture()
    task = asyncio.create_task(fixture.signing.run())
    fixture.signing.want([MEDIA])
    await fixture.until_signed(1)
    (playlist,) = fixture.signed
    assert (playlist.path, playlist.max_age) == (MEDIA, 47 * 60 + 30)
    assert playlist.gzipped
    text = gzip.decompress(base64.b64decode(playlist.gzipped)).decode()
    assert "https://b/live/r1/0/a b.ts?090000" in text
    fixture.signing.want([MEDIA])  # of one who had not read the answer yet
    fixture.signing.want(["recordings/none/playlist.m3u8"])
    await fixture.until_signed(2)
    assert (fixture.signed[1].path, fixture.signed[1].gzipped) == ("recordings/none/playlist.m3u8", None)
    task.cancel()


async def test_strangers_cannot_ask_for_much() -> None:
    """One at a time, a few that wait, and nothing but playlists of recordings and clips."""
    fixture = SignerFixture()
    fixture.gate.clear()
    task = asyncio.create_task(fixture.signing.run())
    fixture.signing.want(NONE)
    assert [(item.path, item.gzipped) for item in fixture.signed] == [(path, None) for path in NONE]
    fixture.signed.clear()
    fixture.signing.want(f"recordings/{number}/playlist.m3u8" for number in range(100))
    await asyncio.sleep(0)
    assert fixture.read == ["live/recordings/0/playlist.m3u8"]
    fixture.gate.set()
    await fixture.until_signed(MOST)
    assert fixture.read == [f"live/recordings/{number}/playlist.m3u8" for number in range(MOST)]
    task.cancel()


def public_recordings() -> PublicRecording:
    playlist = f"/recordings/{NAME}/playlist.m3u8"
    return PublicRecording(NAME, "", START, START + timedelta(hours=1), 3600, (playlist,))


async def test_viewers_get_what_was_signed(tmp_path: Path, aiohttp_client: AiohttpClient) -> None:
    """All who ask meanwhile wait for the one that ingest signs; it is kept, and goes with its recording."""
    server = ViewerServer(Setup(tmp_path, recordings=True, signed=True))
    recording = public_recordings()
    server.handle(recordings_delta({}, {recording.path: recording}))
    client = await aiohttp_client(server.app)
    asking = [asyncio.create_task(client.get(f"/{MEDIA}")) for _ in range(3)]

    async def until_asked(path: str) -> None:
        await eventually(lambda: server.pong().playlists_to_sign == (path,))

    await until_asked(f"recordings/{NAME}/playlist.m3u8")
    server.handle(SignedPlaylist(f"recordings/{NAME}/playlist.m3u8", packed(MAIN), 60))
    await until_asked(MEDIA)
    server.handle(SignedPlaylist(MEDIA, packed(VOD), 600))
    for answer in [await task for task in asking] + [await client.get(f"/{MEDIA}?x=1")]:
        assert await answer.text() == VOD
        assert answer.headers["Cache-Control"] == "public, max-age=600"
        assert answer.content_type == "application/vnd.apple.mpegurl"
    server.handle(SignedPlaylist(f"recordings/{NAME}/1/playlist.m3u8", None, 5))
    others = "0/other.m3u8", "9/playlist.m3u8", "part-2/playlist.m3u8", "a/b/playlist.m3u8", "1/playlist.m3u8"
    paths = [f"/recordings/{NAME}/{other}" for other in others]
    paths += ["/recordings/another/0/playlist.m3u8", f"/clips/{NAME}/0/playlist.m3u8"]
    assert [(await client.get(path)).status for path in paths] == [404] * len(paths)
    assert server.pong().playlists_to_sign == ()
    server.handle(recordings_delta({recording.path: recording}, {}))
    assert (await client.get(f"/{MEDIA}")).status == 404


def packed(text: str) -> str:
    return base64.b64encode(gzip.compress(text.encode())).decode()


@pytest.mark.parametrize(("recordings", "signed"), [(True, False), (False, True)])
async def test_where_nothing_is_signed(
    tmp_path: Path,
    aiohttp_client: AiohttpClient,
    recordings: bool,  # noqa: FBT001
    signed: bool,  # noqa: FBT001
) -> None:
    """With a public bucket, or without recordings, there is no such route."""
    client = await aiohttp_client(ViewerServer(Setup(tmp_path, recordings=recordings, signed=signed)).app)
    assert (await client.get(f"/{MEDIA}")).status == 404
