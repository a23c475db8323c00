"""An encoder that costs nothing: segments that are there already, put into an HLS folder in real time."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.support.fakes.encoded_recording import EncodedRecording, encoded_recording
from tests.support.waiting import changes

VARIANTS = ("0", "1")
LISTED = 15  # segments
FILM = 60  # seconds


def made(folder: Path, *, segment_seconds: int = 2, repeated: int = 20) -> EncodedRecording:
    """A film of FILM seconds that is ``repeated``: it outlasts whoever watches it on a busy machine."""
    return encoded_recording(
        folder,
        runs=1,
        segments=repeated * FILM // segment_seconds,
        segment_seconds=segment_seconds,
        fps=10,
        repeated=repeated,
    )


class Playout:
    """Variants of a film in ``hls``, live.

    ``lost`` are the segments, by variant and number, that are listed and whose files never come. ``number``
    is the last one listed, ``published`` when each was (the loop's time). With ``ahead`` so many segments
    come at once.
    """

    def __init__(
        self,
        source: EncodedRecording,
        hls: Path,
        *,
        segment_seconds: int = 2,
        ahead: int = 5,
        variants: Sequence[str] = VARIANTS,
    ) -> None:
        self.lost: Collection[tuple[str, int]] = ()
        self.number = -1
        self.published: dict[int, float] = {}
        self._variants = variants
        self._source = source
        self._hls = hls
        self._seconds = segment_seconds
        self._ahead = ahead
        self._run = 0
        self._listed: list[tuple[int, float, str, bool]] = []  # number, time, name, whether a run begins
        self._changed = asyncio.Event()
        for variant in variants:
            (hls / variant).mkdir(parents=True, exist_ok=True)
        streams = [
            f"#EXT-X-STREAM-INF:BANDWIDTH={400_000 // (index + 1)},RESOLUTION=160x90\n{variant}/stream.m3u8"
            for index, variant in enumerate(variants)
        ]
        (hls / "stream.m3u8").write_text("\n".join(["#EXTM3U", *streams, ""]))

    async def run(self) -> None:
        """Publish until cancelled, or until the film is over."""
        self._run += 1
        began = time.time() - self._ahead * self._seconds
        for index, name in enumerate(self._source.names):
            number = self.number + 1
            await asyncio.sleep(max(0.0, began + (index + 1) * self._seconds - time.time()))
            self._listed.append((number, began + index * self._seconds, name, index == 0 and number > 0))
            self.published[number] = asyncio.get_running_loop().time()
            self._publish(number, self._source.folder / name)
            self.number = number
            self._changed.set()

    async def until(self, number: int) -> None:
        """Wait until that segment is listed. Raises TimeoutError."""
        await changes(self._changed, lambda: self.number >= number)

    def _publish(self, number: int, file: Path) -> None:
        for variant in self._variants:
            folder = self._hls / variant
            if (variant, number) not in self.lost:
                os.link(file, folder / self._name(number))
            lines = ["#EXTM3U", "#EXT-X-VERSION:6", f"#EXT-X-TARGETDURATION:{self._seconds}"]
            window = self._listed[-LISTED:]
            lines += [f"#EXT-X-MEDIA-SEQUENCE:{window[0][0]}", "#EXT-X-INDEPENDENT-SEGMENTS"]
            for segment, at, _, begins in window:
                moment = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
                lines += ["#EXT-X-DISCONTINUITY"] if begins else []
                lines += [f"#EXT-X-PROGRAM-DATE-TIME:{moment}", f"#EXTINF:{self._seconds:.6f},"]
                lines += [self._name(segment)]
            unfinished = folder / "stream.m3u8.tmp"
            unfinished.write_text("\n".join([*lines, ""]))
            unfinished.replace(folder / "stream.m3u8")

    def _name(self, number: int) -> str:
        return f"segment-{number}.ts"


@contextlib.asynccontextmanager
async def playing_out(playout: Playout) -> AsyncIterator[None]:
    """Publish in the background."""
    task = asyncio.create_task(playout.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
