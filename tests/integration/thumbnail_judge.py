"""A recording's thumbnails as a player finds them, held against what the recording itself shows."""

import asyncio
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urljoin

import aiohttp

from broadcaster.demo.encoder import ffmpeg
from broadcaster.hls import MediaPlaylist, MultivariantPlaylist, parse

TIME = r"(\d+):(\d\d):(\d\d\.\d{3})"
CUE = re.compile(rf"{TIME} --> {TIME}\n(.+)#xywh=(\d+),(\d+),(\d+),(\d+)\n")
LIKE = 8.0  # of 255, on the average: what scaling and two encodings make of a picture
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


def difference(one: bytes, other: bytes) -> float:
    return sum(abs(a - b) for a, b in zip(one, other, strict=True)) / len(one)


async def check_thumbnails(public_url: str, recording: Mapping[str, Any]) -> int:
    """Each tile is the picture that the recording has there, to the segment; returns how many there are."""
    folder, count = f"{public_url}/live/recordings/", 0
    async with aiohttp.ClientSession() as session:

        async def get(url: str) -> bytes:
            async with session.get(url) as response:
                assert response.status == 200, url
                return await response.read()

        for address, part in zip(recording["thumbnails"], recording["parts"], strict=True):
            text = (await get(urljoin(folder, address))).decode()
            assert text.startswith("WEBVTT\n\n")
            main_url = urljoin(folder, part)
            main = parse((await get(main_url)).decode())
            assert isinstance(main, MultivariantPlaylist)
            media_url = urljoin(main_url, main.variants[0].uri)
            playlist = parse((await get(media_url)).decode())
            assert isinstance(playlist, MediaPlaylist)
            end = timedelta()
            for cue in CUE.findall(text):
                begin, till = (
                    timedelta(hours=int(hours), minutes=int(minutes), seconds=float(seconds))
                    for hours, minutes, seconds in (cue[:3], cue[3:6])
                )
                assert begin == end < till
                x, y, width, height = cue[7:]
                sprite = await get(urljoin(urljoin(folder, address), cue[6]))
                tile = await gray(sprite, f"crop={width}:{height}:{x}:{y}")
                shown = await gray(await get(urljoin(media_url, segment_at(playlist, begin))))
                # The first is shown from the beginning, whatever it is of.
                assert difference(tile, shown) < LIKE or begin == timedelta()
                end, count = till, count + 1
            assert count
            assert abs(end - playlist.duration) < timedelta(milliseconds=2)
    return count


def segment_at(playlist: MediaPlaylist, at: timedelta) -> str:
    """The URI of the segment that is played then."""
    passed = timedelta()
    for segment in playlist.segments:
        passed += segment.duration
        if passed > at + timedelta(milliseconds=2):
            return segment.uri
    raise AssertionError(f"{at} is after the end")
