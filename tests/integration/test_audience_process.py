"""Two processes: whatever becomes of the one that the world touches, nothing happens to the other."""

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import aiohttp
import psutil
import pytest

from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.hls import MediaPlaylist, parse
from broadcaster.http.static import MOST_COMPRESSED
from tests.support.length import SOAK
from tests.support.servers.end_to_end import end_to_end
from tests.support.servers.service import Service, running_service
from tests.support.servers.viewer_process import answered, audience_of, live, metrics, replaced
from tests.support.waiting import PATIENCE, eventually

LATE = 'broadcaster_publish_delay_seconds_bucket{le="1.0",variant="%s"}'
AS_AN_OPERATOR = ("env",)  # a new process, whose memory has what a real one has
GARBAGE = 10**9 if SOAK else 3 * 10**7  # bytes
ALL = 'broadcaster_publish_delay_seconds_count{variant="%s"}'


async def clip(session: aiohttp.ClientSession, service: Service) -> int:
    """Wish for one of all that is listed; the status of the answer, 0 when the connection ends."""
    try:
        async with session.get(f"{service.address}/live/0/playlist.m3u8") as listed:
            playlist = parse(await listed.text())
        assert isinstance(playlist, MediaPlaylist)
        begin, last = playlist.segments[0].program_date_time, playlist.segments[-1]
        assert begin
        assert last.program_date_time
        end = last.program_date_time + last.duration
        body = {"begin": round(begin.timestamp() * 1000), "end": round(end.timestamp() * 1000)}
        async with session.post(f"{service.address}/live/clips", json=body) as answer:
            return answer.status
    except aiohttp.ClientError:
        return 0


def out_of_memory(process: psutil.Process) -> None:
    """It may have no more than it has."""
    process.rlimit(psutil.RLIMIT_AS, (1, 1))


@pytest.mark.takes(30)
async def test_it_is_replaced(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """Killed, stopped for good, or out of memory: another one serves viewers, ingest does not notice."""
    harms: dict[str, Callable[[psutil.Process], None]] = {
        "killed": lambda process: process.send_signal(signal.SIGKILL),
        "stopped": lambda process: process.send_signal(signal.SIGSTOP),
        "out of memory": out_of_memory,
    }
    (page := tmp_path / "page").mkdir()
    (page / "large.txt").write_bytes(os.urandom(MOST_COMPRESSED))
    settings = {"BROADCASTER_VIEWER_DIR": str(page)}
    settings |= {"BROADCASTER_RECORDINGS": "keep", "BROADCASTER_VIEWER_CLIPS": "true"}
    async with live(tmp_path, bucket, **settings) as on, aiohttp.ClientSession() as session:
        assert on.service.child
        ingest = on.service.child.pid
        await on.owncast.wait_for_segments(12)  # long enough for a clip
        for name, harm in harms.items():
            async with session.get(f"{on.service.address}/live/playlist.m3u8") as response:
                assert response.status == 200, f"before it is {name}"
            before = audience_of(on.service)
            wishing = asyncio.create_task(clip(session, on.service))
            harm(before)
            if name == "out of memory":  # what it has to compress makes it ask for more
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"{on.service.address}/large.txt") as large:
                        await large.read()
            began = time.monotonic()
            await replaced(on.service, before)
            print(f"{name}: served again after {time.monotonic() - began:.1f} s")
            assert await wishing in {0, 201}, "a wish meanwhile"
        assert on.service.child.pid == ingest
        os.kill(ingest, signal.SIGSTOP)
        try:
            assert await clip(session, on.service) == 503
        finally:
            os.kill(ingest, signal.SIGCONT)
        await eventually(lambda: clip(session, on.service), lambda status: status == 201)
        away = 'broadcaster_viewers_clips_total{outcome="away"}'
        figures = await eventually(lambda: metrics(on.service), lambda figures: figures.get(away, 0) >= 1)
        assert figures["broadcaster_audience_restarts_total"] == len(harms)
        assert figures["broadcaster_audience_process_resident_memory_bytes"] > 0
        # Counted on over all processes.
        assert figures['broadcaster_requests_total{route="main_playlist",status="200"}'] >= len(harms)


@pytest.mark.takes(10)
async def test_it_holds_no_secret(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """Neither its environment, its memory's files nor its open files lead to keys, journal or spool."""
    async with live(tmp_path, bucket, wrapper=AS_AN_OPERATOR) as on:
        assert await answered(on.service) == 200  # before that, it may not even have read its own code
        process = audience_of(on.service)
        folder = Path(f"/proc/{process.pid}")
        if os.geteuid():  # nobody but root may look into it, which is as good
            with pytest.raises(PermissionError):
                (folder / "environ").read_bytes()
            return
        environment = (folder / "environ").read_bytes().decode()
        files = [str(process.readlink()) for process in (folder / "fd").iterdir()]
        maps = (folder / "maps").read_text()
        assert "PATH=" in environment
        assert any(file.startswith("socket:") for file in files)
        assert "libpython" in maps or "python" in maps
        state = str(tmp_path / "state")
        for text in (environment, "\n".join(files), maps):
            assert "R2_" not in text
            assert state not in text
            assert bucket.secret_access_key not in text
        secrets = (bucket.secret_access_key, bucket.access_key_id, "journal.db")
        assert not [secret for secret in secrets if in_memory(process.pid, secret.encode())]
        assert in_memory(process.pid, b"main_playlist")  # so it can be found at all
        status = (folder / "status").read_text()
        assert "NoNewPrivs:\t1" in status


async def test_it_reads_the_operators_settings_of_the_page(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """They may be elsewhere, where install.sh keeps them over upgrades, and be changed meanwhile."""
    for folder in ("page", "etc"):
        (tmp_path / folder).mkdir()
    (tmp_path / "page/config.json").symlink_to(tmp_path / "etc/page.json")
    settings = {"BROADCASTER_VIEWER_DIR": str(tmp_path / "page")}
    async with running_service(tmp_path, tmp_path / "hls", bucket, **settings) as service:
        for title in ("first", "changed"):  # as an editor does it: another file takes the place
            (tmp_path / "etc/new.json").write_text(json.dumps({"title": title}))
            (tmp_path / "etc/new.json").rename(tmp_path / "etc/page.json")
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"{service.address}/config.json") as answer,
            ):
                assert (await answer.json())["title"] == title


async def test_it_cannot_open_the_state_folder(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """Nor anything else that it does not serve, not even by a link in its own folder."""
    page = tmp_path / "page"
    page.mkdir()
    (page / "index.html").write_text("page")
    settings = {"BROADCASTER_VIEWER_DIR": str(page)}
    async with running_service(tmp_path, tmp_path / "hls", bucket, **settings) as service:
        url = f"{service.address}/config.json"
        async with aiohttp.ClientSession() as session:
            (page / "own.json").write_text('{"title": "told"}')
            (page / "config.json").symlink_to(page / "own.json")
            async with session.get(url) as answer:
                assert (await answer.json())["title"] == "told"
            if "Landlock" in service.log.read_text():
                pytest.skip("this kernel has no Landlock")
            (page / "config.json").unlink()
            (tmp_path / "state/other.json").write_text('{"title": "secret"}')
            (page / "config.json").symlink_to(tmp_path / "state/other.json")
            async with session.get(url) as answer:
                assert (await answer.json()).get("title") is None


def in_memory(pid: int, text: bytes) -> bool:
    """Whether it is anywhere in what a process may write to."""
    with Path(f"/proc/{pid}/mem").open("rb", 0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            place, rights, *_ = line.split()
            if not rights.startswith("rw"):
                continue
            first, _, last = place.partition("-")
            with contextlib.suppress(OSError, OverflowError):
                memory.seek(int(first, 16))
                if text in memory.read(int(last, 16) - int(first, 16)):
                    return True
    return False


@pytest.mark.takes(10)
async def test_both_end_together(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """Killed or stopped, ingest takes the other along, also one that hangs."""
    async with end_to_end(tmp_path, bucket, patient=True) as on:
        for end, hang in ((signal.SIGKILL, True), (signal.SIGKILL, False), (signal.SIGTERM, False)):
            await answered(on.service)
            process = audience_of(on.service)
            if hang:
                process.send_signal(signal.SIGSTOP)
            assert on.service.child
            os.kill(on.service.child.pid, end)
            await on.service.child.wait()
            await eventually(partial(is_gone, process))
            await on.service.start()


async def is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


async def test_what_it_is_sent_by_the_terminal(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """SIGINT, SIGTERM and SIGHUP reach it as well; it goes on until ingest has drained."""
    async with end_to_end(tmp_path, bucket, patient=True) as on:
        await answered(on.service)
        process = audience_of(on.service)
        for signal_number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            process.send_signal(signal_number)
        await on.live_with(2)
        assert audience_of(on.service).pid == process.pid
        assert on.service.child
        assert await on.service.child.stop(signal.SIGHUP, grace=PATIENCE) == 0
