"""The idle clip of the simulated Owncast, and the transcoder that puts it into the folder."""

from __future__ import annotations

import asyncio
from pathlib import Path

from broadcaster.demo.children import Child, run
from broadcaster.demo.encoder import CLOCK, Encoder, clip_options, ffmpeg
from broadcaster.demo.hls_folder import CLIP, CLIP_SECONDS
from broadcaster.errors import DemoError

STEP_WITHIN = 60.0  # seconds for what ffmpeg does in one or two


class IdleClip:
    """The clip, kept in ``work_dir``, and its transcoder.

    Owncast takes ``takes`` seconds to transcode it, and is not stopped by a stream that begins. Here it is in
    the folder at once where nobody is live, so that nobody has to wait for it; a stream that begins earlier
    than that has the transcoder beside it for the rest of the time. Methods raise DemoError when ffmpeg
    cannot do its work.
    """

    def __init__(self, work_dir: Path, takes: float) -> None:
        self.clip = work_dir / CLIP
        self.takes = takes
        self._work_dir = work_dir
        self._ends = 0.0  # when the transcoder has done its work, by the loop's clock
        self._transcoder: Child | None = None

    async def make(self) -> None:
        """Make the clip, unless it is there."""
        if not self.clip.exists():
            # Under another name first: a clip that is there is taken for whole.
            unfinished = self._work_dir / f"unfinished-{CLIP}"
            await self.run_ffmpeg(*clip_options(CLIP_SECONDS), unfinished)
            unfinished.replace(self.clip)

    async def find_clock(self) -> str:
        """Return the filter that draws the time, or an empty one where this machine has no font for it."""
        picture = f"color=size=64x64{CLOCK}"
        try:
            await self.run_ffmpeg("-f", "lavfi", "-i", picture, "-frames:v", "1", "-f", "null", "-")
        except DemoError:
            return ""
        return CLOCK

    async def show(self, options: Encoder) -> None:
        """Put the clip into the folder at once."""
        await self.run_ffmpeg("-i", self.clip, *options.idle())

    def begin(self) -> None:
        """Note that a transcoder has started, which ``go_on`` lets do its work."""
        self._ends = asyncio.get_running_loop().time() + self.takes

    async def go_on(self, options: Encoder) -> None:
        """Let a transcoder that has not done its work yet go on in the background."""
        left = self._ends - asyncio.get_running_loop().time()
        if left > 0 and self._transcoder is None:
            pace = f"{CLIP_SECONDS / left:.3f}"
            command = [*ffmpeg(), "-readrate", pace, "-i", str(self.clip), *options.idle()]
            self._transcoder = await Child.start("ffmpeg", command, self._work_dir / "ffmpeg-idle.log")

    async def end(self) -> None:
        """End a transcoder that is at work: Owncast itself has ended."""
        if self._transcoder is not None:
            await self._transcoder.kill()
            self._transcoder = None

    async def run_ffmpeg(self, *options: str | Path) -> None:
        """Run ffmpeg to its end."""
        await run("ffmpeg", [*ffmpeg(), *options], self._work_dir / "ffmpeg.log", within=STEP_WITHIN)
