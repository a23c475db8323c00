"""The main job on real parts: the simulated Owncast, SeaweedFS, the service, and a strict viewer."""

import asyncio
from pathlib import Path

import pytest

from broadcaster.demo.bucket import SeaweedBucket
from tests.support.fakes.hls_writer import PACKET
from tests.support.judges.ffmpeg_player import FFMPEG, read_with_ffmpeg
from tests.support.judges.watcher import watching
from tests.support.length import seconds
from tests.support.servers.end_to_end import ROOMY, end_to_end
from tests.support.servers.service import running_service
from tests.support.waiting import eventually

LONG = seconds(120, 20)
LAVFI = (FFMPEG, "-v", "error", "-re", "-f", "lavfi")


@pytest.mark.takes(25)
async def test_a_long_stream(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """Every segment of a stream is in the bucket byte for byte; no playlist ever lied."""
    async with end_to_end(tmp_path, bucket, segment_seconds=2, BROADCASTER_WINDOW_SEGMENTS=ROOMY) as on:
        await on.owncast.go_live()
        await on.owncast.wait_for_segments(LONG // 2 - 1, within=LONG + 120)
        await on.owncast.stop_streaming()
        assert await on.check_bucket() >= 2 * (LONG // 2 - 1)
        versions = on.watcher.versions["0"]
        assert len(versions) > 1
        assert {version.target_duration for version in versions} == {2}
        assert all(version.independent_segments for version in versions)
        for variant in ("0", "1"):
            await read_with_ffmpeg(f"{on.service.address}/live/{variant}/playlist.m3u8", -4)
        log = on.service.log.read_text()
        assert on.bucket.secret_access_key not in log
        assert " WARNING " not in log


@pytest.mark.takes(10)
async def test_single_media_playlist_of_another_writer(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """A folder with one media playlist, written by ffmpeg straight to disk, is served as one playlist."""
    hls = tmp_path / "hls"
    async with running_service(tmp_path, hls, bucket) as service, watching(service.address) as watcher:
        hls.mkdir()
        command = [*LAVFI, "-i", "testsrc2=size=160x90:rate=25", "-c:v", "libx264", "-preset"]
        command += ["ultrafast", "-g", "25", "-t", "9"]
        command += ["-f", "hls", "-hls_time", "1", "-hls_list_size", "6", str(hls / "video.m3u8")]
        process = await asyncio.create_subprocess_exec(*command)
        await watcher.until_number("main", 8)
        assert await process.wait() == 0
        await watcher.until_number("main", 9)
    assert watcher.violations == []
    assert watcher.missing == []


@pytest.mark.takes(10)
async def test_bad_input_beside_a_stream(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """Garbage of every kind beside a stream: each is logged once with its name and hurts nothing else."""
    hls = tmp_path / "hls"
    async with end_to_end(tmp_path, bucket, segment_seconds=1, BROADCASTER_WINDOW_SEGMENTS=ROOMY) as on:
        await on.live_with(2)
        await on.drained()
        bad = {
            "garbage": "\x00\x01 no playlist\n",
            "headless": "#EXTINF:2,\nx.ts\n",
            "climbing": playlist_of("../../etc/x.ts"),
            "linked": playlist_of("link.ts"),
            "empty": playlist_of("empty.ts"),
            "odd": playlist_of("odd.ts"),
        }
        for name, text in bad.items():
            folder = hls / name
            folder.mkdir()
            (folder / "empty.ts").touch()
            (folder / "odd.ts").write_bytes(PACKET + b"x")
            (folder / "link.ts").symlink_to(tmp_path / "broadcaster.log")
            (folder / "stream.m3u8").write_text(text)
        (hls / b"n\xffme".decode(errors="surrogateescape")).mkdir()
        (hls / b"n\xffme/stream.m3u8".decode(errors="surrogateescape")).write_text(playlist_of("a.ts"))
        texts = {name: f" {name}/stream.m3u8 " for name in (*bad, "n\\udcffme")}
        await eventually(on.service.log.read_text, lambda log: all(text in log for text in texts.values()))
        await on.owncast.wait_for_segments(8)
        await on.check_bucket()
        lines = on.service.log.read_text().splitlines()
        for name, text in texts.items():
            assert sum(text in line for line in lines) == 1, name
        assert set(on.watcher.versions) == {"0", "1"}


def playlist_of(name: str) -> str:
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.0,\n{name}\n"


@pytest.mark.parametrize(
    ("setting", "value", "complaint"),
    [
        ("R2_ACCESS_KEY_ID", "WRONGKEY", "R2_ACCESS_KEY_ID"),
        ("R2_SECRET_ACCESS_KEY", "wrong-secret", "R2_SECRET_ACCESS_KEY"),
        ("R2_BUCKET", "no-such-bucket", "R2_BUCKET"),
        ("R2_ENDPOINT_URL", "http://127.0.0.1:9", "cannot be reached"),
        ("BROADCASTER_HLS_DIR", "not/there", "the folder not/there is not there"),
    ],
)
@pytest.mark.takes(20)
async def test_what_is_wrong_is_said_in_one_line(
    tmp_path: Path, bucket: SeaweedBucket, setting: str, value: str, complaint: str
) -> None:
    """A service that cannot do its work says which setting is to blame, in one line, without a secret."""
    (tmp_path / "hls").mkdir()
    async with running_service(tmp_path, tmp_path / "hls", bucket, **{setting: value}) as service:
        await eventually(service.log.read_text, lambda log: complaint in log)
    log = service.log.read_text()
    assert sum(complaint in line for line in log.splitlines()) == 1
    assert "Traceback" not in log
    for secret in (service.environment["R2_SECRET_ACCESS_KEY"], service.environment["R2_ACCESS_KEY_ID"]):
        assert secret not in log
