"""ffmpeg as a player of playlists."""

import asyncio

import imageio_ffmpeg

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()


async def read_with_ffmpeg(url: str, start: int) -> None:
    """Real ffmpeg reads 4 s of a playlist, from the segment ``start`` on, without a complaint."""
    command = [FFMPEG, "-v", "error", "-live_start_index", str(start)]
    command += ["-i", url, "-t", "4", "-f", "null", "-"]
    reader = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    _, said = await reader.communicate()
    assert said.decode() == ""
    assert reader.returncode == 0
