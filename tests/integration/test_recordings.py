"""A stream in which everything goes wrong is whole in its recording, which the bucket alone serves.

In ``make soak`` it lasts ten minutes, and has a segment that no live playlist can list.
"""

import itertools
import re
import shutil
import time
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import aiohttp
import pytest

from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.demo.encoder import ffmpeg
from broadcaster.hls import MediaPlaylist, parse
from broadcaster.own_files import VIEWER
from tests.browser.conftest import running_chromium
from tests.integration.poster_judge import LIKE, check_poster, difference, gray
from tests.integration.recording_judge import (
    check,
    check_rules,
    complaints,
    decoding_errors,
    errors_of_mpv,
    index_at,
    read,
)
from tests.support.fakes.hls_writer import HlsWriter
from tests.support.fakes.simulated_owncast import SimulatedOwncast
from tests.support.judges.page import is_, no_complaints, until
from tests.support.judges.watcher import Availability
from tests.support.length import SOAK, seconds
from tests.support.servers.chromium import find_chromium
from tests.support.servers.clips import clip_of
from tests.support.servers.end_to_end import EndToEnd, end_to_end, taken_in
from tests.support.servers.service import Service, running_service
from tests.support.suspending import resume, suspend
from tests.support.waiting import eventually

LISTED = 3  # segments, by the encoder
TOO_LONG = 66  # seconds
# The page itself plays at the pace at which it was filmed.
FASTER = """() => {
    const video = document.querySelector("video");
    const rate = Object.getOwnPropertyDescriptor(HTMLMediaElement.prototype, "playbackRate");
    rate.set.call(video, 4);
    Object.defineProperty(video, "playbackRate", { get: () => rate.get.call(video), set() {} });
}"""
COMPLETE_WITHIN = 5.0  # seconds after the end
COUNT = 8  # segments of a stream that is cut short
WITHIN = 600.0  # seconds, for what a stream brings by its clock


async def live_with(on: EndToEnd, segments: int, *, segment_seconds: int | None = None) -> None:
    """A run of the encoder, until each variant has so many segments."""
    await on.owncast.go_live(segment_seconds=segment_seconds)
    await on.owncast.wait_for_segments(segments, within=WITHIN)


async def downtime(on: EndToEnd, segments: int) -> None:
    """The service is killed, and comes back when so many segments more have been finished."""
    await on.service.kill()
    await on.owncast.wait_for_segments(on.owncast_segments() + segments, within=WITHIN)
    await on.service.start()


async def the_stream(
    on: EndToEnd, bucket: SeaweedBucket, availability: Availability
) -> tuple[dict[str, Any], bytes]:
    """All that is to be recorded; returns the index's entry while the recording was on, and its picture."""
    await live_with(on, seconds(60, 4))
    (began,) = await listed(bucket, 1)
    assert began["ended"] is None
    live_poster = await picture_of_the_stream(on)
    await downtime(on, seconds(20, LISTED + 2))
    with availability.disturbed():
        suspend(bucket.child)
        await on.owncast.wait_for_segments(on.owncast_segments() + seconds(60, 3), within=WITHIN)
        resume(bucket.child)
    await on.owncast.stop_streaming()
    await on.taken_in()
    await live_with(on, seconds(20, 2), segment_seconds=3)  # longer than TARGETDURATION
    if SOAK:
        await more_of_it(on)
    await on.owncast.stop_streaming()
    await taken_in(on.owncast, on.service.address)
    await on.service.until_health(stream="ended", within=WITHIN)
    return began, live_poster


@pytest.mark.takes(105)
async def test_all_of_a_stream_is_recorded(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """Reconnects, an outage of the bucket, kills, downtime, a longer segment: nothing is missing."""
    availability = Availability()
    owncast = SimulatedOwncast(
        tmp_path / "hls",
        tmp_path / "owncast",
        playlist_size=LISTED,
        key_frames=(*range(31), 30 + TOO_LONG) if SOAK else None,
    )
    async with end_to_end(
        tmp_path,
        bucket,
        owncast=owncast,
        patient=True,
        availability=availability,
        BROADCASTER_RETENTION="window",
        BROADCASTER_RECORDINGS="keep",
        BROADCASTER_PICTURES=ffmpeg()[0],
        BROADCASTER_VIEWER_DIR=str(VIEWER / "public"),
        BROADCASTER_WINDOW_SEGMENTS="6",
        BROADCASTER_END_GRACE_SECONDS=str(seconds(TOO_LONG + 30, 40)),  # longer than a busy machine pauses
    ) as on:
        began, live_poster = await the_stream(on, bucket, availability)
        since = time.monotonic()
        recording = await over(bucket)
        after = time.monotonic() - since
        print(f"the recording was complete {after:.1f} s after the end")
        assert after < COMPLETE_WITHIN or not SOAK
        assert recording["id"] == began["id"]
        found = await read(bucket.public_url, recording)
        check(found, owncast.finished)
        assert await complaints(found.texts) == []
        playlist = next(iter(found.playlists.values()))
        assert recording["duration"] == pytest.approx(playlist.duration.total_seconds(), abs=0.01)
        assert SOAK is (playlist.target_duration >= TOO_LONG)
        await pictures(bucket, on.service, live_poster)
        for part in recording["parts"]:
            await is_playable(f"{bucket.public_url}/live/recordings/{part}", tmp_path)
            if SOAK:
                assert await errors_of_mpv(f"{bucket.public_url}/live/recordings/{part}") == []
        if SOAK:
            await plays_in_a_browser(f"{on.service.address}/watch/{recording['id']}", playlist)
        begin = playlist.segments[2].program_date_time
        assert begin
        clip = await clip_of(on.service, begin)
        url = f"{bucket.public_url}/live/clips/{clip}/playlist.m3u8"
        await answers(url)
        await is_playable(url, tmp_path)
        await picture_of_the_clip(f"{bucket.public_url}/live/clips/{clip}")
        file = await uploaded(on.service, bucket, recording["id"], tmp_path)
        assert on.watcher.violations == []
        assert on.watcher.missing == []
        await lose_the_state(on, tmp_path / "state")
        assert '"recordings": 1,\n  "clips": 1' in await on.service.manage("recordings", "rebuild")
        assert recording["id"] in await on.service.manage("recordings", "list")
        await check_poster(bucket.public_url, (await index_at(bucket.public_url))[0])
        found = await read(bucket.public_url, (await index_at(bucket.public_url))[0])
        check(found, owncast.finished)
        assert '"objects": 0' in await on.service.manage("recordings", "sweep")
        await delete(on.service, bucket, recording["id"], file)
        assert set((await read(bucket.public_url, recording)).answers.values()) == {404}
        await is_playable(url, tmp_path)


async def more_of_it(on: EndToEnd) -> None:
    """The encoder crashes, the service is killed, and the encoder comes back."""
    await on.owncast.crash_encoder()
    await on.taken_in()
    await live_with(on, 20, segment_seconds=1)
    await downtime(on, 1)
    await on.owncast.wait_for_segments(40, within=WITHIN)
    await on.owncast.stop_streaming()
    await on.taken_in()
    await live_with(on, 5)


async def picture_of_the_stream(on: EndToEnd) -> bytes:
    """The live poster, which link previews show too."""
    poster = f"{on.bucket.public_url}/live/poster.jpg"
    await answers(poster)
    assert await og_image(on.service.address) == poster
    return await bytes_at(poster)


async def picture_of_the_clip(folder: str) -> None:
    """Its poster is the first picture of its first segment, where it begins."""
    await answers(f"{folder}/poster.jpg")
    playlist = parse((await bytes_at(f"{folder}/0/playlist.m3u8")).decode())
    assert isinstance(playlist, MediaPlaylist)
    shown = await gray(await bytes_at(urljoin(f"{folder}/0/", playlist.segments[0].uri)))
    assert difference(await gray(await bytes_at(f"{folder}/poster.jpg")), shown) < LIKE


async def pictures(bucket: SeaweedBucket, service: Service, live_poster: bytes) -> None:
    """The live poster has changed; the recording has its own, from a third of it; metrics count both."""
    assert await bytes_at(f"{bucket.public_url}/live/poster.jpg") != live_poster
    (recording,) = await eventually(
        lambda: index_at(bucket.public_url), lambda recordings: recordings[0]["poster"]
    )
    poster = f"{bucket.public_url}/live/recordings/{recording['poster']}"
    assert (await bytes_at(poster)).startswith(b"\xff\xd8")
    assert recording["thumbnails"] is None
    await check_poster(bucket.public_url, recording)
    assert await og_image(f"{service.address}/watch/{recording['id']}") == poster
    figures = (await bytes_at(f"{service.admin_address}/metrics")).decode()
    for line in figures.splitlines():
        if line.startswith("broadcaster_pictures"):
            print(line)


async def bytes_at(url: str) -> bytes:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        assert response.status == 200, url
        return await response.read()


async def og_image(url: str) -> str:
    """Wait for the picture that link previews of a page show."""

    async def found() -> list[str]:
        return re.findall('property="og:image" content="([^"]+)"', (await bytes_at(url)).decode())

    return (await eventually(found))[0]


async def lose_the_state(on: EndToEnd, state: Path) -> None:
    """The service finds an empty folder in the place of what it knew."""
    await on.service.stop()
    shutil.rmtree(state)
    await on.service.start()


async def uploaded(service: Service, bucket: SeaweedBucket, recording: str, folder: Path) -> str:
    """Give it a file; returns where the index says that it is."""
    path = folder / "best.mp4"
    await service.manage("export", recording, str(path), "--upload")
    (entry,) = await eventually(lambda: index_at(bucket.public_url), lambda entries: entries[0]["file"])
    url = urljoin(f"{bucket.public_url}/live/recordings/", str(entry["file"]["url"]))
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        assert await response.read() == path.read_bytes()
    return url


async def delete(service: Service, bucket: SeaweedBucket, recording: str, file: str) -> None:
    """The only recording waits in the bin, and comes back; deleted for good it goes, and its file with it."""
    await service.manage("recordings", "delete", recording)
    await listed(bucket, 0)
    await answers(file)
    assert f"{recording}  recording  until" in await service.manage("recordings", "bin")
    await service.manage("recordings", "restore", recording)
    await listed(bucket, 1)
    await service.manage("recordings", "delete", recording, "--now")
    await listed(bucket, 0)
    await answers(file, 404)


async def is_playable(url: str, folder: Path) -> None:
    """It keeps the rules, and is decoded from end to end."""
    await check_rules(url)
    assert await decoding_errors(url, folder) == []


async def plays_in_a_browser(url: str, playlist: MediaPlaylist) -> None:
    """Chromium plays it from end to end; its place goes on over every discontinuity."""
    durations = [segment.duration.total_seconds() for segment in playlist.segments]
    starts = list(itertools.accumulate(durations, initial=0.0))
    joints = [at for at, start in zip(starts, playlist.segments, strict=False) if start.discontinuity]
    async with running_chromium(find_chromium()) as browser:
        page = await browser.new_page()
        with no_complaints(page):
            await page.goto(url)
            await until(page, lambda s: s["status"] == "live" and s["time"] > 0)
            await page.evaluate(FASTER)
            passed = 0.0
            for at in (*joints, starts[-1] - 1):
                state = await until(page, partial(is_past, at))
                assert state["time"] >= passed
                passed = state["time"]
            await until(page, is_("over"))
            assert passed >= starts[-1] - 1
            print(f"Chromium played {passed:.0f} s over {len(joints)} discontinuities")


def is_past(at: float, state: dict[str, Any]) -> bool:
    return bool(state["time"] > at or state["status"] == "over")


async def answers(url: str, status: int = 200) -> None:
    """Wait until it is there, or, with 404, until it is gone."""

    async def found() -> int:
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return response.status

    await eventually(found, lambda found: found == status)


async def listed(bucket: SeaweedBucket, count: int) -> list[dict[str, Any]]:
    """Wait for an index of so many recordings."""
    return await eventually(lambda: index_at(bucket.public_url), lambda recordings: len(recordings) == count)


async def over(bucket: SeaweedBucket) -> dict[str, Any]:
    """Wait until the newest recording has ended."""
    found = await eventually(lambda: index_at(bucket.public_url), lambda recordings: recordings[0]["ended"])
    return found[0]


@pytest.mark.takes(10)
async def test_a_stop_in_good_order_leaves_nothing_unwritten(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """What came since the last version is in the bucket when the service has ended."""
    writer = HlsWriter(tmp_path / "hls/0")
    settings = {"BROADCASTER_RECORDINGS": "keep"}
    async with running_service(tmp_path, tmp_path / "hls", bucket, **settings) as service:
        writer.write(range(3))
        await eventually(lambda: index_at(bucket.public_url))
        writer.write(range(COUNT))
        await service.until_health(manifestChunks=COUNT, within=WITHIN)
        assert await service.stop() == 0
        found = await read(bucket.public_url, (await index_at(bucket.public_url))[0])
        (playlist,) = found.playlists.values()
        assert len(playlist.segments) == COUNT
        assert not playlist.ended
