"""The bucket client against real S3 servers: SeaweedFS, and moto for what is small."""

import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest

from broadcaster.bucket import Bucket, open_store
from broadcaster.bucket.conditional import is_latest
from broadcaster.bucket.session import session
from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.demo.processes import free_ports
from broadcaster.errors import StorageRefused, StorageUnavailable
from broadcaster.hls.media_playlist import ENDLIST
from broadcaster.recordings.writer import GrowingText
from tests.support.suspending import resume, suspend
from tests.support.waiting import eventually

KEY = "live/run/0/stream-ä b-1.ts"
PLAYLIST = "live/0/playlist.m3u8"


@pytest.fixture
async def moto() -> AsyncIterator[Bucket]:
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 - each worker imports this module, few run it

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    bucket = Bucket(f"http://{host}:{port}", "small", "key", "secret", f"http://{host}:{port}/small")
    async with session().create_client(
        "s3",
        endpoint_url=bucket.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    ) as client:
        await client.create_bucket(Bucket="small", ACL="public-read")
    yield bucket
    server.stop()


def bucket_of(server: SeaweedBucket) -> Bucket:
    return Bucket(
        server.endpoint_url, server.bucket, server.access_key_id, server.secret_access_key, server.public_url
    )


async def test_put_headers(bucket: SeaweedBucket) -> None:
    """An object carries its media type and may be cached for ever, and is confirmed with its bytes."""
    async with open_store(bucket_of(bucket)) as store:
        await store.put(KEY, b"x" * 188)
        async with aiohttp.ClientSession() as session, session.get(await store.url(KEY)) as response:
            assert response.headers["Content-Type"] == "video/mp2t"
            assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
            assert await response.read() == b"x" * 188


async def test_a_playlist_replaces_only_what_we_know(bucket: SeaweedBucket) -> None:
    """A playlist takes the place of none or of a known one, never of another; caches keep it briefly."""
    async with open_store(bucket_of(bucket)) as store:

        async def replace_it(body: bytes, etag: str | None) -> str | None:
            return await store.replace(PLAYLIST, body, etag=etag, max_age=3, deadline=60)

        assert await store.etag(PLAYLIST, deadline=60) is None
        first = await replace_it(b"first", None)
        assert first == await store.etag(PLAYLIST, deadline=60)
        second = await replace_it(b"second", first)
        assert second == await store.etag(PLAYLIST, deadline=60) != first
        for late in (first, None):
            assert await replace_it(b"late", late) is None
        url = f"{bucket.public_url}/{PLAYLIST}"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            assert await response.read() == b"second"
            assert response.headers["Content-Type"] == "application/vnd.apple.mpegurl"
            assert response.headers["Cache-Control"] == "public, max-age=3"
            assert "Content-Encoding" not in response.headers
        await store.delete([PLAYLIST], deadline=60)
        assert await replace_it(b"late", second) is None


class Leads:
    """Leads, with an epoch."""

    async def ask(self, *, surely: bool = False) -> int:
        return 8 if surely else 7


async def test_what_was_written_later(bucket: SeaweedBucket) -> None:
    """An object says under which epoch it was written, and when: a later leader has written later."""
    first, second = ("live/recordings/a-1/recording.json", "live/recordings/a-2/recording.json")
    async with open_store(bucket_of(bucket)) as store:
        assert await store.written(first, deadline=60) is None
        await store.replace(first, b"{}", etag=None, max_age=3, deadline=60)
        store.fence = Leads()
        await store.replace(second, b"{}", etag=None, max_age=3, deadline=60)
        found = [await store.written(key, deadline=60) for key in (first, second)]
        assert [written and written[0] for written in found] == [0, 7]
        assert all(written and written[1].tzinfo for written in found)
        assert [await is_latest(store, *pair) for pair in ((first, [second]), (second, [first]))] == [
            False,
            True,
        ]
        with pytest.raises(ValueError, match="at the same time"):
            await is_latest(store, first, [first])


async def test_a_long_playlist_is_compressed(bucket: SeaweedBucket) -> None:
    """The playlist of a window of hours takes a fraction of its size to write, and to read."""
    text = "".join(f"#EXTINF:2.000000,\nhttps://b/live/{number}.ts\n" for number in range(7200)).encode()
    async with open_store(bucket_of(bucket)) as store:
        etag = await store.replace(PLAYLIST, text, etag=None, max_age=3, deadline=60)
        assert etag == await store.etag(PLAYLIST, deadline=60)
        assert 0 < (await store.size(PLAYLIST, deadline=60) or 0) < len(text) / 5
        url = f"{bucket.public_url}/{PLAYLIST}"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            assert response.headers["Content-Encoding"] == "gzip"
            assert await response.read() == text
        # One that somebody else has compressed, whose text grows piece by piece.
        growing = GrowingText(text.decode())
        growing.add("#EXTINF:2.000000,\na.ts\n")
        body = growing.body(ENDLIST)
        await store.replace(PLAYLIST, body.content, etag=etag, max_age=3, deadline=60, gzipped=body.gzipped)
        whole = text + b"#EXTINF:2.000000,\na.ts\n" + ENDLIST.encode()
        assert await store.get(PLAYLIST, deadline=60) == whole
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            assert response.headers["Content-Encoding"] == "gzip"
            assert await response.read() == whole


async def test_an_object_that_many_segments_name_keeps_its_url(moto: Bucket) -> None:
    """The URL is signed anew only after half of its life; a segment's is signed when it is asked for."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    async with open_store(replace(moto, signed_for=timedelta(days=7)), lambda: now) as store:
        first = await store.long_lived_url("live/run/0/init.mp4")
        assert first == await store.long_lived_url("live/run/0/init.mp4")
        assert first.startswith(f"{moto.endpoint_url}/small/live/run/0/init.mp4?")
        assert "X-Amz-Expires=604800" in first
        # Signatures differ from second to second.
        await eventually(lambda: store.url("live/run/0/init.mp4"), lambda url: url != first)
        now += timedelta(days=3.4)
        assert await store.long_lived_url("live/run/0/init.mp4") == first
        now += timedelta(days=0.2)
        assert await store.long_lived_url("live/run/0/init.mp4") != first


async def test_missing_bucket_on_put(moto: Bucket) -> None:
    """A bucket that went away in mid-stream is a permanent fault that names the setting."""
    async with open_store(replace(moto, name="gone")) as store:
        with pytest.raises(StorageRefused, match="R2_BUCKET"):
            await store.put(KEY, b"x")


async def test_put_does_not_wait_for_100_continue(moto: Bucket, caplog: pytest.LogCaptureFixture) -> None:
    """The body of a playlist is sent at once, as a segment's is: a round trip less."""
    with caplog.at_level(logging.DEBUG, logger="botocore"):
        async with open_store(moto) as store:
            await store.replace(PLAYLIST, b"x", etag=None, max_age=1, deadline=60)
    assert "PutObject" in caplog.text
    assert "100-continue" not in caplog.text


async def test_faults_are_distinguished(bucket: SeaweedBucket) -> None:
    """Wrong key, secret and bucket are permanent and name the setting; nothing shows a secret."""
    good = bucket_of(bucket)
    async with open_store(good) as store:
        await store.check("live", deadline=60)
    for wrong, setting in [
        (replace(good, access_key_id="AKIAWRONG"), "R2_ACCESS_KEY_ID"),
        (replace(good, secret_access_key="wrong-secret"), "R2_SECRET_ACCESS_KEY"),
        (replace(good, name="no-such-bucket"), "R2_BUCKET"),
    ]:
        async with open_store(wrong) as store:
            with pytest.raises(StorageRefused, match=setting) as caught:
                await store.check("live", deadline=60)
        assert wrong.secret_access_key not in str(caught.value)
        assert wrong.access_key_id not in str(caught.value)
        assert caught.value.__cause__ is None


async def test_passing_faults(bucket: SeaweedBucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody there, and somebody who does not answer in time, are faults that pass."""
    for patience in ("LOOK", "ANSWER"):
        monkeypatch.setattr(f"broadcaster.bucket.body.{patience}", 0.2)
    (port,) = free_ports(1)
    async with open_store(replace(bucket_of(bucket), endpoint_url=f"http://127.0.0.1:{port}")) as store:
        with pytest.raises(StorageUnavailable, match="cannot be reached"):
            await store.put("live/x.ts", b"x")
    async with open_store(bucket_of(bucket)) as store:
        suspend(bucket.child)
        with pytest.raises(StorageUnavailable, match="no answer within"):
            await store.put("live/x.ts", b"x")
        resume(bucket.child)
        monkeypatch.undo()  # a busy machine takes longer
        await store.put("live/x.ts", b"x")
