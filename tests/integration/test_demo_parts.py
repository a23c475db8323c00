"""The stand-ins of the demo, for real: SeaweedFS, ffmpeg, and child processes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import imageio_ffmpeg
import psutil
import pytest
from aiobotocore.config import AioConfig
from botocore.exceptions import ClientError

from broadcaster.bucket.session import session
from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.demo.encoder import RENDITIONS, mediamtx_stream
from broadcaster.demo.processes import HOST, Child, free_ports, is_free
from broadcaster.errors import DemoError
from broadcaster.mediamtx import mistakes, parse_config
from tests.support.fakes.simulated_owncast import SimulatedOwncast
from tests.support.suspending import resume, suspend
from tests.support.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

ORIGIN = "https://viewer.example"


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Descendants of earlier children belong to those: a browser starts and ends processes at any time."""
    before = set(psutil.Process().children())
    yield
    assert not {*psutil.Process().children()} - before


@contextlib.asynccontextmanager
async def client_of(bucket: SeaweedBucket) -> AsyncIterator[S3Client]:
    async with session().create_client(
        "s3",
        region_name="auto",
        endpoint_url=bucket.endpoint_url,
        aws_access_key_id=bucket.access_key_id,
        aws_secret_access_key=bucket.secret_access_key,
        config=AioConfig(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    ) as client:
        yield client


def contents(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


async def says(log: Path, word: str) -> None:
    await eventually(lambda: word in log.read_text())


async def test_bucket_serves_its_service_its_viewers_and_itself_after_a_crash(tmp_path: Path) -> None:
    """The bucket takes signed writes, shows them to anybody, answers a preflight, and survives kill -9."""
    async with SeaweedBucket(tmp_path) as bucket, aiohttp.ClientSession() as viewer:
        endpoint = bucket.endpoint_url
        async with client_of(bucket) as service:
            await service.put_object(Bucket=bucket.bucket, Key="run/0/a.ts", Body=b"media")
        url = f"{bucket.public_url}/run/0/a.ts"
        async with viewer.get(url, headers={"Origin": ORIGIN, "Range": "bytes=1-2"}) as answer:
            assert (answer.status, await answer.read()) == (206, b"ed")
            assert answer.headers["Access-Control-Allow-Origin"] in {"*", ORIGIN}
            assert {"etag", "content-length", "content-range", "date", "age"} <= {
                name.strip().lower() for name in answer.headers["Access-Control-Expose-Headers"].split(",")
            }
        asks = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "range"}
        async with viewer.options(url, headers={"Origin": ORIGIN, **asks}) as answer:
            assert answer.status == 200
            assert "GET" in answer.headers["Access-Control-Allow-Methods"]
            assert answer.headers["Access-Control-Allow-Headers"].lower() in {"*", "range"}
        async with viewer.put(url, data=b"mine now") as answer:
            assert answer.status == 403
        async with viewer.get(bucket.public_url) as answer:
            assert answer.status == 403, "viewers must not list the bucket"
        await bucket.kill()
        await bucket.start()
        assert bucket.endpoint_url == endpoint
        async with viewer.get(url) as answer:
            assert await answer.read() == b"media"


async def test_bucket_without_anonymous_reading_and_suspended(tmp_path: Path) -> None:
    """A closed bucket refuses viewers, and a suspended one answers only after it is resumed."""
    async with SeaweedBucket(tmp_path, anonymous=False) as bucket, client_of(bucket) as service:
        await service.put_object(Bucket=bucket.bucket, Key="a", Body=b"media")
        async with aiohttp.ClientSession() as viewer, viewer.get(f"{bucket.public_url}/a") as answer:
            assert answer.status == 403
        suspend(bucket.child)
        reading = asyncio.create_task(service.get_object(Bucket=bucket.bucket, Key="a"))
        done, _ = await asyncio.wait({reading}, timeout=0.3)
        assert not done
        resume(bucket.child)
        assert await (await reading)["Body"].read() == b"media"
        with pytest.raises(ClientError):
            await service.get_object(Bucket=bucket.bucket, Key="b")


async def test_bucket_on_a_taken_port_says_so(tmp_path: Path) -> None:
    """A port that is taken is one clear line, and nothing is started."""
    with socket.create_server((HOST, free_ports(1)[0])) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(DemoError, match=rf"^port {port} on 127\.0\.0\.1 is taken$"):
            await SeaweedBucket(tmp_path, port=port).start()


async def test_stream_goes_live_restarts_and_ends_as_owncast_does(tmp_path: Path) -> None:
    """From the idle clip over a crash and a new run to the clip at the end, each file is Owncast's."""
    folder = tmp_path / "hls"
    async with SimulatedOwncast(folder, tmp_path / "work", playlist_size=3) as owncast:
        idle = (folder / "0" / "stream.m3u8").read_text()
        assert "#EXT-X-PLAYLIST-TYPE:EVENT" in idle
        assert "stream-offline-0.ts" in idle
        assert idle.endswith("#EXT-X-ENDLIST\n")
        # It is encoded for each variant, so pages that read this playlist see the same ones as later.
        sizes = {f"{variant.width}x{variant.height}" for variant in owncast.variants}
        assert set(re.findall("RESOLUTION=([0-9x]+)", (folder / "stream.m3u8").read_text())) == sizes
        assert (folder / "stream.m3u8").read_text().count("stream.m3u8") == 2

        first = await owncast.go_live("a-b_c-7")
        await owncast.wait_for_segments(4)
        master = (folder / "stream.m3u8").read_text().splitlines()
        assert [line for line in master if line and not line.startswith("#")] == [
            "0/stream.m3u8",
            "1/stream.m3u8",
        ]
        assert master[1] == "#EXT-X-VERSION:6"
        await owncast.crash_encoder()
        assert (folder / "1" / "stream.m3u8").read_text().endswith("#EXT-X-ENDLIST\n")

        second = await owncast.go_live()
        await owncast.wait_for_segments(1)
        await owncast.stop_streaming()
        ending = "#EXT-X-DISCONTINUITY\n#EXTINF:8.000000,\noffline.ts\n#EXT-X-ENDLIST\n"
        for variant in "01":
            assert (folder / variant / "stream.m3u8").read_text().endswith(ending)
            assert (folder / variant / "offline.ts").stat().st_size % 188 == 0
            names = owncast.last_playlists[second, variant]
            assert {name.rpartition("-")[0] for name in names} == {f"stream-{second}"}
            assert all((second, variant, name) in owncast.finished for name in names)
        assert first != second
        on_disk = contents(folder)
        assert f"0/stream-{first}-0.ts" not in on_disk, "a transcoder that starts removes the folder"
        of_second = {key: sha for key, sha in owncast.finished.items() if key[0] == second}
        assert of_second
        assert all(on_disk[f"{key[1]}/{key[2]}"] == sha for key, sha in of_second.items())

        await owncast.wipe()
        assert not any("offline" not in name for name in contents(folder) if name.endswith(".ts"))


async def test_slow_writes_show_half_files_and_the_cleanup_removes_old_ones(tmp_path: Path) -> None:
    """A slow receiver shows listed segments unfinished; the cleanup leaves the newest N + 10 files."""
    folder = tmp_path / "hls"

    def listed_but_unfinished() -> bool:
        sizes = {path.name: path.stat().st_size for path in folder.glob("0/stream-*.ts")}
        playlist = folder / "0" / "stream.m3u8"
        text = playlist.read_text() if playlist.exists() else ""
        return any(name in text and size % 188 for name, size in sizes.items())

    owncast = SimulatedOwncast(
        folder,
        tmp_path / "work",
        playlist_size=2,
        variants=RENDITIONS,  # a segment is larger than a chunk
        cleanup_interval=0.2,
        slow_writes=0.03,
    )
    async with owncast, asyncio.timeout(PATIENCE):
        await owncast.go_live()
        for number in range(20):
            old = folder / "0" / f"stream-old-{number}.ts"
            old.touch()
            os.utime(old, (number, number))
        await eventually(listed_but_unfinished)
        await eventually(lambda: len(list(folder.glob("0/*.ts"))) == 12)
        assert not (folder / "0" / "stream-old-0.ts").exists()
        assert (folder / "0" / "stream-old-19.ts").exists()
        await owncast.wait_for_segments(2)
        await owncast.stop_streaming()
        on_disk = contents(folder)
        assert all(on_disk[f"{key[1]}/{key[2]}"] == sha for key, sha in owncast.finished.items())


async def test_child_that_fails_says_why_in_one_line(tmp_path: Path) -> None:
    """A missing program, and a child that dies before it is ready, have different and clear errors."""
    with pytest.raises(DemoError, match=r"^the program no-such-program is missing or cannot be run$"):
        await Child.start("it", ["no-such-program"], tmp_path / "log")
    child = await Child.start("it", ["sh", "-c", "echo out of cheese; exit 3"], tmp_path / "log")
    with pytest.raises(DemoError, match=r"it: ended with status 3(.|\n)*out of cheese"):
        await child.until(asyncio.Event().wait(), within=PATIENCE)


async def test_stubborn_child_is_killed_and_a_suspended_one_stops(tmp_path: Path) -> None:
    """What ignores SIGTERM is killed after the grace; what is suspended is woken to end in good order."""
    log = tmp_path / "log"
    stubborn = await Child.start(
        "it", ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 9; done"], log
    )
    await stubborn.until(says(log, "ready"), within=PATIENCE)
    assert await stubborn.stop(grace=0.2) == -signal.SIGKILL
    kind = await Child.start(
        "it", ["sh", "-c", "trap 'exit 7' TERM; echo again; while :; do sleep .05; done"], log
    )
    await kind.until(says(log, "again"), within=PATIENCE)
    suspend(kind)
    assert await kind.stop(grace=PATIENCE) == 7


async def test_children_of_a_killed_parent_go_too(tmp_path: Path) -> None:
    """After kill -9 of the process that started it, a child does not live on."""
    program = (
        "import asyncio, pathlib, sys\n"
        "from broadcaster.demo.processes import Child\n"
        "async def main():\n"
        "    child = await Child.start('it', ['sleep', '60'], pathlib.Path(sys.argv[1]))\n"
        "    print(child.pid, flush=True)\n"
        "    await child.wait()\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, tmp_path / "log", stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    child = psutil.Process(int(await parent.stdout.readline()))
    async with asyncio.timeout(PATIENCE):
        await eventually(lambda: child.name() == "sleep")
        parent.kill()
        await parent.wait()
        await eventually(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


async def test_free_ports_are_free_with_their_companions() -> None:
    """Ports come distinct, free, and low enough for SeaweedFS to add 10000."""
    ports = free_ports(5)
    assert len(set(ports)) == 5
    assert all(port < 55536 and is_free(port) and is_free(port + 10000) for port in ports)


# In the place of MediaMTX: an ffmpeg that takes RTMP, and writes where the configuration says.
MEDIAMTX = """#!{python}
import json, os, sys
config = json.load(open(sys.argv[1]))
folder = config["hlsDirectory"] + "/live"
os.makedirs(folder)
rtmp = ["-listen", "1", "-f", "flv", "-i", "rtmp://" + config["rtmpAddress"] + "/live"]
hls = ["-c", "copy", "-f", "hls", "-hls_time", config["hlsSegmentDuration"][:-1]]
os.execv("{ffmpeg}", ["ffmpeg", "-v", "error", *rtmp, *hls, folder + "/main_stream.m3u8"])
"""


async def test_an_encoder_that_publishes_to_mediamtx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits until MediaMTX listens, and publishes by RTMP; the folder is the one of the path."""
    program = tmp_path / "bin" / "mediamtx"
    program.parent.mkdir()
    program.write_text(MEDIAMTX.format(python=sys.executable, ffmpeg=imageio_ffmpeg.get_ffmpeg_exe()))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    async with mediamtx_stream(tmp_path) as stream:
        settings = json.loads((tmp_path / "mediamtx.yml").read_text())
        assert stream.mediamtx_url == f"http://{settings['apiAddress']}/live"
        await eventually(lambda: [*stream.folder.glob("main_stream*.ts")])
    config = parse_config(json.dumps(settings | {"hlsCDNSecret": ""}).encode())
    assert [*mistakes(config, stream.folder, "live", None)] == []
