"""A recording becomes one file: all of it, with times that go on, whatever kills the export meanwhile."""

import asyncio
import fcntl
import hashlib
import random
import shutil
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from broadcaster.bucket import Bucket
from broadcaster.bucket.session import Signer
from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.download.packs import PackFiles
from broadcaster.errors import ExportError, ObjectNotFound, StorageRefused
from broadcaster.export.job import LOCK_FILE, export, remuxing
from broadcaster.export.plan import PLAN_FILE, ExportPlan, ExportRendition, ExportRun, Item, Kind, Request
from tests.support.fakes.encoded_recording import EncodedRecording, encoded_recording, times
from tests.support.faults.delay_proxy import DelayProxy
from tests.support.length import SOAK, seconds
from tests.support.servers.shared_bucket import client_of
from tests.support.servers.static_site import static_site
from tests.support.waiting import PATIENCE

RUNS = 3
KINDS = {"audio", "video"}
# The command without what other commands need: it is started again and again.
CHILD = """
import sys
from itertools import pairwise
from pathlib import Path
from broadcaster.export.job import export
from broadcaster.export.plan import Request
export(Request(sys.argv[1], "mp4"), Path(sys.argv[2]))
"""


@dataclass
class Cinema:
    """A film in a bucket, which is a little away."""

    film: EncodedRecording
    base: str
    url: str
    proxy: DelayProxy


@pytest.fixture
async def cinema(tmp_path: Path, bucket: SeaweedBucket) -> AsyncIterator[Cinema]:
    made = encoded_recording(tmp_path / "film", runs=RUNS, segments=seconds(60, 5), segment_seconds=1, fps=10)
    async with client_of(bucket) as client:
        for name in [*made.names, made.playlist.name]:
            body = (made.folder / name).read_bytes()
            await client.put_object(Bucket=bucket.bucket, Key=f"live/{name}", Body=body)
    proxy = DelayProxy(urlsplit(bucket.endpoint_url).port or 0, 0.05)
    async with proxy.running() as base:
        yield Cinema(made, base, f"{base}/{bucket.bucket}/live/playlist.m3u8", proxy)


async def exported(url: str, target: Path, kind: Kind = "mp4", end: float | None = None) -> None:
    await asyncio.to_thread(export, Request(url, kind, end=end), target)


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def test_all_of_it(cinema: Cinema, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every packet is there, runs join within a picture, and nothing else is left; a part is a part."""
    made, target = cinema.film, tmp_path / "out.mp4"
    for kind in ("mp4", "m4a", "ts"):
        await exported(cinema.url, tmp_path / f"out.{kind}", kind)
        found = times(tmp_path / f"out.{kind}")
        kinds = {"audio"} if kind == "m4a" else KINDS
        assert found.counts == {kind: sum(run[kind] for run in made.packets) for kind in kinds}
        assert abs(found.seconds - sum(made.seconds)) < RUNS * made.frame
        for times_of_kind in found.decoding.values():
            steps = [after - before for before, after in pairwise(times_of_kind)]
            assert 0 < min(steps) <= max(steps) < 2 * made.frame
    assert left(tmp_path) == {"film", "out.m4a", "out.mp4", "out.ts"}
    head = target.read_bytes()[:64]
    assert head.index(b"ftyp") < head.index(b"moov")
    monkeypatch.setattr("broadcaster.export.job.LONG", 1)
    await exported(cinema.url, tmp_path / "long.mp4")
    long = times(tmp_path / "long.mp4")
    assert long.counts == times(target).counts
    assert abs(long.seconds - sum(made.seconds)) < RUNS * made.frame
    assert b"moof" in (tmp_path / "long.mp4").read_bytes()
    await exported(cinema.url, tmp_path / "part.mp4", end=2.0)
    assert abs(times(tmp_path / "part.mp4").seconds - 2) < 3 * made.frame


@pytest.mark.takes(10)
async def test_killed_at_any_moment(cinema: Cinema, tmp_path: Path) -> None:
    """The same command goes on, asks for nothing that it has, and the file is the same to the byte."""
    await exported(cinema.url, tmp_path / "whole.mp4")
    expected = hashlib.sha256((tmp_path / "whole.mp4").read_bytes()).digest()
    chance = random.Random(15)
    asked, kills = cinema.proxy.requests, 0
    for number in range(seconds(20, 3)):
        target = tmp_path / f"{number}.mp4"
        killed = await run(
            cinema, target, kill_at=chance.randrange(1, asked + 2), late=chance.uniform(0, 0.1)
        )
        kills += killed
        if killed:
            had = kept(tmp_path / f"{target.name}.part" / "fetched")
            before = cinema.proxy.requests
            await exported(cinema.url, target)
            again = cinema.proxy.requests - before
            print(f"had {had} of {len(cinema.film.names)}, asked for {again}")
            assert again == len(cinema.film.names) - had + 1, "the playlist, for its addresses"
        assert hashlib.sha256(target.read_bytes()).digest() == expected
    assert kills  # else it was always done before


def kept(folder: Path) -> int:
    """How many objects an export has there."""
    if not folder.exists():
        return 0
    packs = PackFiles(folder, sys.maxsize)
    packs.open()
    packs.close()
    return len(packs)


async def run(cinema: Cinema, target: Path, *, kill_at: int, late: float) -> bool:
    """Start an export and kill it after so many requests; whether it was not done before."""
    reached = asyncio.Event()
    first = cinema.proxy.requests
    cinema.proxy.on_request = lambda count: reached.set() if count - first >= kill_at else None
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", CHILD, cinema.url, str(target))
    ended, come = asyncio.create_task(child.wait()), asyncio.create_task(reached.wait())
    await asyncio.wait({ended, come}, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.wait({ended}, timeout=late)
    started = psutil.Process(child.pid).children() if child.returncode is None else []
    if child.returncode is None:
        child.kill()
    await asyncio.gather(ended)
    _, left_over = await asyncio.to_thread(psutil.wait_procs, started, PATIENCE)
    assert not left_over
    come.cancel()
    return not target.exists()  # noqa: ASYNC240 - nothing else runs


async def test_addresses_that_are_over(cinema: Cinema, bucket: SeaweedBucket, tmp_path: Path) -> None:
    """What was signed too long ago is asked for by today's addresses, and what is there is not asked for."""
    target, last = tmp_path / "out.mp4", cinema.film.names[-1]
    lines = cinema.film.playlist.read_text().splitlines()
    where = Bucket(cinema.base, bucket.bucket, bucket.access_key_id, bucket.secret_access_key, cinema.base)

    async def sign(*times: datetime) -> None:
        """The last segment's address at the last of these times, all others' at the first."""
        early, late = (Signer(where, times[index], timedelta(days=7)) for index in (0, -1))
        signed = {name: (late if name == last else early).url(f"live/{name}") for name in cinema.film.names}
        text = "\n".join(signed.get(line, line) for line in lines)
        async with client_of(bucket) as client:
            await client.put_object(Bucket=bucket.bucket, Key="live/playlist.m3u8", Body=text.encode())

    now = datetime.now(UTC)
    await sign(now, now - timedelta(days=8))
    with pytest.raises(StorageRefused, match="403"):
        await exported(cinema.url, target)
    await sign(now - timedelta(days=8), now)
    before, had = cinema.proxy.requests, kept(tmp_path / "out.mp4.part" / "fetched")
    assert had == len(cinema.film.names) - 1
    await exported(cinema.url, target)
    assert cinema.proxy.requests - before == 2, "the playlist, and what was not there"
    assert times(target).counts == {kind: sum(run[kind] for run in cinema.film.packets) for kind in KINDS}


async def test_what_is_in_the_way(cinema: Cinema, tmp_path: Path) -> None:
    """A file, another export, one of something else, a segment that is gone: each has an error of its own."""
    target = tmp_path / "out.mp4"
    target.write_text("mine")
    assert "already there" in await complaint(cinema.url, target)
    target.unlink()
    folder = tmp_path / "out.mp4.part"
    folder.mkdir()
    with (folder / LOCK_FILE).open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another export is at work" in await complaint(cinema.url, target)
    with pytest.raises(ObjectNotFound):
        await exported(cinema.url.replace("playlist", "no"), target)
    assert not left(tmp_path) & {folder.name, target.name}
    folder.mkdir()
    (folder / "mine").touch()
    assert "not of an export" in await complaint(cinema.url, target)
    (folder / LOCK_FILE).touch()
    (folder / PLAN_FILE).write_text('{"half": ')
    assert "of another export" in await complaint(cinema.url, target)
    assert not target.exists()


async def complaint(url: str, target: Path) -> str:
    with pytest.raises(ExportError) as raised:
        await exported(url, target)
    return str(raised.value)


async def test_the_process_that_writes_dies(cinema: Cinema, tmp_path: Path) -> None:
    """The command says so; the same command makes the file afterwards."""
    first, target = cinema.proxy.requests, tmp_path / "out.mp4"

    def kill(count: int) -> None:
        if count == first + len(cinema.film.names) // 2:
            for child in psutil.Process().children():
                if "broadcaster.export.remux" in child.cmdline():
                    child.kill()

    cinema.proxy.on_request = kill
    with pytest.raises(ExportError, match="ended with status -9"):
        await exported(cinema.url, target)
    await exported(cinema.url, target)
    assert times(target).counts["video"] == sum(run["video"] for run in cinema.film.packets)


async def test_what_keeps_the_file_from_being_written(tmp_path: Path) -> None:
    """A full disk, and objects that somebody has removed or cut: each error says what to do."""
    made = encoded_recording(tmp_path / "film", runs=1, segments=2, segment_seconds=1, fps=10)
    body = (made.folder / made.names[0]).read_bytes()
    plan = ExportPlan(Request("http://a", "ts"), (ExportRendition((ExportRun(((Item("http://a"),),)),)),))
    cut = tmp_path / "1.pack"
    cut.write_bytes(body)
    for path, place, said in (
        (Path("/dev/full"), (cut, 0, len(body)), "No space left on device: make room"),
        (tmp_path / "out.ts", (cut, 1, len(body)), "1.pack was changed.*the same command"),
        (tmp_path / "out.ts", (tmp_path / "2.pack", 0, 1), "2.pack: No such file.*the same command"),
    ):
        with remuxing() as remuxer:
            await remuxer.begin(path, plan, in_fragments=False)
            await remuxer.put(0, place)
            with pytest.raises(ExportError, match=said):
                await remuxer.ended()


# What an export takes at most of memory, of both its processes, in KiB: the command's and the writing one's.
MEASURED = f"""{CHILD}
import re, resource
print(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])  # that of rusage is inherited
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
PROMISED = 150 * 1024  # KiB, as README says
SDP = """v=0
o=- 0 0 IN IP4 127.0.0.1
s=x
c=IN IP4 127.0.0.1
t=0 0
m=video {port} RTP/AVP 96
a=rtpmap:96 H264/90000
"""


async def export_elsewhere(cwd: Path, site: str, target: Path, *under: str) -> tuple[int, list[int]]:
    """Export in a folder of its own, run by ``under``; returns the exit status and the peaks of memory."""
    command = [*under, sys.executable, "-c", MEASURED, f"{site}/playlist.m3u8", str(target)]
    child = await asyncio.create_subprocess_exec(*command, cwd=cwd, stdout=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(PATIENCE):
            said, _ = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    return child.returncode or 0, [int(line) for line in said.decode().splitlines() if line.isdecimal()]


async def test_hostile_segments(tmp_path: Path) -> None:
    """A segment that names files or addresses brings nothing of them: not beside the film, nor alone."""
    made = encoded_recording(tmp_path / "film", runs=1, segments=2, segment_seconds=1, fps=10)
    private = tmp_path / "private.ts"
    private.write_bytes((made.folder / made.names[0]).read_bytes())
    (tmp_path / "key").write_bytes(bytes(16))
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\nprivate.ts\n#EXT-X-ENDLIST\n"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    hostile = {
        "concat": "ffconcat version 1.0\nfile private.ts\n",
        "outside": f"ffconcat version 1.0\nfile '{private}'\n",
        "subfile": "ffconcat version 1.0\nfile subfile,,start,0,end,0,,:private.ts\n",
        "hls": playlist,
        "hls-key": playlist.replace("#EXTINF", '#EXT-X-KEY:METHOD=AES-128,URI="key"\n#EXTINF'),
        "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
        "<BaseURL>private.ts</BaseURL></Period></MPD>",
        "sdp": SDP.format(port=port),
        "imf": '<?xml version="1.0"?><CompositionPlaylist/>',
        "subtitles": "WEBVTT\n\n00:00.000 --> 00:01.000\nprivate.ts\n",
        "metadata": ";FFMETADATA1\ntitle=private\n",
    }
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:2"]
    for name, text in hostile.items():
        (made.folder / name).write_text(text)
        lines += ["#EXTINF:1,", name, "#EXT-X-DISCONTINUITY"]
    alone = "\n".join([*lines, "#EXT-X-ENDLIST", ""])
    for name in made.names:
        lines += ["#EXTINF:1,", name]
    async with static_site(made.folder) as site:
        (made.folder / "playlist.m3u8").write_text("\n".join([*lines, "#EXT-X-ENDLIST", ""]))
        assert (await export_elsewhere(tmp_path, site, tmp_path / "out.ts"))[0] == 0
        assert times(tmp_path / "out.ts").counts == made.packets[0]
        (made.folder / "playlist.m3u8").write_text(alone)
        with pytest.raises(ExportError, match="has nothing that this kind of file can contain"):
            await exported(f"{site}/playlist.m3u8", tmp_path / "alone.ts")
    assert not (tmp_path / "alone.ts").exists()


@pytest.mark.skipif(not shutil.which("prlimit"), reason="prlimit is missing")
async def test_a_lower_limit_of_memory(tmp_path: Path) -> None:
    """Where the system allows less memory than the export's own limit, it exports within that."""
    made = encoded_recording(tmp_path / "film", runs=1, segments=1, segment_seconds=1, fps=10)
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:2", "#EXTINF:1,", made.names[0], "#EXT-X-ENDLIST", ""]
    (made.folder / "playlist.m3u8").write_text("\n".join(lines))
    limit = f"--data={2**28}:{2**28}"
    async with static_site(made.folder) as site:
        assert (await export_elsewhere(tmp_path, site, tmp_path / "out.ts", "prlimit", limit))[0] == 0
    assert times(tmp_path / "out.ts").counts == made.packets[0]


@pytest.mark.skipif(not SOAK, reason="make soak runs it: the test above has a limit of memory")
async def test_large_segments_take_no_more_memory(tmp_path: Path) -> None:
    """Segments that are suddenly far larger than those before go by way of the disk, several at once."""
    made = encoded_recording(tmp_path / "film", runs=1, segments=1, segment_seconds=1, fps=10)
    body = (made.folder / made.names[0]).read_bytes()
    (made.folder / "large.ts").write_bytes(body + b"\x47\x1f\xff\x10" * 47 * seconds(500_000, 200_000))
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:2"]
    count = seconds(40, 8)
    for number in range(40 + count):
        name = f"{number}.ts" if number < 40 else f"large{number}.ts"
        (made.folder / name).hardlink_to(made.folder / (made.names[0] if number < 40 else "large.ts"))
        lines += ["#EXT-X-DISCONTINUITY", "#EXTINF:1,", name]
    (made.folder / "playlist.m3u8").write_text("\n".join([*lines, "#EXT-X-ENDLIST", ""]))
    async with static_site(made.folder) as site:
        status, peaks = await export_elsewhere(tmp_path, site, tmp_path / "out.ts")
    print(peaks)
    assert status == 0
    assert times(tmp_path / "out.ts").counts["video"] == (40 + count) * made.packets[0]["video"]
    assert max(peaks) < PROMISED
