"""A stream of several codecs and languages, as ffmpeg writes it, in the service and on the page."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING

import aiohttp
import pytest
from playwright.async_api import expect

from broadcaster.hls import MultivariantPlaylist, parse
from tests.browser.seek_pictures import check_pictures, point_at_bar
from tests.conformance import rules
from tests.conformance.subject import State, subject_at
from tests.integration.recording_judge import complaints
from tests.support.fakes.captions import with_captions
from tests.support.judges.ffmpeg_player import FFMPEG, read_with_ffmpeg
from tests.support.judges.page import Traffic, no_complaints, seen, until
from tests.support.judges.watcher import watching
from tests.support.length import SOAK
from tests.support.servers.service import running_service
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.async_api import Browser, Page, Request, Route

    from broadcaster.demo.bucket import SeaweedBucket

# Options of ffmpeg's encoders of AV1, for speed.
AV1 = {"libsvtav1": ("-preset", "12"), "libaom-av1": ("-cpu-used", "8", "-usage", "realtime")}
FILM = 10  # seconds, which are repeated
PICTURES = "testsrc2=size=160x90:rate=25"
CAPTION = "A word for all"
# HEVC as hev1, of which ffmpeg says no CODECS, and H.264; two languages; captions inside.
TRACKS = (
    *("-map", "0:v", "-map", "0:v", "-map", "1:a", "-map", "1:a", "-preset", "ultrafast"),
    *("-c:v:0", "libx265", "-x265-params", "log-level=0:pools=1:keyint=25:min-keyint=25:scenecut=0"),
    *("-c:v:1", "copy", "-c:a", "aac", "-cc_stream_map", "ccgroup:cc,instreamid:CC1,language:en"),
    *("-var_stream_map", "v:0,agroup:a,ccgroup:cc v:1,agroup:a,ccgroup:cc {sound}"),
)
# The texts of the captions that are shown.
SHOWN = """[...document.querySelector("video").textTracks]
    .filter(({ mode }) => mode === "showing").flatMap(({ cues }) => [...cues].map(({ text }) => text))"""
NO_DECODER = "VideoDecoder.isConfigSupported = async () => ({ supported: false })"
SOUND = "a:0,agroup:a,language:en,default:yes a:1,agroup:a,language:de"


@pytest.mark.skipif(not SOAK, reason="make soak runs it: tests/unit has the codecs, test_presigned fMP4")
@pytest.mark.takes(25)
async def test_fragmented_mp4(tmp_path: Path, bucket: SeaweedBucket, browser: Browser, page: Page) -> None:
    """Maps, sound of its own and captions are carried, CODECS are the media's; the page plays what it can."""
    hls = tmp_path / "hls"
    async with running_service(tmp_path, hls, bucket) as service, watching(service.address) as watcher:
        command = [FFMPEG, "-v", "error", "-re", "-stream_loop", "-1", "-i", str(await captioned(tmp_path))]
        command += ["-re", "-f", "lavfi", "-i", "sine=sample_rate=48000"]
        command += [option.format(sound=SOUND) for option in TRACKS]
        command += ["-f", "hls", "-hls_time", "1", "-hls_segment_type", "fmp4"]
        command += ["-master_pl_name", "main.m3u8", str(hls / "%v" / "stream.m3u8")]
        process = await asyncio.create_subprocess_exec(*command, cwd=tmp_path)
        try:
            await watcher.until_number("1", 3)
            await check_decodable(page, service.address)
            await check_undecodable(browser, service.address)
            await eventually(service.health, lambda health: "cannot play HEVC" in str(health["warning"]))
            await read_with_ffmpeg(f"{service.address}/live/1/playlist.m3u8", 0)
            async with subject_at(f"{service.address}/live/playlist.m3u8", State.LIVE) as subject:
                await rules.iframes_are_key_frames(subject)
                await rules.variants_agree(subject)
        finally:
            process.terminate()
            await process.wait()
        names = ("playlist", "0/playlist", "1/playlist", "2/playlist", "3/playlist", "1/iframes")
        texts = [await get(f"{service.address}/live/{name}.m3u8") for name in names]
    main = parse(texts[0])
    assert isinstance(main, MultivariantPlaylist)
    assert {variant.uri[0]: variant.codecs for variant in main.variants} == {
        "0": "hev1.1.6.L30.90,mp4a.40.2",
        "1": "avc1.42c00b,mp4a.40.2",
    }
    assert {variant.closed_captions for variant in main.variants} == {"cc"}
    assert [(found.type, found.language, found.uri) for found in main.renditions] == [
        ("CLOSED-CAPTIONS", "en", None),
        ("AUDIO", "en", "2/playlist.m3u8"),
        ("AUDIO", "de", "3/playlist.m3u8"),
    ]
    assert await complaints(texts) == []
    assert watcher.violations == []
    assert watcher.missing == []
    assert all(segment.map_uri for segment in watcher.versions["0"][-1].segments)


@pytest.mark.skipif(not SOAK, reason="make soak runs it: tests/unit has the ranges and the decoder's name")
@pytest.mark.takes(25)
@pytest.mark.parametrize("encoder", AV1)
async def test_pictures_of_av1(tmp_path: Path, bucket: SeaweedBucket, page: Page, encoder: str) -> None:
    """The seek bar shows the key frames of AV1; where the browser has no AV1, none is asked for."""
    hls = tmp_path / "hls"
    hls.mkdir()
    async with (
        running_service(tmp_path, hls, bucket, BROADCASTER_WINDOW_SEGMENTS="24") as service,
        watching(service.address) as watcher,
    ):
        command = [FFMPEG, "-v", "error", "-re", "-f", "lavfi", "-i", PICTURES]
        command += ["-re", "-f", "lavfi", "-i", "sine=sample_rate=48000", "-pix_fmt", "yuv420p"]
        command += ["-c:v", encoder, *AV1[encoder], "-g", "25", "-c:a", "aac", "-f", "hls", "-hls_time", "1"]
        command += ["-hls_segment_type", "fmp4", str(hls / "stream.m3u8")]
        process = await asyncio.create_subprocess_exec(*command, cwd=tmp_path)
        try:
            await watcher.until_number("main", 8)
            with no_complaints(page):
                await page.goto(f"{service.address}/")
                await until(page, lambda s: s["status"] == "live" and s["time"] > 1)
                await check_pictures(page)
                await page.add_init_script(NO_DECODER)
                asked: list[Request] = []

                def note(request: Request) -> None:
                    asked.append(request)

                page.on("request", note)
                await page.reload()
                await until(page, lambda s: s["status"] == "live" and s["time"] > 1)
                await point_at_bar(page, 0.2)
                # The player asks for a map, and what shows pictures.
                await eventually(lambda: [request.url for request in asked], is_map_asked_for_twice)
                await point_at_bar(page, 0.7)
                await asyncio.sleep(1)
                await expect(page.locator("#seek-picture")).to_be_hidden()
                assert [request.url for request in asked if "range" in request.headers] == []
        finally:
            process.terminate()
            await process.wait()
    assert watcher.violations == []
    assert watcher.missing == []


def is_map_asked_for_twice(urls: list[str]) -> bool:
    return sum("init" in url and ".mp4" in url for url in urls) >= 2


async def captioned(folder: Path) -> Path:
    """A film in H.264 with captions inside."""
    raw, film = folder / "film.h264", folder / "film.ts"
    await ffmpeg(
        *("-f", "lavfi", "-i", f"{PICTURES}:duration={FILM}"),
        *("-c:v", "libx264", "-preset", "ultrafast", "-g", "25", str(raw)),
    )
    raw.write_bytes(with_captions(raw.read_bytes(), CAPTION, every=25))
    times = ("-bsf:v", "setts=ts=N/(25*TB)")  # a stream of units alone has none
    await ffmpeg("-framerate", "25", "-i", str(raw), "-c", "copy", *times, str(film))
    return film


async def ffmpeg(*options: str) -> None:
    """Run ffmpeg to its end."""
    process = await asyncio.create_subprocess_exec(FFMPEG, "-nostdin", "-v", "error", *options)
    assert await process.wait() == 0


async def get(url: str) -> str:
    """The text at an address."""
    async with aiohttp.ClientSession() as session, session.get(url, raise_for_status=True) as response:
        return await response.text()


async def check_decodable(page: Page, address: str) -> None:
    """Chromium without HEVC takes the variant in H.264, and the chosen language, also after a reload."""
    traffic = Traffic(page)
    with no_complaints(page):
        await page.goto(f"{address}/")
        state = await until(page, lambda s: s["status"] == "live" and s["time"] > 1)
        assert (len(state["levels"]), state["rebuilds"], state["sessions"]) == (1, 0, 1)
        languages = page.locator("#audio")
        await expect(languages.locator("option")).to_have_text(["English", "German"])
        assert await languages.evaluate("select => select.selectedOptions[0].text") == "English"
        await page.get_by_role("button", name="Settings").press("Enter")
        await check_captions(page)
        await languages.select_option("German")
        await traffic.until_asked_for("/3/init_3.mp4")
        traffic = Traffic(page)
        await page.reload()
        await traffic.until_asked_for("/3/init_3.mp4")
        assert await languages.evaluate("select => select.selectedOptions[0].text") == "German"
        await until(page, lambda s: s["status"] == "live" and s["time"] > 1)
        await check_pictures(page)  # of H.264, though HEVC is the smallest variant
    unwanted = [url for url in traffic.requested if ("/0/" in url or "/2/" in url) and ".m4s" in url]
    assert unwanted == []
    await page.close()


async def check_captions(page: Page) -> None:
    """What is inside the video is in the menu of captions, and is shown when chosen."""
    menu = page.locator("#caption")
    await expect(menu.locator("option")).to_have_text(["No captions", "CC1"])
    await menu.select_option("CC1")
    await eventually(lambda: page.evaluate(SHOWN), lambda shown: CAPTION in shown)


async def check_undecodable(browser: Browser, address: str) -> None:
    """Without that variant the page names the codec, and tries once; also if no CODECS warn of it."""
    context = await browser.new_context(locale="de")
    page = await context.new_page()
    removed = [r"#EXT-X-STREAM-INF:[^\n]*avc1[^\n]*\n[^\n]+\n"]

    async def leave_out(route: Route) -> None:
        answer = await route.fetch()
        body = await answer.text()
        for pattern in removed:
            body = re.sub(pattern, "", body)
        await route.fulfill(response=answer, body=body)

    def is_report(request: Request) -> bool:
        return '"undecodable"' in (request.post_data or "")

    await page.route("**/live/playlist.m3u8", leave_out)
    for _ in range(2):
        async with page.expect_request(is_report) as reported:
            await page.goto(f"{address}/")
        assert json.loads((await reported.value).post_data or "")["undecodable"] == "HEVC"
        title = "Dieser Browser kann diese Art von Video nicht abspielen (HEVC)"
        await expect(page.locator("#card-title")).to_have_text(title)
        state = await seen(page)
        assert (state["status"], state["rebuilds"], state["sessions"]) == ("undecodable", 0, 1)
        removed.append(r',CODECS="[^"]*"')
    await context.close()
