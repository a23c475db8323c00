"""A recording's poster, compared with the segments of the recording."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urljoin

import aiohttp

from broadcaster.demo.encoder import ffmpeg
from broadcaster.hls import MediaPlaylist, MultivariantPlaylist, parse
from tests.support.waiting import eventually

LIKE = 8.0  # of 255, on the average: what scaling and two encodings make of a picture
NEAR = timedelta(seconds=15)  # one frame in ten seconds is kept, and a segment may be missing
WIDTH, HEIGHT = 32, 18


async def gray(media: bytes, *filters: str) -> bytes:
    """Its first picture, small and gray."""
    scaled = ",".join((*filters, f"scale={WIDTH}:{HEIGHT}:flags=area", "format=gray"))
    child = await asyncio.create_subprocess_exec(
        *(*ffmpeg()[:1], "-v", "error", "-i", "pipe:0", "-an", "-frames:v", "1", "-vf", scaled),
        *("-f", "rawvideo", "pipe:1"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    found, _ = await child.communicate(media)
    assert len(found) == WIDTH * HEIGHT
    return found


def difference(picture: bytes, other: bytes) -> float:
    return sum(abs(a - b) for a, b in zip(picture, other, strict=True)) / len(picture)


async def check_poster(public_url: str, recording: Mapping[str, Any]) -> None:
    """Wait until the poster is the first frame of a segment about a third into the recording."""
    folder = f"{public_url}/live/recordings/"
    async with aiohttp.ClientSession() as session:

        async def get(url: str) -> bytes:
            async with session.get(url) as response:
                assert response.status == 200, url
                return await response.read()

        begins: list[tuple[timedelta, str]] = []  # of all segments: where they begin, and their URLs
        passed = timedelta()
        for part in recording["parts"]:
            main_url = urljoin(folder, part)
            main = parse((await get(main_url)).decode())
            assert isinstance(main, MultivariantPlaylist)
            media_url = urljoin(main_url, main.variants[0].uri)
            playlist = parse((await get(media_url)).decode())
            assert isinstance(playlist, MediaPlaylist)
            for segment in playlist.segments:
                if not segment.gap:
                    begins.append((passed, urljoin(media_url, segment.uri)))
                passed += segment.duration
        near = [url for begin, url in begins if abs(begin - passed / 3) <= NEAR]
        shown = [await gray(await get(url)) for url in near]

        async def is_shown() -> bool:
            poster = await gray(await get(urljoin(folder, recording["poster"])))
            return min(difference(poster, picture) for picture in shown) < LIKE

        await eventually(is_shown)
